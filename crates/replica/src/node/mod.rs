//! The node: one state machine out of log, delivery, matrix clock, collection, catch-up and host.
//!
//! Every event ends in the same way: the node does all work that became possible, and gathers what must be
//! durable into one group ([`Node::poll_effect`] hands it out first). What may only follow a durable group
//! waits behind a gate.

mod apply;
mod blast;
mod clock;
mod collect;
mod commit;
mod give;
mod inspect;
mod install;
mod open;
mod pace;
mod receive;
mod sync;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crdt::{BatchId, Dot, Fingerprint, Key, Keyspace, Name, ReplicaId, VersionVector};

use crate::config::{Intervals, Limits};
use crate::effect::{Effect, MintReason, Report};
use crate::epoch::{Epoch, SignedEpoch};
use crate::host::{Host, Schema, SqlRequest};
use crate::log::Log;
use crate::matrix::Matrix;
use crate::record::{Durable, Found, Gate, Meta, Record, RecordKey, Ticket};
use crate::signer::Signer;
use crate::snapshot::{Donor, Install};
use crate::time::Now;
use crate::topology::{FullMesh, Source, Topology};

pub use blast::{Blast, BlastEnd, BlastView, HeldError};
pub(crate) use commit::Draft;
pub use commit::{Action, CommitError, GATHERED_BYTES_MAX, GATHERED_CHANGES_MAX, Intent};
pub use inspect::{Gauges, HeldReason, HeldView, PeerView, Unready};
pub use open::OpenError;
pub(crate) use sync::rows;

/// What [`Meta::Doubt`] holds beside the host's doubts and a state that is to be replaced: [`Node::is_restored`].
const RESTORED: u8 = 1 << 4;

/// What a node is told once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// Random, made once, the same on every node.
    pub cluster: u128,
    /// The node's name, 1-63 of `a-z 0-9 _ -`.
    pub node: String,
    /// The tables of the database behind this node, if there is one.
    pub schema: Option<Schema>,
    /// Limits.
    pub limits: Limits,
    /// Intervals.
    pub intervals: Intervals,
    /// Least and greatest protocol version that this build speaks.
    pub versions: (u16, u16),
}

/// What the host knows about the time between two lives of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Continuity {
    /// Nothing written was lost, and no copy of this node ran: the process was merely restarted.
    Proven,
    /// Power was cut, a backup was restored, the machine is another one, or nobody knows.
    NotProven,
}

/// What a node is told at each start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// The clocks.
    pub now: Now,
    /// 128 random bits, used if a replica id must be minted.
    pub fresh_replica: ReplicaId,
    /// Whether the last replica id may be used on.
    pub continuity: Continuity,
}

/// What waits for a group to be durable.
#[derive(Debug)]
pub(crate) enum Then {
    /// Batches of others up to here may be told.
    Received { batch: BatchId, from: String },
    /// An own batch may be sent, and its client answered; the database may not show yet what it says.
    Committed { batch: BatchId, acknowledge: bool, is_shown: bool },
    /// The database may be asked.
    Sql(SqlRequest),
    /// What the database shows may be told.
    Shown(VersionVector),
    /// So many chunks of a snapshot are staged, or joined as they came.
    Staged { id: u64, chunks: u32 },
    /// A chunk is joined.
    Joined,
}

/// Why a stream is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// Two batches with one dot: for good.
    Forked,
    /// The origin's clock is more than a day ahead.
    Fenced,
    /// The batch cannot be applied.
    Quarantined,
}

/// A neighbour.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// The peer's hello fitted.
    pub(crate) ready: bool,
    /// Heads of the peer's log as last told.
    pub(crate) heads: BTreeMap<ReplicaId, u64>,
    /// Own guess of what has been sent to the peer already.
    pub(crate) sent: BTreeMap<ReplicaId, u64>,
    /// Streams that the peer cannot give from where we are.
    pub(crate) below_floor: BTreeMap<ReplicaId, u64>,
    pub(crate) pull: Option<sync::Pulling>,
    pub(crate) digest_interval_ms: u64,
    pub(crate) digest_at_mono_ms: u64,
    pub(crate) digests_sent: u64,
    pub(crate) traffic: pace::Traffic,
    /// What the last digest to the peer said: shown and received.
    pub(crate) told: Option<(VersionVector, VersionVector)>,
    pub(crate) clock: clock::PeerClock,
    pub(crate) digests_heard: u64,
    /// Vector and digest of the peer's state in its last digest, if it had nothing to do then.
    pub(crate) settled: Option<(VersionVector, Fingerprint)>,
    /// A hello is answered with a hello from this moment on, so that two nodes do not greet each other for ever.
    pub(crate) hello_at_mono_ms: u64,
    /// When its digest was asked for last.
    pub(crate) asked_mono_ms: Option<u64>,
}

