//! What a node asks its surroundings to do, and what it reports.

use crdt::{BatchId, ReplicaId};

use crate::host::{RowId, RowImage, SqlRequest};
use crate::node::{Blast, BlastEnd};
use crate::record::{RecordKey, WriteGroup};

/// Something to be done outside. Effects are taken with [`crate::Node::poll_effect`], in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write the group; when it is durable, call [`crate::Node::handle_persisted`]; when that fails, call
    /// [`crate::Node::handle_persist_failed`].
    Persist(WriteGroup),
    /// Send bytes to a member over its link. They may be lost, doubled or reordered.
    Send {
        /// The member.
        to: String,
        /// One message.
        bytes: Vec<u8>,
    },
    /// Ask the database; answer with [`crate::Node::handle_sql`].
    Sql(SqlRequest),
    /// Read one record from disk and answer with [`crate::Node::handle_loaded`].
    Load(RecordKey),
    /// A commit of [`crate::Node::commit`] is durable: its client may be told.
    Acknowledge(BatchId),
    /// Something that a person or a metric wants to know.
    Report(Report),
}

/// An event with a stable code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// Same dot, another content: the stream of this replica is stopped, all others go on.
    IdempotencyViolation {
        /// The batch of which two versions exist.
        batch: BatchId,
        /// Who sent the second version.
        from: String,
    },
    /// A batch's clock runs ahead of ours by more than the bound.
    ClockSkew {
        /// The batch.
        batch: BatchId,
        /// Its lead in milliseconds.
        ahead_ms: u64,
        /// True when the origin is fenced until an operator acts.
        fenced: bool,
    },
    /// Our clock and a peer's differ by more than the warning.
    ClockOffset {
        /// The peer.
        peer: String,
        /// Peer minus us, in milliseconds.
        offset_ms: i64,
    },
    /// Our clock is ahead of the median of the members: stamps follow the median.
    ClockAhead {
        /// Us minus the median, in milliseconds.
        ahead_ms: u64,
    },
    /// A message or batch whose MAC does not fit.
    MacMismatch {
        /// Who sent it.
        from: String,
    },
    /// Bytes that do not decode.
    Malformed {
        /// Who sent them.
        from: String,
    },
    /// A peer speaks no version that we know.
    VersionSkew {
        /// The peer.
        peer: String,
        /// Versions it offers, least and greatest.
        theirs: (u16, u16),
    },
    /// A peer belongs to another cluster.
    WrongCluster {
        /// The peer.
        peer: String,
    },
    /// Two processes use one node id.
    NodeIdCollision {
        /// The id.
        node: String,
    },
    /// Two epoch records with one number. The one that came first counts here, and the stable cut stands still until
    /// this process ends; the fork is not stored, so after a restart the cut moves on until the other record is heard
    /// again. What lies below the cut, and the log below what every member has received, is collected all the while.
    EpochFork {
        /// The number.
        number: u64,
    },
    /// Records of ours are damaged; they were set aside and are fetched from peers.
    StoreCorrupt {
        /// How many.
        records: u64,
    },
    /// A durable write failed: this node refuses all further ones.
    StoreFailed,
    /// A fresh replica id was minted, because continuity was not proven.
    ReplicaMinted {
        /// The new id.
        replica: ReplicaId,
        /// Why.
        reason: MintReason,
    },
    /// Database and store are of different moments: the database's cursor is neither the last step that this node
    /// knows nor the planned one. Below `known` the database went back; above it this node's own store did, and
    /// [`Report::ReplicaMinted`] follows.
    DatabaseRestored {
        /// Step that the database holds.
        found: u64,
        /// Last step that this node knows the database to have held.
        known: u64,
    },
    /// A write that bypassed the triggers was found and adopted.
    OutOfBandWrite {
        /// The row.
        row: RowId,
    },
    /// Content of the database that no rule could place, for a person: nothing is lost unlisted.
    Rescued {
        /// The row.
        row: RowId,
        /// What the database had; `None` where the row was missing.
        image: Option<RowImage>,
    },
    /// A batch does not decode although its MAC fits: it is kept and forwarded, and its replica's stream waits here
    /// for an operator or for a build that reads it. One that decodes and holds a change of an unknown kind is a
    /// [`Report::UnknownChange`].
    Quarantined {
        /// The batch.
        batch: BatchId,
    },
    /// A batch holds a kind of change that this version does not know: it was stored and forwarded, and its
    /// replica's stream waits here for an upgrade or an operator.
    UnknownChange {
        /// The batch.
        batch: BatchId,
    },
    /// A snapshot was given up before its end, and is started over if it is still needed: its donor dropped it or is
    /// out of reach, or this node could not go on with it.
    SnapshotInterrupted {
        /// The donor, whoever of the two gave it up.
        peer: String,
    },
    /// A snapshot was taken over.
    SnapshotInstalled {
        /// What it did to our state.
        how: Installed,
    },
    /// On equal vectors the digests differ, and both sides' own checks pass.
    Diverged {
        /// The peer.
        peer: String,
        /// The first shard that differs.
        shard: u32,
    },
    /// A repair of a unique column was made into an operation.
    Repaired {
        /// The row.
        row: RowId,
    },
    /// Batches were dropped because the buffer beyond gaps, or the log, is full; they are pulled again. Told once,
    /// until both are half empty again.
    BufferFull,
    /// The log was cut although a member lacks what was cut: it will need a snapshot.
    LogCut {
        /// The replica whose log was cut.
        replica: ReplicaId,
        /// The new floor.
        floor: u64,
    },
    /// A commit changed so much of a table at once that its sending is held, and with it all that this node writes from
    /// here on, until an operator decides or [`crate::Intervals::blast_hold_ms`] are over.
    BlastHeld {
        /// Its first batch: the id to release or discard it by.
        batch: BatchId,
        /// What it did.
        blast: Blast,
    },
    /// A held commit is not held any more.
    BlastEnded {
        /// Its first batch.
        batch: BatchId,
        /// Why.
        end: BlastEnd,
    },
    /// A collection slice ended.
    Collected {
        /// Remains that waited before it.
        attempted: u64,
        /// Remains collected.
        collected: u64,
    },
}

