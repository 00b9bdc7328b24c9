//! What a node must refuse, hold or set aside, and take up again.

use super::Stage;
use crate::checkers::Violation;
use crate::swarm::Disturbance;

/// Versions that do not overlap: refused with both named, and back after the upgrade.
pub(super) fn version_skew(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(5, 15)?;
    let node = stage.random.index(3);
    stage.world().begin_disturbance(Disturbance::VersionSkew, node);
    stage.pass(60, 90)
}

/// One database refuses a row for a while; other origins go on meanwhile.
pub(super) fn poison(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(5, 15)?;
    for _ in 0..3 {
        let node = stage.random.index(3);
        stage.world().begin_disturbance(Disturbance::Poison, node);
        stage.pass(10, 40)?;
    }
    stage.pass(20, 60)
}

/// A batch of a later version is stored and forwarded by everybody, applied by nobody, and holds up nobody else.
pub(super) fn unknown_change(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(5, 15)?;
    let node = stage.random.index(3);
    stage.world().bring_unknown_change(node);
    stage.pass(20, 40)
}

/// A batch that does not decode although its MAC fits is set aside, and holds up nobody else.
pub(super) fn unreadable_change(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(5, 15)?;
    let node = stage.random.index(3);
    stage.world().bring_unreadable_change(node);
    stage.pass(20, 40)
}

/// Two batches under one dot: everybody notices, stops that stream, and goes on with all others.
pub(super) fn fork(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(5, 15)?;
    let node = stage.random.index(3);
    stage.world().bring_fork(node, (node + 1) % 3);
    stage.pass(20, 40)
}

/// A clock a day ahead: its writes are fenced until the operator releases them, and nobody follows it.
pub(super) fn fenced(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(5, 15)?;
    let node = stage.random.index(3);
    stage.world().begin_disturbance(Disturbance::ClockDay, node);
    stage.pass(60, 120)
}
