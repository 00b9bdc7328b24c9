//! What happened, as a hash over everything and as lines for a person.
//!
//! The hash is always taken. Lines are only kept when somebody asked for them: a violation's seed is simply run
//! again with lines, which is the same run.

use std::fmt;

use crate::hash::Mixer;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Line {
    /// Virtual time.
    pub at_us: u64,
    /// Where; `None` for the world.
    pub node: Option<usize>,
    /// What.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest_us) = (self.at_us / 1_000_000, self.at_us % 1_000_000);
        write!(f, "{:>5}.{:06} ", seconds, rest_us)?;
        match self.node {
            Some(node) => write!(f, "node_{:02} {}", node + 1, self.text),
            None => write!(f, "        {}", self.text),
        }
    }
}

/// The record of one run.
#[derive(Clone, Debug)]
pub struct Trace {
    mixer: Mixer,
    lines: Option<Vec<Line>>,
    events: u64,
}

impl Trace {
    /// A trace that keeps lines or not.
    pub fn new(keeps_lines: bool) -> Self {
        Self { mixer: Mixer::new(0), lines: keeps_lines.then(Vec::new), events: 0 }
    }

    /// Takes an event into the hash.
    pub fn event(&mut self, at_us: u64, kind: u64, words: &[u64]) {
        self.events += 1;
        self.mixer.word(at_us);
        self.mixer.word(kind);
        words.iter().for_each(|word| self.mixer.word(*word));
    }

    /// Takes bytes into the hash.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.mixer.bytes(bytes);
    }

    /// Keeps a line, if lines are kept.
    pub fn line(&mut self, at_us: u64, node: Option<usize>, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at_us, node, text: text() });
        }
    }

    /// True when lines are kept.
    pub fn keeps_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// The lines so far.
    pub fn lines(&self) -> &[Line] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash over everything so far.
    pub fn hash(&self) -> u128 {
        self.mixer.finish()
    }
}
