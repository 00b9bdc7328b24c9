//! Why a run stops. It never goes on without a figure that failed: its absence would look like a choice.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use redis::RedisError;

/// What stopped the run. All processes are gone and all folders removed; claims of before stand as they were.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line names something that does not exist.
    Arguments(String),
    /// A program that is measured is not there.
    Missing { program: String, remedy: &'static str },
    /// The folder for the nodes' disks is none that a figure about disks can be measured on.
    NoDisk { folder: PathBuf, kind: String },
    /// The system refused a file, a socket or a process.
    Io { doing: String, cause: io::Error },
    /// A process ended although nobody asked it to.
    Ended { who: String, status: String, log: String },
    /// A command of the engine, or `redis-benchmark`, failed.
    Command { who: String, command: String, output: String },
    /// Something did not happen in time.
    NotInTime { what: String, waited: Duration, last: String },
    /// A server could not be asked, or answered an error.
    Server { who: String, asked: String, cause: RedisError },
    /// A server answered something that cannot be.
    Answer { who: String, asked: String, answered: String },
    /// The nodes are not equal although all was applied: the figure means nothing.
    Differs { what: String },
}

impl Failure {
    /// For `map_err` on the system's answers.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { doing: doing.into(), cause }
    }

    /// For `map_err` on a server's answers.
    pub(crate) fn server(who: &str, asked: &str) -> impl FnOnce(RedisError) -> Self {
        move |cause| Self::Server { who: who.to_owned(), asked: asked.to_owned(), cause }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments(message) => f.write_str(message),
            Self::Missing { program, remedy } => write!(f, "{program} is not there: {remedy}"),
            Self::NoDisk { folder, kind } => {
                write!(f, "{} is on {kind}, which is no disk: set TMPDIR to a folder that is on one", folder.display())
            }
            Self::Io { doing, cause } => write!(f, "could not {doing}: {cause}"),
            Self::Ended { who, status, log } => {
                write!(f, "{who} ended by itself ({status}); the end of its log:\n{log}")
            }
            Self::Command { who, command, output } => write!(f, "`{command}` failed for {who}: {output}"),
            Self::NotInTime { what, waited, last } => {
                write!(f, "after {:.0} s still not {what}: {last}", waited.as_secs_f64())
            }
            Self::Server { who, asked, cause } => write!(f, "{who} did not answer {asked}: {cause}"),
            Self::Answer { who, asked, answered } => write!(f, "{who} answered {asked} with {answered}"),
            Self::Differs { what } => write!(f, "the nodes are not equal, so that no figure is worth anything: {what}"),
        }
    }
}

impl Error for Failure {}
