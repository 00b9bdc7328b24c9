//! What the hot thread counts, and the snapshot of all metrics that it makes when somebody asks.

use std::collections::{BTreeMap, VecDeque};

use crdt::{ReplicaId, VersionVector};
use replica::{Node, PeerView};
use stats::catalogue as metric;
use stats::{Histogram, Snapshot};
use transport::{Kind, LinkFigures};

use super::core::Core;
use super::network::PeerState;
use crate::door::DoorFigures;

/// Samples of own writes that are not on any peer; over it every second one is forgotten, which costs only precision.
const MARKS_MAX: usize = 4_096;

/// Plain numbers of one thread.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) commits: u64,
    pub(crate) commits_refused: u64,
    /// `None`: not counted.
    pub(crate) commit_seconds: Option<Histogram>,
    pub(crate) reports: BTreeMap<&'static str, u64>,
    pub(crate) skew_rejected: BTreeMap<String, u64>,
    pub(crate) idempotency_violations: u64,
    pub(crate) diverged: u64,
    pub(crate) overflow_episodes: u64,
    pub(crate) gc_attempted: u64,
    pub(crate) gc_collected: u64,
    pub(crate) log_cuts: u64,
    pub(crate) snapshots_joined: u64,
    pub(crate) snapshots_replaced: u64,
    pub(crate) snapshots_interrupted: u64,
    pub(crate) store_errors: BTreeMap<&'static str, u64>,
    pub(crate) congested_us: u64,
    pub(crate) busy_us: u64,
    pub(crate) turns: u64,
    /// `None`: not counted.
    pub(crate) turn_seconds: Option<Histogram>,
    /// Sequence that was reached, and when.
    marks: VecDeque<(u64, u64)>,
}

impl Figures {
    /// Counts from 0. With `counts`, also what costs time.
    pub(crate) fn new(counts: bool) -> Self {
        let seconds = || counts.then(Histogram::seconds);
        Self { commit_seconds: seconds(), turn_seconds: seconds(), ..Self::default() }
    }

    /// Whether what costs time is counted.
    pub(crate) fn counts(&self) -> bool {
        self.commit_seconds.is_some()
    }

    /// Once a second: notes how far own writes have come, and forgets what some peer has.
    pub(crate) fn mark(&mut self, mono_ms: u64, own: u64, replicated: u64) {
        while self.marks.pop_front_if(|(seq, _)| *seq <= replicated).is_some() {}
        let last = self.marks.back().map_or(replicated, |(seq, _)| *seq);
        if own > last {
            self.marks.push_back((own, mono_ms));
        }
        if self.marks.len() > MARKS_MAX {
            let mut place = 0;
            self.marks.retain(|_| {
                place += 1;
                // The oldest one stays: it is what is shown.
                place % 2 == 1
            });
        }
    }

    /// Seconds since the oldest own write that no peer has.
    fn unreplicated_seconds(&self, mono_ms: u64) -> f64 {
        self.marks.front().map_or(0.0, |(_, at_ms)| mono_ms.saturating_sub(*at_ms) as f64 / 1e3)
    }
}

/// Which node each replica id belongs to, as far as members told.
pub(crate) fn origins(node: &Node, peers: &[PeerView]) -> BTreeMap<ReplicaId, String> {
    let own = node.replicas().iter().map(|replica| (*replica, node.id().to_owned()));
    let rows = peers.iter().filter_map(|peer| Some((&peer.node, peer.row.as_ref()?)));
    let others = rows.flat_map(|(name, row)| row.replicas.iter().map(move |replica| (*replica, name.clone())));
    others.chain(own).collect()
}

/// The sum over the replicas of `node` in a vector.
fn seq_of(replicas: &[ReplicaId], vector: &VersionVector) -> u64 {
    replicas.iter().map(|replica| vector.seq(*replica)).sum()
}

/// Own operations that a peer has not told to have.
pub(crate) fn lag_of(node: &Node, peer: &PeerView) -> u64 {
    let own = seq_of(node.replicas(), node.applied());
    own - peer.row.as_ref().map_or(0, |row| seq_of(node.replicas(), &row.received)).min(own)
}

