//! Invariant 6: nothing deleted or collected comes back, and nothing is invented.
//!
//! - A batch carries only values that clients of its own node committed there: a remote value that is issued again as a
//!   local one comes back under a dot that nobody who replaced it ever named. Excused are repairs that the node reported;
//!   values that it reported to have found in the row without knowing whose they are; and nodes whose disk or database
//!   lost something, because their content must be placed anew.
//! - A stable cut moves only over what every member of the epoch has applied: what is collected earlier can come back.
//!   Where two machines have one name, a row of that member may be the other machine's.
//! - At rest a value that was written once and replaced by somebody who saw it is neither shown nor journaled; a value
//!   that nobody wrote is not there; a row of which every INSERT was seen by a DELETE is not there. Journaled it may be
//!   where the store of the node that replaced it was damaged.
//!
//! Leaves of the door are held to their exact value by [`super::acknowledged`], which reports this invariant too.

use std::collections::BTreeMap;
use std::rc::Rc;

use crdt::row::ColumnName;
use crdt::{BatchId, Value};
use replica::Report;
use replica::host::RowId;

use super::{Checker, RowContent, Verdict, WorldRead, present, refuse, rescued, show_row};
use crate::history::{History, NodeIndex, Vector};
use crate::oracle::lives::Lives;
use crate::oracle::names::{base, is_repaired};
use crate::oracle::sight::{is_excused, may_not_be_named};
use crate::oracle::{Oracle, RowLedger, Source, Truth, ValueLedger};

/// See the module's documentation.
#[derive(Default)]
pub struct Resurrection {
    decoded: usize,
    /// Stable cuts as they were last checked.
    cuts: BTreeMap<NodeIndex, Rc<Vector>>,
}

impl Checker for Resurrection {
    fn check_step(&mut self, world: &dyn WorldRead, oracle: &Oracle, node: NodeIndex) -> Verdict {
        let history = world.history();
        let decoded = &history.decoded()[self.decoded.min(history.decoded().len())..];
        self.decoded = history.decoded().len();
        decoded.iter().try_for_each(|batch| check_issued(world, oracle, *batch))?;
        self.check_cut(world, node)
    }

    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        self.check_step(world, oracle, 0)?;
        let history = world.history();
        oracle.rows().try_for_each(|ledger| check_issued_once(world, ledger))?;
        let rescued = rescued(history);
        for ledger in oracle.rows() {
            let gone = !ledger.events.is_empty() && Lives::of(history, ledger).exists() == Truth::No;
            for node in world.core() {
                let Some(state) = world.node(node) else { continue };
                let content = state.row(&ledger.row);
                if gone && content.shown.is_some() && !rescued.contains(&ledger.row) {
                    let what = "the row is there, but every INSERT of it was seen by a DELETE".to_owned();
                    return refuse(6, Some(node), show_row(&ledger.row), what);
                }
                check_values(world, ledger, node, &content, rescued.contains(&ledger.row))?;
            }
        }
        Ok(())
    }
}

impl Resurrection {
    fn check_cut(&mut self, world: &dyn WorldRead, node: NodeIndex) -> Verdict {
        let history = world.history();
        let cut = &history.nodes()[node].now.stable;
        let known = self.cuts.get(&node);
        if known.is_some_and(|known| Rc::ptr_eq(known, cut)) {
            return Ok(());
        }
        let before = self.cuts.insert(node, cut.clone()).unwrap_or_default();
        let epoch = world.node(node).map_or(0, |state| state.epoch());
        let Some(members) = history.epochs().get(&epoch) else { return Ok(()) };
        for (replica, seq) in cut.iter().filter(|(replica, seq)| *seq > before.seq(*replica)) {
            let batch = BatchId { replica, seq };
            let is_behind =
                |member: NodeIndex| !history.nodes()[member].is_doubled && history.applied_at(member, batch).is_none();
            let behind = members.iter().find(|member| is_behind(**member));
            if let Some(member) = behind {
                let what = format!("the stable cut covers it, but node {member} has never applied it");
                return refuse(6, Some(node), batch, what);
            }
            let early = members.iter().find_map(|member| unapplied_write(world, node, *member, batch));
            if let Some(write) = early {
                let what = format!(
                    "the stable cut covers it, but {write}, written before its author had it, is not applied here"
                );
                return refuse(6, Some(node), batch, what);
            }
        }
        Ok(())
    }
}

