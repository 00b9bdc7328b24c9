//! What the hot thread owns, but for the door: the node, its store and its peers, and what goes between them.

use std::collections::VecDeque;

use crdt::BatchId;
use replica::{CommitError, Effect, Installed, Intent, Node, PeerView, Report, Ticket};
use resp::{Call, ErrorReply, Reply, View};
use store::{Completion, StoreError};
use transport::{Event, Lane};

use super::clock::Moment;
use super::copier::Copier;
use super::figures::Figures;
use super::keyring::Keyring;
use super::lags::Lags;
use super::network::{Network, PeerState};
use super::storage::Storage;
use super::waits::Waits;
use crate::calls;
use crate::door::{ClientId, DoorFigures, Host};
use crate::log::{Level, Log};

/// What never changes while the engine runs.
pub(crate) struct About {
    pub(crate) cluster: u128,
    pub(crate) version: String,
    pub(crate) started: Moment,
    /// A node that was restarted takes no writes before it has listened for so long.
    pub(crate) listen_ms: u64,
    /// The keys behind MACs: this handle stays, and they may change.
    pub(crate) keyring: Keyring,
    /// Key, value and origin of each setting, as they may be shown.
    pub(crate) settings: Vec<(String, String, String)>,
}

/// A write of a client that is not durable yet.
struct Pending {
    batch: BatchId,
    client: ClientId,
    since_us: u64,
}

/// Why the node takes no writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unready {
    /// The stable code.
    pub code: &'static str,
    /// What is the matter, and what to do.
    pub reason: String,
}

/// All but the door.
pub(crate) struct Core {
    /// The time, read once a turn.
    pub(crate) at: Moment,
    pub(crate) node: Node,
    pub(crate) storage: Storage,
    pub(crate) network: Network,
    pub(crate) figures: Figures,
    pub(crate) waits: Waits,
    pub(crate) copier: Copier,
    /// `None`: not measured.
    pub(crate) lags: Option<Lags>,
    pub(crate) about: About,
    pub(crate) log: Log,
    /// In the order of commits, which is the order in which they become durable.
    pending: VecDeque<Pending>,
    /// For the door: writes that became durable, and calls that were answered.
    pub(crate) acknowledged: Vec<(ClientId, BatchId)>,
    pub(crate) answers: Vec<(ClientId, resp::Ticket, Result<Reply, ErrorReply>)>,
    /// For the door: no write that waits will ever be durable. Taken once.
    pub(crate) has_just_failed: bool,
    /// The last slice of collection: remains that waited, and that went.
    pub(crate) collected: (u64, u64),
    epoch: u64,
}

impl Core {
    /// A node that was just opened.
    pub(crate) fn new(
        node: Node,
        storage: Storage,
        network: Network,
        figures: Figures,
        copier: Copier,
        about: About,
        log: Log,
    ) -> Self {
        let lags = figures.counts().then(|| Lags::new(node.applied()));
        let mut core = Self {
            at: about.started,
            node,
            storage,
            network,
            figures,
            waits: Waits::default(),
            copier,
            lags,
            about,
            log,
            pending: VecDeque::new(),
            acknowledged: Vec::new(),
            answers: Vec::new(),
            has_just_failed: false,
            collected: (0, 0),
            epoch: 0,
        };
        core.drive();
        core.follow_epoch();
        core
    }