impl Core {
    /// Own operations, and how many of them some peer has.
    pub(crate) fn replicated(&self, peers: &[PeerView]) -> (u64, u64) {
        let own = seq_of(self.node.replicas(), self.node.applied());
        let lag = peers.iter().filter(|peer| self.network.is_other(&peer.node)).map(|peer| lag_of(&self.node, peer));
        (own, own - lag.min().unwrap_or(own).min(own))
    }

    /// All metrics as of now.
    pub(crate) fn snapshot(&self, door: &DoorFigures) -> Snapshot {
        let mut snapshot = Snapshot::new();
        let peers = self.node.peers();
        self.tell_node(&mut snapshot, &peers);
        self.tell_history(&mut snapshot);
        self.tell_lags(&mut snapshot, &peers);
        self.tell_links(&mut snapshot, &peers);
        self.tell_store(&mut snapshot);
        self.tell_door(&mut snapshot, door);
        snapshot
    }

    fn tell_node(&self, snapshot: &mut Snapshot, peers: &[PeerView]) {
        let (node, mono_ms) = (&self.node, self.at.now.mono_ms);
        snapshot.integer(&metric::BUILD_INFO, &[&self.about.version], 1);
        let started_ms = self.about.started.now.wall_ms;
        snapshot.number(&metric::START_SECONDS, &[], started_ms as f64 / 1e3);
        snapshot.integer(&metric::READY, &[], u64::from(self.unreadiness().is_empty()));
        let (own, replicated) = self.replicated(peers);
        snapshot.integer(&metric::UNREPLICATED_OPS, &[], own - replicated);
        snapshot.number(&metric::UNREPLICATED_SECONDS, &[], self.figures.unreplicated_seconds(mono_ms));
        snapshot.integer(&metric::UNAPPLIED_OPS, &[], node.received().ahead_of(node.applied()));
        let origins = origins(node, peers);
        let name_of = |replica: ReplicaId| origins.get(&replica).cloned().unwrap_or_else(|| replica.to_string());
        let mut applied: BTreeMap<String, u64> = BTreeMap::new();
        for (replica, seq) in node.applied().iter() {
            *applied.entry(name_of(replica)).or_default() += seq;
        }
        for (origin, seq) in &applied {
            snapshot.integer(&metric::APPLIED_OPS, &[origin], *seq);
        }
        for peer in peers.iter().filter(|peer| self.network.is_other(&peer.node)) {
            let mut drift: BTreeMap<String, u64> = applied.keys().map(|origin| (origin.clone(), 0)).collect();
            for (replica, seq) in node.applied().iter() {
                let there = peer.row.as_ref().map_or(0, |row| row.shown.seq(replica));
                *drift.entry(name_of(replica)).or_default() += seq.saturating_sub(there);
            }
            for (origin, ops) in &drift {
                snapshot.integer(&metric::CLOCK_DRIFT_OPS, &[origin, &peer.node], *ops);
            }
            if let Some(offset_ms) = peer.clock_offset_ms {
                snapshot.number(&metric::CLOCK_SKEW_SECONDS, &[&peer.node], offset_ms as f64 / 1e3);
            }
            let interval_ms = peer.digest_interval_ms as f64;
            snapshot.number(&metric::SYNC_INTERVAL_SECONDS, &[&peer.node], interval_ms / 1e3);
        }
        let gauges = node.gauges();
        for (metric, value) in [
            (&metric::CONFLICT_JOURNAL_ENTRIES, node.keyspace().journal_entries()),
            (&metric::HELD_STREAMS, gauges.held as u64),
            (&metric::TOMBSTONES, gauges.remains as u64),
            (&metric::LOG_BYTES, gauges.log_bytes as u64),
            (&metric::LOG_BATCHES, gauges.log_batches as u64),
            (&metric::BEYOND_GAP_BATCHES, gauges.beyond_gap_batches as u64),
            (&metric::PREIMAGE_BYTES, gauges.snapshot_preimage_bytes as u64),
        ] {
            snapshot.integer(metric, &[], value);
        }
    }

