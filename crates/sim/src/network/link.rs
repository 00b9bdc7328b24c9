//! One direction between two machines.

use std::rc::Rc;

use crate::coverage::{Coverage, Fault};
use crate::random::Random;

/// How strong the faults of links are, drawn once a seed. Probabilities are per 1,000 messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkFaults {
    /// Mean delay one way; each direction draws its own between half and twice as much.
    pub delay_us: u64,
    /// A message is lost on its own.
    pub loss: u32,
    /// A burst of losses begins.
    pub burst: u32,
    /// A message arrives twice.
    pub duplication: u32,
    /// A message may overtake those before it.
    pub reordering: u32,
    /// A message takes minutes to hours.
    pub late: u32,
    /// Longest delay of a late message.
    pub late_us_max: u64,
    /// A byte is changed.
    pub corruption: u32,
}

impl Default for LinkFaults {
    fn default() -> Self {
        Self {
            delay_us: 20_000,
            loss: 0,
            burst: 0,
            duplication: 0,
            reordering: 0,
            late: 0,
            late_us_max: 0,
            corruption: 0,
        }
    }
}

/// One arrival of a message.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When.
    pub at_us: u64,
    /// What.
    pub bytes: Rc<[u8]>,
    /// True for a message that is so late that its connection may be gone: it comes out of some queue all the same.
    pub is_late: bool,
}

/// One direction.
#[derive(Clone, Debug)]
pub(super) struct Link {
    faults: LinkFaults,
    delay_us: u64,
    pub(super) bytes_per_second: Option<u64>,
    /// Until when the bandwidth is taken.
    busy_until_us: u64,
    /// When the last message in order arrives.
    last_at_us: u64,
    /// Messages that the burst at hand still takes.
    burst_left: u64,
}

/// Longest burst of losses in messages.
const BURST_MESSAGES_MAX: u64 = 40;
/// Shortest delay of a late message.
const LATE_US_MIN: u64 = 60_000_000;

impl Link {
    pub(super) fn draw(faults: &LinkFaults, random: &mut Random) -> Self {
        let delay_us = random.range(faults.delay_us / 2, faults.delay_us * 2);
        let faults = faults.clone();
        Self { faults, delay_us, bytes_per_second: None, busy_until_us: 0, last_at_us: 0, burst_left: 0 }
    }

    pub(super) fn carry(
        &mut self,
        now_us: u64,
        bytes: &[u8],
        calm: bool,
        random: &mut Random,
        coverage: &mut Coverage,
    ) -> Vec<Delivery> {
        if calm {
            let at_us = self.in_order(now_us + self.delay_us / 2 + random.below(self.delay_us + 1));
            return vec![Delivery { at_us, bytes: bytes.into(), is_late: false }];
        }
        if let Some(fault) = self.loses(random) {
            coverage.fault(fault);
            return Vec::new();
        }
        let first = self.arrive(now_us, bytes, random, coverage);
        if !random.per_mille(self.faults.duplication) {
            return vec![first];
        }
        coverage.fault(Fault::Duplication);
        let at_us = first.at_us + random.long_tailed(self.delay_us);
        let second = Delivery { at_us, bytes: Rc::from(bytes), is_late: first.is_late };
        vec![first, second]
    }

