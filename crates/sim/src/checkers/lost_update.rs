//! Invariant 9: no value that its overwriter's database did not show disappears without a journal entry.
//!
//! A value of a cell that was committed may be missing from a state only when somebody committed a write or a delete
//! whose database showed it, when it is listed in a rescue report, when its journal entry may be past retention, or when
//! the only disk that had it lost it. At a step this is asked of the cells that a batch just touched, at the node that
//! applied it: of every value of those cells that the node's vector covers. At rest it is asked of all values on all
//! nodes of the core.

use std::collections::{BTreeMap, BTreeSet};

use crdt::row::ColumnName;
use crdt::{BatchId, Value, VersionVector};
use replica::Report;
use replica::host::RowId;

use super::{Checker, NodeRead, RowContent, Verdict, WorldRead, present, refuse, show_row};
use crate::history::{Advance, History, NodeIndex};
use crate::oracle::names::base;
use crate::oracle::{Oracle, RowLedger, ValueLedger};

/// Rows looked at in one step; a snapshot brings thousands at once, and they are all looked at at rest.
const ROWS_A_STEP: usize = 4;
/// The first so many rows are all looked at, afterwards one in [`STRIDE`]: a look reads a whole row of a node.
const FIRST_LOOKS: u64 = 4_000;
/// See [`FIRST_LOOKS`].
const STRIDE: u64 = 8;

/// See the module's documentation.
#[derive(Default)]
pub struct LostUpdate {
    advances: usize,
    looks: u64,
}

impl Checker for LostUpdate {
    fn check_step(&mut self, world: &dyn WorldRead, oracle: &Oracle, _node: NodeIndex) -> Verdict {
        let advances = &world.history().advances()[self.advances..];
        self.advances = world.history().advances().len();
        advances.iter().try_for_each(|advance| self.check_advance(world, oracle, advance))
    }

    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        let rescued = rescued_values(world);
        for node in world.core() {
            let Some(state) = world.node(node) else { continue };
            for ledger in oracle.rows() {
                check_row(world, ledger, node, &state.row(&ledger.row), None, &rescued)?;
            }
        }
        Ok(())
    }
}

impl LostUpdate {
    fn check_advance(&mut self, world: &dyn WorldRead, oracle: &Oracle, advance: &Advance) -> Verdict {
        let node = advance.node;
        let Some(state) = world.node(node).filter(|state| !state.is_installing()) else { return Ok(()) };
        let nothing = BTreeSet::new();
        let mut rows = 0;
        for seq in (advance.from + 1..=advance.to).rev() {
            let batch = BatchId { replica: advance.replica, seq };
            for carried in world.history().batch(batch).map_or(&[][..], |log| log.rows.as_slice()) {
                self.looks += 1;
                if self.looks > FIRST_LOOKS && !self.looks.is_multiple_of(STRIDE) {
                    continue;
                }
                rows += 1;
                if rows > ROWS_A_STEP {
                    return Ok(());
                }
                let Some(ledger) = oracle.row(&carried.row) else { continue };
                let content = state.row(&carried.row);
                check_row(world, ledger, node, &content, Some(state), &nothing)?;
            }
        }
        Ok(())
    }
}

/// Checks all values of a row at a node. With a state, only those that its vector covers.
fn check_row(
    world: &dyn WorldRead,
    ledger: &RowLedger,
    node: NodeIndex,
    content: &RowContent,
    covered_by: Option<&dyn NodeRead>,
    rescued: &BTreeSet<(RowId, ColumnName, Value)>,
) -> Verdict {
    let there = present(world.schema(), &ledger.row, content);
    let nothing = BTreeSet::new();
    for (column, cell) in &ledger.cells {
        let there = there.get(column).unwrap_or(&nothing);
        for (value, known) in &cell.values {
            let expected = known.killers.is_empty() && !known.writers.is_empty() && !there.contains(value);
            if !expected || !covered_by.is_none_or(|state| is_covered(known, state.applied())) {
                continue;
            }
            if is_allowed(world, known) || rescued.contains(&(ledger.row.clone(), column.clone(), value.clone())) {
                continue;
            }
            let Some(writer) = known.writers.last() else { continue };
            let what = format!(
                "{value:?}, committed on node {} at {} us, is neither shown nor journaled, and nobody who saw it \
                 replaced it",
                writer.node, writer.time_us
            );
            return refuse(9, Some(node), format!("{} {}", show_row(&ledger.row), column.escape_ascii()), what);
        }
    }
    Ok(())
}

fn is_covered(known: &ValueLedger, applied: &VersionVector) -> bool {
    // One value may be written several times (NULL is): which of them is meant is only clear when all have come.
    known.carriers.len() >= known.writers.len().max(1) && known.carriers.iter().all(|batch| applied.contains(*batch))
}