    fn tell_history(&self, snapshot: &mut Snapshot) {
        let figures = &self.figures;
        for (origin, count) in &figures.skew_rejected {
            snapshot.integer(&metric::CLOCK_SKEW_REJECTED_TOTAL, &[origin], *count);
        }
        for (code, count) in &figures.reports {
            snapshot.integer(&metric::REPORTS_TOTAL, &[code], *count);
        }
        for (metric, value) in [
            (&metric::IDEMPOTENCY_VIOLATIONS_TOTAL, figures.idempotency_violations),
            (&metric::DIVERGED_TOTAL, figures.diverged),
            (&metric::OVERFLOW_EPISODES_TOTAL, figures.overflow_episodes),
            (&metric::GC_ATTEMPTED_TOTAL, figures.gc_attempted),
            (&metric::GC_COLLECTED_TOTAL, figures.gc_collected),
            (&metric::LOG_CUTS_TOTAL, figures.log_cuts),
            (&metric::SNAPSHOTS_INTERRUPTED_TOTAL, figures.snapshots_interrupted),
            (&metric::HOT_THREAD_TURNS_TOTAL, figures.turns),
            (&metric::LOG_LINES_DROPPED, self.log.dropped()),
        ] {
            snapshot.integer(metric, &[], value);
        }
        snapshot.integer(&metric::SNAPSHOTS_INSTALLED_TOTAL, &["joined"], figures.snapshots_joined);
        snapshot.integer(&metric::SNAPSHOTS_INSTALLED_TOTAL, &["replaced"], figures.snapshots_replaced);
        snapshot.number(&metric::BACKPRESSURE_SECONDS_TOTAL, &[], figures.congested_us as f64 / 1e6);
        if figures.commit_seconds.is_some() {
            snapshot.number(&metric::HOT_THREAD_SECONDS_TOTAL, &[], figures.busy_us as f64 / 1e6);
        }
    }

    fn tell_lags(&self, snapshot: &mut Snapshot, peers: &[PeerView]) {
        let Some(lags) = &self.lags else { return };
        let origins = origins(&self.node, peers);
        // A node that took a fresh replica id has several, which are one series.
        let mut by_origin: BTreeMap<String, Histogram> = BTreeMap::new();
        for (replica, found) in lags.applied() {
            let origin = origins.get(&replica).cloned().unwrap_or_else(|| replica.to_string());
            by_origin.entry(origin).or_insert_with(Histogram::seconds).add(found);
        }
        for (origin, found) in &by_origin {
            snapshot.histogram(&metric::APPLY_LAG_SECONDS, &[origin], found);
        }
        if let Some(converged) = lags.converged() {
            snapshot.histogram(&metric::CONVERGENCE_SECONDS, &[], converged);
        }
        for (kind, count) in lags.joins() {
            snapshot.integer(&metric::MERGES_TOTAL, &[kind], count);
        }
        if let Some(seconds) = &self.figures.turn_seconds {
            snapshot.histogram(&metric::HOT_THREAD_TURN_SECONDS, &[], seconds);
        }
        if let Some(groups) = self.storage.group_sizes() {
            snapshot.histogram(&metric::STORE_COMMIT_GROUPS, &[], groups);
        }
    }

    fn tell_links(&self, snapshot: &mut Snapshot, peers: &[PeerView]) {
        for state in PeerState::ALL {
            let count = self.network.others().filter(|node| self.network.state_of(node) == state).count();
            snapshot.integer(&metric::MEMBERS, &[state.name()], count as u64);
        }
        for peer in peers.iter().filter(|peer| self.network.is_other(&peer.node)) {
            snapshot.integer(&metric::LINK_UP, &[&peer.node], u64::from(self.network.is_up(&peer.node)));
        }
        for (code, count) in self.network.refusals() {
            snapshot.integer(&metric::LINK_REFUSALS_TOTAL, &[code], count);
        }
        let (mut given, mut taken) = (0, 0);
        for figures in self.network.figures() {
            given += figures.sent[Kind::Snapshot.index()].bytes;
            taken += figures.received[Kind::Snapshot.index()].bytes;
            self.tell_link(snapshot, &figures);
        }
        snapshot.integer(&metric::SNAPSHOT_BYTES_TOTAL, &["sent"], given);
        snapshot.integer(&metric::SNAPSHOT_BYTES_TOTAL, &["received"], taken);
    }

