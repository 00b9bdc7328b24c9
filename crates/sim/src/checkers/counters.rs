//! Invariant 7: a counter equals the sum of the acknowledged increments of its living lives; the rest stands in the
//! journal.
//!
//! Counters of the door are exact at every step: an increment counts where its batch is applied and no applied removal
//! had it in its author's state. Counter columns of rows are added up at rest by [`crate::oracle::sums`], exactly where
//! the record tells who saw what, else between two bounds.

use super::{Checker, LeafView, NodeRead, RowContent, Verdict, WorldRead, refuse, rescued, show_leaf, show_row};
use crate::history::{Leaf, NodeIndex};
use crate::oracle::lives::Lives;
use crate::oracle::truth::Interval;
use crate::oracle::{Expected, Oracle, RowLedger, Truth, sums};
use crdt::Value;
use crdt::row::ColumnName;

/// Counters looked at in one step; all are looked at at rest.
const LEAVES_A_STEP: usize = 4;
/// As for other leaves: long ones cost as much as they have writes.
const LONG_LEAF_WRITES: usize = 64;
/// See [`LONG_LEAF_WRITES`].
const LONG_LEAF_STRIDE: usize = 16;

/// See the module's documentation.
#[derive(Default)]
pub struct Counters {
    advances: usize,
    looks: usize,
}

impl Checker for Counters {
    fn check_step(&mut self, world: &dyn WorldRead, oracle: &Oracle, _node: NodeIndex) -> Verdict {
        let mut looks = self.looks;
        let result = super::touched_leaves(world, oracle, &mut self.advances, LEAVES_A_STEP, |node, state, leaf| {
            looks += 1;
            let long = oracle.door().writes(leaf) > LONG_LEAF_WRITES;
            if long && !looks.is_multiple_of(LONG_LEAF_STRIDE) {
                Ok(())
            } else {
                check_leaf(world, oracle, node, state, leaf)
            }
        });
        self.looks = looks;
        result
    }

    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        for node in world.core() {
            let Some(state) = world.node(node) else { continue };
            oracle.door().leaves().try_for_each(|leaf| check_leaf(world, oracle, node, state, leaf))?;
        }
        let rescued = rescued(world.history());
        let counted = oracle.rows().filter(|ledger| !ledger.counters.is_empty() && !rescued.contains(&ledger.row));
        for ledger in counted {
            let lives = Lives::of(world.history(), ledger);
            for node in world.core() {
                let Some(state) = world.node(node) else { continue };
                check_row(world, ledger, &lives, node, &state.row(&ledger.row))?;
            }
        }
        Ok(())
    }
}

fn check_leaf(world: &dyn WorldRead, oracle: &Oracle, node: NodeIndex, state: &dyn NodeRead, leaf: &Leaf) -> Verdict {
    let Expected::Count(expected) = oracle.door().expect(world.history(), leaf, state.applied()) else { return Ok(()) };
    let found = match state.leaf(leaf) {
        LeafView::Count(count) => count,
        LeafView::Nothing => None,
        other => return refuse(7, Some(node), show_leaf(leaf), format!("it holds {other:?}: another type")),
    };
    if found == expected {
        return Ok(());
    }
    let what =
        format!("it shows {found:?}, the increments that are applied here and not removed add up to {expected:?}");
    refuse(7, Some(node), show_leaf(leaf), what)
}

fn check_row(
    world: &dyn WorldRead,
    ledger: &RowLedger,
    lives: &Lives,
    node: NodeIndex,
    content: &RowContent,
) -> Verdict {
    for column in &ledger.counters {
        let sums = sums::of_column(world.history(), ledger, lives, column);
        let key = || format!("{} {}", show_row(&ledger.row), column.escape_ascii());
        // Whether the row is there at all is another checker's question.
        if let (Some(shown), true) = (&content.shown, lives.exists() != Truth::No) {
            let amount = shown.get(column).map_or(0, whole);
            if !sums.shown.contains(amount) {
                let Interval { low, high } = sums.shown;
                let what = format!("it shows {amount}, the living increments add up to {low} to {high}");
                return refuse(7, Some(node), key(), what);
            }
        }
        let journaled: i128 = content.amounts.iter().filter(|(name, _)| name == column).map(|(_, amount)| amount).sum();
        if !sums.journaled.contains(journaled) && !may_be_forgotten(world, ledger, column) {
            let Interval { low, high } = sums.journaled;
            let what =
                format!("its journal holds {journaled}, the increments of ended lives add up to {low} to {high}");
            return refuse(7, Some(node), key(), what);
        }
    }
    Ok(())
}

/// True when part of what the journal held may be past its retention.
fn may_be_forgotten(world: &dyn WorldRead, ledger: &RowLedger, column: &ColumnName) -> bool {
    let history = world.history();
    let mut events = ledger.events.iter().filter(|event| sums::contribution(history, event, column) != 0);
    events.any(|event| super::retention_is_over(world, history.commits()[event.commit].time_us))
}

