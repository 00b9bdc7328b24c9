//! What a database shows of a row, with the dots behind it: the *shadow*.
//!
//! A local write replaces what its database showed, and only that. So rows have no mutators of their own:
//! an INSERT, UPDATE or DELETE is derived from the view that the database had, which may be older than
//! the state (a snapshot was joined and not yet written) or differ from it (a repaired name).

use std::collections::BTreeMap;

use crate::chain::{Increment, Seen};
use crate::crdt::Crdt;
use crate::dot::{Dot, ReplicaId};
use crate::error::{CounterOverflow, DecodeError};
use crate::hlc::{Hlc, write_stamp};
use crate::mutant::{Mutant, active};
use crate::pack::{DotTable, Reader, Writer};
use crate::row::{ColumnDelta, ColumnName, Row, RowDelta};
use crate::set::NAME_BYTES_MAX;
use crate::value::Value;

/// Room that the bytes of a view begin with.
const USUAL_BYTES: usize = 256;

/// A shown cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ViewCell {
    /// What the database shows; differs from the written value where a repair was made.
    pub value: Value,
    /// Write stamp of the value.
    pub stamp: Hlc,
    /// Dots of the value and of every known value equal to it. Empty for a cell that nobody wrote.
    pub dots: Vec<Dot>,
}

/// A shown counter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ViewSum {
    /// What the database shows.
    pub amount: i128,
    /// The sums in it, sorted by birth, each with a mark that says whether it hangs on all shown lives.
    pub seen: Vec<(Seen, bool)>,
}

/// A row as a database shows it. A view without lives is a row that does not exist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowView {
    /// The lives shown, sorted.
    pub lives: Vec<Dot>,
    /// Columns that hold values.
    pub cells: BTreeMap<ColumnName, ViewCell>,
    /// Columns that are counters.
    pub sums: BTreeMap<ColumnName, ViewSum>,
}

/// A column of a local write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// The column's new value.
    Set(Value),
    /// The counter's new amount; what changed against the view is the increment.
    Count(i128),
}

impl Row {
    /// What a database that is in step with this row shows.
    ///
    /// # Errors
    /// [`CounterOverflow`] when a counter's shares do not fit into one i128.
    pub fn view(&self) -> Result<RowView, CounterOverflow> {
        let mut view = RowView { lives: self.lives().to_vec(), ..RowView::default() };
        if !self.exists() {
            return Ok(view);
        }
        for (name, column) in self.columns() {
            if let Some(shown) = column.shown() {
                // Also those whose lives ended: whoever writes over the value has seen what they hold.
                let equal = column.cells.iter().filter(|cell| cell.value == shown.value);
                let dots = equal.map(|cell| cell.dot).collect();
                let cell = ViewCell { value: shown.value.clone(), stamp: shown.stamp, dots };
                view.cells.insert(name.clone(), cell);
            }
            let living = column.sums.iter().filter(|sum| !sum.lives.is_empty() && sum.chain.is_alive());
            let seen: Vec<_> = living.map(|sum| (sum.chain.seen, sum.lives == view.lives)).collect();
            if !seen.is_empty() {
                view.sums.insert(name.clone(), ViewSum { amount: column.amount()?, seen });
            }
        }
        Ok(view)
    }
}

impl RowView {
    /// True when the database shows the row.
    pub fn exists(&self) -> bool {
        !self.lives.is_empty()
    }

    /// The values as the database has them.
    pub fn values(&self) -> BTreeMap<ColumnName, Write> {
        let cells = self.cells.iter().map(|(name, cell)| (name.clone(), Write::Set(cell.value.clone())));
        let sums = self.sums.iter().map(|(name, sum)| (name.clone(), Write::Count(sum.amount)));
        cells.chain(sums).collect()
    }

    /// An INSERT of a row that the database did not show.
    pub fn insert(&self, columns: impl IntoIterator<Item = (ColumnName, Write)>) -> RowDelta {
        let mut delta = RowDelta { insert: true, ..RowDelta::default() };
        for (name, write) in columns {
            let mut column = ColumnDelta { name, ..ColumnDelta::default() };
            match write {
                Write::Set(value) => column.write = Some(value),
                Write::Count(amount) => column.add = Some(Increment { extends: None, amount }),
            }
            delta.columns.push(column);
        }
        delta.columns.sort_by(|left, right| left.name.cmp(&right.name));
        delta
    }