fn is_allowed(world: &dyn WorldRead, known: &ValueLedger) -> bool {
    let history: &History = world.history();
    known.is_excused(history) || known.writers.iter().all(|writer| super::retention_is_over(world, writer.time_us))
}

/// Values that stand in rescue reports.
fn rescued_values(world: &dyn WorldRead) -> BTreeSet<(RowId, ColumnName, Value)> {
    let mut rescued = BTreeSet::new();
    for reported in world.history().reports() {
        let Report::Rescued { row, image: Some(image) } = &reported.report else { continue };
        for (column, value) in image {
            let value = base(world.schema(), row, column, value);
            rescued.insert((row.clone(), column.clone(), value));
        }
    }
    rescued
}

/// Values by column, for callers that compare more than one.
pub(super) type Present = BTreeMap<ColumnName, BTreeSet<Value>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::{Stand, row};

    fn rest(stand: &Stand) -> Result<(), u8> {
        LostUpdate::default().check_rest(stand, &stand.oracle()).map_err(|violation| violation.invariant)
    }

    /// Both nodes overwrite one title that both had seen.
    fn conflict() -> Stand {
        let mut stand = Stand::new(2);
        stand.insert(0, &row(1), &[("title", "w1")]);
        stand.write(1, &row(1), &[("title", "w1")]);
        stand.update(0, &row(1), &[("title", "w2")]);
        stand.update(1, &row(1), &[("title", "w3")]);
        stand.show_everywhere(&row(1), &[("title", "w3")]);
        stand
    }

    #[test]
    fn the_loser_of_a_conflict_must_be_journaled() {
        let mut stand = conflict();
        assert_eq!(rest(&stand), Err(9));
        for node in 0..2 {
            stand.journal_value(node, &row(1), "title", "w2");
        }
        assert_eq!(rest(&stand), Ok(()), "w1 was seen by whoever replaced it");
    }

    #[test]
    fn a_value_may_be_gone_that_its_overwriter_saw() {
        let mut stand = Stand::new(1);
        stand.insert(0, &row(1), &[("title", "w1"), ("text", "w2")]);
        stand.update(0, &row(1), &[("title", "w3")]);
        stand.show_everywhere(&row(1), &[("title", "w3"), ("text", "w2")]);
        assert_eq!(rest(&stand), Ok(()));
        stand.delete(0, &row(1));
        stand.hide_everywhere(&row(1));
        assert_eq!(rest(&stand), Ok(()));
    }

    #[test]
    fn retention_rescue_and_a_lost_disk_excuse() {
        let mut stand = conflict();
        stand.intervals.journal_retention_ms = 1_000;
        stand.history.at(2_000_000);
        assert_eq!(rest(&stand), Ok(()));
        let mut stand = conflict();
        let image = [(b"title".as_slice().into(), Value::from("w2"))].into();
        stand.history.reported(0, Report::Rescued { row: row(1), image: Some(image) });
        assert_eq!(rest(&stand), Ok(()));
        let mut stand = conflict();
        stand.carry(0, 1, &[(row(1), "title", "w2")]);
        let replica = stand.replica(0);
        stand.apply(0, replica, 1);
        assert_eq!(rest(&stand), Err(9));
        stand.lose(0);
        assert_eq!(rest(&stand), Ok(()));
    }

    #[test]
    fn a_batch_that_another_node_holds_is_not_lost() {
        let mut stand = conflict();
        stand.carry(0, 1, &[(row(1), "title", "w2")]);
        let replica = stand.replica(0);
        stand.apply(0, replica, 1);
        stand.apply(1, replica, 1);
        stand.lose(0);
        assert_eq!(rest(&stand), Err(9));
    }

    #[test]
    fn a_step_asks_only_for_what_the_vector_covers() {
        let mut stand = conflict();
        stand.carry(0, 1, &[(row(1), "title", "w2")]);
        stand.carry(1, 1, &[(row(1), "title", "w3")]);
        let (first, second) = (stand.replica(0), stand.replica(1));
        stand.apply(1, second, 1);
        let step = |stand: &Stand| LostUpdate::default().check_step(stand, &stand.oracle(), 1);
        assert_eq!(step(&stand), Ok(()));
        stand.apply(1, first, 1);
        assert!(step(&stand).is_err());
        stand.journal_value(1, &row(1), "title", "w2");
        assert_eq!(step(&stand), Ok(()));
    }

    #[test]
    fn a_repaired_name_is_the_same_name() {
        let mut stand = Stand::new(1);
        stand.insert(0, &row(7), &[("slug", "tea")]);
        stand.show_everywhere(&row(7), &[("slug", "tea-7")]);
        assert_eq!(rest(&stand), Ok(()));
        stand.show_everywhere(&row(7), &[("slug", "tea-8")]);
        assert_eq!(rest(&stand), Err(9));
    }
}
