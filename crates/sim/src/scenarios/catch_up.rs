//! Snapshots, and what happens to them on their way.

use super::Stage;
use crate::checkers::Violation;
use crate::network::PartitionShape;
use crate::world::World;

const AWAY: usize = 2;

/// Lets one member fall so far behind that its peers have cut their logs, and brings it back. Says whether a
/// snapshot began.
fn fall_behind(stage: &mut Stage) -> Result<bool, Violation> {
    stage.world().swarm.limits.log_bytes_max = 6_000;
    stage.pass(10, 20)?;
    let id = stage.world().cut(PartitionShape::Symmetric { side: 1 << AWAY });
    stage.pass(40, 70)?;
    stage.world().heal_cut(id);
    stage.pass_until(30, has_donor)
}

fn has_donor(world: &World) -> bool {
    world.machines[AWAY].donor().is_some()
}

/// The link of the snapshot breaks, several times.
pub(super) fn interrupted(stage: &mut Stage) -> Result<(), Violation> {
    fall_behind(stage)?;
    for _ in 0..4 {
        if !stage.pass_until(20, has_donor)? {
            break;
        }
        let id = stage.world().cut(PartitionShape::Symmetric { side: 1 << AWAY });
        stage.pass(4, 9)?;
        stage.world().heal_cut(id);
        stage.pass(1, 3)?;
    }
    stage.pass(10, 30)
}

/// The donor dies; another one takes over, or it comes back with a new cut.
pub(super) fn donor_dies(stage: &mut Stage) -> Result<(), Violation> {
    fall_behind(stage)?;
    for _ in 0..3 {
        if !stage.pass_until(20, has_donor)? {
            break;
        }
        let Some(donor) = stage.run.world.machines[AWAY].donor() else { break };
        if stage.random.one_in(2) {
            stage.world().stop_machine(donor);
        } else {
            stage.world().lose_power(donor);
        }
        stage.pass(2, 8)?;
        stage.world().start_machine(donor);
        stage.pass(1, 4)?;
    }
    stage.pass(10, 30)
}

/// The receiver dies between two chunks, staged or joined.
pub(super) fn receiver_dies(stage: &mut Stage) -> Result<(), Violation> {
    fall_behind(stage)?;
    for _ in 0..4 {
        if !stage.pass_until(20, has_donor)? {
            break;
        }
        let until_us = stage.run.world.now_us() + stage.random.below(400_000);
        stage.run.until(until_us)?;
        if stage.random.one_in(3) {
            stage.world().lose_power(AWAY);
        } else {
            stage.world().stop_machine(AWAY);
        }
        stage.pass(1, 4)?;
        stage.world().start_machine(AWAY);
    }
    stage.pass(10, 30)
}

/// Clients write without a pause on both sides.
pub(super) fn writes_during(stage: &mut Stage) -> Result<(), Violation> {
    fall_behind(stage)?;
    for _ in 0..60 {
        for node in 0..3 {
            stage.world().door_request(node);
        }
        let until_us = stage.run.world.now_us() + stage.random.below(200_000);
        stage.run.until(until_us)?;
    }
    stage.pass(10, 30)
}
