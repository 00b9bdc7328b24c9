//! One connection to the database of a site, and what is asked over it.
//!
//! The session's settings are the engine's own, whatever the server's are: text goes through as bytes, times are UTC,
//! and a value that does not fit is an error, never cut. Its writes carry a mark by which the triggers know them.

mod error;
mod facts;
mod install;
mod read;
mod request;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};

pub use error::DatabaseError;
pub use install::Repairs;

use crate::policy::Catalogue;
use crate::shape::Shape;
use crate::triggers::MARK;

/// Statements that are kept prepared: the reads and writes of all core tables fit.
const STATEMENTS_KEPT: usize = 256;

/// Seconds that the engine waits for a row that the site has locked. It gives way: it can come again, a request cannot.
const LOCK_WAIT_SECONDS: u32 = 2;

/// Where the database is, and which site is in it.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// `mysql://user:password@host:port/database`, or with `?socket=/path`.
    pub url: String,
    /// What every table of WordPress begins with (`$table_prefix`).
    pub prefix: Box<str>,
    /// The class of numbers that rows of this region get: 1 to [`crate::triggers::CLASS_STEP`].
    pub class: u16,
    /// What is replicated.
    pub catalogue: Arc<Catalogue>,
}

/// A site's database.
pub struct Database {
    options: DatabaseOptions,
    connection: Option<Conn>,
    shape: Shape,
    /// Entries of the outbox that name no row of ours, to be deleted with the next ones.
    strays: BTreeSet<u64>,
}

impl Database {
    /// Connects, and looks at what the tables are like.
    ///
    /// # Errors
    /// [`DatabaseError`] when there is no such database, or it cannot be read.
    pub async fn open(options: DatabaseOptions) -> Result<Self, DatabaseError> {
        let mut connection = connect(&options.url).await?;
        let shape = facts::read_shape(&mut connection, &options.prefix, &options.catalogue).await?;
        Ok(Self { options, connection: Some(connection), shape, strays: BTreeSet::new() })
    }

    /// What is replicated of this database.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Looks again at what the tables are like. True when that changed.
    ///
    /// # Errors
    /// [`DatabaseError`] as for [`Self::open`].
    pub async fn look_again(&mut self) -> Result<bool, DatabaseError> {
        let (prefix, catalogue) = (self.options.prefix.clone(), self.options.catalogue.clone());
        let shape = facts::read_shape(self.connection().await?, &prefix, &catalogue).await?;
        let changed = shape != self.shape;
        self.shape = shape;
        Ok(changed)
    }

    /// The connection, made anew where there is none.
    async fn connection(&mut self) -> Result<&mut Conn, DatabaseError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.options.url).await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Ends the connection, with whatever transaction is open.
    fn hang_up(&mut self) {
        self.connection = None;
    }
}

async fn connect(url: &str) -> Result<Conn, DatabaseError> {
    let options = Opts::from_url(url).map_err(|error| DatabaseError::Url { reason: error.to_string() })?;
    let setup = [
        "SET NAMES binary".to_owned(),
        // SUBTLE: what is written was read from a column like this one, zero dates included; and a number 0 stays 0.
        "SET sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'".to_owned(),
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        // Not the checks of references: rows come in the order of the cluster, and the site may have keys of its own.
        format!("SET innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}, foreign_key_checks = 0, {MARK} = 1"),
    ];
    let options = OptsBuilder::from_opts(options)
        .setup(setup.to_vec())
        .stmt_cache_size(STATEMENTS_KEPT)
        .prefer_socket(false)
        // An UPDATE that changes nothing still tells that it found its row.
        .client_found_rows(true);
    let mut connection = Conn::new(options).await?;
    connection.ping().await?;
    Ok(connection)
}
