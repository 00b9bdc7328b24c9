//! What clients did and saw, and what happened to disks and databases: the contract between world and oracle.
//!
//! The world writes it down as it happens, from the databases, the door and the disks that it models itself. Nothing in
//! here asks `crdt` or `replica` what *should* be so; vectors are copied as the nodes publish them, batches are only
//! taken apart. The oracle and the checkers read it and never write.
//!
//! How the world feeds it, in order of virtual time:
//!
//! | when | call |
//! |---|---|
//! | before anything at a new moment | [`History::at`] |
//! | a process started, before its first event | [`History::opened`] |
//! | a process ended, by whatever crash | [`History::stopped`] |
//! | a client's transaction committed (also initial content and writes that bypass capture) | [`History::sql_commit`] |
//! | the database answered a Drain / deleted outbox entries | [`History::drained`], [`History::cleared`] |
//! | a Write of the engine was committed | [`History::engine_wrote`] |
//! | `Node::commit` returned `Ok` | [`History::door_commit`], before `observe` of that step |
//! | `Effect::Acknowledge`, `Effect::Report` | [`History::acknowledged`], [`History::reported`] |
//! | `Effect::Persist`: for each batch record in it | [`History::batch_bytes`] |
//! | `Effect::Persist` handed over / durable on an honest disk | [`History::group_written`], [`History::group_durable`] |
//! | after every step of a node, with the latest moment that its clock may follow | [`History::clock_seen`] |
//! | after every step of a node, its effects taken | [`History::observe`] |
//! | a backup of a database was put back | [`History::database_restored`] |
//! | a clock jumped or drifted ahead | [`History::clock_jumped`] |
//! | the operator signed an epoch | [`History::epoch`] |
//! | bytes went onto the network | [`History::sent`] |

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crdt::{BatchId, ReplicaId, VersionVector};
use replica::host::{RowId, RowImage};
use replica::{Installed, Report, Ticket};

mod batch;
mod door;
mod note;
mod read;
mod vectors;

pub use batch::{BatchLog, Carried, Fork};
pub use door::{DoorAction, DoorCommit, DoorWrite, Leaf};
pub use vectors::{Observed, Setback, Vector, Vectors, Which};

/// Place of a node in the world, from 0.
pub type NodeIndex = usize;

/// Position in the record: what has a smaller one was written down earlier.
pub type Order = u64;

/// A row as a database had it; `None` where there was none.
pub type Image = Option<Rc<RowImage>>;

/// Index of a transaction in [`History::commits`].
pub type CommitId = usize;

/// What one transaction did to one row: once a row, from its first lock to the commit.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// The row.
    pub row: RowId,
    /// As the database had it when the transaction locked it: what its author's database showed.
    pub before: Image,
    /// As the commit left it.
    pub after: Image,
    /// True when the transaction deleted the row and inserted it again (REPLACE does).
    pub recreated: bool,
}

/// A committed SQL transaction of a client. All of them count as acknowledged.
#[derive(Clone, Debug)]
pub struct SqlCommit {
    /// When it was written down.
    pub order: Order,
    /// Virtual time.
    pub time_us: u64,
    /// Where.
    pub node: NodeIndex,
    /// False when no trigger saw it.
    pub captured: bool,
    /// The rows.
    pub changes: Vec<RowChange>,
    /// (child, parent): rows inserted here whose author had seen the parent in this database.
    pub parents: Vec<(RowId, RowId)>,
    /// Drain answers that showed its outbox entries, oldest first; numbered per node.
    pub drains: Vec<u64>,
    /// True once its outbox entries were deleted: the engine says that it has the transaction.
    pub cleared: bool,
    /// Set when a restored database no longer held it. Stays set when another backup brings it back: whoever read the
    /// database in between did not see it.
    pub dropped: bool,
}

/// How a process came to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opened {
    /// Nothing was there before.
    First,
    /// After a clean end or a kill: every group that was handed over is there.
    Killed,
    /// After a power cut: every group that was reported durable is there.
    PowerCut,
    /// The disk lost groups that it had called durable.
    DiskLied,
    /// The store is a backup: older than what this node had.
    StoreRestored,
}

