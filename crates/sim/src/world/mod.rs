//! The world: machines, network and clients on one virtual clock, driven by one queue of events.
//!
//! Everything that happens is decided by the seed: the same seed gives the same events in the same order, and so
//! the same trace hash. Faults are spread over the files of this folder by what they hit.

mod act;
mod clients;
mod disturb;
mod effects;
mod event;
mod links;
mod machine;
mod process;
mod read;
mod restore;
mod serve;

use std::collections::BTreeSet;
use std::rc::Rc;

use crdt::VersionVector;
use replica::epoch::{Epoch, Member, SignedEpoch};
use replica::host::Schema;
use replica::{Limits, Now};

use crate::checkers::Violation;
use crate::coverage::{Coverage, Fault, Path};
use crate::database::{Database, Tables};
use crate::history::History;
use crate::network::Network;
use crate::queue::Queue;
use crate::random::Random;
use crate::signer::sign_epoch;
use crate::swarm::Swarm;
use crate::trace::Trace;
use crate::workload::Workload;
pub use act::Picture;
use clients::Client;
use event::Event;
use links::Connections;
use machine::Backup;
pub use machine::{Machine, Process};

/// One simulated cluster.
pub struct World {
    /// What the seed drew.
    pub swarm: Swarm,
    /// Every machine, members or not.
    pub machines: Vec<Machine>,
    /// What clients did and saw.
    pub history: History,
    /// What really happened.
    pub coverage: Coverage,
    /// The record of this run.
    pub trace: Trace,
    /// Virtual time in microseconds.
    now_us: u64,
    queue: Queue<Event>,
    network: Network,
    connections: Connections,
    workload: Workload,
    clients: Vec<Client>,
    backups: Vec<Backup>,
    epochs: Vec<SignedEpoch>,
    schema: Schema,
    tables: Rc<Tables>,
    random: Random,
    network_random: Random,
    /// Rows and leaves that clients wrote and that were committed.
    operations: u64,
    /// Machines that the event at hand went to.
    touched: BTreeSet<usize>,
    /// What no checker is needed to see.
    violation: Option<Violation>,
    /// Clients come no more, and faults are over.
    is_calm: bool,
    /// Messages on their way that are very late.
    late_messages: u64,
    /// A client wrote past the triggers.
    has_bypassed: bool,
    /// Since when nothing keeps the rolling scan from finding that: see [`World::unrest`].
    scans_since_us: Option<u64>,
}

/// Cluster id of every simulated cluster.
const CLUSTER: u128 = 0x5745_4246;

impl World {
    /// A world whose machines are not started yet.
    pub fn new(swarm: Swarm, random: &mut Random, keeps_lines: bool) -> Self {
        let tables = Rc::new(Tables::wordpress());
        let mut network_random = random.fork(1);
        let network = Network::new(swarm.nodes, &swarm.link, &mut network_random);
        let mut machines = Vec::new();
        for index in 0..swarm.nodes {
            let slot = index as u8 + 1;
            let has_database = swarm.without_database != Some(index);
            let database = has_database.then(|| Database::new(tables.clone(), slot, swarm.snapshot_isolation));
            machines.push(Machine::new(format!("node_{slot:02}"), slot, database));
        }
        let workload = Workload::new(random.fork(2), swarm.requests.clone(), swarm.think_us);
        Self {
            machines,
            history: History::new(swarm.nodes),
            coverage: Coverage::default(),
            trace: Trace::new(keeps_lines),
            now_us: 0,
            queue: Queue::default(),
            network,
            connections: Connections::default(),
            workload,
            clients: Vec::new(),
            backups: Vec::new(),
            epochs: Vec::new(),
            schema: tables.schema(),
            tables,
            random: random.fork(3),
            network_random,
            operations: 0,
            touched: BTreeSet::new(),
            violation: None,
            is_calm: false,
            late_messages: 0,
            has_bypassed: false,
            scans_since_us: None,
            swarm,
        }
    }

    /// The usual beginning: the first epoch with all machines, clients everywhere, and the faults of the swarm.
    pub fn begin(&mut self) {
        let members: Vec<usize> = (0..self.machines.len()).collect();
        self.sign_epoch(&members, &[]);
        for node in 0..self.machines.len() {
            let at_us = self.random.below(500_000);
            self.plan_at(at_us, Event::Start { node });
        }
        self.begin_clients();
        for (disturbance, mean_us) in self.swarm.disturbances.clone() {
            let at_us = self.random.range(mean_us / 8, mean_us);
            self.plan_at(at_us, Event::Disturb { disturbance, again_us: mean_us });
        }
    }

    /// Virtual time in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Rows and leaves that clients have written so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// True while very late messages are on their way.
    pub fn has_late_messages(&self) -> bool {
        self.late_messages > 0
    }