    fn loses(&mut self, random: &mut Random) -> Option<Fault> {
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return Some(Fault::LossBurst);
        }
        if random.per_mille(self.faults.burst) {
            self.burst_left = random.range(2, BURST_MESSAGES_MAX);
            return Some(Fault::LossBurst);
        }
        random.per_mille(self.faults.loss).then_some(Fault::Loss)
    }

    fn arrive(&mut self, now_us: u64, bytes: &[u8], random: &mut Random, coverage: &mut Coverage) -> Delivery {
        let sent_us = self.transmit(now_us, bytes.len(), coverage);
        let drawn_us = sent_us + self.delay_us / 2 + random.long_tailed(self.delay_us / 2);
        let is_late = random.per_mille(self.faults.late);
        let at_us = if is_late {
            coverage.fault(Fault::LongDelay);
            drawn_us + random.range(LATE_US_MIN, self.faults.late_us_max.max(LATE_US_MIN))
        } else if random.per_mille(self.faults.reordering) {
            // Held up on its way, so that later ones overtake it.
            let at_us = drawn_us + random.long_tailed(4 * self.delay_us);
            if at_us < self.last_at_us || at_us > drawn_us + self.delay_us {
                coverage.fault(Fault::Reordering);
            }
            at_us
        } else {
            self.in_order(drawn_us)
        };
        let mut bytes: Rc<[u8]> = bytes.into();
        if random.per_mille(self.faults.corruption)
            && let Some(content) = Rc::get_mut(&mut bytes)
            && !content.is_empty()
        {
            let at = random.index(content.len());
            content[at] ^= 1 << random.below(8);
            coverage.fault(Fault::Corruption);
        }
        Delivery { at_us, bytes, is_late }
    }

    /// A new connection begins with an empty queue.
    pub(super) fn renew(&mut self) {
        (self.busy_until_us, self.last_at_us) = (0, 0);
    }

    /// How long the last message in order is still on its way.
    pub(super) fn backlog_us(&self, now_us: u64) -> u64 {
        self.last_at_us.saturating_sub(now_us)
    }

    /// Waits for the bandwidth.
    fn transmit(&mut self, now_us: u64, length: usize, coverage: &mut Coverage) -> u64 {
        let Some(bytes_per_second) = self.bytes_per_second else { return now_us };
        let begin_us = self.busy_until_us.max(now_us);
        if begin_us > now_us + self.delay_us {
            coverage.fault(Fault::SlowPeer);
        }
        self.busy_until_us = begin_us + length as u64 * 1_000_000 / bytes_per_second.max(1);
        self.busy_until_us
    }

    fn in_order(&mut self, at_us: u64) -> u64 {
        self.last_at_us = self.last_at_us.max(at_us);
        self.last_at_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(faults: &LinkFaults) -> (Vec<Delivery>, Coverage) {
        let (mut random, mut coverage) = (Random::new(5), Coverage::default());
        let mut link = Link::draw(faults, &mut random);
        let deliveries =
            (0..1_000).flat_map(|at| link.carry(at * 1_000, b"message", false, &mut random, &mut coverage)).collect();
        (deliveries, coverage)
    }

    #[test]
    fn a_link_without_faults_keeps_everything_in_order() {
        let (deliveries, coverage) = carried(&LinkFaults::default());
        assert_eq!(deliveries.len(), 1_000);
        assert!(deliveries.is_sorted_by_key(|delivery| delivery.at_us));
        assert_eq!(coverage, Coverage::default());
    }

    #[test]
    fn a_new_connection_does_not_wait_for_what_the_old_one_had_queued() {
        let (mut random, mut coverage) = (Random::new(5), Coverage::default());
        let mut link = Link::draw(&LinkFaults::default(), &mut random);
        link.bytes_per_second = Some(1);
        link.carry(
            0,
            b"a minute of it, by its length: ............................",
            false,
            &mut random,
            &mut coverage,
        );
        assert!(link.backlog_us(0) > 50_000_000);
        link.renew();
        let [delivery] = &link.carry(0, b"m", true, &mut random, &mut coverage)[..] else { panic!("it was calm") };
        assert!(delivery.at_us < 1_000_000);
    }

    #[test]
    fn each_fault_shows_in_the_messages() {
        let faults = LinkFaults { loss: 100, burst: 2, duplication: 50, reordering: 50, ..LinkFaults::default() };
        let (deliveries, coverage) = carried(&faults);
        assert!(!deliveries.is_sorted_by_key(|delivery| delivery.at_us));
        for fault in [Fault::Loss, Fault::LossBurst, Fault::Duplication, Fault::Reordering] {
            assert!(coverage.faults(fault) > 0, "{}", fault.name());
        }
        let (deliveries, _) = carried(&LinkFaults { corruption: 1_000, ..LinkFaults::default() });
        assert!(deliveries.iter().all(|delivery| &*delivery.bytes != b"message"));
    }
}