/// One process of a node.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// When it was opened.
    pub from: Order,
    /// When it ended.
    pub until: Option<Order>,
    /// How it began.
    pub opened: Opened,
}

/// A report of a node.
#[derive(Clone, Debug)]
pub struct Reported {
    /// When.
    pub order: Order,
    /// Virtual time.
    pub time_us: u64,
    /// Who.
    pub node: NodeIndex,
    /// What.
    pub report: Report,
}

/// A row that appeared in a database, or vanished from it, by a Write of the engine.
#[derive(Clone, Debug)]
pub struct Appearance {
    /// When.
    pub order: Order,
    /// Virtual time.
    pub time_us: u64,
    /// Whose database.
    pub node: NodeIndex,
    /// The row.
    pub row: RowId,
    /// True when it appeared.
    pub visible: bool,
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeLog {
    /// Its vectors and clock as last observed.
    pub now: Vectors,
    /// Its processes, oldest first.
    pub lives: Vec<Life>,
    /// When it was first seen to have applied batch seq (index seq - 1) of a replica.
    pub applied_at: BTreeMap<ReplicaId, Vec<Order>>,
    /// When its database was first seen to show batch seq (index seq - 1) of a replica.
    pub shown_at: BTreeMap<ReplicaId, Vec<Order>>,
    /// When its database came back from a backup.
    pub database_restored: Vec<Order>,
    /// When a disk of it lost what was called durable, or its store came back from a backup.
    pub store_lost: Vec<Order>,
    /// From a loss of store or database until the node's database shows all of its state again. What its clients write
    /// meanwhile, or had written and not drained before, may be drained without naming what it replaced.
    pub recoveries: Vec<(Order, Option<Order>)>,
    /// From damage found in its store until the state that replaced it is shown. What its clients replace meanwhile, or
    /// had replaced and not drained before, it may not be able to name.
    pub damages: Vec<(Order, Option<Order>)>,
    /// A damaged state was replaced since the last observation that closed [`Self::damages`].
    is_replaced: bool,
    /// Another machine was started under its name.
    pub is_doubled: bool,
    /// When the database answered a Drain.
    pub drains: Vec<Order>,
    /// Batches that it wrote, in order.
    pub own: Vec<(Order, BatchId)>,
    /// Vectors as they were when a group was handed over, until it is durable.
    pending: Vec<(Ticket, Vectors)>,
    /// Ticket of the newest group that was handed over before the last observation.
    written: Option<Ticket>,
    /// What a kill must not lose, and what a power cut must not lose.
    floor_killed: Vectors,
    floor_power: Vectors,
}

/// The record. See the module's documentation for how it is fed.
#[derive(Debug, Default)]
pub struct History {
    nodes: Vec<NodeLog>,
    commits: Vec<SqlCommit>,
    doors: Vec<DoorCommit>,
    batches: batch::Batches,
    advances: Vec<Advance>,
    setbacks: Vec<Setback>,
    reports: Vec<Reported>,
    appearances: Vec<Appearance>,
    epochs: BTreeMap<u64, BTreeSet<NodeIndex>>,
    evicted: BTreeSet<NodeIndex>,
    seals: BTreeMap<ReplicaId, u64>,
    forged: BTreeSet<BatchId>,
    traffic: BTreeMap<(NodeIndex, NodeIndex), u64>,
    late: BTreeMap<(NodeIndex, NodeIndex), u64>,
    jumped_ms: u64,
    order: Order,
    time_us: u64,
}

/// Batches of one replica that a node applied in one step.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    /// When.
    pub order: Order,
    /// Virtual time.
    pub time_us: u64,
    /// Who.
    pub node: NodeIndex,
    /// Whose batches.
    pub replica: ReplicaId,
    /// Greatest sequence before; 0 for none.
    pub from: u64,
    /// Greatest sequence after.
    pub to: u64,
}

