//! Carrying out what a node asks for, and what comes back from its disk.

use crdt::{Content, Envelope, Key, Op};
use replica::host::RowId;
use replica::{BlastEnd, Effect, Installed, MintReason, Now, RecordKey, Report, Ticket, WriteGroup};

use super::World;
use super::event::Event;
use super::machine::CrashPoint;
use crate::checkers::{Violation, show_row as name_of};
use crate::coverage::{Fault, Path};
use crate::history::Observed;

/// Bytes of the chain hash in front of a batch's bytes in its record.
const CHAIN_HASH_BYTES: usize = 16;

impl World {
    /// After every event of a node: takes its effects, looks at what it publishes, and plans its timer.
    pub(super) fn settle(&mut self, node: usize) {
        self.touched.insert(node);
        while let Some(process) = &mut self.machines[node].process {
            let Some(effect) = process.node.poll_effect() else { break };
            self.carry_out(node, effect);
            if self.crash_is_due(node) {
                self.fault(Fault::CrashBetweenEffects);
                return self.crash(node);
            }
        }
        self.observe(node);
        self.plan_timer(node);
    }

    /// Counts an effect towards a planned crash; true when it is time.
    fn crash_is_due(&mut self, node: usize) -> bool {
        match &mut self.machines[node].crash {
            Some(CrashPoint::Effects(0)) => true,
            Some(CrashPoint::Effects(left)) => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        let process = self.machines[node].process_number();
        match effect {
            Effect::Persist(group) => self.persist(node, group),
            Effect::Send { to, bytes } => self.send(node, &to, &bytes),
            Effect::Sql(request) => self.ask(node, request),
            Effect::Load(key) => {
                let delay_us = self.random.range(50, 500);
                self.plan_in(delay_us, Event::Loaded { node, process, key });
            }
            Effect::Acknowledge(batch) => {
                self.history.acknowledged(batch);
                self.note(10, &[node as u64, batch.seq]);
                self.line(Some(node), || format!("acknowledges {batch}"));
            }
            Effect::Report(report) => self.reported(node, report),
        }
    }

    fn persist(&mut self, node: usize, group: WriteGroup) {
        let (process, ticket) = (self.machines[node].process_number(), group.ticket);
        self.note(11, &[node as u64, ticket.0, group.records.len() as u64]);
        if self.machines[node].disk.is_full() {
            self.fault(Fault::DiskFull);
            let delay_us = self.sync_us();
            return self.plan_in(delay_us, Event::PersistFailed { node, process, ticket });
        }
        for record in &group.records {
            match (&record.key, &record.value) {
                (RecordKey::Batch(batch), Some(bytes)) => {
                    if let Some(bytes) = bytes.get(CHAIN_HASH_BYTES..) {
                        self.history.batch_bytes(node, *batch, bytes);
                    }
                    let batch = *batch;
                    self.trace.line(self.now_us, Some(node), || format!("writes batch {batch}{}", told(bytes)));
                }
                (RecordKey::Epoch(number), Some(_)) => {
                    if let Some(process) = &mut self.machines[node].process {
                        process.epoch = process.epoch.max(*number);
                    }
                }
                _ => {}
            }
        }
        self.history.group_written(node, ticket);
        if self.machines[node].disk.write(group) == Ok(true) {
            let delay_us = self.sync_us();
            self.plan_in(delay_us, Event::SyncDone { node, process });
        }
    }

    fn sync_us(&mut self) -> u64 {
        20 + self.random.long_tailed(self.swarm.sync_us)
    }

    pub(super) fn sync_done(&mut self, node: usize, process: u32) {
        if self.machines[node].process_number() != process {
            return;
        }
        let Some(ticket) = self.machines[node].disk.finish_sync(self.now_us) else { return };
        self.machines[node].settles(true);
        if !self.machines[node].disk.is_lying() {
            self.history.group_durable(node, ticket);
        }
        if self.machines[node].disk.start_sync() {
            let delay_us = self.sync_us();
            self.plan_in(delay_us, Event::SyncDone { node, process });
        }
        let now = self.clock_of(node);
        if let Some(process) = &mut self.machines[node].process {
            process.node.handle_persisted(now, ticket);
            self.settle(node);
        }
    }

    pub(super) fn persist_failed(&mut self, node: usize, process: u32, ticket: Ticket) {
        let now = self.clock_of(node);
        if let Some(running) = self.machines[node].process.as_mut().filter(|running| running.number == process) {
            running.node.handle_persist_failed(now, ticket);
            self.machines[node].settles(false);
            self.settle(node);
        }
    }

    pub(super) fn loaded(&mut self, node: usize, process: u32, key: RecordKey) {
        let now = self.clock_of(node);
        let machine = &mut self.machines[node];
        let found = machine.disk.read(&key);
        if let Some(running) = machine.process.as_mut().filter(|running| running.number == process) {
            running.node.handle_loaded(now, key, found);
            self.settle(node);
        }
    }

    pub(super) fn timer(&mut self, node: usize, process: u32) {
        let now = self.clock_of(node);
        let at_us = self.now_us;
        let Some(running) = self.machines[node].process.as_mut().filter(|running| running.number == process) else {
            return;
        };
        // An earlier one was planned since, and has been served.
        if running.timer_us.is_none_or(|planned_us| planned_us > at_us) {
            return;
        }
        running.timer_us = None;
        if running.node.poll_timeout().is_some_and(|due_ms| due_ms <= now.mono_ms) {
            self.note(12, &[node as u64]);
            if let Some(running) = &mut self.machines[node].process {
                running.node.handle_timeout(now);
            }
            self.settle(node);
            self.check_timer_was_served(node, now);
        } else {
            self.plan_timer(node);
        }
    }

    /// A timer that is served and still due would keep a processor busy for nothing.
    fn check_timer_was_served(&mut self, node: usize, now: Now) {
        let due_ms = self.machines[node].process.as_ref().and_then(|process| process.node.poll_timeout());
        if let Some(due_ms) = due_ms.filter(|due_ms| *due_ms <= now.mono_ms) {
            let what = format!("due at {due_ms} ms, served at {} ms, and still due", now.mono_ms);
            self.violation = Some(Violation { invariant: 10, node: Some(node), key: "timer".into(), what });
        }
    }

    fn plan_timer(&mut self, node: usize) {
        let now_us = self.now_us;
        let Some(process) = &mut self.machines[node].process else { return };
        let Some(due_ms) = process.node.poll_timeout() else { return };
        // A timer that asks for the past is served once a millisecond, so that a mistake there is slow and not endless.
        let due_us = (due_ms * 1_000).max((now_us / 1_000 + 1) * 1_000);
        if process.timer_us.is_none_or(|planned_us| due_us < planned_us) {
            process.timer_us = Some(due_us);
            let number = process.number;
            self.plan_at(due_us, Event::Timer { node, process: number });
        }
    }

    /// Writes down what the node publishes now.
    pub(super) fn observe(&mut self, node: usize) {
        let now = self.clock_of(node);
        let Some(process) = &mut self.machines[node].process else { return };
        process.received = process.node.received();
        let latest_ms = process.node.corrected_wall_ms(now) + self.swarm.intervals.skew_bound_ms;
        self.history.clock_seen(node, process.node.clock(), latest_ms);
        let seen = Observed {
            replica: process.node.replica(),
            applied: process.node.applied(),
            shown: process.node.shown(),
            received: &process.received,
            stable: Some(process.node.stable()),
            clock: process.node.clock(),
        };
        self.history.observe(node, seen);
        if process.node.keyspace().journal_entries() > 0 {
            self.coverage.path(Path::Journaled);
        }
        if self.machines[node].catching_up.is_some() {
            self.review_catching_up(node);
        }
    }

    fn reported(&mut self, node: usize, report: Report) {
        self.note(13, &[node as u64]);
        self.line(Some(node), || format!("reports {report:?}"));
        for path in paths_of(&report) {
            self.path(*path);
        }
        match &report {
            Report::BufferFull => self.fault(Fault::MemoryPressure),
            Report::Collected { collected, .. } if *collected > 0 => {
                self.path(Path::Collected);
                if self.network.is_cut() {
                    self.fault(Fault::GcDuringPartition);
                }
            }
            Report::SnapshotInstalled { .. } => {
                self.machines[node].donor = None;
                self.machines[node].catching_up = None;
            }
            _ => {}
        }
        self.history.reported(node, report);
    }
}

/// The recovery paths that a report proves.
fn paths_of(report: &Report) -> &'static [Path] {
    match report {
        Report::IdempotencyViolation { .. } => &[Path::ForkNoticed],
        Report::ClockSkew { fenced: true, .. } => &[Path::SkewFenced],
        Report::ClockSkew { fenced: false, .. } => &[Path::SkewDelayed],
        Report::ClockOffset { .. } => &[Path::OffsetWarned],
        Report::ClockAhead { .. } => &[Path::StampedWithMedian],
        Report::MacMismatch { .. } | Report::Malformed { .. } => &[Path::CorruptionRefused],
        Report::VersionSkew { .. } => &[Path::SkewedVersionRefused],
        Report::NodeIdCollision { .. } => &[Path::CollisionNoticed],
        Report::StoreCorrupt { .. } => &[Path::StoreHealed],
        Report::ReplicaMinted { reason: MintReason::FirstStart, .. } => &[Path::MintedFirst],
        Report::ReplicaMinted { reason: MintReason::ContinuityNotProven, .. } => &[Path::MintedUnproven],
        Report::ReplicaMinted { reason: MintReason::PeerKnowsMore, .. } => &[Path::MintedBehind],
        Report::DatabaseRestored { .. } => &[Path::DatabaseRestored],
        Report::OutOfBandWrite { .. } => &[Path::Adopted],
        Report::Rescued { .. } => &[Path::Rescued],
        Report::Quarantined { .. } => &[Path::Quarantined],
        Report::UnknownChange { .. } => &[Path::UnknownForwarded],
        Report::SnapshotInterrupted { .. } => &[Path::SnapshotResumed],
        Report::SnapshotInstalled { how: Installed::Joined } => &[Path::SnapshotJoined],
        Report::SnapshotInstalled { how: Installed::AsItCame } => &[Path::SnapshotAsItCame],
        Report::SnapshotInstalled { how: Installed::Replaced } => &[Path::SnapshotReplaced],
        Report::Repaired { .. } => &[Path::Repaired],
        Report::BufferFull => &[Path::BufferOverflow],
        Report::LogCut { .. } => &[Path::LogCut],
        Report::BlastHeld { .. } => &[Path::BlastHeld],
        Report::BlastEnded { end: BlastEnd::Released, .. } => &[Path::BlastReleased],
        Report::BlastEnded { end: BlastEnd::Expired, .. } => &[Path::BlastExpired],
        Report::BlastEnded { .. }
        | Report::WrongCluster { .. }
        | Report::EpochFork { .. }
        | Report::StoreFailed
        | Report::Diverged { .. }
        | Report::Collected { .. } => &[],
    }
}

/// What a batch record does to rows, for a person.
fn told(record: &[u8]) -> String {
    let batch = record.get(CHAIN_HASH_BYTES..).and_then(|bytes| Envelope::parse(bytes).ok()?.to_batch().ok());
    let mut text = String::new();
    for change in batch.into_iter().flat_map(|batch| batch.changes) {
        let Some(row) = Key::of_change(&change).and_then(|key| RowId::from_key(&key)) else { continue };
        let Content::Op(Op::Row(delta)) = change.content else { continue };
        text.push_str(&format!(
            "; {} insert {} lives {:?} ends {:?}",
            name_of(&row),
            delta.insert,
            delta.lives,
            delta.ends
        ));
        for column in delta.columns {
            let (removes, add) = (column.removes, column.add);
            if !removes.is_empty() || add.is_some() {
                text.push_str(&format!(" {} removes {removes:?} adds {add:?}", column.name.escape_ascii()));
            }
        }
    }
    text
}
