//! One small cluster, told so that a person can follow it.

use crate::random::Random;
use crate::run::Run;
use crate::swarm::{Disturbance, SECOND_US, Swarm};
use crate::trace::Line;

/// Members of the demonstration.
const NODES: usize = 3;
/// Most lines of the story.
const LINES_MAX: usize = 120;

/// Runs a seed with few clients and a few faults, and tells what happened.
pub fn tell(seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut swarm = Swarm::draw(NODES, &mut random);
    swarm.safety_us = 60 * SECOND_US;
    swarm.operations_min = 0;
    swarm.clients = 1;
    swarm.without_database = None;
    swarm.pause_us = 6 * SECOND_US;
    swarm.disturbances = vec![(Disturbance::Partition, 25 * SECOND_US), (Disturbance::Crash, 30 * SECOND_US)];
    let mut run = Run::with(seed, swarm, random, true);
    run.world.begin();
    let until_us = run.world.swarm.safety_us;
    let result = run.until(until_us).and_then(|()| run.come_to_rest());
    let outcome = run.finish(result);
    let mut told: Vec<String> = vec![
        format!(
            "Seed {seed}: {NODES} regions, each with its own WordPress database; one minute of clients and faults,"
        ),
        "then the faults end, and all regions must become identical. Seconds of virtual time stand in front.".into(),
        String::new(),
    ];
    let lines: Vec<&Line> = outcome.lines.iter().filter(|line| is_told(line)).collect();
    let left_out = lines.len().saturating_sub(LINES_MAX);
    told.extend(lines.iter().take(LINES_MAX).map(|line| shorten(line)));
    if left_out > 0 {
        told.push(format!("... and {left_out} lines more"));
    }
    told.push(String::new());
    told.push(match &outcome.violation {
        None => format!("All regions are identical, and no write is lost unlisted. {outcome}"),
        Some(violation) => format!("VIOLATION of {violation}. {outcome}"),
    });
    told.join("\n")
}

fn is_told(line: &Line) -> bool {
    let dull = ["hears ", "asks ", "writes batch", "acknowledges", "link to", "reports Collected"];
    !dull.iter().any(|dull| line.text.starts_with(dull))
}

fn shorten(line: &Line) -> String {
    let text: String = line.to_string().chars().take(180).collect();
    text
}
