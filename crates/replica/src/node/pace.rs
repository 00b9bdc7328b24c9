//! How often digests go over a link.
//!
//! The *overhead* of a link is what went over it for nothing, as a share of what was of use, over 30 s: bytes that its
//! transport had to send again ([`Node::handle_link_overhead`]) and bytes of batches that this node got a second time,
//! over bytes of batches and of snapshots' chunks that went either way and were new. A digest after which nothing is
//! pulled costs little; one whose pull crosses with a push, or that is answered on a link that loses much, makes
//! overhead. So above 15 % digests become rarer, below 5 % more frequent, and in between they stay as they are.
//! A link with nothing new goes towards the longest interval whatever its overhead is, and a gap is pulled at once
//! whatever the interval is.
//!
//! Nodes that were started together would send their digests in one moment for ever. So each interval is shortened by up
//! to a tenth, by a hash of both names and a count: the core draws no random numbers.

use std::collections::VecDeque;

use crdt::Place;

use super::{Link, Node};
use crate::config::Intervals;
use crate::time::Now;

/// Time over which overhead is taken: long enough for a lost burst not to count twice, short enough to follow a link
/// that changes.
const WINDOW_MS: u64 = 30_000;
/// The window is ten slots wide; the oldest leaves as a whole.
const SLOT_MS: u64 = WINDOW_MS / 10;
/// Overhead above which digests become rarer, in thousandths.
const HIGH_PER_MILLE: u32 = 150;
/// Overhead below which digests become more frequent, in thousandths.
const LOW_PER_MILLE: u32 = 50;
/// Greatest part of an interval that jitter takes away, in thousandths.
const JITTER_PER_MILLE: u64 = 100;

/// What went over a link of late.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    slots: VecDeque<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    number: u64,
    useful_bytes: u64,
    wasted_bytes: u64,
}

impl Traffic {
    /// Bytes that were new to the one who got them.
    pub(super) fn useful(&mut self, mono_ms: u64, bytes: usize) {
        let slot = self.slot(mono_ms);
        slot.useful_bytes = slot.useful_bytes.saturating_add(bytes as u64);
    }

    /// Bytes that went for nothing.
    pub(super) fn wasted(&mut self, mono_ms: u64, bytes: u64) {
        let slot = self.slot(mono_ms);
        slot.wasted_bytes = slot.wasted_bytes.saturating_add(bytes);
    }

    /// Wasted over useful bytes, in thousandths; 0 when nothing was wasted.
    pub(super) fn overhead_per_mille(&self, mono_ms: u64) -> u32 {
        let oldest = (mono_ms / SLOT_MS).saturating_sub(WINDOW_MS / SLOT_MS - 1);
        let recent = self.slots.iter().filter(|slot| slot.number >= oldest);
        let (useful, wasted) = recent.fold((0_u64, 0_u64), |(useful, wasted), slot| {
            (useful.saturating_add(slot.useful_bytes), wasted.saturating_add(slot.wasted_bytes))
        });
        u32::try_from(wasted.saturating_mul(1_000) / useful.max(1)).unwrap_or(u32::MAX)
    }

    fn slot(&mut self, mono_ms: u64) -> &mut Slot {
        let number = mono_ms / SLOT_MS;
        while self.slots.front().is_some_and(|slot| slot.number + WINDOW_MS / SLOT_MS <= number) {
            self.slots.pop_front();
        }
        if self.slots.back().is_none_or(|slot| slot.number < number) {
            self.slots.push_back(Slot { number, ..Slot::default() });
        }
        self.slots.back_mut().expect("a slot was just made")
    }
}

/// The interval after one, when the digest at its end said nothing new or something.
fn next_interval_ms(interval_ms: u64, is_quiet: bool, overhead_per_mille: u32, intervals: &Intervals) -> u64 {
    let next_ms = if is_quiet || overhead_per_mille > HIGH_PER_MILLE {
        interval_ms + interval_ms.div_ceil(2)
    } else if overhead_per_mille < LOW_PER_MILLE {
        interval_ms - interval_ms / 5
    } else {
        interval_ms
    };
    next_ms.clamp(intervals.digest_min_ms, intervals.digest_max_ms)
}

