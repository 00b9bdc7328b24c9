//! `node.convergence.p99.*`: from the acknowledgement of a write until every other node shows it.
//!
//! Each write sets a key and, in the same batch, a register to the write's number. One connection at each other node
//! reads that register again and again, with a short sleep between: a number that is shown means that all writes before
//! it are, since batches of one origin are applied in their order. What is told is the moment at which the answer was
//! read, so that a figure is too long by up to the pause between two looks and never too short. CRDT.CLOCK would tell
//! the same and costs the node more; a loop without a sleep would look more often, and take the processor from what it
//! looks at.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench_results::{Better, Claim};

use crate::failure::Failure;
use crate::load::{KEYS, VALUE_BYTES};
use crate::patience::APPLIED;
use crate::relay::own_delay_ms;
use crate::run::{Figure, Run};
use crate::sample::{quantile, sorted_ms, told_ms};
use crate::wire::{Wire, command};

/// One-way delays of the relay in milliseconds.
const DELAYS_MS: [u64; 3] = [0, 40, 150];
/// What convergence may take beside the delay.
const GOAL_MS: f64 = 5.0;
const WRITES_PER_SECOND: u64 = 1_000;
/// The register with the number of the last write.
const REGISTER: &str = "bench:sequence";
/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_micros(100);
/// Packets that tell what the relay adds by itself.
const PROBES: usize = 200;
/// Writes of the first second, while links still learn their round trip, are not counted.
const WARM_UP: usize = 1_000;

pub(super) fn ids() -> Vec<String> {
    DELAYS_MS.map(id).to_vec()
}

fn id(delay_ms: u64) -> String {
    format!("node.convergence.p99.{delay_ms}")
}

pub(super) fn measure(run: &Run) -> Result<Vec<Claim>, Failure> {
    let delays = DELAYS_MS.into_iter().filter(|delay_ms| run.wants(&id(*delay_ms)));
    delays.map(|delay_ms| at_delay(run, delay_ms)).collect()
}

fn at_delay(run: &Run, delay_ms: u64) -> Result<Claim, Failure> {
    let delay = Duration::from_millis(delay_ms);
    let added = own_delay_ms(delay, PROBES)?;
    let folder = run.folder.within(&format!("convergence_{delay_ms}"))?;
    let mut cluster = run.plan(&folder, 3)?;
    cluster.relay(delay)?;
    cluster.found()?;
    let count = WARM_UP + (run.effort.convergence.as_secs() * WRITES_PER_SECOND) as usize;
    run.say(&format!("convergence through {delay_ms} ms: {count} writes at {WRITES_PER_SECOND}/s"));
    let mut writer = cluster.nodes[0].wire()?;
    let watchers = [cluster.nodes[1].wire()?, cluster.nodes[2].wire()?];
    let (is_over, last) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
    let (acknowledged, seen) = thread::scope(|scope| {
        let (is_over, last) = (&is_over, &last);
        let watching = watchers.map(|wire| scope.spawn(move || watch(wire, is_over, last)));
        let written = write(&mut writer, count);
        last.store(count as u64, Ordering::Release);
        if written.is_err() {
            is_over.store(true, Ordering::Release);
        }
        let seen = watching.map(|thread| thread.join().expect("a watcher returns its failure"));
        (written, seen)
    });
    let (acknowledged, seen) = (acknowledged?, seen.into_iter().collect::<Result<Vec<_>, _>>()?);
    let dropped = cluster.through().dropped();
    cluster.verified()?;

    let took = (WARM_UP..count).map(|place| {
        let shown = seen.iter().map(|looks| first_with(looks, place as u64 + 1));
        let shown = shown.collect::<Option<Vec<_>>>().and_then(|shown| shown.into_iter().max());
        // A watcher ends only when it has seen the last number.
        shown.expect("every number was seen").saturating_duration_since(acknowledged[place])
    });
    let sorted = sorted_ms(took);
    let pauses = seen.iter().flat_map(|looks| looks.windows(2).map(|pair| pair[1].at - pair[0].at));
    let pauses = sorted_ms(pauses);
    let late = sorted_ms(lateness(&acknowledged));
    Ok(run.claim(Figure {
        id: id(delay_ms),
        what: format!("from a write's acknowledgement until both other nodes show it, {delay_ms} ms one way, p99"),
        ours: quantile(&sorted, 0.99),
        peer: delay_ms as f64 + GOAL_MS,
        peer_name: "goal: delay and 5 ms".to_owned(),
        unit: "ms",
        better: Better::Lower,
        conditions: format!(
            "{WRITES_PER_SECOND} MSET a second through one door, each a value of {VALUE_BYTES} B under one of {KEYS} \
             keys and the write's number, in one batch; {}; seen by reading the number at both others, between two \
             looks {}; the relay adds by itself, on an idle machine and with the receiver's waking: {}; it dropped \
             {dropped} packets; two acknowledgements lay apart: {}; nodes, relay, writer and readers share the \
             processors",
            told_ms(&sorted),
            told_ms(&pauses),
            told_ms(&added),
            told_ms(&late),
        ),
    }))
}

