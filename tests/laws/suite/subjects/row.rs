//! The row, through the view that a database has of it.

use std::collections::{BTreeMap, BTreeSet};

use crdt::row::{ColumnName, RowDelta, RowJournalContent};
use crdt::row_view::{Write, in_step};
use crdt::{Dot, Hlc, Object, ReplicaId, Row, RowView};
use proptest::prelude::*;

use super::{Input, RowIntent};
use crate::harness::{Author, Subject};
use crate::naive::RowModel;
use crate::picture::{JournalValue, Leaf, Picture, Shown, ShownValue, Spot, Touch};

/// Drives [`Row`].
#[derive(Clone, Debug)]
pub(crate) struct RowSubject;

impl Subject for RowSubject {
    type State = Row;
    type Intent = RowIntent;
    type Shadow = RowView;
    type Model = RowModel;

    fn intents() -> BoxedStrategy<RowIntent> {
        RowIntent::any().boxed()
    }

    fn act(author: &Author<'_, Self>, intent: &RowIntent) -> Vec<(Hlc, RowDelta)> {
        act(author.state, author.shadow, author.replica, author.now, intent)
    }

    fn look(state: &Row) -> RowView {
        state.view().expect("amounts are small")
    }

    fn follow(shadow: &mut RowView, dot: Dot, stamp: Hlc, delta: &RowDelta) {
        shadow.follow(dot, stamp, delta).expect("amounts are small");
    }

    fn wrap(state: Row) -> Object {
        Object::Row(state)
    }

    fn unwrap(object: Object) -> Row {
        match object {
            Object::Row(state) => state,
            other => panic!("a {:?} stands for another type", other.kind()),
        }
    }

    fn restores(intent: &RowIntent) -> bool {
        matches!(intent, RowIntent::Restore(_))
    }

    fn observe_shadow(shadow: &RowView) -> Picture {
        assert_eq!(RowView::from_bytes(&shadow.to_bytes()).as_ref(), Ok(shadow));
        Picture::of(observe_view(shadow))
    }

    fn in_step(state: &Row, shadow: &RowView) -> bool {
        in_step(state, shadow)
    }

    fn touches(author: &Author<'_, Self>, delta: &RowDelta) -> Vec<Touch> {
        touches(author.shadow, delta)
    }

    fn counts(delta: &RowDelta) -> bool {
        delta.columns.iter().any(|column| column.add.is_some())
    }
}

pub(crate) fn act(row: &Row, view: &RowView, replica: ReplicaId, now: Hlc, intent: &RowIntent) -> Vec<(Hlc, RowDelta)> {
    match intent {
        RowIntent::Put(inputs) | RowIntent::Replace(inputs) if !view.exists() => {
            vec![(now, view.insert(inputs.iter().map(|(name, input)| absolute(name, input))))]
        }
        RowIntent::Put(inputs) => {
            let writes = inputs.iter().map(|(name, input)| match input {
                Input::Count(amount) => {
                    let shown = view.sums.get(name.as_bytes()).map_or(0, |sum| sum.amount);
                    absolute(name, &Input::Count(shown + amount))
                }
                cell => absolute(name, cell),
            });
            view.update(replica, now, writes).into_iter().collect()
        }
        RowIntent::Replace(inputs) => {
            let writes = inputs.iter().map(|(name, input)| absolute(name, input));
            view.replace(replica, now, writes).into_iter().collect()
        }
        RowIntent::Delete => view.delete().map(|delta| (now, delta)).into_iter().collect(),
        RowIntent::Restore(pick) => restore(row, view, replica, now, *pick),
    }
}

fn absolute(name: &str, input: &Input) -> (ColumnName, Write) {
    let write = match input {
        Input::Cell(value) => Write::Set(value.clone()),
        Input::Count(amount) => Write::Count(*amount),
    };
    (name.as_bytes().into(), write)
}

/// A restore names all lives shown, the value shown and what it restores. The type has no mutator for it,
/// because its parts come from two places: the view and the journal.
fn restore(row: &Row, view: &RowView, replica: ReplicaId, now: Hlc, pick: usize) -> Vec<(Hlc, RowDelta)> {
    let journal = observe(row).journal;
    let Some(entry) = journal.iter().nth(pick % journal.len().max(1)) else { return Vec::new() };
    if !view.exists() {
        return Vec::new();
    }
    let write = (ColumnName::from(entry.column.as_bytes()), Write::Set(entry.value.clone()));
    let mut deltas = view.update(replica, now, [write]);
    deltas.values_mut().flat_map(|delta| &mut delta.columns).for_each(|column| column.replaces.push(entry.dot));
    deltas.into_iter().collect()
}

pub(crate) fn observe(row: &Row) -> Leaf {
    let mut leaf = Leaf::default();
    if row.exists() {
        let mut cells = BTreeMap::new();
        let mut sums = BTreeMap::new();
        for name in row.column_names() {
            if let Some(cell) = row.shown(name) {
                let shown = ShownValue { stamp: cell.stamp, dot: cell.dot, value: cell.value.clone() };
                cells.insert(text(name), shown);
            }
            if let Some(amount) = row.amount(name).expect("amounts are small") {
                sums.insert(text(name), amount);
            }
        }
        leaf.shown = Shown::Row { lives: row.lives().iter().copied().collect(), cells, sums };
    } else {
        assert!(row.column_names().all(|name| row.shown(name).is_none()), "a dead row shows a cell");
    }
    for entry in row.journal() {
        let column = text(entry.column);
        match entry.content {
            RowJournalContent::Value(stamp, value) => {
                leaf.journal.insert(JournalValue { column, dot: entry.dot, stamp, value: value.clone() });
            }
            RowJournalContent::Amount(amount) => {
                *leaf.amounts.entry((column, entry.dot.replica)).or_insert(0) += amount;
            }
        }
    }
    leaf.amounts.retain(|_, amount| *amount != 0);
    leaf
}

/// A database shows values and amounts; it knows nothing of who wrote them, but the shadow does.
fn observe_view(view: &RowView) -> Leaf {
    if !view.exists() {
        return Leaf::default();
    }
    let cells = view.cells.iter().map(|(name, cell)| {
        let dot = *cell.dots.iter().max().expect("nothing is shown here that nobody wrote");
        (text(name), ShownValue { stamp: cell.stamp, dot, value: cell.value.clone() })
    });
    let sums = view.sums.iter().map(|(name, sum)| (text(name), sum.amount)).collect();
    let lives: BTreeSet<Dot> = view.lives.iter().copied().collect();
    Leaf { shown: Shown::Row { lives, cells: cells.collect(), sums }, ..Leaf::default() }
}

pub(crate) fn touches(view: &RowView, delta: &RowDelta) -> Vec<Touch> {
    let touched = delta.columns.iter().filter(|column| column.write.is_some() || !column.replaces.is_empty());
    touched
        .map(|column| Touch {
            spot: Spot { leaf: String::new(), column: text(&column.name) },
            wrote: column.write.clone(),
            saw: view.cells.get(&column.name).map(|cell| cell.value.clone()),
        })
        .collect()
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
