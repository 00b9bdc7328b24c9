//! The log: one line an event, with time, level, the stable code where there is one, a sentence and fields.
//!
//! A thread of its own writes, so that nobody who logs waits for a disk: lines go through a bounded queue, and what does
//! not fit is dropped, counted and told. Lines go to standard error, which is the journal under systemd, and to a file
//! that is rotated by size, if one is configured.
//!
//! ```text
//! 2026-11-22T21:43:05.120Z WARN ERR_PEER_UNREACHABLE the name does not resolve peer=node_02 address=b.example:8888
//! {"time":"2026-11-22T21:43:05.120Z","level":"warn","code":"ERR_PEER_UNREACHABLE","message":"...","peer":"node_02"}
//! ```

mod file;
mod line;

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use file::LogFile;
use line::Line;

/// Lines that wait for the writer. At their longest they take 8 MiB; a burst of errors of one second fits.
const LINES_MAX: usize = 1_024;

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something is lost or stands still until somebody acts.
    Error,
    /// Something is not as it should be, and is dealt with.
    Warn,
    /// What an operator wants to know of a healthy node.
    Info,
    /// What somebody wants to know who looks for a fault.
    Debug,
}

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// Lines below are left out.
    pub level: Level,
    /// How lines look.
    pub format: Format,
    /// Also write to standard error.
    pub to_stderr: bool,
    /// Also write to this file.
    pub file: Option<PathBuf>,
    /// The file is rotated before it would become larger, in bytes.
    pub file_bytes_max: u64,
    /// Rotated files that are kept: `name.1` is the youngest.
    pub files_kept: u32,
}

/// Why there is no log.
#[derive(Debug)]
pub enum LogError {
    /// The file cannot be opened.
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The thread cannot be started.
    Thread(io::Error),
}

/// Takes lines. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    level: Level,
    format: Format,
    /// `None`: everything is thrown away.
    sender: Option<SyncSender<Message>>,
    dropped: AtomicU64,
}

enum Message {
    Line(Line),
    Stop,
}

/// Writes out what waits when it is dropped. Lines that are logged afterwards are lost.
#[must_use = "dropping it ends the log"]
pub struct LogGuard {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the file and starts the writer.
    ///
    /// # Errors
    /// [`LogError`]; nothing is left running then.
    pub fn start(options: LogOptions) -> Result<(Self, LogGuard), LogError> {
        let LogOptions { level, format, to_stderr, file, file_bytes_max, files_kept } = options;
        let file = match file {
            Some(path) => match LogFile::open(path.clone(), file_bytes_max, files_kept) {
                Ok(file) => Some(file),
                Err(error) => return Err(LogError::File { path, error }),
            },
            None => None,
        };
        let (sender, receiver) = sync_channel(LINES_MAX);
        let shared = Arc::new(Shared { level, format, sender: Some(sender), dropped: AtomicU64::new(0) });
        let outlets = Outlets { stderr: to_stderr.then(is_journal), file, is_file_failing: false };
        let counted = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&receiver, outlets, &counted))
            .map_err(LogError::Thread)?;
        Ok((Self { shared: Arc::clone(&shared) }, LogGuard { shared, writer: Some(writer) }))
    }

    /// A log that throws everything away, for tests and for commands that print instead.
    pub fn none() -> Self {
        let dropped = AtomicU64::new(0);
        Self { shared: Arc::new(Shared { level: Level::Error, format: Format::Text, sender: None, dropped }) }
    }

    /// Logs one event: `message` is a sentence, `fields` are names in snake case with what they stand for.
    pub fn event(&self, level: Level, code: Option<&'static str>, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
        let shared = &*self.shared;
        let Some(sender) = shared.sender.as_ref().filter(|_| level <= shared.level) else { return };
        let line = Line::new(shared.format, SystemTime::now(), level, code, message, fields);
        if sender.try_send(Message::Line(line)).is_err() {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logs an error with its code.
    pub fn error(&self, code: &'static str, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
        self.event(Level::Error, Some(code), message, fields);
    }

    /// Logs a warning with its code.
    pub fn warn(&self, code: &'static str, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
        self.event(Level::Warn, Some(code), message, fields);
    }

    /// Logs what an operator wants to know.
    pub fn info(&self, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
        self.event(Level::Info, None, message, fields);
    }

    /// Logs what helps to find a fault.
    pub fn debug(&self, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
        self.event(Level::Debug, None, message, fields);
    }

    /// Lines that did not fit into the queue since the last one that told of them.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(sender) = &self.shared.sender {
            // Fails only when the writer is gone already.
            let _ = sender.send(Message::Stop);
        }
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so on standard error by itself.
            let _ = writer.join();
        }
    }
}

