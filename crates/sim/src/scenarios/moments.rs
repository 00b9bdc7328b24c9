//! Write stamps: equal ones, and ones that are hours ahead.

use super::Stage;
use crate::checkers::Violation;
use crate::network::PartitionShape;
use crate::swarm::SECOND_US;

/// Longer than any scenario: the usual clients come once and stay away.
const AWAY_US: u64 = 3_600 * SECOND_US;
/// Beyond the longest time at rest, and below the fence of a day.
const AHEAD_MS: i64 = 2 * 3_600_000;
/// A clock may follow others up to the skew bound; beyond that and a second for rounding it follows something else.
const ROUNDING_MS: u64 = 1_000;

/// All doors write at one moment of clocks that agree, so that some registers get two values with one stamp.
pub(super) fn same_moment(stage: &mut Stage) -> Result<(), Violation> {
    stage.world().swarm.pause_us = AWAY_US;
    stage.pass(5, 10)?;
    for _ in 0..150 {
        for node in 0..3 {
            (0..3).for_each(|_| stage.world().door_request(node));
        }
        let until_us = stage.run.world.now_us() + stage.random.range(200_000, 600_000);
        stage.run.until(until_us)?;
    }
    Ok(())
}

/// A member writes with a clock that is hours ahead while nobody hears it, and is heard when its clock is right again.
/// Its batches are delayed, then applied; its stamps win, and no clock follows them.
pub(super) fn stamps_ahead(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(10, 20)?;
    let node = stage.random.index(3);
    let id = stage.world().cut(PartitionShape::Symmetric { side: 1 << node });
    stage.pass(2, 4)?;
    stage.world().machines[node].clock.jump(AHEAD_MS);
    stage.world().history.clock_jumped(AHEAD_MS as u64);
    stage.pass(10, 20)?;
    stage.world().machines[node].clock.repair();
    stage.world().heal_cut(id);
    let delay_s = stage.run.world.swarm.intervals.skew_delay_ms / 1_000;
    stage.pass(delay_s + 10, delay_s + 30)?;
    (0..3).filter(|other| *other != node).try_for_each(|other| check_clock(stage, other))
}

fn check_clock(stage: &Stage, node: usize) -> Result<(), Violation> {
    let world = &stage.run.world;
    let Some(process) = &world.machines[node].process else { return Ok(()) };
    let wall_ms = world.machines[node].clock.wall_ms(world.now_us());
    let ahead_ms = process.node.clock().millis().saturating_sub(wall_ms);
    if ahead_ms <= world.swarm.intervals.skew_bound_ms + ROUNDING_MS {
        return Ok(());
    }
    let what = format!("it is {ahead_ms} ms ahead of its own wall clock: it followed a write stamp");
    Err(Violation { invariant: 4, node: Some(node), key: "clock".into(), what })
}
