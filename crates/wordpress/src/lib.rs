//! A WordPress database as the host of a node: what is captured, what is applied, and how.
//!
//! The machine that decides is [`replica::host`]; it asks one thing at a time ([`replica::host::SqlRequest`]), and
//! [`Database`] answers from a real MariaDB. Around it stand what the answers are made of:
//!
//! | module | knows |
//! |---|---|
//! | [`policy`] | what becomes of each table, row and column (a data file) |
//! | [`shape`] | what this region's tables look like (`information_schema`) |
//! | [`key`] | how rows are named, in an order that the database shares |
//! | [`triggers`] | the text of the triggers and of the engine's own tables |
//! | [`database`] | the connection, the installation and the requests |
//!
//! It is not: a place where anything is merged (that is `crdt`), or where it is decided when to drain or to apply.

pub mod database;
pub mod key;
pub mod policy;
pub mod shape;
pub mod triggers;
mod value;

pub use database::{Database, DatabaseError, DatabaseOptions};
pub use policy::{Catalogue, Policy};
pub use shape::Shape;
