//! Conflict-free replicated data types in which every operation names what it replaces.
//!
//! | type | module | who wins | what a delete costs |
//! |---|---|---|---|
//! | register | [`register`] | greatest write stamp; the others are journaled | nothing |
//! | growing counter, counter | [`counter`] | everything adds up | a (dot, sum) per replica until stable |
//! | set | [`set`] | add against concurrent remove | nothing |
//! | map | [`object`] | write against concurrent removal | that of its entries |
//! | row | [`row`] | a delete ends the lives it saw; a re-insert lives; greatest write stamp per column | nothing, but counters |
//!
//! The crate is pure: no I/O, no clock, no randomness. Time and ids come in as arguments, and nothing
//! observable depends on the order in which a map is walked.

pub mod chain;
pub mod change;
mod changes;
pub mod context;
pub mod counter;
pub mod crdt;
pub mod dot;
pub mod error;
pub mod fingerprint;
pub mod hlc;
mod index;
pub mod keyspace;
pub mod mutant;
pub mod object;
pub mod pack;
pub mod part;
pub mod register;
pub mod row;
pub mod row_view;
pub mod set;
pub mod value;
pub mod vector;

pub use change::{Batch, BatchHeader, CellWrite, Change, ChangeRef, Content, Envelope, Namespace};
pub use context::CausalContext;
pub use counter::{GCounter, PnCounter};
pub use crdt::{Causal, Crdt};
pub use dot::{BatchId, Dot, ReplicaId};
pub use error::{CounterOverflow, DecodeError};
pub use fingerprint::{Fingerprint, Place, Tally};
pub use hlc::{Hlc, HybridClock};
pub use keyspace::{Key, Keyspace, LOOK_AHEAD, Located};
pub use mutant::Mutant;
pub use object::{Kind, KindSet, Name, Object, Op, OrMap};
pub use part::PartName;
pub use register::Register;
pub use row::Row;
pub use row_view::RowView;
pub use set::OrSet;
pub use value::Value;
pub use vector::{Covers, VersionVector};
