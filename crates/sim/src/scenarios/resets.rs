//! Counters that are reset or removed around a crash or a restore.

use super::Stage;
use crate::checkers::Violation;
use crate::network::PartitionShape;
use crate::swarm::SECOND_US;
use crate::workload::Request;

/// Longer than any scenario: the usual clients come once and stay away.
const AWAY_US: u64 = 3_600 * SECOND_US;

/// A node dies between the commit of a drain and the removal of its outbox entries. What it drained was a REPLACE of a
/// counter, which another member has seen and replaces in turn before they meet again: the entry must not count twice.
pub(super) fn drained_twice(stage: &mut Stage) -> Result<(), Violation> {
    stage.world().swarm.pause_us = AWAY_US;
    stage.pass(8, 15)?;
    for _ in 0..4 {
        let node = stage.random.index(3);
        let peer = (node + 1) % 3;
        (0..8).for_each(|_| stage.world().write(peer, Request::Hit));
        stage.pass(3, 6)?;
        stage.world().crash_before_delete(node);
        (0..4).for_each(|_| stage.world().write(node, Request::ReplaceHits));
        let has_died = stage.pass_until(20, |world| world.machines[node].process.is_none())?;
        if !has_died {
            continue;
        }
        // What it had sent arrives; then it comes back on its own.
        stage.pass_until(1, |_| false)?;
        let id = stage.world().cut(PartitionShape::Symmetric { side: 1 << node });
        stage.world().start_machine(node);
        (0..30).for_each(|_| stage.world().write(peer, Request::ReplaceHits));
        stage.pass(4, 8)?;
        stage.world().heal_cut(id);
        stage.pass(5, 10)?;
    }
    Ok(())
}

/// Both sides of a cut reset the same counters: each reset takes away what it saw, and nothing twice.
pub(super) fn concurrent_resets(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(5, 10)?;
    for _ in 0..4 {
        (0..3).for_each(|node| (0..6).for_each(|_| stage.world().write(node, Request::Hit)));
        stage.pass(4, 8)?;
        let id = stage.world().cut(PartitionShape::Symmetric { side: 1 });
        (0..3).for_each(|node| (0..10).for_each(|_| stage.world().write(node, Request::ReplaceHits)));
        stage.pass(4, 8)?;
        stage.world().heal_cut(id);
        stage.pass(5, 10)?;
    }
    Ok(())
}

/// A store comes back from before counters were removed, while all others have collected what the removals left: the
/// snapshot that it needs must not bring their sums back.
pub(super) fn forgotten_removals(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(5, 10)?;
    door_requests(stage)?;
    stage.pass(2, 4)?;
    let node = stage.random.index(3);
    let backup = stage.world().back_up(node);
    door_requests(stage)?;
    stage.pass(10, 20)?;
    stage.world().stop_machine(node);
    stage.world().put_back(node, backup);
    stage.pass(1, 3)?;
    stage.world().start_machine(node);
    stage.pass(20, 40)
}

fn door_requests(stage: &mut Stage) -> Result<(), Violation> {
    for _ in 0..40 {
        (0..3).for_each(|node| stage.world().door_request(node));
        let until_us = stage.run.world.now_us() + stage.random.range(50_000, 200_000);
        stage.run.until(until_us)?;
    }
    Ok(())
}
