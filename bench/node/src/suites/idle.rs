//! `node.idle.*`: what three nodes without a client cost.

use std::thread;
use std::time::{Duration, Instant};

use bench_results::{Better, Claim};

use crate::failure::Failure;
use crate::run::{Figure, Run};

const BYTES: &str = "node.idle.bytes";
const MEMORY: &str = "node.idle.rss";
const GOAL_BYTES_PER_SECOND: f64 = 400.0;
const GOAL_MIB: f64 = 32.0;
const LINKS: [(usize, usize); 3] = [(0, 1), (0, 2), (1, 2)];

pub(super) fn ids() -> Vec<String> {
    [BYTES, MEMORY].map(str::to_owned).to_vec()
}

pub(super) fn measure(run: &Run) -> Result<Vec<Claim>, Failure> {
    let folder = run.folder.within("idle")?;
    let mut cluster = run.plan(&folder, 3)?;
    cluster.relay(Duration::ZERO)?;
    cluster.found()?;
    cluster.converged()?;
    let (settling, idle) = (run.effort.settling, run.effort.idle);
    run.say(&format!("idle: {} s of settling, {} s of watching", settling.as_secs(), idle.as_secs()));
    thread::sleep(settling);
    let count = || LINKS.map(|(a, b)| cluster.through().between(a, b));
    let (begun, before) = (Instant::now(), count());
    thread::sleep(idle);
    let (seconds, after) = (begun.elapsed().as_secs_f64(), count());
    let mut resident = Vec::new();
    for node in &mut cluster.nodes {
        node.check()?;
        resident.push(node.process()?.memory()?.resident as f64 / 1024.0);
    }
    let passed: Vec<_> = after.iter().zip(before).map(|(after, before)| after.since(before)).collect();
    let rates: Vec<f64> = passed.iter().map(|passed| passed.on_wire() as f64 / seconds).collect();
    let payload: u64 = passed.iter().map(|passed| passed.bytes).sum();
    let packets: u64 = passed.iter().map(|passed| passed.packets).sum();
    let greatest = rates.iter().copied().fold(0.0, f64::max);
    cluster.verified()?;

    let mut claims = Vec::new();
    if run.wants(BYTES) {
        claims.push(run.claim(Figure {
            id: BYTES.to_owned(),
            what: "bytes a second between two idle nodes of three, both ways, headers included".to_owned(),
            ours: rates.iter().sum::<f64>() / rates.len() as f64,
            peer: GOAL_BYTES_PER_SECOND,
            peer_name: "goal".to_owned(),
            unit: "B/s",
            better: Better::Lower,
            conditions: format!(
                "counted by a relay without delay for {seconds:.0} s after {} s of rest, default settings, no client; \
                 mean of the three links, the busiest {greatest:.0} B/s; with headers of IPv4 and UDP, and QUIC \
                 payload alone {:.0} B/s a link in {:.2} packets/s",
                settling.as_secs(),
                payload as f64 / seconds / 3.0,
                packets as f64 / seconds / 3.0,
            ),
        }));
    }
    if run.wants(MEMORY) {
        let told: Vec<String> = resident.iter().map(|mib| format!("{mib:.1}")).collect();
        claims.push(run.claim(Figure {
            id: MEMORY.to_owned(),
            what: "resident memory of an idle node of three (VmRSS), the largest".to_owned(),
            ours: resident.iter().copied().fold(0.0, f64::max),
            peer: GOAL_MIB,
            peer_name: "goal".to_owned(),
            unit: "MiB",
            better: Better::Lower,
            conditions: format!(
                "embedded store, three keys, default settings, {} s after the start; the three nodes: {} MiB",
                (settling + idle).as_secs(),
                told.join(", ")
            ),
        }));
    }
    Ok(claims)
}
