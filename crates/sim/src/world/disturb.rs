//! Planned faults: how they begin, and how they end.

use super::World;
use super::event::{Event, Undo};
use crate::coverage::Fault;
use crate::network::PartitionShape;
use crate::swarm::{Disturbance, SECOND_US};

const DAY_MS: i64 = 24 * 3_600_000;
/// At most this many machines are down at once: a cluster of which nobody is left proves nothing.
const RUNNING_MIN: usize = 1;

impl World {
    /// A planned fault begins, and the next one of its kind is planned.
    pub(super) fn disturb(&mut self, disturbance: Disturbance, again_us: u64) {
        if self.is_calm {
            return;
        }
        let delay_us = self.random.range(again_us / 2, again_us * 3 / 2);
        self.plan_in(delay_us, Event::Disturb { disturbance, again_us });
        let running = self.running();
        let Some(node) = self.random.pick(&running).copied() else { return };
        self.note(60, &[disturbance as u64, node as u64]);
        self.begin_disturbance(disturbance, node);
    }

    /// Lets one fault begin at one machine.
    pub fn begin_disturbance(&mut self, disturbance: Disturbance, node: usize) {
        match disturbance {
            Disturbance::Partition => self.begin_partition(),
            Disturbance::SlowPeer => self.slow_down(node),
            Disturbance::Kill if self.may_stop_one() => {
                self.fault(Fault::Kill);
                self.kill(node);
                self.restart_later(node);
            }
            Disturbance::PowerCut if self.may_stop_one() => {
                self.cut_power(node);
                self.restart_later(node);
            }
            Disturbance::BitRot if self.may_stop_one() => {
                self.kill(node);
                self.rot(node);
                self.restart_later(node);
            }
            Disturbance::Kill | Disturbance::PowerCut | Disturbance::BitRot => {}
            Disturbance::Crash => self.plan_crash(node),
            Disturbance::LyingFsync => {
                self.machines[node].disk.set_lying(true);
                self.undo_in((5, 30), Undo::Lie { node });
            }
            Disturbance::DiskFull => {
                self.machines[node].disk.set_full(true);
                self.undo_in((2, 20), Undo::Space { node });
            }
            Disturbance::ClockJump => self.jump_clock(node),
            Disturbance::ClockDay => self.jump_a_day(node),
            Disturbance::ClockFrozen => {
                let at_us = self.now_us;
                self.machines[node].clock.freeze(at_us);
                self.fault(Fault::ClockFrozen);
                self.undo_in((5, 60), Undo::Thaw { node });
            }
            Disturbance::ClockDrift => self.let_drift(node),
            Disturbance::RestoreStore | Disturbance::RestoreDatabase | Disturbance::RestoreBoth => {
                self.plan_restore(node, disturbance);
            }
            Disturbance::VersionSkew => self.skew_version(node),
            Disturbance::Runaway => self.flood(node),
            Disturbance::DatabaseRestart => self.restart_database(node),
            Disturbance::Poison => self.poison(node),
            Disturbance::KeyRotation => self.rotate_key(),
        }
    }

    fn may_stop_one(&self) -> bool {
        self.running().len() > RUNNING_MIN
    }

    fn undo_in(&mut self, seconds: (u64, u64), undo: Undo) {
        let delay_us = self.random.range(seconds.0 * SECOND_US, seconds.1 * SECOND_US);
        self.plan_in(delay_us, Event::Undo(undo));
    }

    fn begin_partition(&mut self) {
        let machines = self.machines.len() as u64;
        let all = (1 << machines) - 1;
        let side = self.random.range(1, all - 1);
        let node = self.random.index(self.machines.len());
        let shape = match self.random.below(4) {
            0 => PartitionShape::OneWay { side },
            1 if machines > 2 => PartitionShape::Bridge { side, bridge: node },
            2 => PartitionShape::Rolling { machine: node },
            _ => PartitionShape::Symmetric { side },
        };
        let rolls = if matches!(shape, PartitionShape::Rolling { .. }) { self.machines.len() } else { 0 };
        let id = self.network.cut(shape);
        self.line(None, || format!("the network is cut: {shape:?}"));
        self.undo_in((1, 60), Undo::Heal { id, rolls });
        self.review_links();
    }

    fn slow_down(&mut self, node: usize) {
        let bytes_per_second = self.random.range(500, 20_000);
        self.network.limit(node, Some(bytes_per_second));
        self.line(Some(node), || format!("has {bytes_per_second} bytes a second"));
        self.undo_in((10, 60), Undo::Speed { node });
    }

    fn jump_clock(&mut self, node: usize) {
        // Most jumps are about the skew bound; some are minutes.
        let largest_ms = if self.random.one_in(3) { 600_000 } else { 9_000 };
        let by_ms = self.random.range(300, largest_ms) as i64;
        let ahead = self.random.one_in(2);
        self.fault(if ahead { Fault::ClockForward } else { Fault::ClockBack });
        self.move_clock(node, if ahead { by_ms } else { -by_ms });
        if self.random.one_in(2) {
            self.undo_in((10, 120), Undo::Clock { node });
        }
    }

    fn jump_a_day(&mut self, node: usize) {
        let by_ms = DAY_MS + self.random.range(1_000, 10_000_000) as i64;
        self.fault(Fault::ClockDay);
        self.move_clock(node, by_ms);
        self.undo_in((5, 60), Undo::Clock { node });
    }

