//! `node.cluster.throughput`: all nodes written at once, until all have applied everything.

use std::time::Instant;

use bench_results::{Better, Claim};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::load::{CLIENTS, KEYS, Load, UnderWay, VALUE_BYTES};
use crate::place::Folder;
use crate::rival::{SETTINGS, Trio};
use crate::run::{Figure, Run};
use crate::sample::{median_pair, told_ratios};

const ID: &str = "node.cluster.throughput";
const PIPELINE: u32 = 16;
const NODES: usize = 3;

pub(super) fn ids() -> Vec<String> {
    vec![ID.to_owned()]
}

pub(super) fn measure(run: &Run) -> Result<Vec<Claim>, Failure> {
    let folder = run.folder.within("throughput")?;
    let mut cluster = run.plan(&folder, NODES)?;
    cluster.found()?;
    let mut trio = Trio::start(folder.path())?;
    let load = Load { test: "set", pipeline: PIPELINE, requests: run.effort.throughput_requests };
    let mut pairs = Vec::new();
    for pair in 1..=run.effort.pairs {
        let rates = (ours(&mut cluster, load, &folder)?, theirs(&mut trio, load, &folder)?);
        run.say(&format!("{ID}, pair {pair} of {}: {:.0}/s, Redis {:.0}/s", run.effort.pairs, rates.0, rates.1));
        pairs.push(rates);
    }
    let journal = cluster.nodes[0].door()?.metric("crdt_conflict_journal_entries")?;
    cluster.verified()?;
    let (ours, peer) = median_pair(&pairs);
    Ok(vec![run.claim(Figure {
        id: ID.to_owned(),
        what: format!("SET through {NODES} doors at once, from the first request until all nodes have applied all"),
        ours,
        peer,
        peer_name: format!("{}, one primary", run.redis()),
        unit: "ops/s",
        better: Better::Higher,
        conditions: format!(
            "no goal is stated; {NODES} redis-benchmark at once, each with one thread, {CLIENTS} clients, \
             P={PIPELINE}, {} requests, the same {KEYS} random keys for all, values of {VALUE_BYTES} B; ours: one \
             load at each node, durability everysec, {journal:.0} entries of the conflict journal at the end, digests \
             equal; redis, which takes writes on one node only: all loads at the primary, until both replicas have \
             everything, {SETTINGS}; {} pairs in turn with ratios {}, the median pair is claimed",
            load.requests,
            pairs.len(),
            told_ratios(&pairs),
        ),
    })])
}

/// Operations a second until all had applied all.
fn ours(cluster: &mut Cluster, load: Load, folder: &Folder) -> Result<f64, Failure> {
    let begun = Instant::now();
    let loads =
        cluster.nodes.iter().enumerate().map(|(number, node)| {
            load.start(&node.name, &node.socket(), &folder.path().join(format!("load_{number}")))
        });
    finish(loads.collect::<Result<_, _>>()?)?;
    cluster.converged()?;
    Ok((NODES as u64 * load.requests) as f64 / begun.elapsed().as_secs_f64())
}

fn theirs(trio: &mut Trio, load: Load, folder: &Folder) -> Result<f64, Failure> {
    let begun = Instant::now();
    let socket = trio.primary.socket();
    let loads = (0..NODES).map(|number| load.start("redis", &socket, &folder.path().join(format!("load_{number}"))));
    finish(loads.collect::<Result<_, _>>()?)?;
    trio.replicated()?;
    Ok((NODES as u64 * load.requests) as f64 / begun.elapsed().as_secs_f64())
}

fn finish(loads: Vec<UnderWay>) -> Result<(), Failure> {
    loads.into_iter().try_for_each(|load| load.rate().map(drop))
}
