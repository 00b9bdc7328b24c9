//! Clocks: moments of commits, offsets to peers, and batches from the future.

use std::collections::{BTreeMap, VecDeque};

use crdt::mutant::{Mutant, active};
use crdt::{BatchId, Hlc, HybridClock, ReplicaId};

use super::{Hold, Node};
use crate::effect::Report;
use crate::message::Times;
use crate::record::{Meta, RecordKey};
use crate::time::Now;

/// Measurements of an offset that are kept, as NTP's clock filter does.
const SAMPLES_MAX: usize = 8;

/// One measurement of an offset: it is off by at most half of the time that the messages were on their way, which is
/// what it would be if one of them took all of it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Peer minus us.
    offset_ms: i64,
    delay_ms: u64,
}

impl Sample {
    /// True when both may be true of one clock. The clocks are told in whole milliseconds.
    fn agrees_with(self, other: Self) -> bool {
        let tolerance_ms = self.delay_ms.saturating_add(other.delay_ms) / 2 + 2;
        self.offset_ms.abs_diff(other.offset_ms) <= tolerance_ms
    }
}

/// What is known of a peer's clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerClock {
    /// The peer's clock in its last digest, and ours when it arrived.
    heard: Option<(u64, u64)>,
    /// The last measurements that agree with the newest.
    samples: VecDeque<Sample>,
    warned: bool,
}

impl PeerClock {
    /// Peer minus us: the newest of the measurements with the shortest way. A digest that waits behind data in one
    /// direction takes its time for an offset, and one that did not wait tells better.
    pub(crate) fn offset_ms(&self) -> Option<i64> {
        self.samples.iter().rev().min_by_key(|sample| sample.delay_ms).map(|sample| sample.offset_ms)
    }

    /// Takes a measurement in. Those that cannot be true together with it are of a clock that has been set since.
    fn learn(&mut self, sample: Sample) {
        self.samples.retain(|older| older.agrees_with(sample));
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}

/// The node's own clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    hybrid: HybridClock,
    /// Added to the wall clock: the median of the members minus us, while that exceeds the bound.
    correction_ms: i64,
    /// Origins that an operator let go on although their clock runs far ahead.
    released: BTreeMap<ReplicaId, ()>,
}

impl Clock {
    pub(crate) fn resume(last: Hlc) -> Self {
        Self { hybrid: HybridClock::resume(last), ..Self::default() }
    }

    pub(crate) fn last(&self) -> Hlc {
        self.hybrid.last()
    }

    pub(crate) fn release(&mut self, replica: ReplicaId) {
        self.released.insert(replica, ());
    }

    /// The wall clock as it would be without our own error.
    pub(crate) fn corrected_ms(&self, wall_ms: u64) -> u64 {
        wall_ms.saturating_add_signed(self.correction_ms)
    }

    pub(crate) fn tick(&mut self, wall_ms: u64) -> Hlc {
        let now_ms = self.corrected_ms(wall_ms);
        self.hybrid.tick(now_ms)
    }
}

impl Node {
    /// The wall clock as this node takes it, in milliseconds since 1970: corrected towards the median of the members
    /// while it is further from that than the bound.
    pub fn corrected_wall_ms(&self, now: Now) -> u64 {
        self.clock.corrected_ms(now.wall_ms)
    }

    /// What we tell a peer of our clock.
    pub(super) fn times_for(&self, peer: &str, now: Now) -> Times {
        let heard = self.links.get(peer).and_then(|link| link.clock.heard);
        let (echo_ms, heard_ms) = heard.unwrap_or_default();
        Times { echo_ms, heard_ms, sent_ms: now.wall_ms }
    }

    /// Compares clocks by four timestamps, and follows the median if it is our clock that is wrong.
    pub(super) fn hear_times(&mut self, now: Now, peer: &str, times: Times) {
        let Some(link) = self.links.get_mut(peer) else { return };
        link.clock.heard = Some((times.sent_ms, now.wall_ms));
        if times.echo_ms == 0 {
            return;
        }
        // A peer can say any number, so the differences need more room than the result.
        let there = i128::from(times.heard_ms) - i128::from(times.echo_ms);
        let back = i128::from(times.sent_ms) - i128::from(now.wall_ms);
        let offset_ms = ((there + back) / 2).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        let delay_ms = (there - back).clamp(0, u64::MAX.into()) as u64;
        link.clock.learn(Sample { offset_ms, delay_ms });
        let offset_ms = link.clock.offset_ms().unwrap_or(offset_ms);
        let far = offset_ms.unsigned_abs() > self.setup.intervals.skew_warn_ms;
        let warn = far && !link.clock.warned;
        link.clock.warned = far;
        if warn {
            self.report(Report::ClockOffset { peer: peer.to_owned(), offset_ms });
        }
        self.follow_median();
    }

