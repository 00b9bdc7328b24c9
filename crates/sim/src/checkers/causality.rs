//! Invariant 5: nothing applies before its context.
//!
//! Twice, in two languages. Of batches: a node that has applied a batch has applied everything that its author had
//! applied when writing it, as it was observed at the author, whatever the batch itself claims. Of rows: a row whose
//! author had seen another one (a comment under its post) never appears in a database without it, unless somebody
//! deleted that other row, or the author's own node had told a person of it and taken it out of its database by then. A
//! row that was inserted twice answers for the INSERT whose content it shows.

use std::collections::BTreeMap;

use crdt::{BatchId, Value};
use replica::Report;
use replica::host::{RowId, RowImage, Schema};

use super::{Checker, Verdict, WorldRead, refuse, show_row};
use crate::history::{Advance, Appearance, CommitId, History, NodeIndex, Reported};
use crate::oracle::Oracle;
use crate::oracle::names::base;
use crate::oracle::rows::{EventKind, RowLedger, Source};
use crate::oracle::sight::batches_of;

/// See the module's documentation.
#[derive(Default)]
pub struct Causality {
    advances: usize,
    appearances: usize,
    commits: usize,
    /// Rows that their author had seen, by the row that was inserted in their sight, with the transaction that did.
    parents: BTreeMap<RowId, Vec<(CommitId, RowId)>>,
}

