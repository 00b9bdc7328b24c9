//! Invariant 11: an idle cluster stays under a byte rate.
//!
//! Taken between two calls at rest with nothing written in between. A cluster that has nothing to say still exchanges
//! digests, clocks and its rows of the matrix clock. Their size grows with the number of replica ids that ever wrote, so
//! the bound does too. A question that a network gives out when everybody has long been at rest, a very late message, is
//! answered once.

use std::collections::BTreeMap;

use super::{Checker, Verdict, WorldRead, refuse};
use crate::history::NodeIndex;
use crate::oracle::Oracle;

/// Bytes per replica id in one digest: id 16, sequence up to 9, hashes at head and floor 2 x 32, and once more the id
/// and two sequences in a row of the matrix clock.
const BYTES_A_REPLICA: u64 = 16 + 9 + 64 + 16 + 18;
/// Bytes of one round beside that: frames, clock stamps, answers.
const BYTES_A_ROUND: u64 = 512;
/// Shortest window that says something: shorter ones may hold a round more than their share.
const WINDOW_ROUNDS_MIN: u64 = 10;

/// See the module's documentation.
#[derive(Default)]
pub struct Idle {
    start: Option<Start>,
}

struct Start {
    time_us: u64,
    writes: usize,
    traffic: BTreeMap<(NodeIndex, NodeIndex), u64>,
    late: BTreeMap<(NodeIndex, NodeIndex), u64>,
}

impl Checker for Idle {
    fn check_rest(&mut self, world: &dyn WorldRead, _oracle: &Oracle) -> Verdict {
        let history = world.history();
        let writes = history.commits().len() + history.doors().len();
        let (traffic, late) = (history.traffic().clone(), history.late().clone());
        let now = Start { time_us: history.time_us(), writes, traffic, late };
        let Some(start) = self.start.replace(now).filter(|start| start.writes == writes) else { return Ok(()) };
        let round_us = world.intervals().digest_ms * 1_000;
        let rounds = (history.time_us() - start.time_us) / round_us.max(1);
        if rounds < WINDOW_ROUNDS_MIN {
            self.start = Some(start);
            return Ok(());
        }
        let replicas = history.batches().filter(|(batch, _)| batch.seq == 1).count() as u64;
        // Twice: a digest may be answered in kind.
        let bound = (rounds + 1) * 2 * (BYTES_A_ROUND + replicas * BYTES_A_REPLICA);
        for ((from, to), bytes) in history.traffic() {
            let since = |counts: &BTreeMap<_, u64>, link| counts.get(&link).copied().unwrap_or(0);
            let sent = bytes - since(&start.traffic, (*from, *to));
            let asked_late = since(history.late(), (*to, *from)) - since(&start.late, (*to, *from));
            let limits = world.limits(*from);
            // Twice: a chunk may be longer by one object.
            let answer_bytes_max = 2 * limits.chunk_bytes_max.max(limits.message_bytes_max) as u64;
            let bound = bound + asked_late * answer_bytes_max;
            if sent > bound {
                let what = format!("{sent} bytes in {rounds} digest intervals without a write, the bound is {bound}");
                return refuse(11, Some(*from), format!("link {from} -> {to}"), what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::Stand;

    fn rate(bytes: usize) -> Result<(), u8> {
        let mut stand = Stand::new(2);
        let (mut idle, oracle) = (Idle::default(), stand.oracle());
        idle.check_rest(&stand, &oracle).map_err(|violation| violation.invariant)?;
        stand.history.at(20 * stand.intervals.digest_ms * 1_000);
        stand.history.sent(0, 1, bytes);
        idle.check_rest(&stand, &oracle).map_err(|violation| violation.invariant)
    }

    #[test]
    fn digests_pass_and_a_chatter_is_refused() {
        assert_eq!(rate(20 * 500), Ok(()));
        assert_eq!(rate(100_000), Err(11));
    }

    #[test]
    fn each_late_question_is_answered_once() {
        let mut stand = Stand::new(2);
        let chunk = stand.limits.chunk_bytes_max;
        stand.limits.message_bytes_max = chunk;
        let (mut idle, oracle) = (Idle::default(), stand.oracle());
        let mut minute = |asked: u64, answers: usize| {
            stand.history.at(stand.history.time_us() + 60 * stand.intervals.digest_ms * 1_000);
            (0..asked).for_each(|_| stand.history.came_late(1, 0));
            stand.history.sent(0, 1, answers * chunk);
            idle.check_rest(&stand, &oracle).map_err(|violation| violation.invariant)
        };
        assert_eq!(minute(0, 1), Ok(()), "before the first rest");
        assert_eq!(minute(1, 1), Ok(()));
        assert_eq!(minute(0, 1), Err(11), "the one before was answered");
        assert_eq!(minute(1, 4), Err(11));
    }
}
