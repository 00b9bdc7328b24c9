//! Invariant 4: vectors, HLC and the stable cut never go back.
//!
//! Inside the life of a process none of them may, not by one. Over a crash `applied`, `received` and the clock may go back
//! as far as durability allows: a killed process keeps all groups that it handed over, a power cut all that were reported
//! durable. A disk that lied and a store from a backup are excused. The figures themselves are compared where they are
//! observed: see [`crate::history::History::observe`] and [`crate::history::History::opened`].

use super::{Checker, Verdict, WorldRead, refuse};
use crate::history::{History, NodeIndex, Setback, Which};
use crate::oracle::Oracle;
use replica::Report;

/// See the module's documentation.
#[derive(Default)]
pub struct Monotone {
    setbacks: usize,
}

impl Checker for Monotone {
    fn check_step(&mut self, world: &dyn WorldRead, _oracle: &Oracle, _node: NodeIndex) -> Verdict {
        let setbacks = world.history().setbacks();
        let new = &setbacks[self.setbacks.min(setbacks.len())..];
        self.setbacks = setbacks.len();
        let refused = new.iter().find(|setback| !is_allowed(world.history(), setback));
        let Some(setback) = refused else { return Ok(()) };
        let Setback { which, from, to, .. } = setback;
        let over = setback.over.map_or_else(String::new, |opened| format!(" over a restart ({opened:?})"));
        let what = match which {
            Which::Clock => format!("the clock went back from {from} to {to}{over}"),
            _ => format!("{which:?} went back from {from} to {to}{over}"),
        };
        refuse(4, Some(setback.node), setback.replica, what)
    }

    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        self.check_step(world, oracle, 0)
    }
}

fn is_allowed(history: &History, setback: &Setback) -> bool {
    let log = &history.nodes()[setback.node];
    match setback.which {
        // A database from a backup does show less.
        Which::Shown => log.database_restored.iter().any(|restored| *restored < setback.order),
        // A batch whose record is damaged is cut out and pulled again.
        Which::Applied | Which::Received if setback.over.is_some() => history.reports().iter().rev().any(|reported| {
            let corrupt = matches!(reported.report, Report::StoreCorrupt { .. });
            corrupt && reported.node == setback.node && reported.order > setback.order
        }),
        // A retired replica is forgotten altogether, once everybody has all of it.
        Which::Applied | Which::Received | Which::Stable => {
            let owner = history.owner(setback.replica);
            let retired = owner.is_some_and(|owner| history.nodes()[owner].now.replica != setback.replica);
            setback.to == 0 && retired && log.now.stable.seq(setback.replica) == 0
        }
        Which::Clock => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::Stand;
    use crate::history::Opened;
    use crdt::{Hlc, VersionVector};
    use replica::Ticket;

    fn verdict(stand: &Stand) -> Result<(), Which> {
        let verdict = Monotone::default().check_step(stand, &stand.oracle(), 0);
        verdict.map_err(|_| stand.history.setbacks()[0].which)
    }

    fn advanced(to: u64) -> Stand {
        let mut stand = Stand::new(1);
        stand.history.group_written(0, Ticket(1));
        let replica = stand.replica(0);
        stand.edit(0).applied.advance(replica, to);
        stand.edit(0).received.advance(replica, to);
        stand.edit(0).clock = Hlc(to);
        stand.observe(0);
        stand
    }

    #[test]
    fn going_forward_passes_and_going_back_is_refused() {
        let mut stand = advanced(5);
        assert_eq!(verdict(&stand), Ok(()));
        stand.edit(0).applied = VersionVector::new();
        stand.observe(0);
        assert_eq!(verdict(&stand), Err(Which::Applied));
        let mut stand = advanced(5);
        stand.edit(0).clock = Hlc(4);
        stand.observe(0);
        assert_eq!(verdict(&stand), Err(Which::Clock));
        let mut stand = advanced(5);
        stand.edit(0).stable.advance(crdt::ReplicaId(1), 3);
        stand.observe(0);
        stand.edit(0).stable = VersionVector::new();
        stand.observe(0);
        assert_eq!(verdict(&stand), Err(Which::Stable));
    }

    #[test]
    fn a_crash_takes_back_only_what_was_not_durable() {
        let reopen = |durable: bool, how: Opened| {
            let mut stand = advanced(5);
            stand.history.group_written(0, Ticket(2));
            if durable {
                stand.history.group_durable(0, Ticket(2));
            }
            stand.history.stopped(0);
            stand.edit(0).applied = VersionVector::new();
            stand.edit(0).received = VersionVector::new();
            stand.open(0, how);
            verdict(&stand)
        };
        assert_eq!(reopen(false, Opened::PowerCut), Ok(()));
        assert_eq!(reopen(true, Opened::PowerCut), Err(Which::Applied));
        assert_eq!(reopen(false, Opened::Killed), Err(Which::Applied));
        assert_eq!(reopen(true, Opened::DiskLied), Ok(()));
        assert_eq!(reopen(true, Opened::StoreRestored), Ok(()));
    }

    #[test]
    fn a_damaged_batch_is_pulled_again() {
        let mut stand = advanced(5);
        stand.history.group_written(0, Ticket(2));
        stand.edit(0).received = VersionVector::new();
        stand.open(0, Opened::Killed);
        assert_eq!(verdict(&stand), Err(Which::Received));
        stand.history.reported(0, Report::StoreCorrupt { records: 1 });
        assert_eq!(verdict(&stand), Ok(()));
    }

    #[test]
    fn the_clock_goes_on_over_a_crash() {
        let reopen = |durable: bool| {
            let mut stand = advanced(5);
            stand.history.group_written(0, Ticket(2));
            if durable {
                stand.history.group_durable(0, Ticket(2));
            }
            stand.history.stopped(0);
            stand.edit(0).clock = Hlc(4);
            stand.open(0, Opened::PowerCut);
            verdict(&stand)
        };
        assert_eq!(reopen(false), Ok(()));
        assert_eq!(reopen(true), Err(Which::Clock));
    }
}