impl History {
    /// An empty record of a world with this many nodes.
    pub fn new(nodes: usize) -> Self {
        Self { nodes: vec![NodeLog::default(); nodes], ..Self::default() }
    }

    /// Another machine, which may become a member later.
    pub fn add_node(&mut self) -> NodeIndex {
        self.nodes.push(NodeLog::default());
        self.nodes.len() - 1
    }

    /// The virtual time of what is written down next.
    pub fn at(&mut self, time_us: u64) {
        self.time_us = time_us;
    }

    fn next(&mut self) -> Order {
        self.order += 1;
        self.order
    }

    /// A process started and has read its disk. `seen` is what it publishes before its first event.
    ///
    /// What it no longer has is held against the floors: a killed process must know all that it had handed over, a
    /// power cut must leave all that had been reported durable.
    pub fn opened(&mut self, node: NodeIndex, how: Opened, seen: Observed<'_>) {
        let order = self.next();
        let log = &mut self.nodes[node];
        let before = core::mem::take(&mut log.now);
        let floor = match how {
            Opened::Killed => core::mem::take(&mut log.floor_killed),
            Opened::PowerCut => core::mem::take(&mut log.floor_power),
            Opened::First | Opened::DiskLied | Opened::StoreRestored => Vectors::default(),
        };
        log.pending.clear();
        log.written = None;
        log.lives.push(Life { from: order, until: None, opened: how });
        if matches!(how, Opened::DiskLied | Opened::StoreRestored) {
            log.store_lost.push(order);
            log.recoveries.push((order, None));
        }
        let after = Vectors {
            replica: seen.replica,
            applied: Rc::new(seen.applied.into()),
            shown: Rc::new(seen.shown.into()),
            received: Rc::new(seen.received.into()),
            stable: Rc::new(seen.stable.map_or_else(Vector::default, Vector::from)),
            clock: seen.clock,
        };
        self.compare(node, &floor, &after, Some(how));
        // Own batches stand in the state before they are durable: what a crash took of them is gone as well.
        let (had, has) = (before.applied.union(&before.received), after.applied.union(&after.received));
        for (replica, from, to) in vectors::lowered(&had, &has) {
            self.batches.dropped(node, replica, to, from);
        }
        for (replica, to) in has.iter() {
            self.batches.held(node, replica, had.seq(replica).min(to), to);
        }
        self.void_unwritten(node, &after);
        // A batch may have been handed over in the very step in which the process died.
        self.note_own(order, node, &before, &Vectors { replica: before.replica, ..after.clone() });
        self.batches.owners.entry(after.replica).or_insert(node);
        self.note_applied(order, node, &after);
        self.nodes[node].floor_killed = after.clone();
        self.nodes[node].floor_power = after.clone();
        self.nodes[node].now = after;
    }

    /// Own batches that died before anything of them was handed over leave their dots free.
    fn void_unwritten(&mut self, node: NodeIndex, after: &Vectors) {
        let own = after.applied.seq(after.replica).max(after.received.seq(after.replica));
        for door in self.doors.iter_mut().rev() {
            let same = door.node == node && door.batch.replica == after.replica && door.batch.seq > own;
            door.void |= same && self.batches.get(door.batch).is_none_or(|batch| batch.hash.is_none());
        }
        let mut next = BatchId { replica: after.replica, seq: own + 1 };
        while self.batches.get(next).is_some_and(|batch| batch.author.is_some()) {
            let batch = self.batches.entry(next);
            (batch.author, batch.saw) = (None, None);
            next.seq += 1;
        }
    }

    /// A process ended.
    pub fn stopped(&mut self, node: NodeIndex) {
        let order = self.next();
        if let Some(life) = self.nodes[node].lives.last_mut() {
            life.until = Some(order);
        }
    }