/// What jitter takes away from an interval.
fn jitter_ms(interval_ms: u64, node: &str, peer: &str, count: u64) -> u64 {
    let hash = Place::root(&[node.as_bytes(), &[0], peer.as_bytes(), &[0], &count.to_be_bytes()].concat()).hash();
    interval_ms * (hash % (JITTER_PER_MILLE + 1)) / 1_000
}

impl Node {
    /// The transport of a link had to send so many bytes again since it was last asked.
    pub fn handle_link_overhead(&mut self, now: Now, peer: &str, retransmitted_bytes: u64) {
        if let Some(link) = self.links.get_mut(peer)
            && retransmitted_bytes > 0
        {
            link.traffic.wasted(now.mono_ms, retransmitted_bytes);
        }
    }

    /// Plans the next digest to a peer, after one that said something new or not.
    pub(super) fn plan_digest(&mut self, now: Now, peer: &str, is_quiet: bool) {
        let (node, intervals) = (&self.setup.node, &self.setup.intervals);
        let Some(link) = self.links.get_mut(peer) else { return };
        let overhead_per_mille = link.traffic.overhead_per_mille(now.mono_ms);
        link.digest_interval_ms = next_interval_ms(link.digest_interval_ms, is_quiet, overhead_per_mille, intervals);
        link.digests_sent += 1;
        let jitter_ms = jitter_ms(link.digest_interval_ms, node, peer, link.digests_sent);
        let wait_ms = (link.digest_interval_ms - jitter_ms).max(intervals.digest_min_ms);
        link.digest_at_mono_ms = now.mono_ms + wait_ms;
    }

    pub(super) fn carried(&mut self, now: Now, peer: &str, bytes: usize) {
        if let Some(link) = self.links.get_mut(peer) {
            link.traffic.useful(now.mono_ms, bytes);
        }
    }

    pub(super) fn overhead_per_mille(&self, link: &Link) -> u32 {
        link.traffic.overhead_per_mille(self.worked_at_mono_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_follows_overhead_and_silence() {
        let intervals = Intervals::default();
        let next = |interval_ms, is_quiet, overhead| next_interval_ms(interval_ms, is_quiet, overhead, &intervals);
        assert_eq!(next(1_000, false, 0), 800);
        assert_eq!(next(1_000, false, 49), 800);
        assert_eq!(next(1_000, false, 50), 1_000);
        assert_eq!(next(1_000, false, 150), 1_000);
        assert_eq!(next(1_000, false, 151), 1_500);
        for overhead in [0, 100, 1_000] {
            assert_eq!(next(1_000, true, overhead), 1_500, "a quiet link goes to the longest interval");
        }
        assert_eq!((next(12_000, true, 0), next(55, false, 0)), (15_000, 50));
    }

    #[test]
    fn overhead_is_forgotten_after_the_window() {
        let mut traffic = Traffic::default();
        assert_eq!(traffic.overhead_per_mille(0), 0);
        traffic.useful(10_000, 1_000);
        traffic.wasted(12_000, 100);
        traffic.wasted(25_000, 100);
        assert_eq!(traffic.overhead_per_mille(25_000), 200);
        assert_eq!(
            traffic.overhead_per_mille(42_000),
            u32::try_from(100 * 1_000).expect("it fits"),
            "useful bytes left first"
        );
        assert_eq!(traffic.overhead_per_mille(60_000), 0);
        (0..1_000).for_each(|second| traffic.useful(second * 1_000, 1));
        assert!(traffic.slots.len() <= 10, "memory is bounded");
    }

    #[test]
    fn jitter_is_small_differs_and_repeats() {
        let drawn: Vec<u64> = (0..50).map(|count| jitter_ms(1_000, "a", "b", count)).collect();
        assert!(drawn.iter().all(|jitter_ms| *jitter_ms <= 100));
        assert!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len() > 10);
        assert_eq!(drawn, (0..50).map(|count| jitter_ms(1_000, "a", "b", count)).collect::<Vec<_>>());
        assert_ne!(drawn, (0..50).map(|count| jitter_ms(1_000, "b", "a", count)).collect::<Vec<_>>());
    }
}
