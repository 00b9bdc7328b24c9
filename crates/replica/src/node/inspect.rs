//! What a person or a metric may look at, and what an operator may ask for out of turn. Nothing here decides anything.

use crdt::{BatchId, Fingerprint, ReplicaId, VersionVector};

use super::{Hold, Node};
use crate::epoch::Epoch;
use crate::matrix::MatrixRow;
use crate::time::Now;

/// Another node, as this one knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// Its node id.
    pub node: String,
    /// The transport says that its link is up.
    pub is_up: bool,
    /// Its hello fitted: digests are exchanged.
    pub is_ready: bool,
    /// Milliseconds between two digests to it.
    pub digest_interval_ms: u64,
    /// Its clock minus ours in milliseconds, by four timestamps; `None` until it has answered a digest of ours.
    pub clock_offset_ms: Option<i64>,
    /// What it told of itself last; `None` until then.
    pub row: Option<MatrixRow>,
    /// Vector and digest of its state in its last digest; `None` when it had work to do then.
    pub settled: Option<(VersionVector, Fingerprint)>,
}

/// A stream that is stopped until a person acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldView {
    /// Its first batch that was not applied.
    pub batch: BatchId,
    /// Why.
    pub reason: HeldReason,
}

/// Why a stream is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldReason {
    /// Two batches with one dot; it cannot be released.
    Forked,
    /// The origin's clock is more than [`crate::Intervals::skew_fence_ms`] ahead.
    Fenced,
    /// The batch does not decode, or holds a kind of change that this build does not know.
    Quarantined,
}

impl Node {
    /// The node's id.
    pub fn id(&self) -> &str {
        &self.setup.node
    }

    /// Who is in.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Digest of the state. Equal vectors give equal digests.
    pub fn fingerprint(&self) -> Fingerprint {
        self.keyspace.fingerprint()
    }

    /// Every other member and everybody whose link was ever up, by node id.
    pub fn peers(&self) -> Vec<PeerView> {
        let members = self.epoch.members.keys().chain(self.links.keys());
        let mut names: Vec<&String> = members.filter(|node| **node != self.setup.node).collect();
        names.sort_unstable();
        names.dedup();
        let view = |node: &String| {
            let link = self.links.get(node);
            PeerView {
                node: node.clone(),
                is_up: link.is_some_and(|link| link.up),
                is_ready: link.is_some_and(|link| link.ready),
                digest_interval_ms: link.map_or(self.setup.intervals.digest_ms, |link| link.digest_interval_ms),
                clock_offset_ms: link.and_then(|link| link.clock.offset_ms()),
                row: self.matrix.row(node).cloned(),
                settled: link.and_then(|link| link.settled.clone()),
            }
        };
        names.into_iter().map(view).collect()
    }

    /// Streams that are stopped, by replica.
    pub fn held(&self) -> Vec<HeldView> {
        let reason = |hold: Hold| match hold {
            Hold::Forked => HeldReason::Forked,
            Hold::Fenced => HeldReason::Fenced,
            Hold::Quarantined => HeldReason::Quarantined,
        };
        self.held.values().map(|(batch, hold)| HeldView { batch: *batch, reason: reason(*hold) }).collect()
    }

    /// Every replica id that this node has used, the one in use last.
    pub fn replicas(&self) -> &[ReplicaId] {
        &self.replicas
    }

    /// Runs a slice of collection now; [`crate::Report::Collected`] says what came of it.
    pub fn collect_now(&mut self, now: Now) {
        self.gc_at_mono_ms = now.mono_ms;
        self.handle_timeout(now);
    }

    /// Sends a digest now, to `peer` or to everybody whose link is up: what either side lacks is pulled at once.
    pub fn exchange_now(&mut self, now: Now, peer: Option<&str>) {
        let asked = |node: &str| peer.is_none_or(|peer| peer == node);
        for (_, link) in self.links.iter_mut().filter(|(node, link)| link.up && asked(node)) {
            link.digest_at_mono_ms = now.mono_ms;
        }
        self.handle_timeout(now);
    }
}
