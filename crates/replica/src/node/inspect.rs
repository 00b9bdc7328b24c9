//! What a person or a metric may look at, and what an operator may ask for out of turn. Nothing here decides anything.

use core::fmt;

use crdt::mutant::{Mutant, active};
use crdt::object::JournalEntry;
use crdt::{BatchId, Envelope, Fingerprint, Hlc, Key, Keyspace, ReplicaId, RowView, VersionVector};

use super::{BlastView, Hold, Node};
use crate::epoch::{Epoch, SignedEpoch};
use crate::host::RowId;
use crate::matrix::MatrixRow;
use crate::message::Message;
use crate::snapshot::Donor;
use crate::time::Now;

/// Least time between two questions for one peer's digest: a digest may be as long as the list of all replicas.
const ASK_MS: u64 = 20;

/// Sizes that have caps or are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gauges {
    /// Batches that wait beyond a gap.
    pub beyond_gap_batches: usize,
    /// Bytes of the log.
    pub log_bytes: usize,
    /// Batches in the log.
    pub log_batches: usize,
    /// Bytes of old objects kept for snapshots that are being given.
    pub snapshot_preimage_bytes: usize,
    /// Keys with remains of removals that are not collected.
    pub remains: usize,
    /// Streams and commits that are held until an operator acts.
    pub held: usize,
    /// Bytes of what objects were before held commits.
    pub blast_preimage_bytes: usize,
}

/// Another node, as this one knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// Its node id.
    pub node: String,
    /// The transport says that its link is up.
    pub is_up: bool,
    /// Its hello fitted: digests are exchanged.
    pub is_ready: bool,
    /// Milliseconds between two digests to it; jitter shortens each by up to a tenth.
    pub digest_interval_ms: u64,
    /// What went over its link for nothing as a share of what was of use, in the 30 s before the last event, in
    /// thousandths: what was sent again, and batches that came twice.
    pub overhead_per_mille: u32,
    /// Its clock minus ours in milliseconds, by four timestamps; `None` until it has answered a digest of ours.
    pub clock_offset_ms: Option<i64>,
    /// What it told of itself last; `None` until then.
    pub row: Option<MatrixRow>,
    /// Vector and digest of its state in its last digest; `None` when it had work to do then.
    pub settled: Option<(VersionVector, Fingerprint)>,
    /// Digests that came since its link is up.
    pub digests_heard: u64,
}

/// A stream that is stopped, or an own commit whose sending waits, until a person acts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldView {
    /// Its first batch that was not applied, or not sent: its id for [`Node::release`] and [`Node::discard`].
    pub batch: BatchId,
    /// Why.
    pub reason: HeldReason,
    /// What is known of a held commit.
    pub blast: Option<BlastView>,
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
    /// An own commit changed so much of a table that its sending is held.
    Blast,
}

/// Why a node takes no writes of clients. All but the first pass by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unready {
    /// A durable write failed: nothing is taken any more until the node is opened anew.
    StoreFailed,
    /// No epoch record is here: the node does not know of any cluster yet.
    NotMember,
    /// It was started again and first hears what each member knows of it, at most until this moment of the monotonic
    /// clock.
    Listening {
        /// In milliseconds.
        until_mono_ms: u64,
    },
    /// A snapshot is being joined.
    Installing,
    /// The state is damaged, and is fetched from peers as a whole.
    Rebuilding,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StoreFailed => "an earlier write could not be made durable; restart the node",
            Self::NotMember => "the node has heard of no cluster yet; join it",
            Self::Listening { .. } => "the node has just started, and hears what the members know of it",
            Self::Installing => "the node is taking a snapshot over",
            Self::Rebuilding => "the state is damaged, and is fetched from the members",
        })
    }
}

impl Node {
    /// True when [`Node::commit`] takes writes; else why not. Also an evicted member takes them: who is in may have
    /// changed again where this node cannot hear it.
    ///
    /// # Errors
    /// [`Unready`] says why not.
    pub fn takes_writes(&self) -> Result<(), Unready> {
        if self.failed {
            return Err(Unready::StoreFailed);
        }
        if self.epoch.number == 0 {
            return Err(Unready::NotMember);
        }
        if let Some(until_mono_ms) = self.listen_until_mono_ms
            && !active(Mutant::SequenceReused)
        {
            return Err(Unready::Listening { until_mono_ms });
        }
        if self.is_joining() && !active(Mutant::ApplyDuringJoin) {
            return Err(Unready::Installing);
        }
        if self.rebuild { Err(Unready::Rebuilding) } else { Ok(()) }
    }

    /// The epoch record of a number as it came, from an operator or a peer; `None` for one that is not here. Records
    /// are never dropped, but numbers may be missing below a record that came first.
    pub fn signed_epoch(&self, number: u64) -> Option<&SignedEpoch> {
        self.epochs.get(&number)
    }

