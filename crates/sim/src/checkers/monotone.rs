//! Invariant 4: vectors, HLC and the stable cut never go back.
//!
//! Inside the life of a process none of them may, not by one. Over a crash `applied`, `received` and the clock may go back
//! as far as durability allows: a killed process keeps all groups that it handed over, a power cut all that were reported
//! durable. A disk that lied and a store from a backup are excused. The figures themselves are compared where they are
//! observed: see [`crate::history::History::observe`] and [`crate::history::History::opened`].
//!
//! The clock is bounded from both sides as well, after every step of every running node. It never stands before the
//! commit clock of a batch that the node has written or applied, unless that batch came ahead of the node's own time
//! or by a snapshot: else a later commit would stand before what it builds on. And it never goes on beyond what it may
//! follow: its own wall clock, corrected towards the members' median, and the skew bound
//! ([`crate::history::History::clock_seen`]). Write stamps bound it from neither side: they may be far ahead of every
//! clock, and no clock follows them.

use crdt::BatchId;
use replica::Report;

use super::{Checker, Verdict, WorldRead, refuse};
use crate::history::{Advance, History, NodeIndex, Setback, Which};
use crate::oracle::Oracle;

/// See the module's documentation.
#[derive(Default)]
pub struct Monotone {
    setbacks: usize,
    advances: usize,
}

impl Checker for Monotone {
    fn check_step(&mut self, world: &dyn WorldRead, _oracle: &Oracle, _node: NodeIndex) -> Verdict {
        let advances = world.history().advances();
        let moves = &advances[self.advances.min(advances.len())..];
        self.advances = advances.len();
        let setbacks = world.history().setbacks();
        let new = &setbacks[self.setbacks.min(setbacks.len())..];
        self.setbacks = setbacks.len();
        let refused = new.iter().find(|setback| !is_allowed(world.history(), setback));
        let Some(setback) = refused else {
            return moves.iter().try_for_each(|advance| check_followed(world.history(), advance));
        };
        let Setback { which, from, to, .. } = setback;
        let over = setback.over.map_or_else(String::new, |opened| format!(" over a restart ({opened:?})"));
        let what = match which {
            Which::Clock => format!("the clock went back from {from} to {to}{over}"),
            Which::ClockAhead => format!("the clock came to {to} ms, and had nothing to follow beyond {from} ms"),
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
        Which::Clock | Which::ClockAhead => false,
    }
}

/// A batch that a node applies is followed by its clock.
fn check_followed(history: &History, advance: &Advance) -> Verdict {
    let log = &history.nodes()[advance.node];
    // What a process finds in its store was applied by an earlier one.
    if log.lives.last().is_some_and(|life| life.from >= advance.order) {
        return Ok(());
    }
    let batches = (advance.from + 1..=advance.to).map(|seq| BatchId { replica: advance.replica, seq });
    let clocks = batches.filter_map(|batch| Some((batch, history.batch(batch)?.hlc)));
    let mut later = clocks.filter(|(_, hlc)| *hlc > log.now.clock);
    let Some((batch, hlc)) = later.find(|(batch, _)| !may_stay_ahead(history, advance, *batch)) else { return Ok(()) };
    let what = format!("it is applied and was committed at {hlc}, and the clock stands at {}", log.now.clock);
    refuse(4, Some(advance.node), batch, what)
}

/// True for a batch whose group was found ahead of the node's own time, or that came by a snapshot, and for a dot that
/// has two contents.
fn may_stay_ahead(history: &History, advance: &Advance, batch: BatchId) -> bool {
    let group = advance.from + 1..=batch.seq;
    let excuses = |report: &Report, is_now: bool| match report {
        Report::ClockSkew { batch: first, .. } => first.replica == batch.replica && group.contains(&first.seq),
        Report::SnapshotInstalled { .. } => is_now,
        _ => false,
    };
    let mut reports = history.reports().iter().filter(|reported| reported.node == advance.node);
    reports.any(|reported| excuses(&reported.report, reported.time_us == advance.time_us))
        || history.forks().iter().any(|fork| fork.batch == batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::{Stand, row};
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
    fn a_clock_goes_no_further_than_it_may_follow() {
        let seen = |clock_ms: u64, latest_ms: u64| {
            let mut stand = Stand::new(1);
            stand.edit(0).clock = Hlc::from_millis(7_000);
            stand.observe(0);
            stand.history.clock_seen(0, Hlc::from_millis(clock_ms), latest_ms);
            verdict(&stand)
        };
        assert_eq!(seen(9_000, 9_000), Ok(()));
        assert_eq!(seen(7_001, 5_000), Ok(()), "a full counter borrows a millisecond");
        assert_eq!(seen(9_002, 9_000), Err(Which::ClockAhead));
    }

    #[test]
    fn a_clock_follows_what_is_applied_unless_that_was_ahead() {
        let applied = |clock: u64, report: Option<Report>| {
            let mut stand = Stand::new(2);
            let author = stand.replica(0);
            stand.carry(0, 1, &[(row(1), "title", "w1")]);
            if let Some(report) = report {
                stand.history.reported(1, report);
            }
            stand.edit(1).clock = Hlc(clock);
            stand.apply(1, author, 1);
            let verdict = Monotone::default().check_step(&stand, &stand.oracle(), 1);
            verdict.map_err(|violation| violation.invariant)
        };
        let batch = BatchId { replica: crdt::ReplicaId(1), seq: 1 };
        assert_eq!(applied(1, None), Ok(()));
        assert_eq!(applied(0, None), Err(4));
        assert_eq!(applied(0, Some(Report::ClockSkew { batch, ahead_ms: 9_000, fenced: false })), Ok(()));
        assert_eq!(applied(0, Some(Report::SnapshotInstalled { how: replica::Installed::Joined })), Ok(()));
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