/// The first batch of a member that is not applied at `node`, when it was written before the member had applied `batch`.
fn unapplied_write(world: &dyn WorldRead, node: NodeIndex, member: NodeIndex, batch: BatchId) -> Option<BatchId> {
    let history = world.history();
    let log = &history.nodes()[member];
    if member == node || !log.store_lost.is_empty() || log.is_doubled {
        return None;
    }
    let replica = log.now.replica;
    let next = BatchId { replica, seq: world.node(node)?.applied().seq(replica) + 1 };
    let written = history.batch(next).filter(|written| written.author == Some(member) && !written.lost)?;
    let unseen = written.saw.as_ref()?.seq(batch.replica) < batch.seq;
    let earlier = history.applied_at(member, next)? < history.applied_at(member, batch)?;
    (unseen && earlier).then_some(next)
}

/// Every value of a batch must come from a client of the node that wrote it.
fn check_issued(world: &dyn WorldRead, oracle: &Oracle, batch: BatchId) -> Verdict {
    let history = world.history();
    let (Some(log), Some(owner)) = (history.batch(batch), history.owner(batch.replica)) else { return Ok(()) };
    if may_issue_again(history, owner) {
        return Ok(());
    }
    for carried in &log.rows {
        let Some(ledger) = oracle.row(&carried.row) else { continue };
        for (column, value) in carried.cells.iter().filter(|(_, value)| matches!(value, Value::Bytes(_))) {
            let plain = base(world.schema(), &carried.row, column, value);
            let known = ledger.cells.get(column).and_then(|cell| cell.values.get(&plain));
            let local = known.is_some_and(|known| known.writers.iter().any(|writer| writer.node == owner));
            let repair = is_repaired(world.schema(), &carried.row, column, value);
            if local && (!repair || was_saved(history, known, owner, &carried.row, column, value)) {
                continue;
            }
            if repair && has_repaired(history, owner, &carried.row) {
                continue;
            }
            if has_rescued(world, owner, &carried.row, column, &plain) {
                continue;
            }
            let key = format!("{} {}", show_row(&carried.row), column.escape_ascii());
            let why = if repair { "without having reported a repair" } else { "which none of its clients wrote" };
            return refuse(6, Some(owner), key, format!("batch {batch} issues {value:?}, {why}"));
        }
    }
    Ok(())
}

/// True when a client of the node saved the value literally in its repaired form.
fn was_saved(
    history: &History,
    known: Option<&ValueLedger>,
    node: NodeIndex,
    row: &RowId,
    column: &ColumnName,
    value: &Value,
) -> bool {
    let writers = known.into_iter().flat_map(|known| &known.writers).filter(|writer| writer.node == node);
    writers.into_iter().any(|writer| {
        let Source::Sql(commit) = writer.source else { return true };
        let mut changes = history.commits()[commit].changes.iter().filter(|change| change.row == *row);
        changes.any(|change| change.after.as_ref().and_then(|image| image.get(column)) == Some(value))
    })
}

fn has_repaired(history: &History, node: NodeIndex, row: &RowId) -> bool {
    let repaired = |report: &Report| matches!(report, Report::Repaired { row: repaired } if repaired == row);
    history.reports().iter().any(|reported| reported.node == node && repaired(&reported.report))
}

/// True when the node told a person that it found this value in the row and cannot tell whose it is: its shadow was
/// damaged, and the site wrote the row. A client may have written the value, so it is issued rather than lost.
fn has_rescued(world: &dyn WorldRead, node: NodeIndex, row: &RowId, column: &ColumnName, plain: &Value) -> bool {
    let schema = world.schema();
    let found = |report: &Report| match report {
        Report::Rescued { row: said, image: Some(image) } if said == row => {
            image.get(column).is_some_and(|value| base(schema, row, column, value) == *plain)
        }
        _ => false,
    };
    world.history().reports().iter().any(|reported| reported.node == node && found(&reported.report))
}