    fn follow_median(&mut self) {
        let links = self.links.values().filter(|link| link.ready);
        let mut offsets: Vec<i64> = links.filter_map(|link| link.clock.offset_ms()).collect();
        // With two clocks nobody can say which is wrong.
        if offsets.len() < 2 {
            self.clock.correction_ms = 0;
            return;
        }
        offsets.push(0);
        offsets.sort_unstable();
        let median = offsets[offsets.len() / 2];
        let wrong = median.unsigned_abs() > self.setup.intervals.skew_bound_ms;
        if wrong && median < 0 && self.clock.correction_ms == 0 {
            self.report(Report::ClockAhead { ahead_ms: median.unsigned_abs() });
        }
        self.clock.correction_ms = if wrong { median } else { 0 };
    }

    /// True when the batch may be applied now as far as its clock goes.
    pub(super) fn clock_admits(&mut self, now: Now, batch: BatchId, hlc: Hlc, received_mono_ms: u64) -> bool {
        let intervals = &self.setup.intervals;
        let ahead_ms = hlc.millis().saturating_sub(self.clock.corrected_ms(now.wall_ms));
        if ahead_ms <= intervals.skew_bound_ms {
            return true;
        }
        let released = self.clock.released.contains_key(&batch.replica);
        let fenced = ahead_ms > intervals.skew_fence_ms && !released;
        let waited = now.mono_ms >= received_mono_ms + intervals.skew_delay_ms && !active(Mutant::SkewHeldForEver);
        if self.skew_reported.insert(batch) {
            self.report(Report::ClockSkew { batch, ahead_ms, fenced });
        }
        if fenced {
            self.hold(batch, Hold::Fenced);
            return false;
        }
        waited || released
    }

    /// Follows the clock of a batch that is applied, unless it runs ahead.
    pub(super) fn follow_clock(&mut self, now: Now, hlc: Hlc) {
        let ahead_ms = hlc.millis().saturating_sub(self.clock.corrected_ms(now.wall_ms));
        if ahead_ms <= self.setup.intervals.skew_bound_ms {
            self.clock.hybrid.follow(hlc);
        }
    }

    /// The last moment given or followed goes to disk with whatever made it so: after a restart no commit
    /// may stand before a batch that was applied.
    pub(super) fn put_clock(&mut self) {
        let last = self.clock.last();
        self.put_meta(Meta::ClockBound, last.0.to_be_bytes().to_vec());
    }

    /// Follows a write stamp: a mutant's doing, never ours.
    pub(super) fn follow_stamp(&mut self, stamp: Hlc) {
        if active(Mutant::ClockFollowsStamps) {
            self.clock.hybrid.follow(stamp);
        }
    }

    pub(super) fn hold(&mut self, batch: BatchId, hold: Hold) {
        self.held.insert(batch.replica, (batch, hold));
        self.put(RecordKey::Held(batch), Some(vec![hold as u8]));
    }

    /// An operator lets a stopped stream go on.
    pub(super) fn release_stream(&mut self, batch: BatchId, hold: Hold) {
        self.held.remove(&batch.replica);
        self.put(RecordKey::Held(batch), None);
        if hold == Hold::Fenced {
            self.clock.release(batch.replica);
        }
    }

    /// When the next delayed batch may be applied.
    pub(super) fn skew_timer(&self) -> Option<u64> {
        let waiting = self.skew_reported.iter().filter_map(|batch| self.log.get(*batch));
        let due = waiting.map(|logged| logged.received_mono_ms + self.setup.intervals.skew_delay_ms);
        // What is due already waits for something else.
        due.filter(|due_mono_ms| *due_mono_ms > self.worked_at_mono_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(samples: &[(i64, u64)]) -> Option<i64> {
        let mut clock = PeerClock::default();
        samples.iter().for_each(|&(offset_ms, delay_ms)| clock.learn(Sample { offset_ms, delay_ms }));
        clock.offset_ms()
    }

    #[test]
    fn a_digest_that_waited_behind_data_moves_no_clock() {
        assert_eq!(measured(&[(2, 10)]), Some(2));
        // Half a second in a queue, in one direction only.
        assert_eq!(measured(&[(2, 10), (250, 500), (-240, 490)]), Some(2));
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        assert_eq!(measured(&[(2, 10), (3, 8), (60_000, 12)]), Some(60_000));
        // A step that could as well be a queue is believed when what is known without it has aged.
        let mut samples = vec![(0, 4)];
        samples.extend([(90, 200); SAMPLES_MAX - 1]);
        assert_eq!(measured(&samples), Some(0));
        samples.push((90, 200));
        assert_eq!(measured(&samples), Some(90));
    }

    #[test]
    fn numbers_that_no_clock_shows_break_nothing() {
        assert_eq!(measured(&[(i64::MIN, u64::MAX), (i64::MAX, u64::MAX)]), Some(i64::MAX));
    }
}
