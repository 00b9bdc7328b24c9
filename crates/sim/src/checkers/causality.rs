//! Invariant 5: nothing applies before its context.
//!
//! Twice, in two languages. Of batches: a node that has applied a batch has applied everything that its author had
//! applied when writing it, as it was observed at the author, whatever the batch itself claims. Of rows: a row whose
//! author had seen another one (a comment under its post) never appears in a database without it, unless somebody
//! deleted that other row.

use std::collections::BTreeMap;

use crdt::BatchId;
use replica::host::RowId;

use super::{Checker, Verdict, WorldRead, refuse, show_row};
use crate::history::{Advance, History, NodeIndex};
use crate::oracle::Oracle;
use crate::oracle::rows::EventKind;

/// See the module's documentation.
#[derive(Default)]
pub struct Causality {
    advances: usize,
    appearances: usize,
    commits: usize,
    /// Rows that their author had seen, by the row that was inserted in their sight.
    parents: BTreeMap<RowId, Vec<RowId>>,
}

impl Checker for Causality {
    fn check_step(&mut self, world: &dyn WorldRead, oracle: &Oracle, _node: NodeIndex) -> Verdict {
        let history = world.history();
        let advances = &history.advances()[self.advances..];
        self.advances = history.advances().len();
        advances.iter().try_for_each(|advance| check_advance(history, advance))?;
        for commit in &history.commits()[self.commits..] {
            for (child, parent) in &commit.parents {
                self.parents.entry(child.clone()).or_default().push(parent.clone());
            }
        }
        self.commits = history.commits().len();
        let appearances = &history.appearances()[self.appearances..];
        self.appearances = history.appearances().len();
        for appeared in appearances.iter().filter(|appearance| appearance.visible) {
            self.check_parents(world, oracle, appeared.node, &appeared.row)?;
        }
        Ok(())
    }

    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        self.check_step(world, oracle, 0)?;
        for node in world.core() {
            let Some(database) = world.database(node) else { continue };
            let there = self.parents.keys().filter(|child| database.row(child).is_some());
            there.into_iter().try_for_each(|child| self.check_parents(world, oracle, node, child))?;
        }
        Ok(())
    }
}

impl Causality {
    fn check_parents(&self, world: &dyn WorldRead, oracle: &Oracle, node: NodeIndex, child: &RowId) -> Verdict {
        let Some(parents) = self.parents.get(child) else { return Ok(()) };
        // What is filled again after a loss is filled row by row.
        let recovers = world.history().nodes()[node].recoveries.iter().any(|(_, until)| until.is_none());
        let Some(database) = world.database(node).filter(|_| !recovers) else { return Ok(()) };
        if database.row(child).is_none() {
            return Ok(());
        }
        for parent in parents.iter().filter(|parent| database.row(parent).is_none()) {
            let ledger = oracle.row(parent);
            let deleted = ledger.is_some_and(|row| row.events.iter().any(|event| event.kind == EventKind::Delete));
            if !deleted {
                let what = format!("the database shows it without {}, which its author had seen", show_row(parent));
                return refuse(5, Some(node), show_row(child), what);
            }
        }
        Ok(())
    }
}

fn check_advance(history: &History, advance: &Advance) -> Verdict {
    let node = &history.nodes()[advance.node];
    if node.now.replica == advance.replica {
        return Ok(());
    }
    // What an author had applied only grows, so its last batch speaks for all before it.
    let batches = (advance.from + 1..=advance.to).rev().map(|seq| BatchId { replica: advance.replica, seq });
    let known = batches.filter_map(|batch| Some((batch, history.batch(batch)?.saw.clone()?))).next();
    let Some((batch, saw)) = known else { return Ok(()) };
    let Some(missing) = node.now.applied.first_missing(&saw) else { return Ok(()) };
    if missing.replica == advance.replica {
        return Ok(());
    }
    let what = format!("applied before {missing}, which its author had applied when writing it");
    refuse(5, Some(advance.node), batch, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::{Stand, row};

    fn check(stand: &Stand) -> Result<(), String> {
        let (mut checker, oracle) = (Causality::default(), stand.oracle());
        checker.check_step(stand, &oracle, 0).map_err(|violation| violation.what)
    }

    /// Node 0 writes, node 1 applies that and writes, node 2 applies the answer.
    fn answered(with_context: bool) -> Stand {
        let mut stand = Stand::new(3);
        let (first, second) = (stand.replica(0), stand.replica(1));
        stand.apply(0, first, 1);
        stand.apply(1, first, 1);
        stand.apply(1, second, 1);
        if with_context {
            stand.apply(2, first, 1);
        }
        stand.apply(2, second, 1);
        stand
    }

    #[test]
    fn an_answer_is_applied_only_after_what_it_answers() {
        assert_eq!(check(&answered(true)), Ok(()));
        assert!(check(&answered(false)).is_err());
    }

    fn comment(parent_is_there: bool, deleted: bool) -> Stand {
        let mut stand = Stand::new(2);
        let (post, comment) = (row(1), row(2));
        stand.insert(0, &post, &[("title", "w1")]);
        stand.insert_under(0, &comment, &[("text", "w2")], &post);
        if deleted {
            stand.delete(0, &post);
        }
        if parent_is_there {
            stand.write(1, &post, &[("title", "w1")]);
        }
        stand.write(1, &comment, &[("text", "w2")]);
        stand.history.engine_wrote(1, [(&comment, false, true)]);
        stand
    }

    #[test]
    fn a_comment_never_shows_without_its_post() {
        assert_eq!(check(&comment(true, false)), Ok(()));
        assert_eq!(check(&comment(false, true)), Ok(()));
        assert!(check(&comment(false, false)).is_err());
    }
}
