//! `core.growth`: what one write costs a whole node, the larger its state and the longer its vector.
//!
//! Two nodes without a database, a writer and a reader, stand in one process and are driven by hand. In
//! the clock stands everything that a node does: deriving the change, header, MAC, chain hash, message,
//! journal, digest and the records for the disk, which are acknowledged at once and dropped. Outside of
//! it stand disk and network, which are not the core's, and timers, which do not run: no log is cut.

mod pair;

use std::env;
use std::hint::black_box;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::measure::Effort;
use crate::replica::Outcome;
use crate::workload::{Cell, Workload};
use pair::Pair;

/// The first argument of a process that measures one shape.
pub(crate) const COMMAND: &str = "grow";

/// The name of this part on the command line and in messages.
pub(crate) const NAME: &str = "growth";

/// Live keys: the thousandfold between the ends is what the goal is stated over.
const KEY_COUNTS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Replica ids in the vector while the keys grow: the least with which a context names another one.
const FEW_REPLICAS: usize = 2;

/// Replica ids in the vector of the other curve; the last is a full cluster, one id a member.
const MORE_REPLICAS: [usize; 2] = [8, 64];

/// Live keys of the curve over replica ids: few enough to stay in the processor's caches, where the
/// cost of a longer vector shows most.
const KEYS_OF_REPLICAS: usize = 10_000;

/// Clocked writes of one process.
const WRITE_COUNT: usize = 5_000;

/// Writes before the clocked ones: caches and branch predictors have met the path by then.
const WARM_UP_COUNT: usize = 500;

/// Cells in one batch of the load.
const LOAD_BATCH: usize = 1_000;

/// Reads of the digest under one look at the clock, which takes longer than one read. A digest that
/// was computed at its first read and kept would still show its cost.
const DIGEST_READS: u32 = 16;

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) key_count: usize,
    /// Replica ids in the applied vector, and members of the cluster.
    pub(crate) replica_count: usize,
}

/// Medians over the clocked writes, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Medians {
    /// From the intent to the acknowledgement and the message to the other node.
    pub(crate) commit_us: f64,
    /// From that message to the applied and durable batch.
    pub(crate) apply_us: f64,
    /// The digest of the whole state, read after that batch.
    pub(crate) digest_us: f64,
}

/// An operation whose growth is claimed.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) cost_us: fn(&Medians) -> f64,
}

/// The operations, in the order of [`Medians`].
pub(crate) const OPERATIONS: [Operation; 3] = [
    Operation {
        name: "commit",
        what: "cost of a one-cell commit through a whole node, most keys by fewest",
        cost_us: |medians| medians.commit_us,
    },
    Operation {
        name: "receive and apply",
        what: "cost of a received one-cell batch through a whole node, most keys by fewest",
        cost_us: |medians| medians.apply_us,
    },
    Operation {
        name: "digest",
        what: "cost of the digest after a received one-cell batch, most keys by fewest",
        cost_us: |medians| medians.digest_us,
    },
];

/// One point of the curves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) shape: Shape,
    pub(crate) medians: Medians,
}

/// The curves of a run.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    /// In ascending order of keys.
    pub(crate) by_keys: Vec<Point>,
    /// In ascending order of replica ids.
    pub(crate) by_replicas: Vec<Point>,
    pub(crate) write_count: usize,
    pub(crate) rounds: usize,
}

impl Growth {
    /// The ends of the curve over keys: fewest and most.
    pub(crate) fn ends(&self) -> Option<(&Point, &Point)> {
        self.by_keys.first().zip(self.by_keys.last())
    }
}

/// Measures all shapes, each in a process of its own, once a round.
pub(crate) fn measure(effort: Effort) -> Result<Growth, Failure> {
    let by_keys = KEY_COUNTS.map(|keys| Shape { key_count: keys / effort.divisor, replica_count: FEW_REPLICAS });
    let more =
        MORE_REPLICAS.map(|replicas| Shape { key_count: KEYS_OF_REPLICAS / effort.divisor, replica_count: replicas });
    let shapes: Vec<Shape> = by_keys.into_iter().chain(more).collect();
    let write_count = WRITE_COUNT / effort.divisor;
    let mut rounds: Vec<Vec<Medians>> = vec![Vec::new(); shapes.len()];
    for round in 1..=effort.rounds {
        for (shape, medians) in shapes.iter().zip(&mut rounds) {
            let Shape { key_count, replica_count } = shape;
            eprintln!("{NAME} round {round} of {}: {key_count} keys, {replica_count} replica ids", effort.rounds);
            medians.push(measure_apart(*shape, write_count)?);
        }
    }
    let points = shapes.iter().zip(&rounds).map(|(shape, rounds)| Point { shape: *shape, medians: middle(rounds) });
    let points: Vec<Point> = points.collect();
    let has_few = |point: &&Point| point.shape.replica_count == FEW_REPLICAS;
    let has_same_keys = |point: &&Point| point.shape.key_count == KEYS_OF_REPLICAS / effort.divisor;
    Ok(Growth {
        by_keys: points.iter().filter(has_few).copied().collect(),
        by_replicas: points.iter().filter(has_same_keys).copied().collect(),
        write_count,
        rounds: effort.rounds,
    })
}

