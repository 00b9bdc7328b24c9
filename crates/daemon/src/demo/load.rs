//! Live traffic: one writer a node, with counters, sets, hashes and registers under names that all nodes share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redis::{Pipeline, pipe};

use super::door::Door;
use super::error::DemoError;

/// The counter that every node counts up.
pub(super) const COUNTER: &str = "demo:visits";
/// The set that every node adds to.
pub(super) const SET: &str = "demo:visitors";
/// Hash `{0..PAGES}`.
pub(super) const PAGE: &str = "demo:page:";
/// Register `{0..REGISTERS}`, contested by all nodes.
pub(super) const REGISTER: &str = "demo:last:";

/// Members that one node adds to the set before it begins anew: bounds what a long demonstration holds.
const MEMBERS: u64 = 1_000;
const PAGES: u64 = 50;
const REGISTERS: u64 = 100;
/// Commands in one pipeline.
const PIPELINE: u64 = 20;
/// Pause after a lost connection.
const RECONNECT_EVERY: Duration = Duration::from_millis(200);

/// What one writer has done so far.
#[derive(Default)]
pub(super) struct Figures {
    /// Operations that were answered.
    pub(super) acknowledged: AtomicU64,
    /// Increments of [`COUNTER`] that were answered.
    pub(super) counted: AtomicU64,
    /// Increments whose answer was lost or was an error: they may or may not have happened.
    pub(super) uncertain: AtomicU64,
    /// The last error.
    pub(super) failure: Mutex<Option<String>>,
}

/// A writer on a thread of its own; it ends with this value.
pub(super) struct Writer {
    figures: Arc<Figures>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Begins to write through a door, with so many operations a second.
    pub(super) fn start(node: &str, socket: PathBuf, ops_per_second: u32) -> Result<Self, DemoError> {
        let figures = Arc::new(Figures::default());
        let is_over = Arc::new(AtomicBool::new(false));
        let course = Course {
            node: node.to_owned(),
            socket,
            figures: Arc::clone(&figures),
            is_over: Arc::clone(&is_over),
            interval: Duration::from_secs(PIPELINE) / ops_per_second.max(1),
        };
        let thread = thread::Builder::new().name(format!("writer {node}")).spawn(move || course.run());
        let thread = thread.map_err(DemoError::system("cannot start a thread for traffic"))?;
        Ok(Self { figures, is_over, thread: Some(thread) })
    }

    /// What it has done so far.
    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Ends it behind the answer that it waits for.
    pub(super) fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic but by a bug, which its own message tells.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Course {
    node: String,
    socket: PathBuf,
    figures: Arc<Figures>,
    is_over: Arc<AtomicBool>,
    /// Between two pipelines.
    interval: Duration,
}

impl Course {
    fn run(&self) {
        let mut round = 0;
        while !self.is_over() {
            match Door::open(&self.socket) {
                Ok(mut door) => self.write(&mut door, &mut round),
                Err(error) => self.failed(&error.to_string()),
            }
            if !self.is_over() {
                thread::sleep(RECONNECT_EVERY);
            }
        }
    }

    /// Writes until the connection breaks or all is over.
    fn write(&self, door: &mut Door, round: &mut u64) {
        let mut due = Instant::now();
        while !self.is_over() {
            let (pipeline, increments) = self.pipeline(*round);
            *round += 1;
            match door.ask_all(&pipeline) {
                Ok(()) => {
                    self.figures.acknowledged.fetch_add(PIPELINE, Ordering::Relaxed);
                    self.figures.counted.fetch_add(increments, Ordering::Relaxed);
                }
                Err(error) => {
                    self.figures.uncertain.fetch_add(increments, Ordering::Relaxed);
                    return self.failed(&error.to_string());
                }
            }
            // What was missed is not caught up: the pace is an upper bound.
            due = (due + self.interval).max(Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()).min(self.interval));
        }
    }

    /// The commands of one round, and how many of them count [`COUNTER`] up.
    fn pipeline(&self, round: u64) -> (Pipeline, u64) {
        let mut pipeline = pipe();
        let mut increments = 0;
        for number in (round * PIPELINE..).take(PIPELINE as usize) {
            match number % 4 {
                0 => {
                    increments += 1;
                    pipeline.cmd("INCRBY").arg(COUNTER).arg(1);
                }
                1 => {
                    pipeline.cmd("SADD").arg(SET).arg(format!("{}-{}", self.node, number / 4 % MEMBERS));
                }
                2 => {
                    let page = format!("{PAGE}{}", number / 4 % PAGES);
                    pipeline.cmd("HINCRBY").arg(page).arg(format!("views by {}", self.node)).arg(1);
                }
                _ => {
                    let register = format!("{REGISTER}{}", number / 4 % REGISTERS);
                    pipeline.cmd("SET").arg(register).arg(format!("{} {number}", self.node));
                }
            }
        }
        (pipeline, increments)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn failed(&self, error: &str) {
        *self.figures.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_every_kind_of_write_and_knows_its_increments() {
        let course = Course {
            node: "node_01".into(),
            socket: PathBuf::new(),
            figures: Arc::default(),
            is_over: Arc::default(),
            interval: Duration::ZERO,
        };
        for round in [0, 1, 1_000_000] {
            let (pipeline, increments) = course.pipeline(round);
            let commands: Vec<String> = pipeline
                .cmd_iter()
                .map(|cmd| String::from_utf8_lossy(&cmd.get_packed_command()).into_owned())
                .collect();
            assert_eq!(commands.len() as u64, PIPELINE);
            for (name, count) in [("INCRBY", increments), ("SADD", 5), ("HINCRBY", 5), ("\r\nSET\r\n", 5)] {
                let named =
                    |command: &&String| command.contains(name) && (name != "INCRBY" || !command.contains("HINCRBY"));
                assert_eq!(commands.iter().filter(named).count() as u64, count, "{name}");
            }
        }
    }
}