fn may_issue_again(history: &History, node: NodeIndex) -> bool {
    let log = &history.nodes()[node];
    !log.store_lost.is_empty() || !log.database_restored.is_empty()
}

/// A value is issued at most as often as clients of that node wrote it.
fn check_issued_once(world: &dyn WorldRead, ledger: &RowLedger) -> Verdict {
    let history = world.history();
    for (column, cell) in &ledger.cells {
        for (value, known) in cell.values.iter().filter(|(_, known)| known.carriers.len() > 1) {
            let mut issued: BTreeMap<NodeIndex, usize> = BTreeMap::new();
            for batch in &known.carriers {
                let lives = history.batch(*batch).is_some_and(|log| log.holders != 0 && !log.lost);
                if let Some(owner) = history.owner(batch.replica).filter(|_| lives) {
                    *issued.entry(owner).or_insert(0) += 1;
                }
            }
            for (node, times) in issued {
                let written = known.writers.iter().filter(|writer| writer.node == node).count();
                let excused = may_issue_again(history, node)
                    || has_repaired(history, node, &ledger.row)
                    || has_rescued(world, node, &ledger.row, column, value);
                if times > written && matches!(value, Value::Bytes(_)) && !excused {
                    let key = format!("{} {}", show_row(&ledger.row), column.escape_ascii());
                    let what = format!("{value:?} was written {written} times and issued {times} times");
                    return refuse(6, Some(node), key, what);
                }
            }
        }
    }
    Ok(())
}

fn check_values(
    world: &dyn WorldRead,
    ledger: &RowLedger,
    node: NodeIndex,
    content: &RowContent,
    is_rescued: bool,
) -> Verdict {
    let history = world.history();
    for (column, values) in present(world.schema(), &ledger.row, content) {
        if world.schema().is_counter(&ledger.row.table, &column) {
            continue;
        }
        let shown = content.shown.as_ref().and_then(|image| image.get(&column));
        let shown = shown.map(|value| base(world.schema(), &ledger.row, &column, value));
        for value in values.into_iter().filter(|value| *value != Value::Null) {
            let is_shown = shown.as_ref() == Some(&value);
            let known = ledger.cells.get(&column).and_then(|cell| cell.values.get(&value));
            let why = match known {
                None => "nobody wrote it",
                Some(known) if known.writers.is_empty() => "nobody wrote it",
                Some(known) if !is_rescued && must_be_gone(history, &ledger.row, known, is_shown) => {
                    "somebody who saw it replaced it"
                }
                Some(_) => continue,
            };
            let key = format!("{} {}", show_row(&ledger.row), column.escape_ascii());
            return refuse(6, Some(node), key, format!("{value:?} is there, but {why}"));
        }
    }
    Ok(())
}

