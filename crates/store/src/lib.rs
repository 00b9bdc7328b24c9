//! What a node keeps on disk: the one door between `replica`'s groups of records and a medium.
//!
//! A [`Store`] takes the groups that [`replica::Effect::Persist`] hands out, makes each of them durable as a whole and
//! in order, and says so with the ticket. At the start it gives back every record, those whose checksum does not fit
//! as [`Found::Damaged`], and a [`Proof`] of whether anything may have been lost or copied in between.
//!
//! | store | for | thread | durable means |
//! |---|---|---|---|
//! | [`Memory`] | tests, `demo` | none | written |
//! | [`Embedded`] | the default | one writer with group commit | see [`Durability`] |
//! | [`Redis`] | a Redis 7 that is there anyway | one writer, pipelined | see [`Durability`], by the server's own append-only file |
//!
//! It is not: a cache (the node holds what it needs in memory), a transaction manager (one node writes, nobody else),
//! a backup (a copied folder is noticed, and its node mints a new replica id; [`Store::copy`] gives what a backup is
//! made of, and [`write_archive`] puts it into a file).

mod archive;
mod continuity;
mod copying;
mod durability;
mod embedded;
mod error;
mod frame;
mod import;
mod ledger;
mod memory;
mod redis;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use replica::{Found, RecordKey, Ticket, WriteGroup};

pub use self::redis::{Redis, RedisOptions, RedisTls};
pub use archive::{ArchiveError, ArchiveReader, ArchiveTotals, write_archive};
pub use continuity::{Doubt, Proof};
pub use copying::{Copying, StoredPair};
pub use durability::Durability;
pub use embedded::{Embedded, EmbeddedOptions};
pub use error::StoreError;
pub use frame::{KEY_DIRECT_BYTES_MAX, VALUE_BYTES_MAX};
pub use import::{ArchivedPairs, RedisTarget, import_embedded, import_redis};
pub use ledger::Surroundings;
pub use memory::{Memory, MemoryDisk};
pub use writer::{QUEUE_BYTES_MAX, STALL_SECONDS_MAX};

/// Called by a store's thread when [`Store::poll`] has something new. It must not block and not call the store.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// All records of a store, in no particular order. An error ends the iteration, and what came before it is no
/// complete picture: nothing may be started from it.
pub type Records<'a> = Box<dyn Iterator<Item = Result<(RecordKey, Found), StoreError>> + 'a>;

/// What became of something that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Completion {
    /// The group with this ticket, and all before it, are durable: [`replica::Node::handle_persisted`].
    Durable(Ticket),
    /// The group with this ticket, and all behind it, are not durable, and the store takes no more:
    /// [`replica::Node::handle_persist_failed`]. Comes once.
    Failed {
        /// The first group that is not known to be durable.
        ticket: Ticket,
        /// Why.
        error: StoreError,
    },
    /// A record that was asked for: [`replica::Node::handle_loaded`].
    Loaded {
        /// Which.
        key: RecordKey,
        /// What was found, as of all groups written before the request; `None` where there is no such record.
        found: Option<Found>,
    },
}

/// Sizes that have bounds or are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Groups that were written and are not durable yet.
    pub queued_groups: usize,
    /// Their bytes, at most [`QUEUE_BYTES_MAX`] and one group.
    pub queued_bytes: usize,
    /// Bytes on the medium (embedded: files; Redis: its `used_memory`); at most some seconds old, 0 when unknown.
    pub stored_bytes: u64,
    /// Commits so far: groups per commit is what group commit gains.
    pub commits: u64,
    /// Groups that became durable since the store was opened.
    pub groups: u64,
    /// Number of the last durable group in the store's whole life.
    pub sequence: u64,
}

/// Durable groups of records.
///
/// Order of calls: [`Store::proof`] and [`Store::load`] first, then [`Store::write`] and [`Store::read`] with
/// [`Store::poll`] after each wake, [`Store::close`] at an orderly end. Dropping a store is what `kill -9` is: what was
/// called durable stays, and the next start decides anew.
pub trait Store: Send {
    /// What is known of the time since this store was last open.
    fn proof(&self) -> &Proof;

    /// Every record, once, before the first write.
    ///
    /// Damage that cannot be put to a key (a block of keys, a quarantined database) is handed over as two records that
    /// never were, an object and a drained batch, both [`Found::Damaged`]: a node then rebuilds its state from peers.
    ///
    /// # Errors
    /// [`StoreError::AlreadyRunning`] after the first write or read; else why the medium does not answer.
    fn load(&mut self) -> Result<Records<'_>, StoreError>;

    /// Takes a group. Returns at once unless [`QUEUE_BYTES_MAX`] wait already: then it waits for room, so a caller
    /// that must not wait looks at [`Sizes::queued_bytes`] before it makes more work.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for a record above its bound and [`StoreError::Refused`] after a failed durable write;
    /// nothing of the group was or will be written.
    fn write(&mut self, group: WriteGroup) -> Result<(), StoreError>;

    /// Asks for one record; [`Completion::Loaded`] comes behind all groups written before.
    ///
    /// # Errors
    /// [`StoreError::Refused`] after a failed durable write.
    fn read(&mut self, key: RecordKey) -> Result<(), StoreError>;

    /// The next completion, if there is one.
    fn poll(&mut self) -> Option<Completion>;

    /// The next completion; waits for it at most `timeout`. For tools and tests.
    fn wait(&mut self, timeout: Duration) -> Option<Completion>;

    /// Begins a copy of everything, groups whole, as of a moment between now and its end. It is read on another thread,
    /// beside what is written; writes are not held up by it but for some milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Refused`] after a failed durable write.
    fn copy(&mut self) -> Result<Copying, StoreError>;

    /// Sizes as of now.
    fn sizes(&self) -> Sizes;

    /// Why the store refuses writes, if it does.
    fn failure(&self) -> Option<StoreError>;

    /// Writes and syncs what is queued, and leaves the mark of an orderly end.
    ///
    /// # Errors
    /// What failed; without the mark, a start on another boot mints a new replica id.
    fn close(self: Box<Self>) -> Result<(), StoreError>;
}