    /// A client's transaction was committed. Returns its number, which the world keeps with the outbox entries.
    pub fn sql_commit(
        &mut self,
        node: NodeIndex,
        captured: bool,
        changes: Vec<RowChange>,
        parents: Vec<(RowId, RowId)>,
    ) -> CommitId {
        let (order, time_us) = (self.next(), self.time_us);
        let (drains, cleared, dropped) = (Vec::new(), false, self.evicted.contains(&node));
        self.commits.push(SqlCommit { order, time_us, node, captured, changes, parents, drains, cleared, dropped });
        self.commits.len() - 1
    }

    /// The database answered a Drain, and its snapshot showed outbox entries of these transactions.
    pub fn drained(&mut self, node: NodeIndex, commits: impl IntoIterator<Item = CommitId>) {
        let order = self.next();
        let log = &mut self.nodes[node];
        log.drains.push(order);
        let number = log.drains.len() as u64;
        for commit in commits {
            let drains = &mut self.commits[commit].drains;
            if drains.last() != Some(&number) {
                drains.push(number);
            }
        }
    }

    /// The engine deleted outbox entries of these transactions.
    pub fn cleared(&mut self, commits: impl IntoIterator<Item = CommitId>) {
        commits.into_iter().for_each(|commit| self.commits[commit].cleared = true);
    }