/// What a snapshot did to the state of the node that took it over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Installed {
    /// It was staged as a whole, then joined.
    Joined,
    /// There was no state: it was joined as it came.
    AsItCame,
    /// It replaced a damaged state.
    Replaced,
}

/// Why a replica id was minted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MintReason {
    /// Nothing was there before.
    FirstStart,
    /// The host could not prove that no write was lost or copied.
    ContinuityNotProven,
    /// A peer knows a higher sequence for us than we do.
    PeerKnowsMore,
}

impl Report {
    /// The stable code; `None` for what is no error.
    pub const fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::IdempotencyViolation { .. } => "ERR_IDEMPOTENCY_VIOLATION",
            Self::ClockSkew { .. } | Self::ClockOffset { .. } | Self::ClockAhead { .. } => "ERR_VLOCK_SKEW_OVERFLOW",
            Self::MacMismatch { .. } => "ERR_HMAC_MISMATCH",
            Self::Malformed { .. } => "ERR_MALFORMED",
            Self::VersionSkew { .. } => "ERR_VERSION_SKEW",
            Self::WrongCluster { .. } => "ERR_WRONG_CLUSTER",
            Self::NodeIdCollision { .. } => "ERR_NODE_ID_COLLISION",
            Self::EpochFork { .. } => "ERR_EPOCH_FORK",
            Self::StoreCorrupt { .. } => "ERR_STORE_CORRUPT",
            Self::StoreFailed => "ERR_STORE_FAILED",
            Self::DatabaseRestored { .. } => "ERR_DATABASE_RESTORED",
            Self::Rescued { .. } => "ERR_RESCUED",
            Self::Quarantined { .. } => "ERR_QUARANTINED",
            Self::SnapshotInterrupted { .. } => "ERR_SNAPSHOT_INTERRUPTED",
            Self::Diverged { .. } => "ERR_DIVERGED",
            Self::BlastHeld { .. } => "ERR_BLAST_HELD",
            Self::ReplicaMinted { .. }
            | Self::OutOfBandWrite { .. }
            | Self::UnknownChange { .. }
            | Self::SnapshotInstalled { .. }
            | Self::Repaired { .. }
            | Self::BufferFull
            | Self::LogCut { .. }
            | Self::BlastEnded { .. }
            | Self::Collected { .. } => return None,
        })
    }
}
