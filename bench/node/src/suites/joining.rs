//! `node.join.1m`: a node joins a cluster that holds a million keys, beside a fresh replica of a Redis that holds the
//! same.

use std::path::Path;
use std::time::{Duration, Instant};

use bench_results::{Better, Claim};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::node::told_seconds;
use crate::patience::{APPLIED, wait_for};
use crate::rival::{Redis, SETTINGS};
use crate::run::{Figure, Run};
use crate::sample::{median_pair, told_ratios};
use crate::wire::{Wire, command};

const TIME: &str = "node.join.1m";
const SENDER: &str = "node.join.1m.memory.sender";
const RECEIVER: &str = "node.join.1m.memory.receiver";
/// Growth of the peak.
const GOAL_MIB: f64 = 64.0;
const VALUE: [u8; 32] = [b'x'; 32];
/// How long a node rests before its resident memory counts as what it needs.
const REST: Duration = Duration::from_secs(5);

pub(super) fn ids() -> Vec<String> {
    [TIME, SENDER, RECEIVER].map(str::to_owned).to_vec()
}

/// One newcomer.
struct Joined {
    took: Duration,
    /// Growth of the peak of whoever sent, and of the newcomer over what it holds in the end.
    sender_mib: f64,
    receiver_mib: f64,
}

pub(super) fn measure(run: &Run) -> Result<Vec<Claim>, Failure> {
    let folder = run.folder.within("join")?;
    let count = run.effort.join_keys;
    let mut cluster = run.plan(&folder, 2)?;
    cluster.found()?;
    let mut primary = Redis::start(folder.path(), "redis_01", None)?;
    run.say(&format!("join: loading {count} keys into two nodes and a Redis"));
    // Scattered, as keys are; each of 10 B and once.
    let sets = || {
        let key = move |number: usize| format!("k{:09}", number * 61_803 % count);
        (0..count).map(move |number| command(&[b"SET", key(number).as_bytes(), &VALUE]))
    };
    cluster.nodes[0].wire()?.load(sets())?;
    Wire::open("redis", &primary.socket())?.load(sets())?;
    let (_, behind) = cluster.converged()?;
    run.say(&format!("join: loaded; the second node had all {} later", told_seconds(behind)));

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for join in 1..=run.effort.joins {
        std::thread::sleep(REST);
        theirs.push(resync(&mut primary, folder.path(), join)?);
        ours.push(joined(&mut cluster)?);
        let (ours, theirs) = (&ours[join - 1], &theirs[join - 1]);
        run.say(&format!("join {join} of {}: {}, Redis {}", run.effort.joins, told(ours), told(theirs)));
    }
    let snapshots = snapshots(&mut cluster)?;
    cluster.verified()?;
    Ok(claims(run, &ours, &theirs, &snapshots))
}

/// Lets a fresh node join, looks at all peaks, and stops it again.
fn joined(cluster: &mut Cluster) -> Result<Joined, Failure> {
    // Whoever joined before has had its turn.
    let newcomer = cluster.plan_node()?;
    if newcomer > 2 {
        cluster.nodes[newcomer - 1].stop()?;
    }
    let senders = [0, 1];
    let mut before = Vec::new();
    for sender in senders {
        let process = cluster.nodes[sender].process()?;
        process.forget_peak()?;
        before.push(process.memory()?.resident);
    }
    let wanted = cluster.nodes[0].door()?.clock()?;
    let (members, new) = cluster.nodes.split_at_mut(newcomer);
    new[0].join(&members[0])?;
    let begun = Instant::now();
    new[0].start()?;
    new[0].answering()?;
    wait_for("joined", APPLIED, || {
        new[0].check()?;
        let clock = new[0].door()?.clock()?;
        let there = || format!("{} operations of {}", clock.operations(), wanted.operations());
        Ok(if clock == wanted { Ok(()) } else { Err(there()) })
    })?;
    let took = begun.elapsed();
    std::thread::sleep(REST);
    let mut sender_mib = 0.0_f64;
    for (sender, before) in senders.into_iter().zip(before) {
        let peak = cluster.nodes[sender].process()?.memory()?.peak;
        sender_mib = sender_mib.max(mib(peak.saturating_sub(before)));
    }
    let memory = cluster.nodes[newcomer].process()?.memory()?;
    Ok(Joined { took, sender_mib, receiver_mib: mib(memory.peak - memory.resident.min(memory.peak)) })
}

