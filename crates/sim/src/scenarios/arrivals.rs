//! A member that everybody has heard of and nobody from, and one that is still joining a snapshot.

use super::Stage;
use crate::checkers::Violation;
use crate::network::PartitionShape;
use crate::world::World;

/// Mean time of a sync that makes the joining of a snapshot take seconds.
const SLOW_SYNC_US: u64 = 300_000;

/// Everybody knows the epoch of a newcomer that starts much later: until then nothing is stable.
pub(super) fn late_newcomer(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(10, 20)?;
    let machine = stage.world().add_machine(None);
    stage.world().sign_epoch(&[0, 1, 2, machine], &[]);
    (0..3).for_each(|node| stage.world().hand_epochs(node));
    stage.pass(15, 40)?;
    stage.world().start_machine(machine);
    stage.pass(30, 60)
}

/// A member joins a snapshot in many slow chunks while clients come to its door. A third member hears the joining one,
/// and not the donor: what it is told must not name what it cannot know of.
pub(super) fn writes_during_join(stage: &mut Stage) -> Result<(), Violation> {
    let joining = 2;
    stage.world().swarm.limits.log_bytes_max = 6_000;
    stage.world().swarm.limits.chunk_bytes_max = 2 << 10;
    stage.pass(10, 20)?;
    let away = stage.world().cut(PartitionShape::Symmetric { side: 1 << joining });
    stage.pass(30, 50)?;
    let bridged = stage.world().cut(PartitionShape::Bridge { side: 1, bridge: joining });
    stage.pass(6, 12)?;
    let usual_us = stage.world().swarm.sync_us;
    stage.world().heal_cut(away);
    stage.pass_until(30, |world: &World| world.machines[joining].donor().is_some())?;
    stage.world().swarm.sync_us = SLOW_SYNC_US;
    for _ in 0..150 {
        stage.world().door_request(joining);
        let until_us = stage.run.world.now_us() + stage.random.below(300_000);
        stage.run.until(until_us)?;
    }
    stage.world().swarm.sync_us = usual_us;
    stage.pass(5, 10)?;
    stage.world().heal_cut(bridged);
    stage.pass(10, 30)
}