/// Writes at a steady pace; when each write was acknowledged.
fn write(wire: &mut Wire, count: usize) -> Result<Vec<Instant>, Failure> {
    let requests: Vec<Vec<u8>> = (1..=count).map(request).collect();
    let mut acknowledged = Vec::with_capacity(count);
    let interval = Duration::from_secs(1) / WRITES_PER_SECOND as u32;
    let mut due = Instant::now();
    for request in &requests {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += interval;
        wire.send(request)?;
        wire.expect_ok()?;
        acknowledged.push(Instant::now());
    }
    Ok(acknowledged)
}

fn request(number: usize) -> Vec<u8> {
    let key = format!("key:{:012}", number * 61_803 % KEYS as usize);
    let value = format!("{number:0width$}", width = VALUE_BYTES as usize);
    let number = number.to_string();
    command(&[b"MSET", key.as_bytes(), value.as_bytes(), REGISTER.as_bytes(), number.as_bytes()])
}

/// What a watcher read, and when it had read it.
struct Look {
    at: Instant,
    number: u64,
}

/// Looks until it sees `last`, or until all is over.
fn watch(mut wire: Wire, is_over: &AtomicBool, last: &AtomicU64) -> Result<Vec<Look>, Failure> {
    let question = command(&[b"GET", REGISTER.as_bytes()]);
    let mut looks: Vec<Look> = Vec::new();
    let mut waits_since = None;
    while !is_over.load(Ordering::Acquire) {
        wire.send(&question)?;
        let number = wire.number()?;
        let at = Instant::now();
        looks.push(Look { at, number });
        let last = last.load(Ordering::Acquire);
        if number >= last {
            break;
        }
        if last < u64::MAX && at.duration_since(*waits_since.get_or_insert(at)) > APPLIED {
            let last = format!("it shows {number} of {last}");
            return Err(Failure::NotInTime { what: "shown by a node".to_owned(), waited: APPLIED, last });
        }
        thread::sleep(PAUSE);
    }
    Ok(looks)
}

/// When a number was first seen, or one behind it.
fn first_with(looks: &[Look], number: u64) -> Option<Instant> {
    looks.get(looks.partition_point(|look| look.number < number)).map(|look| look.at)
}

/// How far two acknowledgements lay apart.
fn lateness(acknowledged: &[Instant]) -> Vec<Duration> {
    acknowledged.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_seen_with_the_first_that_is_not_smaller() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let looks = [(1, 0), (2, 0), (3, 4), (5, 4), (6, 9)].map(|(ms, number)| Look { at: at(ms), number });
        assert_eq!([1, 4, 5, 9].map(|number| first_with(&looks, number)), [3, 3, 6, 6].map(|ms| Some(at(ms))));
        assert_eq!(first_with(&looks, 10), None);
    }
}