impl Checker for Causality {
    fn check_step(&mut self, world: &dyn WorldRead, oracle: &Oracle, _node: NodeIndex) -> Verdict {
        let history = world.history();
        let advances = &history.advances()[self.advances..];
        self.advances = history.advances().len();
        advances.iter().try_for_each(|advance| check_advance(history, advance))?;
        for (commit, done) in history.commits().iter().enumerate().skip(self.commits) {
            for (child, parent) in &done.parents {
                self.parents.entry(child.clone()).or_default().push((commit, parent.clone()));
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
        let Some(shown) = database.row(child) else { return Ok(()) };
        for (commit, parent) in parents.iter().filter(|(_, parent)| database.row(parent).is_none()) {
            let ledger = oracle.row(parent);
            let deleted = ledger.is_some_and(|row| row.events.iter().any(|event| event.kind == EventKind::Delete));
            let is_rescued = || ledger.is_some_and(|row| was_taken_away(world.history(), row, *commit));
            let ledger = oracle.row(child);
            let is_another = ledger.is_some_and(|row| is_of_another_insert(world.schema(), row, *commit, shown));
            if !deleted && !is_another && !is_rescued() {
                let what = format!("the database shows it without {}, which its author had seen", show_row(parent));
                return refuse(5, Some(node), show_row(child), what);
            }
        }
        Ok(())
    }
}

/// True when the row stands there by another INSERT than this one: nothing that this one wrote is shown, and something
/// of another is. A database that went back gives its last ids again, while peers have other rows under them. Where its
/// recovery leaves those and tells a person of the second ones, what the authors of the second ones saw binds nobody.
fn is_of_another_insert(schema: &Schema, ledger: &RowLedger, commit: CommitId, shown: &RowImage) -> bool {
    // NULL is the one value that says nothing about who wrote it.
    let values = shown.iter().filter(|(_, value)| **value != Value::Null);
    let known = values.filter_map(|(column, value)| {
        let value = base(schema, &ledger.row, column, value);
        ledger.cells.get(column)?.values.get(&value)
    });
    let sources: Vec<Source> = known.flat_map(|known| &known.writers).map(|writer| writer.source).collect();
    let is_shown = |commit: CommitId| sources.contains(&Source::Sql(commit));
    let mut inserts = ledger.events.iter().filter(|event| event.kind == EventKind::Insert);
    !is_shown(commit) && inserts.any(|insert| is_shown(insert.commit))
}

/// True when the author's node had told a person of the parent's content, and had taken it out of its own database
/// before the author committed. So it goes with a row that the site wrote after its database went back and before the
/// engine noticed: no rule can tell it from an old one. The author had read it in an earlier snapshot, and wrote under
/// what was gone by then, as after a DELETE of somebody else. Not so when a client wrote to the parent since the
/// report, another backup may have brought it again, or the author's state included an INSERT of it.
fn was_taken_away(history: &History, parent: &RowLedger, commit: CommitId) -> bool {
    let child = &history.commits()[commit];
    let here = |appearance: &&Appearance| {
        appearance.node == child.node && appearance.row == parent.row && appearance.order < child.order
    };
    let last = history.appearances().iter().rev().find(here);
    let Some(gone) = last.filter(|appearance| !appearance.visible) else { return false };
    let tells = |reported: &&Reported| {
        let found = matches!(&reported.report, Report::Rescued { row, image: Some(_) } if *row == parent.row);
        found && reported.node == child.node && reported.order < gone.order
    };
    let Some(told) = history.reports().iter().rev().find(tells) else { return false };
    let since = told.order..=child.order;
    let was_written = parent.events.iter().any(|event| event.node == child.node && since.contains(&event.order));
    let was_restored = history.nodes()[child.node].database_restored.iter().any(|order| since.contains(order));
    let batches = batches_of(history, commit);
    let mut saw = batches.iter().filter_map(|batch| history.batch(*batch)?.saw.as_ref());
    let was_known = saw.any(|saw| parent.inserts.iter().any(|insert| saw.contains(*insert)));
    !was_written && !was_restored && !was_known
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
    use crate::checkers::stand::{Stand, image, row};

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

    #[test]
    fn a_comment_may_come_under_a_post_that_its_own_node_had_rescued_and_taken_away() {
        let (post, comment) = (row(1), row(2));
        let found = || Report::Rescued { row: row(1), image: Some(image(&[("title", "w1")])) };
        let run = |steps: &[&str]| {
            let mut stand = Stand::new(2);
            stand.insert(0, &post, &[("title", "w1")]);
            for step in steps {
                match *step {
                    "told" => stand.history.reported(0, found()),
                    "told elsewhere" => stand.history.reported(1, found()),
                    "edited" => stand.update(0, &post, &[("title", "w3")]),
                    "taken away" => {
                        stand.databases[0].remove(&post);
                        stand.history.engine_wrote(0, [(&post, true, false)]);
                    }
                    "restored" => stand.history.database_restored(0, []),
                    "commented" => stand.insert_under(0, &comment, &[("text", "w2")], &post),
                    "post drained" => stand.drain(0, &[(post.clone(), "title", "w1")]),
                    "comment drained" => stand.drain(0, &[(comment.clone(), "text", "w2")]),
                    unknown => panic!("no step is called {unknown}"),
                }
            }
            stand.write(1, &comment, &[("text", "w2")]);
            stand.history.engine_wrote(1, [(&comment, false, true)]);
            check(&stand)
        };
        assert_eq!(run(&["told", "taken away", "commented", "comment drained"]), Ok(()));
        let broken: [&[&str]; 7] = [
            &["taken away", "commented"],
            &["told elsewhere", "taken away", "commented"],
            &["told", "commented"],
            &["told", "commented", "taken away"],
            &["told", "edited", "taken away", "commented"],
            &["told", "taken away", "restored", "commented"],
            &["post drained", "told", "taken away", "commented", "comment drained"],
        ];
        for steps in broken {
            assert!(run(steps).is_err(), "{steps:?}");
        }
    }

    #[test]
    fn an_id_that_was_given_twice_answers_for_the_content_that_shows() {
        let mut stand = Stand::new(2);
        let (post, lost_post, comment) = (row(1), row(2), row(3));
        stand.insert(0, &post, &[("title", "w1")]);
        stand.insert_under(0, &comment, &[("post", "#1"), ("text", "w2")], &post);
        stand.databases[0].clear();
        stand.history.database_restored(0, [0, 1]);
        stand.insert(0, &lost_post, &[("title", "w3")]);
        stand.insert_under(0, &comment, &[("post", "#2"), ("text", "w4")], &lost_post);
        stand.write(1, &post, &[("title", "w1")]);
        stand.write(1, &comment, &[("post", "#1"), ("text", "w2")]);
        stand.history.engine_wrote(1, [(&comment, false, true)]);
        assert_eq!(check(&stand), Ok(()));
        stand.write(1, &comment, &[("post", "#1"), ("text", "w4")]);
        assert!(check(&stand).is_err(), "something of the second one shows");
        stand.write(1, &comment, &[("post", "#9"), ("text", "w9")]);
        assert!(check(&stand).is_err(), "nothing tells which of the two it is");
        stand.write(1, &comment, &[("post", "#1"), ("text", "w2")]);
        stand.databases[1].remove(&post);
        assert!(check(&stand).is_err(), "the first one has a parent as well");
    }
}