/// Measures one shape in a process of its own: a heap without another shape's holes.
fn measure_apart(shape: Shape, write_count: usize) -> Result<Medians, Failure> {
    let program = env::current_exe().map_err(Failure::io("find the bench program"))?;
    let numbers = [shape.key_count, shape.replica_count, write_count].map(|number| number.to_string());
    let output = Command::new(program)
        .arg(COMMAND)
        .args(numbers)
        .stderr(Stdio::inherit())
        .output()
        .map_err(Failure::io("start a pair of nodes"))?;
    let without_figures = || Failure::Receiver { library: NAME, status: output.status.to_string() };
    if !output.status.success() {
        return Err(without_figures());
    }
    serde_json::from_slice(&output.stdout).map_err(|_| without_figures())
}

/// The body of such a process: measures, and prints the medians.
pub(crate) fn grow(shape: Shape, write_count: usize) -> Result<(), Failure> {
    let workload = Workload::with_keys(shape.key_count);
    let mut pair = filled(shape, &workload).map_err(Failure::library(NAME, "fill two nodes"))?;
    let mut updates = workload.updates();
    let warm_up = updates.by_ref().take(WARM_UP_COUNT).try_for_each(|cell| write(&mut pair, &cell).map(drop));
    warm_up.map_err(Failure::library(NAME, "warm up"))?;
    let medians = clocked(&mut pair, updates.take(write_count)).map_err(Failure::library(NAME, "write and apply"))?;
    pair.check(&workload.expected(WARM_UP_COUNT + write_count))?;
    serde_json::to_writer(io::stdout().lock(), &medians)
        .map_err(|cause| Failure::Io { step: "report the figures", cause: cause.into() })
}

/// A pair that holds every key, written by the writer, over one key of each other replica.
fn filled(shape: Shape, workload: &Workload) -> Outcome<Pair> {
    let load = workload.load();
    let mut pair = Pair::open(shape.replica_count)?;
    let others = 1..u8::try_from(shape.replica_count)?;
    for (other, cell) in others.zip(&load) {
        pair.introduce(other, cell)?;
    }
    for cells in load.chunks(LOAD_BATCH) {
        pair.tick();
        let message = pair.commit(&pair::intents(cells))?;
        pair.receive(&message)?;
    }
    Ok(pair)
}

fn clocked(pair: &mut Pair, updates: impl Iterator<Item = Cell>) -> Outcome<Medians> {
    let (mut commits, mut applies, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    for cell in updates {
        let Times { commit, apply, digest } = write(pair, &cell)?;
        commits.push(commit.as_secs_f64() * 1e6);
        applies.push(apply.as_secs_f64() * 1e6);
        digests.push(digest.as_secs_f64() * 1e6);
    }
    Ok(Medians { commit_us: median(commits), apply_us: median(applies), digest_us: median(digests) })
}

/// What one write took.
struct Times {
    commit: Duration,
    apply: Duration,
    digest: Duration,
}

/// One write through both nodes.
fn write(pair: &mut Pair, cell: &Cell) -> Outcome<Times> {
    pair.tick();
    let intents = pair::intents(std::slice::from_ref(cell));
    let start = Instant::now();
    let message = pair.commit(&intents)?;
    let commit = start.elapsed();
    let start = Instant::now();
    pair.receive(black_box(&message))?;
    let apply = start.elapsed();
    let start = Instant::now();
    for _ in 0..DIGEST_READS {
        black_box(black_box(pair.read_state()).fingerprint());
    }
    let digest = start.elapsed() / DIGEST_READS;
    Ok(Times { commit, apply, digest })
}

/// The median of each figure over the rounds.
fn middle(rounds: &[Medians]) -> Medians {
    let [commit_us, apply_us, digest_us] =
        OPERATIONS.map(|operation| median(rounds.iter().map(operation.cost_us).collect()));
    Medians { commit_us, apply_us, digest_us }
}

/// The greater one of the two in the middle where their number is even; 0 of none.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_ends_with_the_values_of_a_plain_map() {
        let workload = Workload::with_keys(100);
        let mut pair = filled(Shape { key_count: 100, replica_count: 64 }, &workload).expect("members of one cluster");
        clocked(&mut pair, workload.updates().take(50)).expect("the nodes take writes");
        pair.check(&workload.expected(50)).expect("equal");
        assert!(pair.check(&workload.expected(40)).is_err());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
