//! Processes: starting them from what their disks hold, and letting them die in every way.

use std::rc::Rc;

use crdt::ReplicaId;
use replica::host::SqlError;
use replica::{Node, RecordKey, Setup, Start};

use super::machine::{CrashPoint, Process, RequestKind};
use super::{CLUSTER, World, event::Event};
use crate::checkers::Violation;
use crate::coverage::{Fault, Path};
use crate::history::{Observed, Opened};
use crate::signer::Keys;
use crate::swarm::SECOND_US;

/// How long a process that died stays away, if nothing else decides it.
const DOWN_US: (u64, u64) = (SECOND_US / 2, 25 * SECOND_US);

impl World {
    /// Starts a machine's process from what its disk holds.
    pub(super) fn start(&mut self, node: usize) {
        if self.is_running(node) {
            return;
        }
        let now = self.clock_of(node);
        let fresh_replica = ReplicaId(self.random.next_u128());
        let machine = &mut self.machines[node];
        machine.is_restarting = false;
        let setup = Setup {
            cluster: CLUSTER,
            node: machine.name.clone(),
            schema: machine.database.is_some().then(|| self.schema.clone()),
            limits: self.swarm.limits.clone(),
            intervals: self.swarm.intervals.clone(),
            versions: machine.versions,
        };
        let start = Start { now, fresh_replica, continuity: machine.continuity };
        let signer = Box::new(Keys::new(Rc::clone(&machine.key)));
        let found = machine.disk.found();
        let epoch = found.iter().filter_map(|(key, _)| match key {
            RecordKey::Epoch(number) => Some(*number),
            _ => None,
        });
        let epoch = epoch.max().unwrap_or(0);
        let (how, is_first) = (machine.opening, !machine.was_started);
        let opened = Node::open(setup, signer, start, found);
        machine.disk.forget_damage();
        machine.processes += 1;
        let number = machine.processes;
        let opened = match opened {
            Ok(node) => node,
            Err(error) => {
                let what = format!("the store does not open: {error}");
                self.violation = Some(Violation { invariant: 2, node: Some(node), key: "store".into(), what });
                return;
            }
        };
        let received = opened.received();
        machine.process = Some(Process { node: opened, number, received, epoch, timer_us: None });
        machine.was_started = true;
        // What the next process finds is decided by how this one ends.
        machine.opening = Opened::Killed;
        machine.settles(start.continuity == replica::Continuity::Proven);
        self.note(40, &[node as u64, u64::from(number)]);
        self.line(Some(node), || format!("starts as process {number}: {how:?}"));
        self.record_opening(node, how);
        if is_first {
            let delay_us = self.random.below(2 * SECOND_US);
            self.plan_in(delay_us, Event::HandEpochs { node });
        }
        self.settle(node);
        self.review_links();
    }

    fn record_opening(&mut self, node: usize, how: Opened) {
        let Some(process) = &self.machines[node].process else { return };
        let seen = Observed {
            replica: process.node.replica(),
            applied: process.node.applied(),
            shown: process.node.shown(),
            received: &process.received,
            stable: Some(process.node.stable()),
            clock: process.node.clock(),
        };
        self.history.opened(node, how, seen);
    }

    /// The process ends at once; what the disk keeps is up to the caller.
    fn end_process(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.process.take().is_none() {
            return;
        }
        machine.crash = None;
        machine.orphaned_step = machine.unanswered_step.take();
        machine.is_asking = false;
        machine.loses_answer = false;
        machine.donor = None;
        machine.catching_up = None;
        if let (Some(database), Some(session)) = (&mut machine.database, machine.session.take()) {
            database.disconnect(session);
        }
        self.touched.insert(node);
        self.history.stopped(node);
        self.connections.forget(node);
        self.serve(node);
        self.review_links();
    }

    /// The process is killed: everything that it had handed over is on disk.
    pub(super) fn kill(&mut self, node: usize) {
        self.end_process(node);
        self.machines[node].disk.kill();
        self.machines[node].opens_as(Opened::Killed);
        self.note(41, &[node as u64]);
        self.line(Some(node), || "is killed".into());
    }

    /// A planned crash: killed, and started again after a while.
    pub(super) fn crash(&mut self, node: usize) {
        self.kill(node);
        self.restart_later(node);
    }