/// One node.
pub struct Node {
    pub(crate) setup: Setup,
    signer: Box<dyn Signer>,
    topology: Box<dyn Topology>,
    /// Every replica id of this node, the last in use.
    replicas: Vec<ReplicaId>,
    fresh_replica: ReplicaId,
    clock: clock::Clock,
    pub(crate) log: Log,
    beyond: BTreeMap<BatchId, Vec<u8>>,
    /// Batches were dropped for want of room, and that was reported.
    overflows: bool,
    pub(crate) keyspace: Keyspace,
    pub(crate) applied: VersionVector,
    shown: VersionVector,
    claimed: VersionVector,
    matrix: Matrix,
    epochs: BTreeMap<u64, SignedEpoch>,
    epoch: Epoch,
    epoch_forked: bool,
    links: BTreeMap<String, Link>,
    /// Links whose superseded node ids were reported.
    refused: BTreeSet<String>,
    /// Peers and shards whose divergence was reported.
    diverged: BTreeSet<(String, usize)>,
    held: BTreeMap<ReplicaId, (BatchId, Hold)>,
    /// Own groups whose sending is held, in the order in which they were committed.
    brakes: Vec<blast::Brake>,
    population: blast::Population,
    turn: Option<(ReplicaId, usize)>,
    /// Skewed batches that were reported.
    skew_reported: BTreeSet<BatchId>,
    donors: BTreeMap<String, Donor>,
    wanted_snapshots: BTreeMap<String, VersionVector>,
    snapshots_given: u64,
    install: Option<Install>,
    install_asked: Option<install::Asked>,
    doubt_on_disk: u8,
    /// The state is damaged: it is fetched from peers as a whole.
    rebuild: bool,
    /// The continuity of the store was not proven, by this process or by one before it, and since then not every member
    /// has taken our list of replica ids.
    is_restored: bool,
    /// Until then, or until every reachable member was heard, nothing is written under the last replica id.
    listen_until_mono_ms: Option<u64>,
    /// Everything that was possible then was done.
    worked_at_mono_ms: u64,
    pub(crate) host: Option<Host>,
    remains: collect::Remains,
    ages: BTreeMap<(Key, Vec<Name>, Dot), u64>,
    /// The journal entry at which the last slice of forgetting ended.
    forgotten_until: Option<(Key, Vec<Name>, Dot)>,
    gc_at_mono_ms: u64,
    /// A log over its cap is not cut before.
    cut_at_mono_ms: u64,
    gate: Gate<Then>,
    records: Vec<Record>,
    then: Vec<Then>,
    effects: VecDeque<Effect>,
    gathered: Option<commit::Gathered>,
    failed: bool,
}

impl Node {
    /// The transport says that the link to `peer` is up or down.
    pub fn handle_link(&mut self, now: Now, peer: &str, up: bool) {
        if !self.enter(now) {
            return;
        }
        self.link_changed(now, peer, up);
        self.work(now);
    }

    /// A message from `from`, whom the transport has authenticated.
    pub fn handle_message(&mut self, now: Now, from: &str, bytes: &[u8]) {
        if !self.enter(now) {
            return;
        }
        self.receive_message(now, from, bytes);
        self.work(now);
    }

    /// The group with this ticket, and all before it, are durable.
    pub fn handle_persisted(&mut self, now: Now, ticket: Ticket) {
        if !self.enter(now) {
            return;
        }
        let mut own = Vec::new();
        for ready in self.gate.open(ticket) {
            if let Then::Committed { batch, .. } = ready.get() {
                own.push(*batch);
            }
            self.proceed(now, ready);
        }
        self.push(now, &own, Source::Own);
        self.work(now);
    }

    /// A group could not be made durable. The node refuses everything from now on: what it has in memory
    /// and what stands on disk no longer agree. Open it anew from what is on disk.
    pub fn handle_persist_failed(&mut self, _now: Now, _ticket: Ticket) {
        self.failed = true;
        self.gathered = None;
        self.effects.clear();
        self.effects.push_back(Effect::Report(Report::StoreFailed));
    }

    /// The record asked for with [`Effect::Load`].
    pub fn handle_loaded(&mut self, now: Now, key: RecordKey, found: Option<Found>) {
        if !self.enter(now) {
            return;
        }
        self.chunk_loaded(now, &key, found);
        self.work(now);
    }