    /// An UPDATE: the named columns that differ from the view. Returns one delta a stamp, because a cell
    /// whose replaced value is stamped in the future must not take its neighbours there.
    pub fn update(
        &self,
        replica: ReplicaId,
        time: Hlc,
        columns: impl IntoIterator<Item = (ColumnName, Write)>,
    ) -> BTreeMap<Hlc, RowDelta> {
        self.changes(replica, time, columns, false)
    }

    /// A REPLACE: like an UPDATE, but counters are reset to the new amount, by naming what was seen.
    pub fn replace(
        &self,
        replica: ReplicaId,
        time: Hlc,
        columns: impl IntoIterator<Item = (ColumnName, Write)>,
    ) -> BTreeMap<Hlc, RowDelta> {
        self.changes(replica, time, columns, true)
    }

    /// A DELETE: ends all lives shown and names all values and sums shown. `None` when nothing is shown.
    pub fn delete(&self) -> Option<RowDelta> {
        if !self.exists() {
            return None;
        }
        let mut columns: BTreeMap<&ColumnName, ColumnDelta> = BTreeMap::new();
        for (name, cell) in &self.cells {
            columns.entry(name).or_default().replaces = cell.dots.clone();
        }
        for (name, sum) in &self.sums {
            columns.entry(name).or_default().removes = sum.seen.iter().map(|(seen, _)| *seen).collect();
        }
        let named = columns.into_iter().map(|(name, delta)| ColumnDelta { name: name.clone(), ..delta });
        Some(RowDelta { ends: self.lives.clone(), columns: named.collect(), ..RowDelta::default() })
    }

    fn changes(
        &self,
        replica: ReplicaId,
        time: Hlc,
        columns: impl IntoIterator<Item = (ColumnName, Write)>,
        reset: bool,
    ) -> BTreeMap<Hlc, RowDelta> {
        let mut deltas: BTreeMap<Hlc, RowDelta> = BTreeMap::new();
        for (name, write) in columns {
            let (stamp, column) = match write {
                Write::Set(value) => self.set(name, value, time),
                Write::Count(amount) => (Some(time), self.count(replica, name, amount, reset)),
            };
            let (Some(stamp), Some(column)) = (stamp, column) else { continue };
            deltas.entry(stamp).or_default().columns.push(column);
        }
        let mut lives = self.lives.clone();
        if active(Mutant::OneLifeNamed) {
            lives.truncate(1);
        }
        for delta in deltas.values_mut() {
            delta.lives.clone_from(&lives);
            delta.columns.sort_by(|left, right| left.name.cmp(&right.name));
        }
        deltas
    }

    fn set(&self, name: ColumnName, value: Value, time: Hlc) -> (Option<Hlc>, Option<ColumnDelta>) {
        let shown = self.cells.get(&name);
        if shown.is_some_and(|cell| cell.value == value) {
            return (None, None);
        }
        let stamp = write_stamp(time, shown.map(|cell| cell.stamp));
        let replaces = shown.map_or_else(Vec::new, |cell| cell.dots.clone());
        (Some(stamp), Some(ColumnDelta { name, replaces, write: Some(value), ..ColumnDelta::default() }))
    }

    fn count(&self, replica: ReplicaId, name: ColumnName, amount: i128, reset: bool) -> Option<ColumnDelta> {
        let nothing = ViewSum::default();
        let shown = self.sums.get(&name).unwrap_or(&nothing);
        let mut column = ColumnDelta { name, ..ColumnDelta::default() };
        if reset && !active(Mutant::CounterResetByNegative) {
            column.removes = shown.seen.iter().map(|(seen, _)| *seen).collect();
            column.add = Some(Increment { extends: None, amount });
            return Some(column);
        }
        let difference = amount.checked_sub(shown.amount)?;
        if difference == 0 && !shown.seen.is_empty() {
            return None;
        }
        let own = shown.seen.iter().rev().find(|(seen, on_all)| *on_all && seen.birth.replica == replica);
        column.add = Some(Increment { extends: own.map(|(seen, _)| *seen), amount: difference });
        Some(column)
    }

