//! Write stamps: equal ones, and ones that are hours ahead.

use super::Stage;
use crate::checkers::Violation;
use crate::network::PartitionShape;
use crate::swarm::SECOND_US;

/// Longer than any scenario: the usual clients come once and stay away.
const AWAY_US: u64 = 3_600 * SECOND_US;
/// Beyond the longest time at rest, and below the fence of a day.
const AHEAD_MS: i64 = 2 * 3_600_000;

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
/// Its batches are delayed, then applied; its stamps win, and no clock follows them, which the checkers look after.
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
    stage.pass(delay_s + 10, delay_s + 30)
}