    /// An epoch record from an operator or a peer.
    pub fn handle_epoch(&mut self, now: Now, epoch: SignedEpoch) {
        if !self.enter(now) {
            return;
        }
        self.take_epoch(epoch);
        self.work(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if !self.enter(now) {
            return;
        }
        self.tick_links(now);
        self.tick_install(now);
        self.tick_collect(now);
        self.work(now);
    }

    /// The next moment of the monotonic clock at which [`Node::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.failed {
            return None;
        }
        let timers = [self.link_timer(), self.install_timer(), self.host_timer(), self.skew_timer()];
        let timers = timers.into_iter().chain([self.cut_timer(), self.blast_timer()]);
        timers.flatten().chain([self.gc_at_mono_ms]).chain(self.listen_until_mono_ms).min()
    }

    /// The next thing to be done outside.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Pushes batches as `topology` says from now on; a node begins with [`FullMesh`].
    pub fn set_topology(&mut self, topology: Box<dyn Topology>) {
        self.topology = topology;
    }

    /// The beginning of everything that happens to the node: what was gathered is given out first, so that state and
    /// vector agree. False when the node does nothing any more.
    pub(crate) fn enter(&mut self, now: Now) -> bool {
        if !self.failed {
            self.seal(now);
        }
        !self.failed
    }

    /// Does everything that became possible, and hands out one group for all of it.
    pub(crate) fn work(&mut self, now: Now) {
        if self.listen_until_mono_ms.is_some_and(|until| now.mono_ms >= until || self.has_heard_everybody()) {
            self.listen_until_mono_ms = None;
        }
        if self.is_restored && self.has_heard_everybody() {
            self.is_restored = false;
        }
        self.worked_at_mono_ms = now.mono_ms;
        self.end_holds(now);
        self.give_snapshots();
        self.plan_pulls(now);
        self.apply_ready(now);
        self.work_host(now);
        self.cut_long_log(now);
        self.flush();
    }

    pub(crate) fn is_rebuilding(&self) -> bool {
        self.rebuild
    }

    pub(crate) fn corrected_ms(&self, wall_ms: u64) -> u64 {
        self.clock.corrected_ms(wall_ms)
    }

    /// Members with their slots.
    pub(crate) fn members(&self) -> Vec<(String, u8)> {
        self.epoch.members.iter().map(|(node, member)| (node.clone(), member.slot)).collect()
    }

    /// Gathers a record for the next group.
    pub(crate) fn put(&mut self, key: RecordKey, value: Option<Vec<u8>>) {
        self.records.push(Record { key, value });
    }

    pub(crate) fn put_meta(&mut self, meta: Meta, value: Vec<u8>) {
        self.put(RecordKey::Meta(meta), Some(value));
    }

    /// Lets something wait for the next group.
    pub(crate) fn after_durable(&mut self, then: Then) {
        self.then.push(then);
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.effects.push_back(Effect::Report(report));
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// What is in doubt, as one byte on disk.
    fn doubt(&self) -> u8 {
        u8::from(self.rebuild) | self.host_doubt() << 1 | if self.is_restored { RESTORED } else { 0 }
    }

    fn flush(&mut self) {
        let doubt = self.doubt();
        if doubt != self.doubt_on_disk {
            self.doubt_on_disk = doubt;
            let noticed = self.noticed_wall_ms().to_be_bytes();
            self.put_meta(Meta::Doubt, [&[doubt], noticed.as_slice()].concat());
        }
        if self.records.is_empty() && self.then.is_empty() {
            return;
        }
        let records = core::mem::take(&mut self.records);
        let then = core::mem::take(&mut self.then);
        let group = self.gate.write(records, then);
        self.effects.push_back(Effect::Persist(group));
    }

    fn proceed(&mut self, now: Now, ready: Durable<Then>) {
        match ready.into_inner() {
            Then::Received { batch, from } => {
                self.log.mark_durable(batch.replica, batch.seq);
                self.push(now, &[batch], Source::Neighbour(&from));
            }
            Then::Committed { batch, acknowledge, is_shown } => {
                self.log.mark_durable(batch.replica, batch.seq);
                if is_shown {
                    self.shown.advance(batch.replica, batch.seq);
                }
                if acknowledge {
                    self.effect(Effect::Acknowledge(batch));
                }
            }
            Then::Sql(request) => self.effect(Effect::Sql(request)),
            Then::Shown(vector) => self.shown.join(&vector),
            Then::Staged { id, chunks } => self.chunk_staged(now, id, chunks),
            Then::Joined => self.chunk_joined(now),
        }
    }

    /// Uses a fresh replica id from now on.
    pub(crate) fn mint(&mut self, reason: MintReason) {
        // The random bits of this start serve several minted ids: a counter keeps them apart.
        let replica = ReplicaId(self.fresh_replica.0.wrapping_add(self.replicas.len() as u128));
        self.replicas.push(replica);
        self.put_identity();
        self.report(Report::ReplicaMinted { replica, reason });
    }
}
