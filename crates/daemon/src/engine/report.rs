//! What the node reports, as lines of the log.

use std::fmt::Display;

use replica::{Installed, MintReason, Report};

use crate::log::{Level, Log};

/// Logs a report. Errors that stop something until a person acts are errors, what the engine deals with are warnings.
pub(super) fn log(log: &Log, report: &Report) {
    let code = report.code();
    let line = |level, message: &str, fields: &[(&str, &dyn Display)]| log.event(level, code, message, fields);
    let (error, warn, info) = (Level::Error, Level::Warn, Level::Info);
    match report {
        Report::IdempotencyViolation { batch, from } => line(
            error,
            "a batch exists in two versions: its replica's stream is stopped here, all others go on; find the node that \
             wrote twice under one replica id",
            &[("batch", batch), ("peer", from)],
        ),
        Report::ClockSkew { batch, ahead_ms, fenced: true } => line(
            error,
            "a batch is more than the fence ahead of our clock: its origin is held until somebody releases it",
            &[("batch", batch), ("ahead_ms", ahead_ms)],
        ),
        Report::ClockSkew { batch, ahead_ms, fenced: false } => line(
            warn,
            "a batch is ahead of our clock by more than the bound, and is delayed; check NTP on its origin and here",
            &[("batch", batch), ("ahead_ms", ahead_ms)],
        ),
        Report::ClockOffset { peer, offset_ms } => {
            line(warn, "our clock and a peer's differ; check NTP on both", &[("peer", peer), ("offset_ms", offset_ms)])
        }
        Report::ClockAhead { ahead_ms } => line(
            warn,
            "our clock is ahead of most members: stamps follow their median; check NTP here",
            &[("ahead_ms", ahead_ms)],
        ),
        Report::MacMismatch { from } => line(
            error,
            "a MAC or signature does not fit, and what it came with was dropped; are the cluster's keys the same there?",
            &[("peer", from)],
        ),
        Report::Malformed { from } => {
            line(warn, "a message does not decode, and was dropped; is the version the same there?", &[("peer", from)])
        }
        Report::VersionSkew { peer, theirs } => line(
            error,
            "a peer speaks no version that this build knows; install the same version on both",
            &[("peer", peer), ("least", &theirs.0), ("greatest", &theirs.1)],
        ),
        Report::WrongCluster { peer } => {
            line(error, "a peer belongs to another cluster; correct its address", &[("peer", peer)])
        }
        Report::NodeIdCollision { node } => line(
            error,
            "two processes use one node id: stop the copy; what was restored from a backup is to be started with restore",
            &[("node", node)],
        ),
        Report::EpochFork { number } => line(
            error,
            "two membership records have one number: the key that signs them is used in two places; keep it in one",
            &[("epoch", number)],
        ),
        Report::StoreCorrupt { records } => line(
            error,
            "records of this node are damaged: they were set aside and are fetched from peers; check the disk",
            &[("records", records)],
        ),
        // The store's own error was logged, with its cause.
        Report::StoreFailed => line(Level::Debug, "the node refuses writes", &[]),
        Report::ReplicaMinted { replica, reason } => {
            let why = match reason {
                MintReason::FirstStart => "this is the first start",
                MintReason::ContinuityNotProven => "it is not proven that nothing was lost or copied",
                MintReason::PeerKnowsMore => "a peer knows more of us than we do",
            };
            line(info, "the node has a new replica id", &[("replica", replica), ("reason", &why)])
        }
        Report::Quarantined { batch } => line(
            error,
            "a batch cannot be applied: its replica's stream waits here; see crdt-engine held list",
            &[("batch", batch)],
        ),
        Report::UnknownChange { batch } => line(
            warn,
            "a batch holds a kind of change that this version does not know: its replica's stream waits for an upgrade",
            &[("batch", batch)],
        ),
        Report::SnapshotInterrupted { peer } => {
            line(warn, "a snapshot was given up; it is started over if it is still needed", &[("peer", peer)])
        }
        Report::SnapshotInstalled { how } => {
            let how = match how {
                Installed::Joined => "it was joined into what was here",
                Installed::AsItCame => "it was joined as it came, because nothing was here",
                Installed::Replaced => "it replaced what was here",
            };
            line(info, "a snapshot was taken over", &[("how", &how)])
        }
        Report::Diverged { peer, shard } => line(
            error,
            "our state and a peer's differ although both have the same writes, and both verify; keep both nodes as they \
             are and report it",
            &[("peer", peer), ("shard", shard)],
        ),
        Report::BufferFull => line(warn, "batches were dropped for want of room; they are pulled again", &[]),
        Report::LogCut { replica, floor } => line(
            warn,
            "the log was cut although a member lacks what was cut: it will take a snapshot when it is back",
            &[("replica", replica), ("floor", floor)],
        ),
        Report::BlastHeld { batch, blast } => line(
            error,
            "a commit changed so much of a table that its sending is held, and all writes of this node with it; release \
             or discard it",
            &[
                ("batch", batch),
                ("table", &blast.table.as_deref().unwrap_or_default()),
                ("touched", &blast.touched),
                ("rows", &blast.rows),
            ],
        ),
        Report::BlastEnded { batch, end } => {
            line(info, "a held commit is not held any more", &[("batch", batch), ("why", &end)])
        }
        Report::Collected { attempted, collected } => {
            line(Level::Debug, "a slice of collection ended", &[("attempted", attempted), ("collected", collected)])
        }
        // Of a node with a database, which this one has not.
        Report::DatabaseRestored { .. }
        | Report::OutOfBandWrite { .. }
        | Report::Rescued { .. }
        | Report::Repaired { .. } => line(warn, "a node without a database reports about one", &[]),
    }
}
