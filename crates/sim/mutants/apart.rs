//! A world in which one member learns by a snapshot alone what a second one removed, and a third, which has not heard
//! of it, counts on.
//!
//! Among the usual worlds one in hundreds holds this: in one map a removal becomes stable before the snapshot's is.

use sim::checkers::Violation;
use sim::network::PartitionShape;
use sim::random::Random;
use sim::run::{Outcome, Run};
use sim::swarm::{SECOND_US, Swarm};

/// Counts on while nobody hears it.
const COUNTS: usize = 0;
/// Learns the removals by the snapshot, and collects what they leave.
const LEARNS: usize = 1;
/// Removes while nobody hears it, until its log is cut.
const REMOVES: usize = 2;
const NODES: usize = 3;
/// Longer than the run: the usual clients do not come.
const AWAY_US: u64 = 3_600 * SECOND_US;
/// A few dozen requests at the door.
const LOG_BYTES_MAX: usize = 6_000;

pub(crate) fn run(seed: u64) -> Outcome {
    let mut random = Random::new(seed ^ 0x6170_6172);
    let mut swarm = Swarm::draw(NODES, &mut random);
    swarm.disturbances.clear();
    swarm.without_database = None;
    swarm.link.late = 0;
    swarm.link.loss = swarm.link.loss.min(50);
    swarm.limits.log_bytes_max = LOG_BYTES_MAX;
    swarm.limits.gc_slice_keys = 1_000;
    swarm.intervals.gc_ms = random.range(1_000, 4_000);
    swarm.pause_us = AWAY_US;
    let mut moments = random.fork(9);
    let mut run = Run::with(seed, swarm, random, false);
    run.world.begin();
    let result = count_apart(&mut run, &mut moments).and_then(|()| run.come_to_rest());
    run.finish(result)
}

fn count_apart(run: &mut Run, random: &mut Random) -> Result<(), Violation> {
    pass(run, 5)?;
    ask_doors(run, random, &[COUNTS, LEARNS, REMOVES], 250)?;
    pass(run, 20)?;
    let removing = run.world.cut(PartitionShape::Symmetric { side: 1 << REMOVES });
    ask_doors(run, random, &[LEARNS, REMOVES], 200)?;
    // The removals of the one that learns are heard here; the other's log is cut meanwhile.
    pass(run, 15)?;
    let counting = run.world.cut(PartitionShape::Symmetric { side: 1 << COUNTS });
    run.world.heal_cut(removing);
    ask_doors(run, random, &[COUNTS], 150)?;
    // The snapshot, and the collection of what is stable with it.
    pass(run, 60)?;
    let removing = run.world.cut(PartitionShape::Symmetric { side: 1 << REMOVES });
    run.world.heal_cut(counting);
    pass(run, 20)?;
    run.world.heal_cut(removing);
    pass(run, 20)
}

/// So many rounds of requests at these nodes' doors.
fn ask_doors(run: &mut Run, random: &mut Random, nodes: &[usize], rounds: usize) -> Result<(), Violation> {
    for _ in 0..rounds {
        nodes.iter().for_each(|node| run.world.door_request(*node));
        let until_us = run.world.now_us() + random.range(50_000, 150_000);
        run.until(until_us)?;
    }
    Ok(())
}

fn pass(run: &mut Run, seconds: u64) -> Result<(), Violation> {
    let until_us = run.world.now_us() + seconds * SECOND_US;
    run.until(until_us)
}