    /// Carries out everything that the node wants.
    pub(crate) fn drive(&mut self) {
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::Persist(group) => {
                    if let Some(lags) = &mut self.lags {
                        lags.note(&group, self.node.replica());
                    }
                    self.storage.gather(group);
                }
                Effect::Send { to, bytes } => self.network.send(&to, bytes),
                Effect::Load(key) => self.storage.ask(key),
                Effect::Acknowledge(batch) => self.acknowledge(batch),
                Effect::Report(report) => self.hear(&report),
                // Only a node with a schema asks a database, and this one was given none.
                Effect::Sql(_) => self.log.error("ERR_INTERNAL", "a node without a database asks one", &[]),
            }
        }
        if let Some(lags) = &mut self.lags {
            lags.settle(self.node.applied(), self.at.now.wall_ms);
        }
    }

    /// Hands to the store what was gathered.
    pub(crate) fn hand_over(&mut self) {
        if let Err(error) = self.storage.hand_over(self.at.mono_us) {
            let ticket = self.storage.first_open();
            self.fail(ticket, &error);
        }
    }

    /// Takes what the store has to say.
    pub(crate) fn take_completions(&mut self) {
        let mut durable = None;
        while let Some(completion) = self.storage.poll(self.at.mono_us) {
            match completion {
                Completion::Durable(ticket) => durable = Some(ticket),
                Completion::Loaded { key, found } => {
                    self.persisted(durable.take());
                    self.node.handle_loaded(self.at.now, key, found);
                    self.drive();
                }
                Completion::Failed { ticket, error } => {
                    self.persisted(durable.take());
                    self.fail(ticket, &error);
                }
            }
        }
        self.persisted(durable);
    }

    /// All groups up to this one are durable.
    fn persisted(&mut self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.node.handle_persisted(self.at.now, ticket);
            self.drive();
        }
    }

    /// A durable write failed. What this node has in memory and what stands on its disk no longer agree, so it leaves
    /// the others, and answers reads and questions about itself until somebody restarts it.
    fn fail(&mut self, ticket: Ticket, error: &StoreError) {
        let message = "a durable write failed: this node takes no more writes and has left the others; restart it when \
                       the cause is mended";
        self.log.error(error.code(), message, &[("error", error)]);
        *self.figures.store_errors.entry(error.code()).or_default() += 1;
        self.storage.fail(error.clone());
        self.node.handle_persist_failed(self.at.now, ticket);
        self.pending.clear();
        self.network.leave();
        self.has_just_failed = true;
        self.waits.is_news = true;
        self.drive();
    }

    fn acknowledge(&mut self, batch: BatchId) {
        // Batches become durable in the order in which they were given out.
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.batch == batch) {
            if let Some(seconds) = &mut self.figures.commit_seconds {
                seconds.record(self.at.mono_us.saturating_sub(pending.since_us) as f64 / 1e6);
            }
            // The commands of one client stand together, and one word is enough for all of them.
            if self.acknowledged.last() != Some(&(pending.client, batch)) {
                self.acknowledged.push((pending.client, batch));
            }
        }
    }

    /// Gives out what clients have written in this turn, as one batch.
    pub(crate) fn seal(&mut self) {
        self.node.seal(self.at.now);
        self.drive();
    }

    /// Something happened on the network side.
    pub(crate) fn take_event(&mut self, event: Event) {
        let now = self.at.now;
        match event {
            Event::Received { from, lane: Lane::Replica, bytes } => {
                self.network.note_message(&from, &bytes);
                self.waits.is_news = true;
                self.node.handle_message(now, from.as_str(), &bytes);
                self.drive();
            }
            Event::Received { from, lane: Lane::Membership, bytes } => {
                self.network.handle_membership(now.mono_ms, &from, &bytes);
            }
            Event::LinkUp { peer } => {
                self.log.info("a link is up", &[("peer", &peer)]);
                self.network.forgive(&peer);
                self.network.handle_link(now.mono_ms, &peer, true);
                self.node.handle_link(now, peer.as_str(), true);
                self.drive();
            }
            Event::LinkDown { peer, end } => {
                let level = if end.code().is_some() { Level::Warn } else { Level::Info };
                self.log.event(level, end.code(), "a link is down", &[("peer", &peer), ("reason", &end)]);
                self.network.handle_link(now.mono_ms, &peer, false);
                self.node.handle_link(now, peer.as_str(), false);
                self.waits.is_news = true;
                self.drive();
            }
            Event::Refused { peer, address, by, refusal } => {
                let address = address.map(|address| address.to_string()).unwrap_or_default();
                self.network.refused(now.mono_ms, peer, &address, by, &refusal);
            }
        }
    }

    /// The next moment of the monotonic clock at which [`Core::handle_timeout`] is wanted.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let timers = [self.node.poll_timeout(), self.network.poll_timeout(), self.waits.poll_timeout()];
        timers.into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self) {
        let now = self.at.now;
        if self.node.poll_timeout().is_some_and(|at| at <= now.mono_ms) {
            self.node.handle_timeout(now);
            self.drive();
        }
        self.network.handle_timeout(now.mono_ms);
        self.settle_waits();
    }

    /// Looks how far own writes have come, every now and then.
    pub(crate) fn look_at_lags(&mut self) {
        let mono_us = self.at.mono_us;
        let Some(lags) = &mut self.lags else { return };
        if !lags.wants_look(mono_us) {
            return;
        }
        let own = self.node.replica();
        let live = |peer: &PeerView| self.network.state_of(&peer.node) == PeerState::Live;
        let peers = self.node.peers();
        let others = peers.iter().filter(|peer| self.network.is_other(&peer.node) && live(peer));
        // Where nobody else is live, nobody shows it, and the time goes on.
        if let Some(shown) = others.map(|peer| peer.row.as_ref().map_or(0, |row| row.shown.seq(own))).min() {
            lags.shown_by_all(shown, mono_us);
        }
    }

    /// Once a second.
    pub(crate) fn tick(&mut self) {
        self.network.tick();
        let (own, replicated) = self.replicated(&self.node.peers());
        self.figures.mark(self.at.now.mono_ms, own, replicated);
    }

    /// Where the members have changed, takes the new ones for peers.
    pub(crate) fn follow_epoch(&mut self) {
        let epoch = self.node.epoch();
        if epoch.number != self.epoch {
            self.epoch = epoch.number;
            let members = epoch.members.len();
            self.log.info("the members have changed", &[("epoch", &self.epoch), ("members", &members)]);
            self.network.set_members(epoch);
        }
    }

    /// Writes of clients that are not durable.
    pub(crate) fn pending_writes(&self) -> usize {
        self.pending.len()
    }

    /// Why the node takes no writes; empty when it does.
    pub(crate) fn unreadiness(&self) -> Vec<Unready> {
        let mut found = Vec::new();
        let mut add = |code, reason: String| found.push(Unready { code, reason });
        if let Some(failure) = self.storage.failure() {
            add(
                failure.code(),
                format!("writes are refused since a durable write failed: {failure}; restart the node"),
            );
        }
        if self.node.epoch().number == 0 {
            add("ERR_NOT_READY", "this node is no member yet: its epoch record has not come".to_owned());
        }
        if self.node.is_installing() {
            add("ERR_NOT_READY", "a snapshot is being taken over; it goes on by itself".to_owned());
        }
        let listened_ms = self.at.now.mono_ms.saturating_sub(self.about.started.now.mono_ms);
        let has_written = self.figures.commits > 0;
        if listened_ms < self.about.listen_ms && !has_written {
            let left_ms = self.about.listen_ms - listened_ms;
            let reason = format!(
                "the node was just started and listens what its peers know of it; it takes writes by itself in {left_ms} ms \
                 at most"
            );
            add("ERR_NOT_READY", reason);
        }
        found
    }

    /// Tells the log and the counters what the node reports.
    fn hear(&mut self, report: &Report) {
        let figures = &mut self.figures;
        if let Some(code) = report.code() {
            *figures.reports.entry(code).or_default() += 1;
        }
        match report {
            Report::ClockSkew { batch, .. } => {
                let origins = super::figures::origins(&self.node, &self.node.peers());
                let origin = origins.get(&batch.replica).cloned().unwrap_or_else(|| batch.replica.to_string());
                *figures.skew_rejected.entry(origin).or_default() += 1;
            }
            Report::IdempotencyViolation { .. } => figures.idempotency_violations += 1,
            Report::Diverged { .. } => figures.diverged += 1,
            Report::BufferFull => figures.overflow_episodes += 1,
            Report::LogCut { .. } => figures.log_cuts += 1,
            Report::SnapshotInstalled { how: Installed::Joined | Installed::AsItCame } => figures.snapshots_joined += 1,
            Report::SnapshotInstalled { how: Installed::Replaced } => figures.snapshots_replaced += 1,
            Report::SnapshotInterrupted { .. } => figures.snapshots_interrupted += 1,
            Report::Collected { attempted, collected } => {
                figures.gc_attempted += attempted;
                figures.gc_collected += collected;
                self.collected = (*attempted, *collected);
            }
            _ => {}
        }
        super::report::log(&self.log, report);
    }
}

impl Host for Core {
    fn view(&self) -> &dyn View {
        self.node.keyspace()
    }

    fn is_congested(&self) -> bool {
        self.storage.is_congested()
    }

    fn commit(&mut self, client: ClientId, intents: &[Intent]) -> Result<BatchId, CommitError> {
        let result = self.node.gather(self.at.now, intents);
        match &result {
            Ok(batch) => {
                self.figures.commits += 1;
                if let Some(lags) = &mut self.lags {
                    lags.committed(batch.seq, self.at.mono_us);
                }
                self.pending.push_back(Pending { batch: *batch, client, since_us: self.at.mono_us });
                // A large batch has left: what it made must be seen as congestion in time.
                self.drive();
            }
            Err(_) => self.figures.commits_refused += 1,
        }
        result
    }

    fn call(
        &mut self,
        client: ClientId,
        ticket: resp::Ticket,
        call: Call,
        door: &DoorFigures,
    ) -> Option<Result<Reply, ErrorReply>> {
        // What is told of the node tells of what was written before.
        self.seal();
        calls::answer(self, client, ticket, call, door)
    }
}
