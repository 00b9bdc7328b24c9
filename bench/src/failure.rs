//! Why a bench run stops. A run never goes on without a library that failed: its absence would look
//! like a choice.

use std::error::Error;
use std::fmt;
use std::io;

/// What stopped the run. Nothing has been written to `results.json`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A library refused a step that every library must do.
    Library { library: &'static str, step: &'static str, cause: Box<dyn Error + Send + Sync> },
    /// A replica ended with other values than the plain map; its speed means nothing.
    WrongValues { library: &'static str, missing_or_wrong: usize, unexpected: usize },
    /// A pipe, a process or a file failed.
    Io { step: &'static str, cause: io::Error },
    /// A receiving process ended without its figures; its own message stands above this one.
    Receiver { library: &'static str, status: String },
    /// The command line names something that does not exist.
    Arguments(String),
}

impl Failure {
    /// For `map_err` on a library's own outcome.
    pub(crate) fn library(
        library: &'static str,
        step: &'static str,
    ) -> impl FnOnce(Box<dyn Error + Send + Sync>) -> Self {
        move |cause| Self::Library { library, step, cause }
    }

    /// For `map_err` on input and output.
    pub(crate) fn io(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { step, cause }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library { library, step, cause } => {
                write!(formatter, "{library} failed to {step}: {cause}")
            }
            Self::WrongValues { library, missing_or_wrong, unexpected } => write!(
                formatter,
                "{library} converged to other values than the plain map: \
                 {missing_or_wrong} keys missing or wrong, {unexpected} keys too many"
            ),
            Self::Io { step, cause } => write!(formatter, "failed to {step}: {cause}"),
            Self::Receiver { library, status } => {
                write!(formatter, "the receiver of {library} ended with {status} and no figures")
            }
            Self::Arguments(message) => formatter.write_str(message),
        }
    }
}

impl Error for Failure {}
