//! `node.door.*`: `redis-benchmark` against our door and against Redis, each with two peers that replicate, in turn.

use std::time::Duration;

use bench_results::{Better, Claim};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::load::{CLIENTS, KEYS, Load, Rate, VALUE_BYTES};
use crate::node::told_seconds;
use crate::place::Folder;
use crate::rival::{SETTINGS, Trio};
use crate::run::{Figure, Run};
use crate::sample::{median_pair, told_ratios};
use crate::wire::{Wire, command};

const TESTS: [&str; 5] = ["set", "get", "incr", "sadd", "hset"];
const PIPELINES: [u32; 2] = [1, 16];
/// How long one of our loads may take.
const LOAD_SECONDS_MAX: f64 = 10.0;
/// Fewer requests than these say nothing.
const PROBE_REQUESTS_MIN: u64 = 500;
/// Seconds in which the hot thread was at work.
const HOT_SECONDS: &str = "crdt_hot_thread_seconds_total";
/// Writes that the door refused.
const REFUSED: &str = "crdt_door_commits_total*refused*";

pub(super) fn ids() -> Vec<String> {
    loads().map(|(test, pipeline)| id(test, pipeline)).collect()
}

fn loads() -> impl Iterator<Item = (&'static str, u32)> {
    TESTS.into_iter().flat_map(|test| PIPELINES.map(|pipeline| (test, pipeline)))
}

fn id(test: &str, pipeline: u32) -> String {
    format!("node.door.{test}.p{pipeline}")
}

/// One side of a pair.
struct Side {
    rate: Rate,
    /// From the end of the load until everybody had applied it.
    until_applied: Duration,
    /// Share of the load's time in which the hot thread was at work; not known of Redis.
    hot_share: f64,
}

pub(super) fn measure(run: &Run) -> Result<Vec<Claim>, Failure> {
    let folder = run.folder.within("door")?;
    run.say("door: starting three nodes and three redis-server");
    let mut cluster = run.plan(&folder, 3)?;
    cluster.found()?;
    let mut trio = Trio::start(folder.path())?;
    cluster.nodes[0].wire()?.load(prefill())?;
    Wire::open("redis", &trio.primary.socket())?.load(prefill())?;
    cluster.converged()?;
    trio.replicated()?;

    let mut claims = Vec::new();
    for (test, pipeline) in loads().filter(|(test, pipeline)| run.wants(&id(test, *pipeline))) {
        let effort = run.effort;
        let requests = if pipeline == 1 { effort.single_requests } else { effort.pipelined_requests };
        let load = Load { test, pipeline, requests };
        let our_load = Load { requests: affordable(run, &mut cluster, load, &folder)?, ..load };
        let mut pairs = Vec::new();
        for pair in 1..=effort.pairs {
            let ours = ours(&mut cluster, our_load, &folder)?;
            let theirs = theirs(&mut trio, load, &folder)?;
            let [our_rate, their_rate] = [&ours, &theirs].map(|side| side.rate.requests_per_second);
            let name = id(test, pipeline);
            run.say(&format!("{name}, pair {pair} of {}: {our_rate:.0}/s, Redis {their_rate:.0}/s", effort.pairs));
            pairs.push((ours, theirs));
        }
        claims.push(claim(run, our_load, load, &pairs));
    }
    cluster.verified()?;
    Ok(claims)
}

/// Every key of SET and GET and every counter of INCR, so that each load finds the same. Set and map begin empty, as
/// everybody's `redis-benchmark` finds them.
fn prefill() -> impl Iterator<Item = Vec<u8>> {
    let value = vec![b'x'; VALUE_BYTES as usize];
    let registers = (0..KEYS).map(move |key| command(&[b"SET", format!("key:{key:012}").as_bytes(), &value]));
    let counters = (0..KEYS).map(|key| command(&[b"INCR", format!("counter:{key:012}").as_bytes()]));
    registers.chain(counters)
}