/// What the writer writes to.
struct Outlets {
    /// `Some(true)`: standard error is the journal.
    stderr: Option<bool>,
    file: Option<LogFile>,
    is_file_failing: bool,
}

impl Outlets {
    fn write(&mut self, line: &Line) {
        if let Some(is_journal) = self.stderr {
            let text = if is_journal { line.for_journal() } else { line.for_file().to_owned() };
            // Where standard error is closed, nobody is left to be told.
            let _ = io::stderr().write_all(text.as_bytes());
        }
        let Some(file) = &mut self.file else { return };
        match file.write(line.for_file().as_bytes()) {
            Ok(()) => self.is_file_failing = false,
            Err(error) => {
                // Once for a row of failures: a full disk would else fill the journal too.
                if !self.is_file_failing {
                    let _ = writeln!(io::stderr(), "the log {} cannot be written: {error}", file.path().display());
                }
                self.is_file_failing = true;
            }
        }
    }
}

fn write_all(receiver: &Receiver<Message>, mut outlets: Outlets, shared: &Shared) {
    while let Ok(Message::Line(line)) = receiver.recv() {
        outlets.write(&line);
        let dropped = shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let message = "lines of the log were dropped, because they came faster than they could be written";
            let fields: [(&str, &dyn fmt::Display); 1] = [("lines", &dropped)];
            outlets.write(&Line::new(shared.format, SystemTime::now(), Level::Warn, None, message, &fields));
        }
    }
}

/// True when standard error is a stream of the journal, which adds the time by itself and takes the level from a
/// prefix (sd-daemon(3)). The variable alone does not say so: children with another standard error inherit it.
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = std::fs::metadata("/proc/self/fd/2") else { return false };
    named == format!("{}:{}", stat.dev(), stat.ino())
}

impl Level {
    /// As it stands in a line of text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }

    /// Reads a name in small letters.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "error" => Some(Self::Error),
            "warn" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            _ => None,
        }
    }

    /// Severity of syslog(3).
    const fn severity(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warn => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

impl LogError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "ERR_LOG_FILE",
            Self::Thread(_) => "ERR_SYSTEM",
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(
                formatter,
                "the log {} cannot be opened: {error}; make its folder and let this user write there, or set log.file \
                 to another place",
                path.display()
            ),
            Self::Thread(error) => write!(formatter, "the thread of the log cannot be started: {error}"),
        }
    }
}

impl std::error::Error for LogError {}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Log").field("level", &self.shared.level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(file: PathBuf, format: Format) -> LogOptions {
        let level = Level::Info;
        LogOptions { level, format, to_stderr: false, file: Some(file), file_bytes_max: 1 << 20, files_kept: 2 }
    }

    #[test]
    fn what_was_logged_is_in_the_file_when_the_guard_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.log");
        let (log, guard) = Log::start(options(path.clone(), Format::Json)).unwrap();
        log.info("a node starts", &[("node", &"node_01")]);
        log.debug("left out", &[]);
        log.warn("ERR_PEER_UNREACHABLE", "no answer from \"b\"", &[("attempt", &3)]);
        drop(guard);
        log.info("nobody reads this", &[]);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "a node starts");
        assert_eq!(lines[0]["node"], "node_01");
        assert_eq!(lines[1]["level"], "warn");
        assert_eq!(lines[1]["code"], "ERR_PEER_UNREACHABLE");
    }

    #[test]
    fn a_log_into_nothing_takes_everything() {
        Log::none().error("ERR_INTERNAL", "unheard", &[]);
        assert_eq!(Log::none().dropped(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let error = Log::start(options("/proc/no/such/folder".into(), Format::Text)).err().unwrap();
        assert_eq!(error.code(), "ERR_LOG_FILE");
    }
}