fn whole(value: &Value) -> i128 {
    if let Value::Integer(number) = value { number.get() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::{Stand, leaf, row};
    use crate::history::DoorAction;
    use crdt::Kind;

    fn rest(stand: &Stand) -> Result<(), u8> {
        Counters::default().check_rest(stand, &stand.oracle()).map_err(|violation| violation.invariant)
    }

    #[test]
    fn a_door_counter_is_exact_at_every_step() {
        let check = |count: Option<i128>| {
            let mut stand = Stand::new(2);
            let counter = leaf(Kind::PnCounter);
            stand.door(0, 1, &counter, DoorAction::Add(5));
            stand.door(1, 1, &counter, DoorAction::Add(-2));
            stand.edit(0).leaves.insert(counter.clone(), LeafView::Count(Some(5)));
            stand.edit(1).leaves.insert(counter, LeafView::Count(count));
            let replica = stand.replica(0);
            stand.apply(1, replica, 1);
            Counters::default().check_step(&stand, &stand.oracle(), 1).map_err(|violation| violation.invariant)
        };
        assert_eq!(check(Some(3)), Ok(()));
        assert_eq!(check(Some(8)), Err(7));
        assert_eq!(check(None), Err(7));
    }

    /// Node 0 inserts with 10 and adds 1; node 1 sees the insert and adds 5.
    fn counted() -> Stand {
        let mut stand = Stand::new(2);
        stand.insert(0, &row(1), &[("views", "#10")]);
        stand.drain(0, &[(row(1), "views", "#10")]);
        stand.write(1, &row(1), &[("views", "#10")]);
        let replica = stand.replica(0);
        stand.apply(1, replica, 1);
        stand.update(0, &row(1), &[("views", "#11")]);
        stand.update(1, &row(1), &[("views", "#15")]);
        stand
    }

    #[test]
    fn increments_add_up() {
        let mut stand = counted();
        stand.show_everywhere(&row(1), &[("views", "#16")]);
        assert_eq!(rest(&stand), Ok(()));
        stand.show_everywhere(&row(1), &[("views", "#15")]);
        assert_eq!(rest(&stand), Err(7));
        stand.show_everywhere(&row(1), &[("views", "#26")]);
        assert_eq!(rest(&stand), Err(7));
    }

    #[test]
    fn a_replace_resets_what_it_saw_and_nothing_else() {
        let mut stand = counted();
        stand.replace(0, &row(1), &[("views", "#100")]);
        stand.show_everywhere(&row(1), &[("views", "#105")]);
        assert_eq!(rest(&stand), Ok(()), "node 1's increment was not seen");
        stand.show_everywhere(&row(1), &[("views", "#100")]);
        assert_eq!(rest(&stand), Err(7));
        stand.show_everywhere(&row(1), &[("views", "#116")]);
        assert_eq!(rest(&stand), Err(7), "a reset by a negative amount, taken twice or not at all");
    }

    #[test]
    fn increments_that_a_delete_did_not_see_stand_in_the_journal() {
        let mut stand = counted();
        stand.delete(0, &row(1));
        stand.hide_everywhere(&row(1));
        assert_eq!(rest(&stand), Err(7));
        for node in 0..2 {
            stand.journal_amount(node, &row(1), "views", 5);
        }
        assert_eq!(rest(&stand), Ok(()));
        stand.journal_amount(1, &row(1), "views", 5);
        assert_eq!(rest(&stand), Err(7));
    }

    #[test]
    fn nothing_of_an_old_life_leaks_into_a_new_one() {
        let mut stand = counted();
        stand.drain(0, &[(row(1), "views", "#11")]);
        stand.delete(0, &row(1));
        stand.drain(0, &[(row(1), "views", "#0")]);
        stand.insert(0, &row(1), &[("views", "#3")]);
        stand.drain(0, &[(row(1), "views", "#3")]);
        for node in 0..2 {
            stand.journal_amount(node, &row(1), "views", 5);
        }
        stand.show_everywhere(&row(1), &[("views", "#3")]);
        assert_eq!(rest(&stand), Ok(()));
        stand.show_everywhere(&row(1), &[("views", "#8")]);
        assert_eq!(rest(&stand), Err(7));
    }

    #[test]
    fn a_delete_and_an_insert_in_one_drain_are_an_update() {
        let mut stand = counted();
        stand.drain(0, &[(row(1), "views", "#11")]);
        stand.delete(0, &row(1));
        stand.insert(0, &row(1), &[("views", "#3")]);
        stand.drain(0, &[(row(1), "views", "#3")]);
        stand.show_everywhere(&row(1), &[("views", "#8")]);
        assert_eq!(rest(&stand), Ok(()), "the life goes on, and with it what node 1 added");
        stand.show_everywhere(&row(1), &[("views", "#14")]);
        assert_eq!(rest(&stand), Err(7));
    }
}
