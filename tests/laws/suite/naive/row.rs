//! The row: lives, values that hang on the lives their author saw, and increments that do.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Dot, Hlc, Value};

use super::{History, Model, Past, Record, Scene, applied};
use crate::picture::{JournalValue, Leaf, Picture, Shown, ShownValue};
use crate::subjects::{Input, RowIntent};

/// What one operation did.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowOp {
    inserts: bool,
    /// Lives that the author's database showed.
    lives: BTreeSet<Dot>,
    /// Lives that the author deleted.
    ends: BTreeSet<Dot>,
    writes: BTreeMap<String, Value>,
    adds: BTreeMap<String, i128>,
    /// Values and increments that the author was shown and that are gone. A dot stands for one change; it
    /// can hold a value of each column, so the column belongs to the name.
    names: BTreeSet<(String, Dot)>,
}

/// What a database shows of the row, and what its engine remembers of where it comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RowShadow {
    lives: BTreeSet<Dot>,
    /// Value, stamp, and the dots of every known equal value.
    cells: BTreeMap<String, (Value, Hlc, BTreeSet<Dot>)>,
    /// The increments that are counted.
    sums: BTreeMap<String, BTreeMap<Dot, i128>>,
}

/// All operations on one row.
#[derive(Debug, Default)]
pub(crate) struct RowModel {
    history: History<RowOp>,
}

/// A value or an amount that nobody named, with the lives that are left to it.
struct Present<'a, T> {
    dot: Dot,
    stamp: Hlc,
    content: &'a T,
    lives: BTreeSet<Dot>,
}

impl RowModel {
    pub(crate) fn leaf(&self, past: &Past) -> Leaf {
        let mut leaf = Leaf::default();
        let shadow = self.look(past);
        for column in self.columns(past) {
            let shown = shadow.cells.get(&column).map(|(value, ..)| value);
            for cell in self.cells(past, &column).iter().filter(|cell| Some(cell.content) != shown) {
                let (dot, stamp, value) = (cell.dot, cell.stamp, cell.content.clone());
                leaf.journal.insert(JournalValue { column: column.clone(), dot, stamp, value });
            }
            for amount in self.amounts(past, &column).iter().filter(|amount| amount.lives.is_empty()) {
                *leaf.amounts.entry((column.clone(), amount.dot.replica)).or_insert(0) += amount.content;
            }
        }
        leaf.amounts.retain(|_, amount| *amount != 0);
        leaf.shown = picture_of(&shadow, |cells| *cells.last().expect("a shown value has a dot"));
        if let Shown::Row { cells, .. } = &mut leaf.shown {
            for (column, shown) in cells {
                shown.dot = self.greatest(past, column).expect("the column shows something").dot;
            }
        }
        leaf
    }

    fn lives(&self, past: &Past) -> BTreeSet<Dot> {
        let ended = |life: &Dot| applied(&self.history, past).any(|(_, record)| record.op.ends.contains(life));
        let inserts = applied(&self.history, past).filter(|(_, record)| record.op.inserts);
        inserts.map(|(dot, _)| dot).filter(|life| !ended(life)).collect()
    }

    fn columns(&self, past: &Past) -> BTreeSet<String> {
        let named = applied(&self.history, past).map(|(_, record)| &record.op);
        named.flat_map(|op| op.writes.keys().chain(op.adds.keys())).cloned().collect()
    }