    fn tell_link(&self, snapshot: &mut Snapshot, figures: &LinkFigures) {
        let peer = figures.peer.as_str();
        for (direction, traffic) in [("sent", &figures.sent), ("received", &figures.received)] {
            for (kind, traffic) in Kind::ALL.iter().zip(traffic) {
                let labels = [peer, kind.label(), direction];
                snapshot.integer(&metric::WIRE_BYTES_TOTAL, &labels, traffic.bytes);
                snapshot.integer(&metric::WIRE_MESSAGES_TOTAL, &labels, traffic.messages);
            }
        }
        for (metric, value) in [
            (&metric::LINKS_UP_TOTAL, figures.links_up),
            (&metric::LINK_OVERFLOWS_TOTAL, figures.overflows),
            (&metric::LINK_QUEUE_BYTES, figures.queued_bytes),
            (&metric::DATAGRAMS_DROPPED_TOTAL, figures.datagrams_dropped),
            (&metric::PACKETS_LOST_TOTAL, self.network.packets_lost(&figures.peer)),
        ] {
            snapshot.integer(metric, &[peer], value);
        }
        if let Some(rtt_us) = figures.path.and_then(|path| path.rtt_us) {
            snapshot.number(&metric::RTT_SECONDS, &[peer], rtt_us as f64 / 1e6);
        }
    }

    fn tell_store(&self, snapshot: &mut Snapshot) {
        let sizes = self.storage.sizes();
        snapshot.integer(&metric::STORE_BYTES, &[], sizes.stored_bytes);
        snapshot.integer(&metric::STORE_QUEUE_BYTES, &[], self.storage.open_bytes() as u64);
        snapshot.integer(&metric::STORE_QUEUE_WRITES, &[], self.pending_writes() as u64);
        snapshot.integer(&metric::STORE_COMMITS_TOTAL, &[], sizes.commits);
        snapshot.integer(&metric::STORE_GROUPS_TOTAL, &[], self.storage.groups());
        if let Some(waits) = self.storage.waits() {
            snapshot.histogram(&metric::STORE_WAIT_SECONDS, &[], waits);
        }
        for (code, count) in &self.figures.store_errors {
            snapshot.integer(&metric::STORE_ERRORS_TOTAL, &[code], *count);
        }
    }

    fn tell_door(&self, snapshot: &mut Snapshot, door: &DoorFigures) {
        snapshot.integer(&metric::DOOR_CLIENTS, &[], door.clients);
        snapshot.integer(&metric::DOOR_BUFFER_BYTES, &[], door.held_bytes);
        snapshot.integer(&metric::DOOR_CLIENTS_TOTAL, &[], door.clients_let_in);
        for (metric, label, value) in [
            (&metric::DOOR_REFUSED_TOTAL, "full", door.refused_full),
            (&metric::DOOR_REFUSED_TOTAL, "slow", door.cut_slow),
            (&metric::DOOR_REFUSED_TOTAL, "memory", door.cut_memory),
            (&metric::DOOR_BYTES_TOTAL, "read", door.bytes_read),
            (&metric::DOOR_BYTES_TOTAL, "written", door.bytes_written),
            (&metric::DOOR_COMMITS_TOTAL, "accepted", self.figures.commits),
            (&metric::DOOR_COMMITS_TOTAL, "refused", self.figures.commits_refused),
        ] {
            snapshot.integer(metric, &[label], value);
        }
        if let Some(seconds) = &self.figures.commit_seconds {
            snapshot.histogram(&metric::DOOR_COMMIT_SECONDS, &[], seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_write_without_a_copy_tells_the_age() {
        let mut figures = Figures::new(false);
        figures.mark(1_000, 0, 0);
        assert_eq!(figures.unreplicated_seconds(5_000), 0.0);
        figures.mark(2_000, 5, 0);
        figures.mark(3_000, 9, 0);
        assert_eq!(figures.unreplicated_seconds(5_000), 3.0);
        figures.mark(5_000, 9, 5);
        assert_eq!(figures.unreplicated_seconds(5_000), 2.0);
        figures.mark(6_000, 9, 9);
        assert_eq!(figures.unreplicated_seconds(6_000), 0.0);
    }

    #[test]
    fn marks_are_bounded_and_keep_the_oldest() {
        let mut figures = Figures::new(false);
        for second in 1..=20_000 {
            figures.mark(second * 1_000, second, 0);
        }
        assert!(figures.marks.len() <= MARKS_MAX);
        assert_eq!(figures.unreplicated_seconds(20_000_000), 19_999.0);
    }
}
