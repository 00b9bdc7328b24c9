//! Requests: arrays of bulk strings, and lines that a person types.
//!
//! ```text
//! array   "*" count CRLF ("$" length CRLF bytes CRLF) * count
//! line    words between spaces, 'quoted' or "quoted\n", up to LF
//! ```
//! The parser goes on where it stopped when more bytes are there, looks at no byte twice, and copies nothing but
//! words of a line. Requests do not nest: an array inside an array is [`ProtocolError::ExpectedBulk`]. Nothing is
//! allocated by what a header promises, only by what has arrived.

use core::ops::Range;

use crate::error::ProtocolError;
use crate::limits::Limits;
use crate::number::parse_integer;

/// Longest header: its mark, a sign, nineteen digits, CR and LF.
const HEADER_BYTES_MAX: usize = 23;

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// An empty line or an empty array of this many bytes: no request, no reply.
    Empty(usize),
    /// A request of this many bytes; see [`Parser::arguments`].
    Complete(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// Nothing is known yet.
    #[default]
    Start,
    /// The length of an argument comes next.
    Header { missing: usize },
    /// The bytes of an argument come next.
    Bulk { missing: usize, length: usize },
    /// A line whose end was not found in the first `searched` bytes.
    Line { searched: usize },
}

/// Finds one request after another in a growing buffer.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    state: State,
    /// Bytes of the request that are understood.
    at: usize,
    ranges: Vec<Range<usize>>,
    /// Words of a line, without their quotes.
    words: Vec<u8>,
    is_line: bool,
}

/// Arguments for which a connection keeps room between two requests.
const RANGES_KEPT: usize = 64;
/// Bytes of words in a line for which it keeps room.
const WORD_BYTES_KEPT: usize = 4 << 10;

/// The arguments of a request where they stand in the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    /// Arguments out of parts: `ranges` must lie inside `bytes`, else [`Arguments::get`] gives `None` for them.
    pub(crate) fn new(bytes: &'a [u8], ranges: &'a [Range<usize>]) -> Self {
        Self { bytes, ranges }
    }

    /// Number of arguments, the command's name included.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True without any argument.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument with this index; 0 is the command's name.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.bytes.get(self.ranges.get(index)?.clone())
    }

    /// The argument with this index, empty if it is missing: for indices below the arity that was checked.
    pub(crate) fn at(&self, index: usize) -> &'a [u8] {
        self.get(index).unwrap_or_default()
    }

    /// All arguments from this index on.
    pub fn rest(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        let ranges = self.ranges.get(index..).unwrap_or_default();
        ranges.iter().map(move |range| bytes.get(range.clone()).unwrap_or_default())
    }
}

impl Parser {
    /// Looks for the end of the request that begins at the first byte of `bytes`. Called again with more bytes behind
    /// the same ones, it goes on where it stopped. After [`Progress::Empty`] and [`Progress::Complete`] call
    /// [`Parser::reset`] and drop the bytes.
    ///
    /// # Errors
    /// [`ProtocolError`] for bytes that are no request; nothing behind them can be understood.
    pub fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Progress, ProtocolError> {
        loop {
            let step = match self.state {
                State::Start => self.start(bytes, limits)?,
                State::Line { searched } => return self.line(bytes, searched, limits),
                State::Header { missing: 0 } => return Ok(Progress::Complete(self.at)),
                State::Header { missing } => self.header(bytes, missing, limits)?,
                State::Bulk { missing, length } => self.bulk(bytes, missing, length)?,
            };
            if let Some(progress) = step {
                return Ok(progress);
            }
        }
    }

    /// The arguments of a complete request, in the same `bytes`.
    pub fn arguments<'a>(&'a self, bytes: &'a [u8]) -> Arguments<'a> {
        Arguments { bytes: if self.is_line { &self.words } else { bytes }, ranges: &self.ranges }
    }

    /// Bytes of memory beyond what is kept between two requests.
    pub(crate) fn held_bytes(&self) -> usize {
        let ranges = self.ranges.capacity().saturating_sub(RANGES_KEPT) * size_of::<Range<usize>>();
        ranges + self.words.capacity().saturating_sub(WORD_BYTES_KEPT)
    }