    /// A Write of the engine was committed: each row with whether it was there before and is there now.
    pub fn engine_wrote<'a>(&mut self, node: NodeIndex, rows: impl IntoIterator<Item = (&'a RowId, bool, bool)>) {
        let (order, time_us) = (self.next(), self.time_us);
        for (row, was, visible) in rows {
            if was != visible {
                self.appearances.push(Appearance { order, time_us, node, row: row.clone(), visible });
            }
        }
    }

    /// `Node::commit` accepted a door write. To be called before the step's [`History::observe`].
    pub fn door_commit(&mut self, node: NodeIndex, batch: BatchId, writes: Vec<DoorWrite>) {
        let (order, time_us) = (self.next(), self.time_us);
        let saw = self.nodes[node].now.applied.clone();
        let (acknowledged, void) = (false, false);
        self.doors.push(DoorCommit { order, time_us, node, batch, writes, saw, acknowledged, void });
    }

    /// A door write's client was told.
    pub fn acknowledged(&mut self, batch: BatchId) {
        let newest = self.doors.iter_mut().rev().find(|door| door.batch == batch);
        if let Some(door) = newest {
            door.acknowledged = true;
        }
    }

    /// A node reported something.
    pub fn reported(&mut self, node: NodeIndex, report: Report) {
        let (order, time_us) = (self.next(), self.time_us);
        match &report {
            Report::StoreCorrupt { .. } => self.nodes[node].damages.push((order, None)),
            Report::SnapshotInstalled { how: Installed::Replaced } => self.nodes[node].is_replaced = true,
            _ => {}
        }
        self.reports.push(Reported { order, time_us, node, report });
    }

    /// Bytes of a batch were seen at a node: in a group that it writes, or in a message that it sends. `bytes` are the
    /// batch alone, as its origin encoded it.
    pub fn batch_bytes(&mut self, node: NodeIndex, batch: BatchId, bytes: &[u8]) {
        self.batches.bytes((self.order, self.time_us), node, batch, bytes);
    }

    /// A group was handed over to the disk.
    pub fn group_written(&mut self, node: NodeIndex, ticket: Ticket) {
        let log = &mut self.nodes[node];
        // Everything that was observed before this step stands in this group or in an earlier one.
        log.floor_killed = log.now.clone();
        log.pending.push((ticket, log.now.clone()));
    }

    /// A group, and all before it, was reported durable to the node by a disk that did not lie.
    pub fn group_durable(&mut self, node: NodeIndex, ticket: Ticket) {
        let log = &mut self.nodes[node];
        let durable = log.pending.iter().take_while(|(pending, _)| *pending <= ticket).count();
        if let Some((_, vectors)) = log.pending.drain(..durable).next_back() {
            log.floor_power = vectors;
        }
    }

    /// A node's database came back from a backup that lacks these transactions.
    pub fn database_restored(&mut self, node: NodeIndex, dropped: impl IntoIterator<Item = CommitId>) {
        let order = self.next();
        self.nodes[node].database_restored.push(order);
        self.nodes[node].recoveries.push((order, None));
        dropped.into_iter().for_each(|commit| self.commits[commit].dropped = true);
    }

    /// A second machine was started under a node's name.
    pub fn doubled(&mut self, node: NodeIndex) {
        self.nodes[node].is_doubled = true;
    }

    /// The operator signed an epoch record.
    pub fn epoch(&mut self, number: u64, members: impl IntoIterator<Item = NodeIndex>) {
        self.epochs.insert(number, members.into_iter().collect());
    }

    /// A member was evicted: of what it wrote only what stands below these seals counts.
    pub fn evicted(&mut self, node: NodeIndex, seals: impl IntoIterator<Item = (ReplicaId, u64)>) {
        self.evicted.insert(node);
        self.seals.extend(seals);
        let undrained = |commit: &&mut SqlCommit| commit.node == node && commit.drains.is_empty();
        self.commits.iter_mut().filter(undrained).for_each(|commit| commit.dropped = true);
    }

    /// Two batches under this dot are brought on purpose: nodes must notice, and that is all.
    pub fn forged(&mut self, batch: BatchId) {
        self.forged.insert(batch);
    }

    /// A wall clock ran ahead of virtual time by this much more than before. Only written down: nodes take ages on
    /// their monotone clock.
    pub fn clock_jumped(&mut self, ahead_ms: u64) {
        self.jumped_ms += ahead_ms;
    }

    /// Bytes went onto the network.
    pub fn sent(&mut self, from: NodeIndex, to: NodeIndex, bytes: usize) {
        *self.traffic.entry((from, to)).or_insert(0) += bytes as u64;
    }

    /// A very late message was delivered.
    pub fn came_late(&mut self, from: NodeIndex, to: NodeIndex) {
        *self.late.entry((from, to)).or_insert(0) += 1;
    }

    /// What a node publishes after a step, when its effects have been taken.
    pub fn observe(&mut self, node: NodeIndex, seen: Observed<'_>) {
        let now = &self.nodes[node].now;
        let stable_same = seen.stable.is_none_or(|stable| now.stable.same(stable));
        let vectors_same = now.applied.same(seen.applied) && now.received.same(seen.received);
        let same = vectors_same && now.shown.same(seen.shown) && stable_same && now.replica == seen.replica;
        if same && seen.clock >= now.clock {
            self.nodes[node].now.clock = seen.clock;
            return;
        }
        let order = self.next();
        let before = self.nodes[node].now.clone();
        if seen.shown == seen.applied {
            let open = self.nodes[node].recoveries.iter_mut().filter(|(_, until)| until.is_none());
            open.for_each(|(_, until)| *until = Some(order));
            if core::mem::take(&mut self.nodes[node].is_replaced) {
                let open = self.nodes[node].damages.iter_mut().filter(|(_, until)| until.is_none());
                open.for_each(|(_, until)| *until = Some(order));
            }
        }
        let renew =
            |old: &Rc<Vector>, new: &VersionVector| if old.same(new) { old.clone() } else { Rc::new(new.into()) };
        let after = Vectors {
            replica: seen.replica,
            applied: renew(&before.applied, seen.applied),
            shown: renew(&before.shown, seen.shown),
            received: renew(&before.received, seen.received),
            stable: seen.stable.map_or_else(|| before.stable.clone(), |stable| renew(&before.stable, stable)),
            clock: seen.clock,
        };
        self.batches.owners.entry(after.replica).or_insert(node);
        self.compare(node, &before, &after, None);
        self.note_own(order, node, &before, &after);
        self.note_applied(order, node, &after);
        for (replica, to) in after.received.iter() {
            self.batches.held(node, replica, before.received.seq(replica).min(to), to);
        }
        self.nodes[node].now = after;
    }
}
