//! Counters that are reset or removed around a crash or a restore.

use super::Stage;
use crate::checkers::Violation;
use crate::network::PartitionShape;
use crate::swarm::SECOND_US;
use crate::workload::Request;
use crate::world::World;

/// Longer than any scenario: the usual clients come once and stay away.
const AWAY_US: u64 = 3_600 * SECOND_US;
/// Mean time of a statement that leaves a drained entry in its outbox until its batch is everywhere.
const SLOW_US: u64 = 400_000;

/// A node dies between the commit of a drain and the removal of its outbox entries. What it drained was a REPLACE of a
/// counter, which another member has seen and replaces in turn before they meet again: the entry must not count twice.
pub(super) fn drained_twice(stage: &mut Stage) -> Result<(), Violation> {
    stage.world().swarm.pause_us = AWAY_US;
    stage.pass(8, 15)?;
    let usual_us = stage.world().swarm.statement_us;
    for _ in 0..4 {
        let node = stage.random.index(3);
        let peer = (node + 1) % 3;
        (0..8).for_each(|_| stage.world().write(peer, Request::Hit));
        stage.pass(3, 6)?;
        let before = head(&stage.run.world, node);
        stage.world().swarm.statement_us = SLOW_US;
        (0..4).for_each(|_| stage.world().write(node, Request::ReplaceHits));
        let is_told = stage.pass_until(60, |world| head(world, node) > before && is_told(world, node, peer))?;
        stage.world().swarm.statement_us = usual_us;
        let id = stage.world().cut(PartitionShape::Symmetric { side: 1 << node });
        if is_told {
            stage.world().stop_machine(node);
            stage.world().start_machine(node);
        }
        stage.pass(3, 6)?;
        (0..30).for_each(|_| stage.world().write(peer, Request::ReplaceHits));
        stage.pass(3, 6)?;
        stage.world().heal_cut(id);
        stage.pass(5, 10)?;
    }
    Ok(())
}

/// Number of a node's last durable batch.
fn head(world: &World, node: usize) -> u64 {
    let process = world.machines[node].process.as_ref();
    process.map_or(0, |process| process.received().seq(process.node.replica()))
}

/// True when a peer has applied everything that a node has written, and entries still wait in the node's outbox.
fn is_told(world: &World, node: usize, peer: usize) -> bool {
    let (here, there) = (&world.machines[node], &world.machines[peer]);
    let (Some(process), Some(other)) = (&here.process, &there.process) else { return false };
    let waits = here.database.as_ref().is_some_and(|database| !database.store().outbox().is_empty());
    waits && other.node.applied().seq(process.node.replica()) >= head(world, node)
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