    /// Forgets the request.
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.at = 0;
        self.ranges.clear();
        self.words.clear();
        self.is_line = false;
        // One huge request must not keep its memory for the life of the connection.
        self.ranges.shrink_to(RANGES_KEPT);
        self.words.shrink_to(WORD_BYTES_KEPT);
    }

    /// Every step gives `None` when the next one can be taken.
    fn start(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Progress>, ProtocolError> {
        match bytes.first() {
            None => return Ok(Some(Progress::Incomplete)),
            Some(b'*') => {}
            Some(_) => {
                self.state = State::Line { searched: 0 };
                return Ok(None);
            }
        }
        let Some(digits) = self.header_line(bytes)? else { return Ok(Some(Progress::Incomplete)) };
        let count = parse_integer(digits).ok_or(ProtocolError::ArgumentCount)?;
        let Some(missing) = usize::try_from(count).ok().filter(|missing| *missing > 0) else {
            return Ok(Some(Progress::Empty(self.at)));
        };
        if missing > limits.arguments_max {
            let is_known = limits.is_authenticated;
            return Err(if is_known { ProtocolError::ArgumentCount } else { ProtocolError::StrangerArgumentCount });
        }
        self.state = State::Header { missing };
        Ok(None)
    }

    fn header(&mut self, bytes: &[u8], missing: usize, limits: &Limits) -> Result<Option<Progress>, ProtocolError> {
        match bytes.get(self.at) {
            None => return Ok(Some(Progress::Incomplete)),
            Some(b'$') => {}
            Some(found) => return Err(ProtocolError::ExpectedBulk(*found)),
        }
        let Some(digits) = self.header_line(bytes)? else { return Ok(Some(Progress::Incomplete)) };
        let length = parse_integer(digits).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(ProtocolError::BulkLength)?;
        if length > limits.bulk_bytes_max {
            let is_known = limits.is_authenticated;
            return Err(if is_known { ProtocolError::BulkLength } else { ProtocolError::StrangerBulkLength });
        }
        // Neither side can overflow: a length fits into 63 bits, and what was read fits into memory.
        if length.saturating_add(self.at).saturating_add(2) > limits.frame_bytes_max {
            return Err(ProtocolError::FrameTooLong);
        }
        self.state = State::Bulk { missing, length };
        Ok(None)
    }

    fn bulk(&mut self, bytes: &[u8], missing: usize, length: usize) -> Result<Option<Progress>, ProtocolError> {
        let end = self.at + length;
        match bytes.get(end..bytes.len().min(end + 2)).unwrap_or_default() {
            b"\r\n" => {}
            b"" | b"\r" => return Ok(Some(Progress::Incomplete)),
            _ => return Err(ProtocolError::MissingLineEnd),
        }
        self.ranges.push(self.at..end);
        self.at = end + 2;
        self.state = State::Header { missing: missing - 1 };
        Ok(None)
    }

    /// What stands between the mark at the present place and CR LF; `None` while the line has no end.
    fn header_line<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, ProtocolError> {
        let rest = bytes.get(self.at..).unwrap_or_default();
        let window = &rest[..rest.len().min(HEADER_BYTES_MAX)];
        let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
            let is_full = window.len() == HEADER_BYTES_MAX;
            return if is_full { Err(ProtocolError::HeaderTooLong) } else { Ok(None) };
        };
        let line = window[..end].strip_suffix(b"\r").ok_or(ProtocolError::MissingLineEnd)?;
        self.at += end + 1;
        Ok(Some(line.get(1..).unwrap_or_default()))
    }

    fn line(&mut self, bytes: &[u8], searched: usize, limits: &Limits) -> Result<Progress, ProtocolError> {
        let window = &bytes[..bytes.len().min(limits.line_bytes_max.saturating_add(2))];
        let fresh = window.get(searched..).unwrap_or_default();
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n').map(|end| searched + end) else {
            self.state = State::Line { searched: window.len() };
            let is_full = window.len() == limits.line_bytes_max.saturating_add(2);
            return if is_full { Err(ProtocolError::LineTooLong) } else { Ok(Progress::Incomplete) };
        };
        let line = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
        if line.len() > limits.line_bytes_max {
            return Err(ProtocolError::LineTooLong);
        }
        self.is_line = true;
        self.split(line, limits)?;
        Ok(if self.ranges.is_empty() { Progress::Empty(end + 1) } else { Progress::Complete(end + 1) })
    }

    /// Splits a line into words as Redis' `sdssplitargs` does.
    fn split(&mut self, line: &[u8], limits: &Limits) -> Result<(), ProtocolError> {
        let mut rest = line;
        loop {
            while let [first, tail @ ..] = rest
                && is_space(*first)
            {
                rest = tail;
            }
            if rest.is_empty() {
                return Ok(());
            }
            if self.ranges.len() >= limits.arguments_max {
                let is_known = limits.is_authenticated;
                return Err(if is_known { ProtocolError::ArgumentCount } else { ProtocolError::StrangerArgumentCount });
            }
            let start = self.words.len();
            rest = word(rest, &mut self.words)?;
            let length = self.words.len() - start;
            if length > limits.bulk_bytes_max {
                let is_known = limits.is_authenticated;
                return Err(if is_known { ProtocolError::BulkLength } else { ProtocolError::StrangerBulkLength });
            }
            self.ranges.push(start..start + length);
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

/// Appends one word without its quotes and gives what stands behind it.
fn word<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] => return Ok(rest),
            [first, ..] if is_space(*first) => return Ok(rest),
            [quote @ (b'"' | b'\''), tail @ ..] => {
                rest = quoted(*quote, tail, words)?;
                // A closing quote ends the word.
                return match rest.first() {
                    Some(next) if !is_space(*next) => Err(ProtocolError::UnbalancedQuotes),
                    _ => Ok(rest),
                };
            }
            [first, tail @ ..] => {
                words.push(*first);
                rest = tail;
            }
        }
    }
}

/// Appends what stands between quotes and gives what stands behind them.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [first, tail @ ..] if *first == quote => return Ok(tail),
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => (b'\'', tail),
            [b'\\', b'x', high, low, tail @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), tail)
            }
            [b'\\', escaped, tail @ ..] if quote == b'"' => (unescape(*escaped), tail),
            [first, tail @ ..] => (*first, tail),
        };
        words.push(byte);
        rest = tail;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