/// True when the one write of a value was replaced for certain. A value that somebody saved again, or that was issued
/// again because a disk had lost it, may have been replaced under one dot and live on under another.
fn must_be_gone(history: &History, row: &RowId, known: &ValueLedger, is_shown: bool) -> bool {
    let killed = known.killers.iter().any(|killer| match killer.source {
        Source::Sql(commit) => !is_excused(history, commit, row) && (is_shown || !may_not_be_named(history, commit)),
        Source::Door(number) => history.doors()[number].acknowledged && !history.doors()[number].void,
    });
    killed && known.writers.len() == 1 && known.carriers.len() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::{Stand, row};
    use crate::history::Opened;
    use crdt::Dot;

    fn rest(stand: &Stand) -> Result<(), String> {
        Resurrection::default().check_rest(stand, &stand.oracle()).map_err(|violation| {
            assert_eq!(violation.invariant, 6);
            violation.what
        })
    }

    /// Node 0 writes a title, node 1 sees it and replaces it.
    fn replaced() -> Stand {
        let mut stand = Stand::new(2);
        stand.insert(0, &row(1), &[("title", "w1")]);
        stand.drain(0, &[(row(1), "title", "w1")]);
        let replica = stand.replica(0);
        stand.write(1, &row(1), &[("title", "w1")]);
        stand.apply(1, replica, 1);
        stand.update(1, &row(1), &[("title", "w2")]);
        stand.drain(1, &[(row(1), "title", "w2")]);
        stand.show_everywhere(&row(1), &[("title", "w2")]);
        stand
    }

    #[test]
    fn what_was_replaced_stays_away() {
        let mut stand = replaced();
        assert_eq!(rest(&stand), Ok(()));
        stand.journal_value(0, &row(1), "title", "w1");
        assert!(rest(&stand).is_err());
    }

    #[test]
    fn what_a_damaged_node_replaced_may_stay_in_the_journal_but_is_not_shown() {
        let run = |is_shown: bool, is_damaged: bool, replaced_first: bool| {
            let mut stand = replaced();
            let replaced_it = |stand: &mut Stand| {
                stand.update(1, &row(1), &[("title", "w3")]);
            };
            if replaced_first {
                replaced_it(&mut stand);
                stand.drain(1, &[(row(1), "title", "w3")]);
            }
            if is_damaged {
                stand.history.reported(1, Report::StoreCorrupt { records: 1 });
            }
            if !replaced_first {
                replaced_it(&mut stand);
            }
            let title = if is_shown { "w2" } else { "w3" };
            stand.show_everywhere(&row(1), &[("title", title)]);
            stand.journal_value(0, &row(1), "title", "w2");
            rest(&stand)
        };
        assert_eq!(run(false, true, false), Ok(()));
        assert!(run(true, true, false).is_err(), "it is shown");
        assert!(run(false, false, false).is_err(), "nothing was damaged");
        assert!(run(false, true, true).is_err(), "it had told of it before");
    }

    #[test]
    fn a_value_that_nobody_wrote_is_refused() {
        let mut stand = replaced();
        stand.show_everywhere(&row(1), &[("title", "w9")]);
        assert!(rest(&stand).is_err());
    }

    #[test]
    fn a_value_that_was_saved_again_may_stay() {
        let mut stand = replaced();
        stand.update(1, &row(1), &[("title", "w1")]);
        stand.show_everywhere(&row(1), &[("title", "w1")]);
        assert_eq!(rest(&stand), Ok(()));
    }

    #[test]
    fn a_deleted_row_stays_away() {
        let mut stand = replaced();
        stand.delete(1, &row(1));
        stand.drain(1, &[]);
        assert!(rest(&stand).is_err());
        stand.hide_everywhere(&row(1));
        assert_eq!(rest(&stand), Ok(()));
    }

    #[test]
    fn a_row_may_come_back_when_a_backup_of_store_and_database_still_waits_to_drain_it() {
        let run = |is_lost: bool, is_drained_again: bool| {
            let mut stand = Stand::new(2);
            stand.insert(0, &row(1), &[("title", "w1")]);
            stand.drain(0, &[(row(1), "title", "w1")]);
            let replica = stand.replica(0);
            stand.write(1, &row(1), &[("title", "w1")]);
            stand.apply(1, replica, 1);
            stand.delete(1, &row(1));
            stand.drain(1, &[]);
            if is_lost {
                stand.history.stopped(0);
                stand.open(0, Opened::StoreRestored);
            }
            if is_drained_again {
                let first = 0;
                stand.history.drained(0, [first]);
                stand.carry(0, 2, &[(row(1), "title", "w1")]);
            }
            stand.show_everywhere(&row(1), &[("title", "w1")]);
            rest(&stand)
        };
        assert!(run(false, false).is_err());
        assert!(run(true, false).is_err(), "nothing was made of it again");
        assert!(run(false, true).is_err(), "the store knew that it was told");
        assert_eq!(run(true, true), Ok(()));
    }

    #[test]
    fn a_delete_that_bypassed_capture_may_go_with_the_store_until_its_own_row_was_found() {
        let (post, meta) = (row(1), row(2));
        let run = |found: &[(&RowId, u32)], is_lost: bool| {
            let mut stand = Stand::new(2);
            stand.insert(0, &post, &[("title", "w1")]);
            stand.insert(0, &meta, &[("title", "w2")]);
            stand.drain(0, &[(post.clone(), "title", "w1"), (meta.clone(), "title", "w2")]);
            let replica = stand.replica(0);
            stand.write(1, &post, &[("title", "w1")]);
            stand.write(1, &meta, &[("title", "w2")]);
            stand.apply(1, replica, 1);
            stand.delete_unseen(1, &[meta.clone(), post.clone()]);
            for (row, index) in found {
                stand.find_gone(1, row, Dot::new(replica, 1, *index));
            }
            if is_lost {
                stand.history.stopped(1);
                stand.open(1, Opened::StoreRestored);
            }
            stand.show_everywhere(&post, &[("title", "w1")]);
            rest(&stand)
        };
        assert_eq!(run(&[(&meta, 1)], true), Ok(()), "of the post nobody had told when the store went back");
        assert!(run(&[(&meta, 1)], false).is_err());
        assert!(run(&[(&meta, 1), (&post, 0)], true).is_err());
    }

    #[test]
    fn a_remote_value_must_not_be_issued_as_a_local_one() {
        let mut stand = replaced();
        stand.carry(1, 2, &[(row(1), "title", "w1")]);
        assert!(rest(&stand).is_err());
        let mut stand = replaced();
        stand.carry(1, 2, &[(row(1), "title", "w1")]);
        stand.history.stopped(1);
        stand.open(1, Opened::StoreRestored);
        assert_eq!(rest(&stand), Ok(()), "its content must be placed anew");
    }

    #[test]
    fn a_value_of_a_rescued_row_may_be_issued_as_it_was_found() {
        let mut stand = replaced();
        stand.carry(1, 2, &[(row(1), "title", "w1")]);
        let found = |title: &str| {
            let image = [(b"title".as_slice().into(), Value::from(title))].into();
            Report::Rescued { row: row(1), image: Some(image) }
        };
        stand.history.reported(0, found("w1"));
        stand.history.reported(1, found("w2"));
        assert!(rest(&stand).is_err(), "another node found it, and this one found something else");
        stand.history.reported(1, found("w1"));
        assert_eq!(rest(&stand), Ok(()));
    }

    #[test]
    fn a_local_value_must_not_be_issued_twice() {
        let mut stand = replaced();
        stand.carry(1, 2, &[(row(1), "title", "w2")]);
        let replica = stand.replica(1);
        stand.apply(1, replica, 2);
        assert!(rest(&stand).is_err());
    }

    #[test]
    fn a_repair_must_be_reported() {
        let mut stand = Stand::new(2);
        stand.insert(0, &row(7), &[("slug", "tea")]);
        stand.drain(0, &[(row(7), "slug", "tea")]);
        stand.carry(0, 2, &[(row(7), "slug", "tea-7")]);
        stand.show_everywhere(&row(7), &[("slug", "tea-7")]);
        assert!(rest(&stand).is_err());
        stand.history.reported(0, Report::Repaired { row: row(7) });
        assert_eq!(rest(&stand), Ok(()));
    }

    #[test]
    fn a_cut_waits_for_every_member_of_its_epoch() {
        let cut = |members: &[NodeIndex]| {
            let mut stand = Stand::new(3);
            stand.history.epoch(1, members.iter().copied());
            stand.edit(0).epoch = 1;
            let replica = stand.replica(0);
            stand.apply(0, replica, 1);
            stand.apply(1, replica, 1);
            stand.edit(0).stable.advance(replica, 1);
            stand.observe(0);
            rest(&stand)
        };
        assert_eq!(cut(&[0, 1]), Ok(()));
        assert!(cut(&[0, 1, 2]).is_err());
    }
}
