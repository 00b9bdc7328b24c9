//! Rows with two lives of which one ends.

use super::Stage;
use crate::checkers::Violation;
use crate::network::PartitionShape;
use crate::swarm::{Disturbance, SECOND_US};
use crate::workload::Request;
use crate::world::World;

/// Longer than any scenario: the usual clients come once and stay away.
const AWAY_US: u64 = 3_600 * SECOND_US;
/// Requests for options at once: nearly every option gets one.
const REQUESTS: usize = 30;

fn request(stage: &mut Stage, node: usize, request: Request) {
    (0..REQUESTS).for_each(|_| stage.world().write(node, request));
}

fn alone(node: usize) -> PartitionShape {
    PartitionShape::Symmetric { side: 1 << node }
}

/// Two members insert the same options. One that has seen both lives updates them; one that has seen the first only
/// deletes them. The update hangs on the second life and stays.
pub(super) fn one_ends(stage: &mut Stage) -> Result<(), Violation> {
    stage.world().swarm.pause_us = AWAY_US;
    stage.pass(5, 10)?;
    let (first, second) = (stage.world().cut(alone(0)), stage.world().cut(alone(1)));
    stage.pass(1, 2)?;
    request(stage, 0, Request::Option);
    stage.pass(1, 3)?;
    request(stage, 1, Request::Option);
    stage.pass(4, 8)?;
    stage.world().heal_cut(first);
    stage.pass(5, 10)?;
    let third = stage.world().cut(alone(2));
    stage.world().heal_cut(second);
    stage.pass(5, 10)?;
    request(stage, 1, Request::Option);
    stage.pass(2, 4)?;
    request(stage, 2, Request::DeleteOption);
    stage.pass(4, 8)?;
    stage.world().heal_cut(third);
    stage.pass(20, 40)
}

/// As above, but the delete comes from a site that was put back to a moment before it had seen the first life.
/// Meanwhile all others have collected what they journaled of that life, except its greatest values.
pub(super) fn one_ends_late(stage: &mut Stage) -> Result<(), Violation> {
    let restored = 2;
    stage.world().swarm.pause_us = AWAY_US;
    stage.pass(5, 10)?;
    let id = stage.world().cut(alone(0));
    stage.pass(1, 2)?;
    request(stage, 0, Request::Option);
    stage.pass(1, 3)?;
    request(stage, 1, Request::Option);
    stage.pass(5, 10)?;
    stage.world().begin_disturbance(Disturbance::RestoreBoth, restored);
    stage.world().heal_cut(id);
    let is_down = |world: &World| world.machines[restored].process.is_none();
    if stage.pass_until(120, is_down)? {
        request(stage, restored, Request::DeleteOption);
    }
    stage.pass(30, 60)
}