    fn cells(&self, past: &Past, column: &str) -> Vec<Present<'_, Value>> {
        self.present(past, column, |op| op.writes.get(column))
    }

    fn amounts(&self, past: &Past, column: &str) -> Vec<Present<'_, i128>> {
        self.present(past, column, |op| op.adds.get(column))
    }

    fn present<'a, T>(
        &'a self,
        past: &Past,
        column: &str,
        content: impl Fn(&'a RowOp) -> Option<&'a T>,
    ) -> Vec<Present<'a, T>> {
        let alive = self.lives(past);
        let named: BTreeSet<Dot> = applied(&self.history, past)
            .flat_map(|(_, record)| &record.op.names)
            .filter(|(named, _)| named == column)
            .map(|(_, dot)| *dot)
            .collect();
        let mut present = Vec::new();
        for (dot, record) in self.history.iter().filter(|(dot, _)| past.contains(dot)) {
            if named.contains(dot) {
                continue;
            }
            let Some(content) = content(&record.op) else { continue };
            let own = record.op.inserts.then_some(*dot);
            let lives = record.op.lives.iter().copied().chain(own).filter(|life| alive.contains(life)).collect();
            present.push(Present { dot: *dot, stamp: record.stamp, content, lives });
        }
        present
    }

    /// The living value with the greatest stamp.
    fn greatest(&self, past: &Past, column: &str) -> Option<Present<'_, Value>> {
        let living = self.cells(past, column).into_iter().filter(|cell| !cell.lives.is_empty());
        living.max_by_key(|cell| (cell.stamp, cell.dot))
    }

    /// An update's operations, one a stamp.
    fn update(&self, scene: &Scene<'_, RowShadow>, inputs: &BTreeMap<&str, Input>, reset: bool) -> Vec<(Hlc, RowOp)> {
        let mut ops: BTreeMap<Hlc, RowOp> = BTreeMap::new();
        for (column, input) in inputs {
            let column = (*column).to_owned();
            let mut op = RowOp::default();
            let stamp = match input {
                Input::Cell(value) => {
                    let shown = scene.shadow.cells.get(&column);
                    if shown.is_some_and(|(shown, ..)| shown == value) {
                        continue;
                    }
                    let dots = shown.map(|(_, _, dots)| dots).into_iter().flatten();
                    op.names = dots.map(|dot| (column.clone(), *dot)).collect();
                    op.writes.insert(column, value.clone());
                    shown.map_or(scene.now, |(_, stamp, _)| scene.now.max(Hlc(stamp.0 + 1)))
                }
                Input::Count(amount) => {
                    let counted = scene.shadow.sums.get(&column);
                    if !reset && *amount == 0 && counted.is_some() {
                        continue;
                    }
                    let seen = counted.filter(|_| reset).into_iter().flat_map(BTreeMap::keys);
                    op.names = seen.map(|dot| (column.clone(), *dot)).collect();
                    op.adds.insert(column, *amount);
                    scene.now
                }
            };
            let group = ops.entry(stamp).or_default();
            group.lives.clone_from(&scene.shadow.lives);
            group.names.extend(op.names);
            group.writes.extend(op.writes);
            group.adds.extend(op.adds);
        }
        ops.into_iter().collect()
    }

    fn delete(shadow: &RowShadow) -> Option<RowOp> {
        let cells = shadow.cells.iter().flat_map(|(column, (_, _, dots))| dots.iter().map(move |dot| (column, dot)));
        let sums = shadow.sums.iter().flat_map(|(column, seen)| seen.keys().map(move |dot| (column, dot)));
        let names = cells.chain(sums).map(|(column, dot)| (column.clone(), *dot)).collect();
        (!shadow.lives.is_empty()).then(|| RowOp { ends: shadow.lives.clone(), names, ..RowOp::default() })
    }

    fn restore(&self, scene: &Scene<'_, RowShadow>, pick: usize) -> Vec<(Hlc, RowOp)> {
        let journal = self.leaf(scene.past).journal;
        let Some(entry) = journal.iter().nth(pick % journal.len().max(1)) else { return Vec::new() };
        if scene.shadow.lives.is_empty() {
            return Vec::new();
        }
        let inputs = [(entry.column.as_str(), Input::Cell(entry.value.clone()))].into();
        let mut ops = self.update(scene, &inputs, false);
        ops.iter_mut().for_each(|(_, op)| {
            op.names.insert((entry.column.clone(), entry.dot));
        });
        ops
    }
}

