//! A site changes much of a table at once.

use replica::HeldReason;

use super::Stage;
use crate::checkers::Violation;
use crate::swarm::SECOND_US;
use crate::workload::Request;
use crate::world::World;

/// Longer than any scenario: the usual clients come once and stay away.
const AWAY_US: u64 = 3_600 * SECOND_US;
/// Requests for options at once: nearly every option gets one.
const REQUESTS: usize = 30;

fn request(stage: &mut Stage, node: usize, request: Request) {
    (0..REQUESTS).for_each(|_| stage.world().write(node, request));
}

fn is_braked(world: &World, node: usize) -> bool {
    let process = world.machines[node].process.as_ref();
    process.is_some_and(|process| process.node.held().iter().any(|held| held.reason == HeldReason::Blast))
}

/// A mass update is braked. Its node crashes, while all others go on; then an operator releases what is held, or nobody
/// does anything. Whatever became of it, all of it arrives in the end, and nothing of it before.
pub(super) fn braked(stage: &mut Stage) -> Result<(), Violation> {
    let hold_s = stage.random.range(15, 40);
    let swarm = &mut stage.world().swarm;
    swarm.pause_us = AWAY_US;
    swarm.limits.blast_objects_min = 3;
    swarm.intervals.blast_hold_ms = hold_s * 1_000;
    // A full log would end the hold.
    swarm.limits.log_bytes_max = replica::Limits::default().log_bytes_max;
    stage.pass(8, 15)?;
    let node = stage.random.index(3);
    request(stage, node, Request::Option);
    stage.pass(10, 20)?;
    for round in 0..4 {
        request(stage, node, Request::Option);
        if !stage.pass_until(20, |world| is_braked(world, node))? {
            continue;
        }
        (0..3).filter(|peer| *peer != node).for_each(|peer| request(stage, peer, Request::Option));
        stage.pass(1, 3)?;
        if stage.random.one_in(2) {
            stage.world().stop_machine(node);
        } else {
            stage.world().lose_power(node);
        }
        stage.pass(1, 4)?;
        stage.world().start_machine(node);
        stage.pass(2, 5)?;
        if round % 2 == 0 {
            stage.world().operate();
            stage.pass(5, 10)?;
        } else {
            stage.pass_until(2 * hold_s, |world| !is_braked(world, node))?;
        }
    }
    stage.pass(5, 10)
}