    /// Batches in the log with a MAC by this key that some other member is not known to have received: while there is one,
    /// the key is needed. Looks at no others.
    pub fn missing_batches_under(&self, key_id: u32) -> usize {
        let Some(others) = self.matrix.received_by_others_all(&self.setup.node, &self.epoch) else { return 0 };
        let streams = self.log.streams().map(|(replica, stream)| {
            let from = others.seq(replica).max(stream.floor()) + 1;
            let batches = (from..=stream.head()).filter_map(|seq| stream.get(seq));
            batches.filter(|logged| Envelope::parse(&logged.bytes).is_ok_and(|batch| batch.key_id == key_id)).count()
        });
        streams.sum()
    }

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
                overhead_per_mille: link.map_or(0, |link| self.overhead_per_mille(link)),
                clock_offset_ms: link.and_then(|link| link.clock.offset_ms()),
                row: self.matrix.row(node).cloned(),
                settled: link.and_then(|link| link.settled.clone()),
                digests_heard: link.map_or(0, |link| link.digests_heard),
            }
        };
        names.into_iter().map(view).collect()
    }

    /// Streams that are stopped, by replica; then own commits that are held, in the order in which they were made.
    pub fn held(&self) -> Vec<HeldView> {
        let reason = |hold: Hold| match hold {
            Hold::Forked => HeldReason::Forked,
            Hold::Fenced => HeldReason::Fenced,
            Hold::Quarantined => HeldReason::Quarantined,
        };
        let streams = self.held.values();
        let streams = streams.map(|(batch, hold)| HeldView { batch: *batch, reason: reason(*hold), blast: None });
        let commits = self.blast_views();
        let commits = commits.map(|(batch, view)| HeldView { batch, reason: HeldReason::Blast, blast: Some(view) });
        streams.chain(commits).collect()
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

    /// Asks for a digest now, of `peer` or of everybody whose hello fitted; who is asked answers at once. Nobody is asked
    /// twice in [`ASK_MS`]. When it has come, [`PeerView::digests_heard`] has grown.
    pub fn ask_digests(&mut self, now: Now, peer: Option<&str>) {
        if !self.enter(now) {
            return;
        }
        let asked = |node: &str| peer.is_none_or(|peer| peer == node);
        let due = |link: &super::Link| link.ready && link.asked_mono_ms.is_none_or(|at| at + ASK_MS <= now.mono_ms);
        let links = self.links.iter_mut().filter(|(node, link)| due(link) && asked(node));
        let due: Vec<String> = links
            .map(|(node, link)| {
                link.asked_mono_ms = Some(now.mono_ms);
                node.clone()
            })
            .collect();
        due.iter().for_each(|node| self.send(node, &Message::WantDigest));
        self.work(now);
    }

    /// Sends a digest now, to `peer` or to everybody whose link is up: what either side lacks is pulled at once.
    pub fn exchange_now(&mut self, now: Now, peer: Option<&str>) {
        let asked = |node: &str| peer.is_none_or(|peer| peer == node);
        for (_, link) in self.links.iter_mut().filter(|(node, link)| link.up && asked(node)) {
            link.digest_at_mono_ms = now.mono_ms;
        }
        self.handle_timeout(now);
    }

    /// The state.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// What the state includes.
    pub fn applied(&self) -> &VersionVector {
        &self.applied
    }

    /// What the database shows, durably: what others are told.
    pub fn shown(&self) -> &VersionVector {
        &self.shown
    }

    /// What stands in the log, durably.
    pub fn received(&self) -> VersionVector {
        self.log.durable_vector()
    }

    /// The replica id in use.
    pub fn replica(&self) -> ReplicaId {
        self.replicas.last().copied().unwrap_or_default()
    }

    /// What every member has.
    pub fn stable(&self) -> &VersionVector {
        self.matrix.stable()
    }

    /// The last moment that the clock gave or followed.
    pub fn clock(&self) -> Hlc {
        self.clock.last()
    }

    /// What the database shall show of a row.
    pub fn view(&self, row: &RowId) -> RowView {
        self.repaired_view(row)
    }

    /// Everything that is present and not shown.
    pub fn journal(&self) -> Vec<(Key, JournalEntry)> {
        let entries = |key: Key| {
            let journal = self.keyspace.object(&key).map_or_else(Vec::new, |object| object.journal());
            journal.into_iter().map(move |entry| (key.clone(), entry))
        };
        self.keyspace.journaled().flat_map(entries).collect()
    }

    /// True when nothing received waits to be applied, and the database has nothing to be told or asked.
    pub fn is_settled(&self) -> bool {
        let waiting = self
            .log
            .streams()
            .any(|(replica, stream)| stream.head() > self.applied.seq(replica) && !self.waits_for_a_person(replica));
        !waiting && self.install.is_none() && !self.rebuild && !self.gate.is_waiting() && self.host_is_settled()
    }

    /// True while the state is that of no vector: a snapshot is being joined, or damage was found and the
    /// state is to be replaced. Nothing is applied, drained or committed then.
    pub fn is_installing(&self) -> bool {
        self.is_joining() || self.rebuild
    }

    pub(crate) fn is_joining(&self) -> bool {
        self.install.as_ref().is_some_and(|install| install.joined.is_some())
    }

    /// Sizes that have caps or are shown.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            beyond_gap_batches: self.beyond.len(),
            log_bytes: self.log.bytes(),
            log_batches: self.log.len(),
            snapshot_preimage_bytes: self.donors.values().map(Donor::preimage_bytes).sum(),
            remains: self.remains.len(),
            held: self.held.len() + self.brakes.len(),
            blast_preimage_bytes: self.blast_preimage_bytes(),
        }
    }
}