/// The same for Redis: a fresh replica, until it has everything.
fn resync(primary: &mut Redis, root: &Path, number: usize) -> Result<Joined, Failure> {
    primary.process.forget_peak()?;
    let before = primary.process.memory()?.resident;
    let keys: u64 = primary.door().ask(&["DBSIZE"])?;
    let begun = Instant::now();
    let mut replica = Redis::start(root, &format!("replica_{number}"), Some(&*primary))?;
    replica.synced(keys)?;
    let took = begun.elapsed();
    std::thread::sleep(REST);
    let (sender, receiver) = (primary.process.memory()?, replica.process.memory()?);
    Ok(Joined {
        took,
        sender_mib: mib(sender.peak.saturating_sub(before)),
        receiver_mib: mib(receiver.peak - receiver.resident.min(receiver.peak)),
    })
}

fn snapshots(cluster: &mut Cluster) -> Result<String, Failure> {
    let newest = cluster.nodes.last_mut().expect("a node has joined");
    let installed = newest.door()?.metric("crdt_snapshots_installed_total*")?;
    let bytes = newest.door()?.metric("crdt_snapshot_bytes_total*received*")?;
    let log = newest.door()?.metric("crdt_log_bytes")?;
    Ok(format!("the last newcomer took {installed:.0} snapshots with {bytes:.0} B and holds {log:.0} B of log"))
}

fn claims(run: &Run, ours: &[Joined], theirs: &[Joined], snapshots: &str) -> Vec<Claim> {
    let seconds: Vec<(f64, f64)> =
        ours.iter().zip(theirs).map(|(ours, theirs)| (ours.took.as_secs_f64(), theirs.took.as_secs_f64())).collect();
    let (our_time, their_time) = median_pair(&seconds);
    let conditions = format!(
        "{} keys of 10 B, values of 32 B, loaded through the door; two nodes with the embedded store, a third one \
         joins; from the start of its process until its vector and digest are theirs; {snapshots}; redis: a fresh \
         replica, from the start of its process until it has every key, {SETTINGS}; {} pairs in turn with ratios {}",
        run.effort.join_keys,
        seconds.len(),
        told_ratios(&seconds),
    );
    type Growth = fn(&Joined) -> f64;
    let most = |joined: &[Joined], growth: Growth| joined.iter().map(growth).fold(0.0, f64::max);
    let mut claims = Vec::new();
    if run.wants(TIME) {
        claims.push(run.claim(Figure {
            id: TIME.to_owned(),
            what: "a node joins and has applied all keys, from its start".to_owned(),
            ours: our_time,
            peer: their_time,
            peer_name: format!("{}, full resync", run.redis()),
            unit: "s",
            better: Better::Lower,
            conditions: format!("goal: faster; the median pair is claimed; {conditions}"),
        }));
    }
    let sides: [(&str, &str, Growth); 2] = [
        (SENDER, "growth of the sender's peak memory (VmHWM) while a node joins", |joined| joined.sender_mib),
        (RECEIVER, "the newcomer's peak memory (VmHWM) above what it holds 5 s later", |joined| joined.receiver_mib),
    ];
    for (id, what, growth) in sides.into_iter().filter(|(id, _, _)| run.wants(id)) {
        claims.push(run.claim(Figure {
            id: id.to_owned(),
            what: what.to_owned(),
            ours: most(ours, growth),
            peer: GOAL_MIB,
            peer_name: "goal".to_owned(),
            unit: "MiB",
            better: Better::Lower,
            conditions: format!(
                "the greatest of all joins; redis by the same measure, without the process that it forks: {:.1} MiB; \
                 {conditions}",
                most(theirs, growth)
            ),
        }));
    }
    claims
}

fn told(joined: &Joined) -> String {
    let Joined { took, sender_mib, receiver_mib } = joined;
    format!("{} (+{sender_mib:.1} MiB sender, +{receiver_mib:.1} MiB receiver)", told_seconds(*took))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