    fn move_clock(&mut self, node: usize, by_ms: i64) {
        let before_ms = self.machines[node].clock.error_ms(self.now_us);
        self.machines[node].clock.jump(by_ms);
        self.note_lead(node, before_ms);
        self.line(Some(node), || format!("clock jumps by {by_ms} ms"));
    }

    /// Tells the history how far a clock got ahead of where it stood.
    fn note_lead(&mut self, node: usize, before_ms: i64) {
        let after_ms = self.machines[node].clock.error_ms(self.now_us);
        if after_ms > before_ms {
            self.history.clock_jumped(after_ms.abs_diff(before_ms));
        }
    }

    fn let_drift(&mut self, node: usize) {
        let drift_ppm = self.random.range(100, 20_000) as i64 * if self.random.one_in(2) { 1 } else { -1 };
        let at_us = self.now_us;
        self.machines[node].clock.drift(at_us, drift_ppm);
        if drift_ppm > 0 {
            // What it will be ahead by when it is set right, at the latest with the end of the faults.
            self.history.clock_jumped(drift_ppm.unsigned_abs() * 2 * self.swarm.safety_us / SECOND_US / 1_000);
        }
        self.fault(Fault::ClockDrift);
        self.line(Some(node), || format!("clock drifts by {drift_ppm} ppm"));
        self.undo_in((60, 300), Undo::Clock { node });
    }

    fn skew_version(&mut self, node: usize) {
        if !self.may_stop_one() {
            return;
        }
        self.kill(node);
        self.machines[node].versions = (7, 8);
        self.fault(Fault::VersionSkew);
        self.restart_in(node, SECOND_US);
        self.undo_in((10, 60), Undo::Version { node });
    }

    /// Somebody writes a value that this machine's database cannot take, until it is repaired.
    fn poison(&mut self, node: usize) {
        let others: Vec<usize> = (0..self.machines.len()).filter(|other| *other != node).collect();
        let with_database: Vec<usize> =
            others.into_iter().filter(|other| self.machines[*other].database.is_some()).collect();
        let Some(author) = self.random.pick(&with_database).copied() else { return };
        self.machines[node].poisoned = true;
        let value = format!("poison-w{}", self.workload.fresh_number());
        self.write_option(author, &format!("option-{}", self.now_us % 12), value.as_bytes());
        self.undo_in((20, 90), Undo::Poison { node });
    }

    /// A fault ends.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Heal { id, rolls } => self.heal(id, rolls),
            Undo::Speed { node } => self.network.limit(node, None),
            Undo::Space { node } => self.free_space(node),
            Undo::Lie { node } => {
                if self.machines[node].disk.is_lying() && self.may_stop_one() && !self.is_calm {
                    self.cut_power(node);
                    self.restart_later(node);
                }
                self.machines[node].disk.set_lying(false);
            }
            Undo::Clock { node } => self.set_clock_right(node),
            Undo::Thaw { node } => {
                let at_us = self.now_us;
                self.machines[node].clock.thaw(at_us);
            }
            Undo::Restore { node, backup } => self.restore(node, backup),
            Undo::Version { node } => self.right_version(node),
            Undo::Poison { node } => {
                self.machines[node].poisoned = false;
                self.release_held(node);
            }
        }
    }

    fn heal(&mut self, id: crate::network::PartitionId, rolls: usize) {
        if !self.network.heal(id) {
            return;
        }
        if rolls > 0 && !self.is_calm {
            let machine = rolls - 1;
            let id = self.network.cut(PartitionShape::Rolling { machine });
            self.line(None, || format!("the cut rolls on to machine {machine}"));
            self.undo_in((1, 15), Undo::Heal { id, rolls: rolls - 1 });
        } else {
            self.line(None, || "a cut is healed".into());
        }
        self.review_links();
    }

    fn free_space(&mut self, node: usize) {
        if !self.machines[node].disk.is_full() {
            return;
        }
        self.machines[node].disk.set_full(false);
        if self.is_running(node) {
            // The node refuses everything since the first failed write; it is opened anew from what is on disk.
            self.path(crate::coverage::Path::StoreReopened);
            self.kill(node);
            self.restart_in(node, SECOND_US);
        }
    }

    fn set_clock_right(&mut self, node: usize) {
        let before_ms = self.machines[node].clock.error_ms(self.now_us);
        self.machines[node].clock.repair();
        self.note_lead(node, before_ms);
        self.line(Some(node), || "clock is set right".into());
        for other in self.running() {
            self.release_held(other);
        }
    }

    fn right_version(&mut self, node: usize) {
        if self.machines[node].versions == (0, 1) {
            return;
        }
        self.machines[node].versions = (0, 1);
        if self.is_running(node) {
            self.kill(node);
        }
        self.restart_in(node, SECOND_US);
    }

    /// The end of all faults: the network heals, clocks are set right, disks get space, processes come back with the
    /// right version, and clients come no more.
    pub fn calm(&mut self) {
        self.is_calm = true;
        self.network.calm();
        self.line(None, || "all faults end".into());
        for node in 0..self.machines.len() {
            self.network.limit(node, None);
            self.machines[node].crash = None;
            self.machines[node].poisoned = false;
            self.machines[node].disk.set_lying(false);
            self.free_space(node);
            self.right_version(node);
            self.set_clock_right(node);
            if !self.is_running(node) && !self.machines[node].is_restarting && self.machines[node].was_started {
                self.restart_in(node, SECOND_US);
            }
        }
        self.end_long_queues();
        self.review_links();
    }

    /// What the operator does every few seconds once faults are over.
    pub fn operate(&mut self) {
        for node in self.running() {
            self.release_held(node);
        }
    }
}
