//! `node.store.redis`: the same load on a node whose store is a Redis, and on one with the embedded store.

use std::time::Duration;

use bench_results::{Better, Claim};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::load::{CLIENTS, KEYS, Load, VALUE_BYTES};
use crate::node::told_seconds;
use crate::place::Folder;
use crate::rival::{Redis, SETTINGS};
use crate::run::{Figure, Run};
use crate::sample::{median_pair, told_ratios};

const ID: &str = "node.store.redis";
const PIPELINE: u32 = 16;

pub(super) fn ids() -> Vec<String> {
    vec![ID.to_owned()]
}

pub(super) fn measure(run: &Run) -> Result<Vec<Claim>, Failure> {
    let folder = run.folder.within("redis_store")?;
    let beside = run.folder.within("embedded_store")?;
    let server = Redis::start(folder.path(), "store", None)?;
    let mut with_redis = run.plan(&folder, 3)?;
    with_redis.nodes[0].set("redis.url", format!("\"unix://{}\"", server.socket().display()));
    with_redis.found()?;
    let mut embedded = run.plan(&beside, 3)?;
    embedded.found()?;
    let load = Load { test: "set", pipeline: PIPELINE, requests: run.effort.pipelined_requests };
    let (mut pairs, mut behind) = (Vec::new(), [Duration::ZERO; 2]);
    for pair in 1..=run.effort.pairs {
        let (ours, our_lag) = loaded(&mut with_redis, load, &folder)?;
        let (theirs, their_lag) = loaded(&mut embedded, load, &folder)?;
        run.say(&format!("{ID}, pair {pair} of {}: {ours:.0}/s, embedded {theirs:.0}/s", run.effort.pairs));
        behind = [our_lag.max(behind[0]), their_lag.max(behind[1])];
        pairs.push((ours, theirs));
    }
    with_redis.verified()?;
    embedded.verified()?;
    let (ours, peer) = median_pair(&pairs);
    Ok(vec![run.claim(Figure {
        id: ID.to_owned(),
        what: format!("SET through the door of a node whose store is {}, {CLIENTS} clients, P={PIPELINE}", run.redis()),
        ours,
        peer,
        peer_name: "embedded store".to_owned(),
        unit: "ops/s",
        better: Better::Higher,
        conditions: format!(
            "no goal is stated; redis-benchmark (one thread), {} requests, {KEYS} random keys, values of \
             {VALUE_BYTES} B; two peers with embedded stores replicate on both sides, durability everysec, digests \
             equal after each load; store over a Unix socket, {SETTINGS}; {} pairs in turn with ratios {}, the median \
             pair is claimed; everything applied by all {} after the end at the latest, beside the embedded store {}",
            load.requests,
            pairs.len(),
            told_ratios(&pairs),
            told_seconds(behind[0]),
            told_seconds(behind[1]),
        ),
    })])
}

fn loaded(cluster: &mut Cluster, load: Load, folder: &Folder) -> Result<(f64, Duration), Failure> {
    let node = &cluster.nodes[0];
    let rate = load.run(&node.name, &node.socket(), &folder.path().join("load"))?;
    let (_, behind) = cluster.converged()?;
    Ok((rate.requests_per_second, behind))
}