    /// Follows a local write that the database shows already: the change `dot`, stamped `stamp`.
    ///
    /// # Errors
    /// [`CounterOverflow`] when a counter's amount would leave its range.
    pub fn follow(&mut self, dot: Dot, stamp: Hlc, delta: &RowDelta) -> Result<(), CounterOverflow> {
        if !delta.ends.is_empty() {
            *self = Self::default();
            return Ok(());
        }
        if delta.insert {
            // Nothing of an earlier life is shown beside the new one.
            *self = Self { lives: vec![dot], ..Self::default() };
        }
        for column in &delta.columns {
            if let Some(value) = &column.write {
                let cell = ViewCell { value: value.clone(), stamp, dots: vec![dot] };
                self.cells.insert(column.name.clone(), cell);
            }
            if !column.removes.is_empty() || column.add.is_some() {
                self.sums.entry(column.name.clone()).or_default().follow(dot, column)?;
            }
        }
        Ok(())
    }

    /// Every dot that the encoding mentions.
    pub fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        self.lives.iter().copied().for_each(&mut *visit);
        self.cells.values().flat_map(|cell| &cell.dots).copied().for_each(&mut *visit);
        let seen = self.sums.values().flat_map(|sum| &sum.seen);
        seen.flat_map(|(seen, _)| [seen.birth, seen.tip]).for_each(&mut *visit);
    }

    /// The bytes in which a node keeps the view.
    pub fn to_bytes(&self) -> Vec<u8> {
        let table = DotTable::gather(|visit| self.dots(visit));
        let mut writer = Writer::with_capacity(USUAL_BYTES);
        writer.table(&table);
        writer.dots(&self.lives, &table);
        writer.varint(self.cells.len() as u64);
        for (name, cell) in &self.cells {
            writer.bytes(name);
            writer.varint(cell.stamp.0);
            writer.dots(&cell.dots, &table);
            writer.value(&cell.value);
        }
        writer.varint(self.sums.len() as u64);
        for (name, sum) in &self.sums {
            writer.bytes(name);
            writer.signed(sum.amount);
            writer.varint(sum.seen.len() as u64);
            for (seen, on_all) in &sum.seen {
                seen.encode(&mut writer, &table);
                writer.byte((*on_all).into());
            }
        }
        writer.into_bytes()
    }

    /// The inverse of [`RowView::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] for damaged bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let table = reader.table()?;
        let mut view = Self { lives: reader.sorted_dots(&table)?, ..Self::default() };
        for _ in 0..reader.count("number of cells", 4)? {
            let name: ColumnName = reader.bytes("column name length", NAME_BYTES_MAX)?.into();
            let stamp = Hlc(reader.varint()?);
            let dots = reader.dots(&table)?;
            view.cells.insert(name, ViewCell { value: reader.value()?, stamp, dots });
        }
        for _ in 0..reader.count("number of sums", 3)? {
            let name: ColumnName = reader.bytes("column name length", NAME_BYTES_MAX)?.into();
            let mut sum = ViewSum { amount: reader.signed()?, ..ViewSum::default() };
            for _ in 0..reader.count("number of shares", 6)? {
                let seen = Seen::decode(&mut reader, &table)?;
                sum.seen.push((seen, reader.bounded("lives mark", 1)? == 1));
            }
            view.sums.insert(name, sum);
        }
        reader.finish()?;
        Ok(view)
    }
}

impl ViewSum {
    fn follow(&mut self, dot: Dot, column: &ColumnDelta) -> Result<(), CounterOverflow> {
        if !column.removes.is_empty() {
            // Removing names everything that was shown.
            *self = Self::default();
        }
        if let Some(increment) = &column.add {
            let seen = increment.seen(dot)?;
            self.amount = self.amount.checked_add(increment.amount).ok_or(CounterOverflow)?;
            // In the order of births, as `Row::view` has them: a followed view equals a fresh one.
            match self.seen.binary_search_by_key(&seen.birth, |(present, _)| present.birth) {
                Ok(at) => self.seen[at] = (seen, true),
                Err(at) => self.seen.insert(at, (seen, true)),
            }
        }
        Ok(())
    }
}

/// True when `row` and the database's view of it have nothing left to tell each other.
pub fn in_step(row: &Row, view: &RowView) -> bool {
    row.view().is_ok_and(|shown| shown == *view) || (row.is_bottom() && *view == RowView::default())
}