impl Model for RowModel {
    type Intent = RowIntent;
    type Shadow = RowShadow;
    type Op = RowOp;

    fn plan(&self, scene: &Scene<'_, RowShadow>, intent: &RowIntent) -> Vec<(Hlc, RowOp)> {
        match intent {
            RowIntent::Put(inputs) | RowIntent::Replace(inputs) if scene.shadow.lives.is_empty() => {
                let mut op = RowOp { inserts: true, ..RowOp::default() };
                for (column, input) in inputs {
                    match input {
                        Input::Cell(value) => drop(op.writes.insert((*column).to_owned(), value.clone())),
                        Input::Count(amount) => drop(op.adds.insert((*column).to_owned(), *amount)),
                    }
                }
                vec![(scene.now, op)]
            }
            RowIntent::Put(inputs) => self.update(scene, inputs, false),
            RowIntent::Replace(inputs) => self.update(scene, inputs, true),
            RowIntent::Delete => Self::delete(scene.shadow).map(|op| (scene.now, op)).into_iter().collect(),
            RowIntent::Restore(pick) => self.restore(scene, *pick),
        }
    }

    fn record(&mut self, dot: Dot, record: Record<RowOp>) {
        self.history.insert(dot, record);
    }

    fn look(&self, past: &Past) -> RowShadow {
        let mut shadow = RowShadow { lives: self.lives(past), ..RowShadow::default() };
        if shadow.lives.is_empty() {
            return shadow;
        }
        for column in self.columns(past) {
            if let Some(shown) = self.greatest(past, &column) {
                let equal = self.cells(past, &column).into_iter().filter(|cell| cell.content == shown.content);
                let dots = equal.map(|cell| cell.dot).collect();
                shadow.cells.insert(column.clone(), (shown.content.clone(), shown.stamp, dots));
            }
            let counted = self.amounts(past, &column).into_iter().filter(|amount| !amount.lives.is_empty());
            let counted: BTreeMap<Dot, i128> = counted.map(|amount| (amount.dot, *amount.content)).collect();
            if !counted.is_empty() {
                shadow.sums.insert(column, counted);
            }
        }
        shadow
    }

    fn follow(&self, shadow: &mut RowShadow, dot: Dot, stamp: Hlc, op: &RowOp) {
        if op.inserts || !op.ends.is_empty() {
            *shadow = RowShadow { lives: op.inserts.then_some(dot).into_iter().collect(), ..RowShadow::default() };
        }
        for (column, value) in &op.writes {
            shadow.cells.insert(column.clone(), (value.clone(), stamp, [dot].into()));
        }
        for (column, amount) in &op.adds {
            let counted = shadow.sums.entry(column.clone()).or_default();
            counted.retain(|seen, _| !op.names.contains(&(column.clone(), *seen)));
            counted.insert(dot, *amount);
        }
    }

    fn picture(&self, past: &Past) -> Picture {
        Picture::of(self.leaf(past))
    }

    fn picture_of_shadow(&self, shadow: &RowShadow) -> Picture {
        let shown = picture_of(shadow, |dots| *dots.last().expect("a shown value has a dot"));
        Picture::of(Leaf { shown, ..Leaf::default() })
    }
}

fn picture_of(shadow: &RowShadow, dot: impl Fn(&BTreeSet<Dot>) -> Dot) -> Shown {
    if shadow.lives.is_empty() {
        return Shown::Nothing;
    }
    let cells = shadow.cells.iter().map(|(column, (value, stamp, dots))| {
        (column.clone(), ShownValue { stamp: *stamp, dot: dot(dots), value: value.clone() })
    });
    let sums = shadow.sums.iter().map(|(column, counted)| (column.clone(), counted.values().sum())).collect();
    Shown::Row { lives: shadow.lives.clone(), cells: cells.collect(), sums }
}