    /// When the next event happens.
    pub fn next_at_us(&self) -> Option<u64> {
        self.queue.next_at_us()
    }

    /// Nothing happens until this moment.
    pub fn advance_to(&mut self, at_us: u64) {
        self.now_us = self.now_us.max(at_us);
        self.history.at(self.now_us);
    }

    /// Lets the next event happen. Returns the machines that it went to; `None` when nothing is planned any more.
    ///
    /// # Errors
    /// What is wrong beyond doubt, such as a write without a lock.
    pub fn step(&mut self) -> Result<Option<BTreeSet<usize>>, Violation> {
        let Some((at_us, event)) = self.queue.take_next() else { return Ok(None) };
        self.now_us = self.now_us.max(at_us);
        self.history.at(self.now_us);
        self.happen(event);
        match self.violation.take() {
            Some(violation) => Err(violation),
            None => Ok(Some(std::mem::take(&mut self.touched))),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, connection, bytes } => self.deliver(from, to, connection, &bytes),
            Event::Connect { one, other } => self.connect(one, other),
            Event::LinkLost { at, peer, connection } => self.link_lost(at, peer, connection),
            Event::SyncDone { node, process } => self.sync_done(node, process),
            Event::PersistFailed { node, process, ticket } => self.persist_failed(node, process, ticket),
            Event::Request { node, process, request } => self.request(node, process, request),
            Event::Response { node, process, response } => self.response(node, process, response),
            Event::Loaded { node, process, key } => self.loaded(node, process, key),
            Event::Timer { node, process } => self.timer(node, process),
            Event::Notify { node } => self.notify(node),
            Event::LockTimeout { node, session, wait } => self.lock_timeout(node, session, wait),
            Event::Client { client, turn } => self.client_goes_on(client, turn),
            Event::Door { node } => self.door_client(node),
            Event::Disturb { disturbance, again_us } => self.disturb(disturbance, again_us),
            Event::Undo(undo) => self.undo(undo),
            Event::Start { node } => self.start(node),
            Event::HandEpochs { node } => self.hand_epochs(node),
        }
    }

    fn plan_at(&mut self, at_us: u64, event: Event) {
        self.queue.plan(at_us.max(self.now_us), event);
    }

    fn plan_in(&mut self, delay_us: u64, event: Event) {
        self.queue.plan(self.now_us + delay_us, event);
    }

    /// Both clocks of a machine.
    fn clock_of(&self, node: usize) -> Now {
        self.machines[node].clock.now(self.now_us)
    }

    fn line(&mut self, node: Option<usize>, text: impl FnOnce() -> String) {
        self.trace.line(self.now_us, node, text);
    }

    fn note(&mut self, kind: u64, words: &[u64]) {
        self.trace.event(self.now_us, kind, words);
    }

    fn fault(&mut self, fault: Fault) {
        self.coverage.fault(fault);
    }

    fn path(&mut self, path: Path) {
        self.coverage.path(path);
    }

    fn is_running(&self, node: usize) -> bool {
        self.machines[node].process.is_some()
    }

    fn running(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|node| self.is_running(*node)).collect()
    }

    /// Signs the next epoch record: these machines are in; these replica ids are sealed.
    pub fn sign_epoch(&mut self, members: &[usize], seals: &[(crdt::ReplicaId, u64)]) {
        let number = self.epochs.len() as u64 + 1;
        let member = |index: &usize| {
            let machine = &self.machines[*index];
            (machine.name.clone(), Member { slot: machine.slot })
        };
        let epoch = Epoch {
            number,
            members: members.iter().map(member).collect(),
            seals: seals.iter().copied().collect(),
            version_min: 0,
        };
        self.epochs.push(sign_epoch(&epoch));
        for gone in (0..self.machines.len()).filter(|index| !members.contains(index)) {
            if self.history.epochs().values().any(|epoch| epoch.contains(&gone)) {
                self.history.evicted(gone, seals.iter().copied());
            }
        }
        self.history.epoch(number, members.iter().copied());
        for index in 0..self.machines.len() {
            self.machines[index].is_outside = !members.contains(&index);
        }
        self.line(None, || format!("epoch {number}: members {members:?}, {} seals", seals.len()));
    }

    /// Hands every epoch record to a machine's node.
    pub fn hand_epochs(&mut self, node: usize) {
        let now = self.clock_of(node);
        let Some(process) = &mut self.machines[node].process else { return };
        for epoch in &self.epochs {
            process.node.handle_epoch(now, epoch.clone());
        }
        self.settle(node);
    }

    /// What every running member has received in common.
    fn limits(&self) -> &Limits {
        &self.swarm.limits
    }

    fn shown_of(&self, node: usize) -> Option<&VersionVector> {
        self.machines[node].process.as_ref().map(|process| process.node.shown())
    }
}
