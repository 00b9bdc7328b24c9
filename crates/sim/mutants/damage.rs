//! A world in which one node silently loses rows.
//!
//! No usual run may hold this: records vanish with their checksums, which no disk of the simulator does, and the node
//! rightly reports that it has diverged. What must not happen is that the damage spreads to nodes that have the rows.

use crdt::{Key, Kind};
use replica::RecordKey;
use sim::checkers::Violation;
use sim::random::Random;
use sim::run::{Outcome, Run};
use sim::swarm::{SECOND_US, Swarm};

/// The last one, because checkers look at nodes in their order and report what they find first.
const DAMAGED: usize = 2;
const NODES: usize = 3;
/// How long clients write.
const WRITES_US: u64 = 40 * SECOND_US;
/// Longer than the run: clients come no more.
const AWAY_US: u64 = 3_600 * SECOND_US;
/// Until all nodes have everything; later, until they have audited each other.
const SETTLES_US: u64 = 60 * SECOND_US;
const ROWS_LOST: usize = 3;
/// That the damaged node differs from the others is no finding.
const EXPECTED: &[u8] = &[1, 10];

pub(crate) fn run(seed: u64) -> Outcome {
    let mut random = Random::new(seed ^ 0x6461_6d61);
    let mut swarm = Swarm::draw(NODES, &mut random);
    swarm.disturbances.clear();
    swarm.without_database = None;
    swarm.link.late = 0;
    swarm.link.loss = swarm.link.loss.min(50);
    swarm.pause_us = random.range(200, 1_000) * 1_000;
    let mut lost = random.fork(9);
    let mut run = Run::with(seed, swarm, random, false);
    run.ignore(EXPECTED);
    run.world.begin();
    let result = lose_rows(&mut run, &mut lost).and_then(|()| run.come_to_rest());
    let mut outcome = run.finish(result);
    if outcome.violation.as_ref().is_some_and(|violation| violation.node == Some(DAMAGED)) {
        outcome.violation = None;
    }
    outcome
}

fn lose_rows(run: &mut Run, random: &mut Random) -> Result<(), Violation> {
    run.until(WRITES_US)?;
    run.world.swarm.pause_us = AWAY_US;
    run.until(WRITES_US + SETTLES_US)?;
    run.world.stop_machine(DAMAGED);
    let mut picture = run.world.take_picture(DAMAGED);
    let is_row = |key: &&RecordKey| match key {
        RecordKey::Object(bytes) => Key::from_bytes(bytes).is_ok_and(|key| key.kind == Kind::Row),
        _ => false,
    };
    let rows: Vec<RecordKey> = picture.records.keys().filter(is_row).cloned().collect();
    for _ in 0..ROWS_LOST {
        if let Some(row) = random.pick(&rows) {
            picture.records.remove(row);
        }
    }
    run.world.put_back_unnoticed(DAMAGED, picture, false);
    run.world.start_machine(DAMAGED);
    run.until(WRITES_US + 2 * SETTLES_US)
}
