//! What can go wrong between the engine and a site's database.

use std::fmt;

/// Why something that was asked of the database did not happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DatabaseError {
    /// The address cannot be read.
    Url {
        /// Why.
        reason: String,
    },
    /// There is no connection, or it broke. What was open is rolled back; a commit may have happened.
    Unreachable {
        /// What the system or the client says.
        reason: String,
    },
    /// The server refused.
    Refused {
        /// Its number for that.
        code: u16,
        /// What it says.
        message: String,
    },
    /// The engine's user lacks a right.
    Denied {
        /// What it lacks, as the server names it.
        what: String,
        /// The statement that gives it.
        grant: String,
    },
    /// There is no WordPress under this prefix.
    NoSite {
        /// The prefix.
        prefix: Box<str>,
    },
    /// Rows are written in a way that no snapshot shows.
    Engine {
        /// The table.
        table: Box<str>,
        /// Its storage engine.
        engine: Box<str>,
    },
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { reason } => write!(f, "the address of the database cannot be read: {reason}"),
            Self::Unreachable { reason } => write!(f, "no connection to the database: {reason}"),
            Self::Refused { code, message } => write!(f, "the database refused ({code}): {message}"),
            Self::Denied { what, grant } => write!(f, "the database denies {what}; as its root, give: {grant}"),
            Self::NoSite { prefix } => {
                write!(f, "the database has no tables of WordPress that begin with {prefix:?}; see $table_prefix")
            }
            Self::Engine { table, engine } => {
                write!(f, "table {table} is kept by {engine}, and only InnoDB has transactions; ")?;
                write!(f, "give: ALTER TABLE `{table}` ENGINE=InnoDB")
            }
        }
    }
}

impl std::error::Error for DatabaseError {}

impl From<mysql_async::Error> for DatabaseError {
    fn from(error: mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(server) => Self::Refused { code: server.code, message: server.message },
            mysql_async::Error::Url(url) => Self::Url { reason: url.to_string() },
            other => Self::Unreachable { reason: other.to_string() },
        }
    }
}
