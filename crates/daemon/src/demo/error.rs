//! Why a demonstration ends early.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the demonstration could not go on. Its child processes are gone and its folder is removed in each case.
#[derive(Debug)]
pub enum DemoError {
    /// The number of nodes is outside of its range.
    Nodes {
        /// What was asked for.
        asked: usize,
        /// The least and the greatest number.
        range: (usize, usize),
    },
    /// The temporary folder, a port or a process could not be had from the system.
    System {
        /// What was being done.
        doing: &'static str,
        /// Where, if it was a file.
        path: Option<PathBuf>,
        /// What the system answered.
        error: io::Error,
    },
    /// The socket's path would be longer than the system takes.
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Most bytes.
        bytes_max: usize,
    },
    /// `init`, `invite` or `join` failed.
    Command {
        /// The node that it was called for.
        node: String,
        /// Its name.
        name: &'static str,
        /// What it wrote to standard error, or why it has no output.
        output: String,
    },
    /// A daemon ended although nobody had asked it to.
    Ended {
        /// The node.
        node: String,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The daemons do not answer, or did not find each other in time.
    NotReady {
        /// What is missing, node by node.
        missing: String,
        /// How long was waited, in seconds.
        waited_s: u64,
    },
    /// The nodes did not become equal in time after the traffic had ended.
    NotConverged {
        /// The digests and what each lacks.
        state: String,
        /// How long was waited, in seconds.
        waited_s: u64,
    },
    /// The nodes are equal, and a counter is not the sum of what was acknowledged.
    WrongSum {
        /// What the nodes show.
        shown: i64,
        /// The acknowledged increments, and those together with the ones whose answer was lost.
        range: (u64, u64),
    },
    /// Somebody stopped the demonstration before its cluster stood.
    Interrupted,
}

impl DemoError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Nodes { .. } => "ERR_DEMO_NODES",
            Self::System { .. } | Self::PathTooLong { .. } => "ERR_DEMO_SYSTEM",
            Self::Command { .. } => "ERR_DEMO_COMMAND_FAILED",
            Self::Ended { .. } => "ERR_DEMO_DAEMON_ENDED",
            Self::NotReady { .. } => "ERR_DEMO_NOT_READY",
            Self::NotConverged { .. } | Self::WrongSum { .. } => "ERR_DEMO_NOT_CONVERGED",
            Self::Interrupted => "ERR_DEMO_INTERRUPTED",
        }
    }

    /// A failed call of the system without a path.
    pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { doing, path: None, error }
    }

    /// A failed call of the system on a file.
    pub(super) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { doing, path: Some(path.into()), error }
    }
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes { asked, range: (least, most) } => {
                write!(f, "a demonstration has {least} to {most} nodes, not {asked}; give --nodes {least} to {most}")
            }
            Self::System { doing, path: Some(path), error } => write!(f, "{doing} {}: {error}", path.display()),
            Self::System { doing, path: None, error } => write!(f, "{doing}: {error}"),
            Self::PathTooLong { path, bytes_max } => write!(
                f,
                "the socket's path {} is longer than {bytes_max} bytes; set TMPDIR to a shorter folder, such as /tmp",
                path.display()
            ),
            Self::Command { node, name, output } => write!(f, "`crdt-engine {name}` failed for {node}: {output}"),
            Self::Ended { node, status, log } => {
                write!(f, "the daemon of {node} ended by itself ({status}); the last lines of its log:\n{log}")
            }
            Self::NotReady { missing, waited_s } => write!(
                f,
                "the nodes did not find each other in {waited_s} s ({missing}); look for a firewall on the loopback \
                 interface, or for a machine that is busy with something else"
            ),
            Self::NotConverged { state, waited_s } => write!(
                f,
                "the nodes were not equal {waited_s} s after the last write, which is a bug: please report it ({state})"
            ),
            Self::WrongSum { shown, range: (least, most) } => write!(
                f,
                "the counter shows {shown} and {least} to {most} increments were acknowledged, which is a bug: please \
                 report it"
            ),
            Self::Interrupted => f.write_str("stopped before the cluster stood; start it again when you like"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { error, .. } => Some(error),
            _ => None,
        }
    }
}