/// How many requests of a load our door answers in a reasonable time, found by a hundredth of them: a door that is far
/// slower than its rival shall show that within seconds, and not stop the run.
fn affordable(run: &Run, cluster: &mut Cluster, load: Load, folder: &Folder) -> Result<u64, Failure> {
    let probe = Load { requests: (load.requests / 100).max(PROBE_REQUESTS_MIN), ..load };
    let rate = ours(cluster, probe, folder)?.rate.requests_per_second;
    let requests = load.requests.min(((rate * LOAD_SECONDS_MAX) as u64).max(PROBE_REQUESTS_MIN));
    if requests < load.requests {
        run.say(&format!("{}: {rate:.0}/s, so that ours is given {requests} requests", id(load.test, load.pipeline)));
    }
    Ok(requests)
}

fn ours(cluster: &mut Cluster, load: Load, folder: &Folder) -> Result<Side, Failure> {
    let node = &mut cluster.nodes[0];
    let before = [node.door()?.metric(HOT_SECONDS)?, node.door()?.metric(REFUSED)?];
    let rate = load.run(&node.name, &node.socket(), &folder.path().join("load"))?;
    let after = [node.door()?.metric(HOT_SECONDS)?, node.door()?.metric(REFUSED)?];
    if after[1] > before[1] {
        let answered = format!("{} refusals", after[1] - before[1]);
        return Err(Failure::Answer { who: node.name.clone(), asked: load.test.to_owned(), answered });
    }
    let (_, until_applied) = cluster.converged()?;
    let hot_share = (after[0] - before[0]) * rate.requests_per_second / load.requests as f64;
    Ok(Side { rate, until_applied, hot_share })
}

fn theirs(trio: &mut Trio, load: Load, folder: &Folder) -> Result<Side, Failure> {
    let rate = load.run("redis", &trio.primary.socket(), &folder.path().join("load"))?;
    Ok(Side { rate, until_applied: trio.replicated()?, hot_share: 0.0 })
}

fn claim(run: &Run, our_load: Load, load: Load, pairs: &[(Side, Side)]) -> Claim {
    let rates: Vec<(f64, f64)> =
        pairs.iter().map(|(ours, theirs)| (ours.rate.requests_per_second, theirs.rate.requests_per_second)).collect();
    let (ours, peer) = median_pair(&rates);
    let slowest = |side: fn(&(Side, Side)) -> &Side| {
        let longest = pairs.iter().map(|pair| side(pair).until_applied).max().unwrap_or_default();
        let p99 = pairs.iter().map(|pair| side(pair).rate.p99_ms).fold(0.0, f64::max);
        let p50 = pairs.iter().map(|pair| side(pair).rate.p50_ms).fold(0.0, f64::max);
        format!("p50 {p50:.3} ms, p99 {p99:.3} ms, everything applied by all {} after the end", told_seconds(longest))
    };
    let hot = pairs.iter().map(|(ours, _)| ours.hot_share).sum::<f64>() / pairs.len().max(1) as f64;
    let Load { test, pipeline, requests } = load;
    run.claim(Figure {
        id: id(test, pipeline),
        what: format!(
            "{} through the door, {CLIENTS} clients, P={pipeline}, two peers replicating",
            test.to_uppercase()
        ),
        ours,
        peer,
        peer_name: run.redis(),
        unit: "ops/s",
        better: Better::Higher,
        conditions: format!(
            "goal: 1.0 or better; redis-benchmark (one thread) over the Unix socket, {requests} requests ({} at our \
             door), {KEYS} random keys and counters that are all there, or fields of one map that begin empty, or members of one set \
             that are nearly all new, \
             values of {VALUE_BYTES} B; both sides on this machine, in turn, {} pairs with ratios {}, the median pair \
             is claimed; ours: durability everysec, two nodes connected over QUIC, digests equal after each load; \
             slowest of the loads: {}; hot thread at work {:.0} % of the time; redis: {SETTINGS}, two replicas over \
             TCP; slowest of the loads: {}",
            our_load.requests,
            pairs.len(),
            told_ratios(&rates),
            slowest(|pair| &pair.0),
            100.0 * hot,
            slowest(|pair| &pair.1),
        ),
    })
}