    /// The machine loses power.
    pub(super) fn cut_power(&mut self, node: usize) {
        self.end_process(node);
        let loss = self.machines[node].disk.cut_power(&mut self.random);
        self.fault(Fault::PowerCut);
        if loss.torn {
            self.fault(Fault::TornWrite);
        }
        if loss.lied_groups > 0 {
            self.fault(Fault::LyingFsync);
        }
        let how = if loss.lied_groups > 0 { Opened::DiskLied } else { Opened::PowerCut };
        self.machines[node].opens_as(how);
        self.note(42, &[node as u64, loss.unsynced_groups as u64, loss.lied_groups as u64]);
        self.line(Some(node), || {
            format!(
                "loses power: {} unsynced groups gone, {} that were lied about",
                loss.unsynced_groups, loss.lied_groups
            )
        });
    }

    /// Starts the process again after a while.
    pub(super) fn restart_later(&mut self, node: usize) {
        let delay_us = self.random.range(DOWN_US.0, DOWN_US.1);
        self.restart_in(node, delay_us);
    }

    pub(super) fn restart_in(&mut self, node: usize, delay_us: u64) {
        self.machines[node].is_restarting = true;
        self.plan_in(delay_us, Event::Start { node });
    }

    /// Plans that the process dies in the middle of something.
    pub(super) fn plan_crash(&mut self, node: usize) {
        let kinds = [RequestKind::Drain, RequestKind::Delete, RequestKind::Lock, RequestKind::Write];
        let has_database = self.machines[node].database.is_some();
        let point = if has_database && self.random.one_in(2) {
            CrashPoint::Request { kind: kinds[self.random.index(kinds.len())], after: self.random.one_in(2) }
        } else {
            CrashPoint::Effects(self.random.below(40) as u32)
        };
        self.machines[node].crash = Some(point);
    }

    /// The database server restarts under its engine and its clients.
    pub(super) fn restart_database(&mut self, node: usize) {
        let Some(database) = &mut self.machines[node].database else { return };
        database.restart();
        self.fault(Fault::DatabaseRestart);
        self.line(Some(node), || "database restarts".into());
        self.database_went_away(node);
    }

    pub(super) fn database_went_away(&mut self, node: usize) {
        if std::mem::take(&mut self.machines[node].is_asking) {
            // The request was inside the server: whoever asked hears that the connection is gone.
            self.machines[node].session = None;
            self.machines[node].loses_answer = false;
            self.answer(node, replica::host::SqlResponse::Failed(SqlError::ConnectionLost));
        }
        self.clients_lose_connection(node);
    }

    /// Damages records of a process that is down, as far as others can replace them.
    pub(super) fn rot(&mut self, node: usize) {
        if self.is_running(node) {
            return;
        }
        let mine = self.history.nodes()[node].now.applied.clone();
        let others: Vec<usize> = self.running().into_iter().filter(|other| *other != node).collect();
        let has_all = |other: &usize| {
            self.shown_of(*other).is_some_and(|shown| mine.iter().all(|(replica, seq)| shown.seq(replica) >= seq))
        };
        let state_is_safe = others.iter().any(has_all);
        let is_safe = |key: &RecordKey| match key {
            RecordKey::Batch(batch) => others.iter().any(|other| {
                let process = self.machines[*other].process.as_ref();
                process.is_some_and(|process| process.received.contains(*batch))
            }),
            RecordKey::Object(_) | RecordKey::Part(..) | RecordKey::Shadow(_) => state_is_safe,
            _ => false,
        };
        let keys: Vec<RecordKey> =
            self.machines[node].disk.records().keys().filter(|key| is_safe(key)).cloned().collect();
        for _ in 0..self.random.range(1, 3) {
            if let Some(key) = self.random.pick(&keys).cloned()
                && self.machines[node].disk.damage(&key)
            {
                self.fault(Fault::BitRot);
                self.line(Some(node), || format!("a record rots: {key:?}"));
            }
        }
    }

    /// What an operator does with everything that a node holds back.
    pub(super) fn release_held(&mut self, node: usize) {
        let now = self.clock_of(node);
        let Some(process) = &mut self.machines[node].process else { return };
        if process.node.gauges().held == 0 {
            return;
        }
        for held in process.node.held() {
            // Two batches with one dot stay held.
            let _forked = process.node.release(now, held.batch);
        }
        self.line(Some(node), || "operator releases what is held".into());
        self.settle(node);
    }

    /// Counts the rotation of keys once every machine signs with the new one.
    pub(super) fn rotate_key(&mut self) {
        for machine in &self.machines {
            machine.key.set(machine.key.get() + 1);
        }
        self.path(Path::KeyRotated);
        self.line(None, || "the cluster's key is rotated".into());
    }
}
