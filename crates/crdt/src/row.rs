//! A row of a table: lives, values and increments, joined as three sets of dots.
//!
//! - **Intent**: what an SQL row means under concurrent INSERT, UPDATE and DELETE.
//! - **Who wins**: an INSERT makes a *life*. Every value names all lives that its author saw and lives
//!   while one of them does; a column shows its living value with the greatest write stamp. A DELETE
//!   ends the lives that it saw. So a concurrent update never resurrects a row, a re-insert always
//!   lives, and nothing of an old life leaks into a new one.
//! - **Tie-break**: replica id, then place in the batch.
//! - **Concurrent values**: those not shown, and those whose last life ended unseen, form the journal.
//! - **Cost of a delete**: none, but for counters a (dot, sum) per replica until the delete is stable.
//! - **Paper**: Bieniusa et al., "An optimized conflict-free replicated set" (2012), three times over;
//!   the counters of [`crate::counter`].
//!
//! LONG: three sets of dots, their delta and their codec belong side by side; the view of a row stands apart.

use std::collections::BTreeMap;

use crate::chain::{Chain, Increment, Seen};
use crate::counter::{decode_counts, encode_counts};
use crate::crdt::{Crdt, distinct, join_dots, survives};
use crate::dot::Dot;
use crate::error::{CounterOverflow, DecodeError};
use crate::fingerprint::{Fingerprint, Leaf, Place, Tally};
use crate::hlc::Hlc;
use crate::mutant::{Mutant, active};
use crate::object::Name;
use crate::pack::{DotTable, Reader, Writer};
use crate::set::NAME_BYTES_MAX;
use crate::value::Value;
use crate::vector::Covers;

/// Name of a column, as its bytes; shared like [`Name`].
pub type ColumnName = Name;

/// One written value of a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    /// Who wrote it.
    pub dot: Dot,
    /// Its write stamp.
    pub stamp: Hlc,
    /// Those of the lives it names that have not ended, sorted. Empty: never shown again.
    pub lives: Vec<Dot>,
    /// The value.
    pub value: Value,
}

/// One replica's increments of a column under one set of lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sum {
    /// The increments.
    pub chain: Chain,
    /// Those of the lives it names that have not ended, sorted.
    pub lives: Vec<Dot>,
}

/// What a column holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Column {
    /// Greatest (stamp, dot) first.
    pub(crate) cells: Vec<Cell>,
    /// Sorted by birth.
    pub(crate) sums: Vec<Sum>,
}

/// A row.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// INSERTs that no DELETE has seen, sorted.
    lives: Vec<Dot>,
    columns: BTreeMap<ColumnName, Column>,
}

/// What happens to one column.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ColumnDelta {
    /// The column.
    pub name: ColumnName,
    /// Values that the author saw and that are gone.
    pub replaces: Vec<Dot>,
    /// The new value, if there is one.
    pub write: Option<Value>,
    /// Sums that the author saw and that no longer count.
    pub removes: Vec<Seen>,
    /// What is added to a counter.
    pub add: Option<Increment>,
}

/// What one change does to a row. INSERT: `insert`. UPDATE: `lives` and columns. DELETE: `ends`, and
/// columns that name what was seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowDelta {
    /// True when the change makes a life, named by its own dot.
    pub insert: bool,
    /// All lives that the author's row showed: what is written here hangs on them.
    pub lives: Vec<Dot>,
    /// Lives that end.
    pub ends: Vec<Dot>,
    /// Columns in byte order.
    pub columns: Vec<ColumnDelta>,
}

/// A value or an amount that is present and not shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowJournalEntry<'a> {
    /// The column.
    pub column: &'a [u8],
    /// Who wrote it; for an amount, the last increment in it.
    pub dot: Dot,
    /// What it is.
    pub content: RowJournalContent<'a>,
}

/// What a journal entry of a row keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowJournalContent<'a> {
    /// A value with its write stamp.
    Value(Hlc, &'a Value),
    /// What a replica had added to a counter under lives that ended without naming it.
    Amount(i128),
}

impl Cell {
    fn rank(&self) -> (Hlc, Dot) {
        (self.stamp, self.dot)
    }

    /// True while the value may be shown.
    pub fn is_living(&self) -> bool {
        !self.lives.is_empty()
    }
}

impl Sum {
    fn is_journaled(&self) -> bool {
        self.lives.is_empty() && self.chain.is_alive() && self.chain.share() != Ok(0)
    }
}

impl Column {
    /// The value that counts.
    pub(crate) fn shown(&self) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.is_living())
    }

    /// Sum of the living shares.
    pub(crate) fn amount(&self) -> Result<i128, CounterOverflow> {
        let living = self.sums.iter().filter(|sum| !sum.lives.is_empty());
        let mut shares = living.map(|sum| sum.chain.share());
        shares.try_fold(0_i128, |total, share| total.checked_add(share?).ok_or(CounterOverflow))
    }

    fn journal<'a>(&'a self, column: &'a [u8]) -> impl Iterator<Item = RowJournalEntry<'a>> {
        let shown = self.shown().map(|cell| &cell.value);
        let cells = self.cells.iter().filter(move |cell| Some(&cell.value) != shown).map(move |cell| RowJournalEntry {
            column,
            dot: cell.dot,
            content: RowJournalContent::Value(cell.stamp, &cell.value),
        });
        let sums = self.sums.iter().filter(|sum| sum.is_journaled()).map(move |sum| {
            let amount = sum.chain.share().unwrap_or(0);
            RowJournalEntry { column, dot: sum.chain.seen.tip, content: RowJournalContent::Amount(amount) }
        });
        cells.chain(sums)
    }

    fn tally(&self, name: &[u8], place: Place) -> Tally {
        let mut tally = Tally { journal_entries: self.journal(name).count() as u64, ..Tally::default() };
        if let Some(shown) = self.shown() {
            tally.fingerprint.add(place.value(Leaf::Cell, name, shown.dot, shown.stamp, &shown.value));
        }
        for sum in self.sums.iter().filter(|sum| !sum.lives.is_empty()) {
            tally.fingerprint.add(sum.chain.fingerprint(place, name));
        }
        tally
    }

    fn is_bottom(&self) -> bool {
        self.cells.is_empty() && self.sums.is_empty()
    }

    /// Takes ended lives away from what hangs on them.
    fn prune(&mut self, lives: &[Dot]) {
        let living = |dot: &Dot| lives.binary_search(dot).is_ok();
        self.cells.iter_mut().for_each(|cell| cell.lives.retain(living));
        self.sums.iter_mut().for_each(|sum| sum.lives.retain(living));
    }

    fn insert(&mut self, cell: Cell) {
        let at = self.cells.partition_point(|present| present.rank() > cell.rank());
        self.cells.insert(at, cell);
    }

    fn sum(&mut self, birth: Dot) -> Result<&mut Sum, usize> {
        match self.sums.binary_search_by_key(&birth, |sum| sum.chain.seen.birth) {
            Ok(at) => Ok(&mut self.sums[at]),
            Err(at) => Err(at),
        }
    }

    fn apply(&mut self, dot: Dot, stamp: Hlc, delta: &ColumnDelta, lives: &[Dot]) -> Result<(), CounterOverflow> {
        // What can fail comes first, so that a refused change leaves the column as it was.
        if let Some(increment) = &delta.add {
            let seen = increment.seen(dot)?;
            match self.sum(seen.birth) {
                Ok(sum) => sum.chain.extend(increment, dot)?,
                Err(at) => {
                    let chain = Chain::start(increment, dot)?;
                    self.sums.insert(at, Sum { chain, lives: lives.to_vec() });
                }
            }
        }
        for seen in &delta.removes {
            // A sum that is not there was removed and collected already.
            if let Ok(sum) = self.sum(seen.birth) {
                sum.chain.remove(*seen);
            }
        }
        self.cells.retain(|cell| !delta.replaces.contains(&cell.dot));
        if let Some(value) = &delta.write {
            if active(Mutant::JournalEntryLost) {
                self.cells.retain(|cell| cell.stamp > stamp);
            }
            self.insert(Cell { dot, stamp, lives: lives.to_vec(), value: value.clone() });
        }
        Ok(())
    }

    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        let find = |cells: &[Cell], dot: Dot| cells.iter().position(|cell| cell.dot == dot);
        self.cells.retain(|cell| survives(&cell.dot, find(&other.cells, cell.dot).is_some(), theirs));
        for cell in &other.cells {
            match find(&self.cells, cell.dot) {
                Some(at) => unite(&mut self.cells[at].lives, &cell.lives),
                None if !mine.covers(&cell.dot) => self.insert(cell.clone()),
                None => {}
            }
        }
        let holds = |sums: &[Sum], birth: Dot| sums.binary_search_by_key(&birth, |sum| sum.chain.seen.birth).is_ok();
        self.sums.retain(|sum| !sum.chain.was_collected(holds(&other.sums, sum.chain.seen.birth), theirs));
        for sum in &other.sums {
            if sum.chain.was_collected(holds(&self.sums, sum.chain.seen.birth), mine) {
                continue;
            }
            match self.sum(sum.chain.seen.birth) {
                Ok(own) => {
                    own.chain.join(&sum.chain);
                    unite(&mut own.lives, &sum.lives);
                }
                Err(at) => self.sums.insert(at, sum.clone()),
            }
        }
    }
}

/// Union of two sorted sets of lives; the caller takes away those that ended.
fn unite(lives: &mut Vec<Dot>, others: &[Dot]) {
    for dot in others {
        if let Err(at) = lives.binary_search(dot) {
            lives.insert(at, *dot);
        }
    }
}

impl Row {
    /// True while one life is left.
    pub fn exists(&self) -> bool {
        !self.lives.is_empty()
    }

    /// INSERTs that no DELETE has seen, sorted.
    pub fn lives(&self) -> &[Dot] {
        &self.lives
    }

    /// The cell that a column shows.
    pub fn shown(&self, column: &[u8]) -> Option<&Cell> {
        self.columns.get(column)?.shown()
    }

    /// Names of the columns that hold anything, in byte order.
    pub fn column_names(&self) -> impl Iterator<Item = &[u8]> {
        self.columns.keys().map(AsRef::as_ref)
    }

    /// The sum that a counter column shows; `None` where nothing living was added.
    ///
    /// # Errors
    /// [`CounterOverflow`] when the shares do not fit into one i128.
    pub fn amount(&self, column: &[u8]) -> Result<Option<i128>, CounterOverflow> {
        let Some(column) = self.columns.get(column) else { return Ok(None) };
        let counts = column.sums.iter().any(|sum| !sum.lives.is_empty() && sum.chain.is_alive());
        if counts { column.amount().map(Some) } else { Ok(None) }
    }

    /// Values and amounts that are present and not shown.
    pub fn journal(&self) -> impl Iterator<Item = RowJournalEntry<'_>> {
        self.columns.iter().flat_map(|(name, column)| column.journal(name))
    }

    pub(crate) fn columns(&self) -> impl Iterator<Item = (&ColumnName, &Column)> {
        self.columns.iter()
    }

    /// Drops a journal entry whose retention is over; true when it went.
    ///
    /// SUBTLE: the greatest value of each living life stays, shown or not: it is what the column shows
    /// when the other lives end.
    pub fn forget(&mut self, column: &[u8], dot: Dot) -> bool {
        let Some(entry) = self.columns.get_mut(column) else { return false };
        let before = entry.cells.len() + entry.sums.len();
        let needed = |lives: &[Dot], greater: &[Cell]| {
            !active(Mutant::LastValueOfLifeCollected)
                && lives.iter().any(|life| !greater.iter().any(|cell| cell.lives.contains(life)))
        };
        if let Some(at) = entry.cells.iter().position(|cell| cell.dot == dot) {
            let (greater, rest) = entry.cells.split_at(at);
            if !needed(&rest[0].lives, greater) {
                entry.cells.remove(at);
            }
        }
        entry.sums.retain(|sum| sum.chain.seen.tip != dot || !sum.lives.is_empty());
        let gone = entry.cells.len() + entry.sums.len() < before;
        self.columns.retain(|_, column| !column.is_bottom());
        gone
    }

    /// True while [`Row::collect`] would drop something.
    pub fn has_remains(&self) -> bool {
        self.columns.values().any(|column| !column.sums.iter().all(|sum| sum.chain.is_alive()))
    }

    /// Drops sums of which nothing counts any more; see [`crate::counter::PnCounter::collect`].
    pub fn collect(&mut self) -> usize {
        let count = |row: &Self| row.columns.values().map(|column| column.sums.len()).sum::<usize>();
        let before = count(self);
        self.columns.values_mut().for_each(|column| column.sums.retain(|sum| sum.chain.is_alive()));
        self.columns.retain(|_, column| !column.is_bottom());
        before - count(self)
    }

    /// Figures of the lives and of the columns that a delta touches: all of them where lives end.
    fn tally_touched(&self, delta: &RowDelta, place: Place) -> Tally {
        if !delta.ends.is_empty() {
            return self.tally(place);
        }
        let mut tally = Tally { fingerprint: self.lives_fingerprint(place), ..Tally::default() };
        for column in &delta.columns {
            if let Some(entry) = self.columns.get(&column.name) {
                tally.add(entry.tally(&column.name, place));
            }
        }
        tally
    }

    fn lives_fingerprint(&self, place: Place) -> Fingerprint {
        let mut sum = Fingerprint::default();
        self.lives.iter().for_each(|life| sum.add(place.dot(Leaf::Life, &[], *life)));
        sum
    }

    fn prune(&mut self) {
        let Self { lives, columns } = self;
        columns.values_mut().for_each(|column| column.prune(lives));
        columns.retain(|_, column| !column.is_bottom());
    }
}

impl Crdt for Row {
    type Delta = RowDelta;

    fn apply(
        &mut self,
        dot: Dot,
        stamp: Hlc,
        delta: &RowDelta,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow> {
        let overflows = |column: &ColumnDelta| column.add.is_some_and(|increment| increment.seen(dot).is_err());
        if delta.columns.iter().any(overflows) {
            return Err(CounterOverflow);
        }
        tally.remove(self.tally_touched(delta, place));
        self.lives.retain(|life| !delta.ends.contains(life));
        if delta.insert
            && let Err(at) = self.lives.binary_search(&dot)
        {
            self.lives.insert(at, dot);
        }
        // In causal order a named life that is not there has ended.
        let mut lives: Vec<Dot> = delta.lives.iter().filter(|life| self.lives.contains(life)).copied().collect();
        lives.extend(delta.insert.then_some(dot));
        // A delta may list its lives in any order, and a careless one twice; the state's form is one.
        lives.sort_unstable();
        lives.dedup();
        for column in &delta.columns {
            self.columns.entry(column.name.clone()).or_default().apply(dot, stamp, column, &lives)?;
        }
        if delta.ends.is_empty() {
            self.columns.retain(|_, column| !column.is_bottom());
        } else {
            self.prune();
        }
        tally.add(self.tally_touched(delta, place));
        Ok(())
    }

    fn named(delta: &RowDelta, visit: &mut dyn FnMut(Dot)) {
        delta.lives.iter().chain(&delta.ends).copied().for_each(&mut *visit);
        for column in &delta.columns {
            column.replaces.iter().copied().for_each(&mut *visit);
            column.removes.iter().flat_map(|seen| [seen.birth, seen.tip]).for_each(&mut *visit);
            if let Some(increment) = &column.add {
                increment.dots(visit);
            }
        }
    }

    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        join_dots(&mut self.lives, mine, &other.lives, theirs);
        let missing = Column::default();
        for (name, column) in &mut self.columns {
            column.join(mine, other.columns.get(name).unwrap_or(&missing), theirs);
        }
        for (name, column) in &other.columns {
            if !self.columns.contains_key(name) {
                let mut joined = Column::default();
                joined.join(mine, column, theirs);
                self.columns.insert(name.clone(), joined);
            }
        }
        self.prune();
    }

    fn tally(&self, place: Place) -> Tally {
        let mut tally = Tally { fingerprint: self.lives_fingerprint(place), ..Tally::default() };
        self.columns.iter().for_each(|(name, column)| tally.add(column.tally(name, place)));
        tally
    }

    fn is_bottom(&self) -> bool {
        self.lives.is_empty() && self.columns.is_empty()
    }

    fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        self.lives.iter().copied().for_each(&mut *visit);
        for column in self.columns.values() {
            for cell in &column.cells {
                visit(cell.dot);
                cell.lives.iter().copied().for_each(&mut *visit);
            }
            for sum in &column.sums {
                sum.chain.dots(visit);
                sum.lives.iter().copied().for_each(&mut *visit);
            }
        }
    }

    fn encode(&self, writer: &mut Writer, table: &DotTable) {
        writer.dots(&self.lives, table);
        writer.varint(self.columns.len() as u64);
        for (name, column) in &self.columns {
            writer.bytes(name);
            writer.varint(column.cells.len() as u64);
            for cell in &column.cells {
                writer.dot(cell.dot, table);
                writer.varint(cell.stamp.0);
                encode_lives(&cell.lives, &self.lives, writer, table);
                writer.value(&cell.value);
            }
            writer.varint(column.sums.len() as u64);
            for sum in &column.sums {
                sum.chain.encode(writer, table);
                encode_lives(&sum.lives, &self.lives, writer, table);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let mut row = Self { lives: reader.sorted_dots(table)?, ..Self::default() };
        for _ in 0..reader.count("number of columns", 4)? {
            let at = reader.at();
            let name: ColumnName = reader.bytes("column name length", NAME_BYTES_MAX)?.into();
            let column = decode_column(reader, table, &row.lives)?;
            let ascending = row.columns.last_key_value().is_none_or(|(last, _)| *last < name);
            if !ascending || column.is_bottom() {
                return Err(DecodeError::NotCanonical { what: "column", at });
            }
            row.columns.insert(name, column);
        }
        Ok(row)
    }

    fn encode_delta(delta: &RowDelta, writer: &mut Writer, table: &DotTable) {
        writer.byte(delta.insert.into());
        writer.dots(&delta.lives, table);
        writer.dots(&delta.ends, table);
        writer.varint(delta.columns.len() as u64);
        for column in &delta.columns {
            writer.bytes(&column.name);
            let flags = u8::from(column.write.is_some())
                | u8::from(column.replaces.len() == 1) << 1
                | u8::from(column.add.is_some() || !column.removes.is_empty()) << 2;
            writer.byte(flags);
            match column.replaces.as_slice() {
                [dot] => writer.dot(*dot, table),
                dots => writer.dots(dots, table),
            }
            if let Some(value) = &column.write {
                writer.value(value);
            }
            if flags & 4 != 0 {
                encode_counts(&column.removes, column.add.as_ref(), writer, table);
            }
        }
    }

    fn decode_delta(reader: &mut Reader<'_>, table: &DotTable) -> Result<RowDelta, DecodeError> {
        let insert = reader.bounded("insert mark", 1)? == 1;
        let mut delta = RowDelta { insert, lives: reader.dots(table)?, ends: reader.dots(table)?, columns: Vec::new() };
        let count = reader.count("number of columns", 3)?;
        delta.columns.reserve_exact(count);
        for _ in 0..count {
            let at = reader.at();
            let column = decode_column_delta(reader, table)?;
            if delta.columns.last().is_some_and(|last: &ColumnDelta| last.name >= column.name) {
                return Err(DecodeError::NotCanonical { what: "order of columns", at });
            }
            delta.columns.push(column);
        }
        Ok(delta)
    }
}

/// Most values hang on all lives of their row: one byte says so. Only up to this many lives, because
/// that byte stands for all of them in memory.
const LIVES_IN_ONE_BYTE_MAX: usize = 16;

fn encode_lives(lives: &[Dot], all: &[Dot], writer: &mut Writer, table: &DotTable) {
    let hangs_on_all = lives == all && all.len() <= LIVES_IN_ONE_BYTE_MAX;
    writer.byte(hangs_on_all.into());
    if !hangs_on_all {
        writer.dots(lives, table);
    }
}

fn decode_lives(reader: &mut Reader<'_>, table: &DotTable, all: &[Dot]) -> Result<Vec<Dot>, DecodeError> {
    let at = reader.at();
    let short = all.len() <= LIVES_IN_ONE_BYTE_MAX;
    if reader.bounded("lives mark", short.into())? == 1 {
        return Ok(all.to_vec());
    }
    let lives = reader.sorted_dots(table)?;
    if (short && lives == all) || lives.iter().any(|life| all.binary_search(life).is_err()) {
        return Err(DecodeError::NotCanonical { what: "lives", at });
    }
    Ok(lives)
}

fn decode_column(reader: &mut Reader<'_>, table: &DotTable, lives: &[Dot]) -> Result<Column, DecodeError> {
    let mut column = Column::default();
    for _ in 0..reader.count("number of values", 5)? {
        let at = reader.at();
        let dot = reader.dot(table)?;
        let stamp = Hlc(reader.varint()?);
        let lives = decode_lives(reader, table, lives)?;
        let cell = Cell { dot, stamp, lives, value: reader.value()? };
        if column.cells.last().is_some_and(|last| last.rank() <= cell.rank()) {
            return Err(DecodeError::NotCanonical { what: "order of values", at });
        }
        column.cells.push(cell);
    }
    let at = reader.at();
    if distinct(column.cells.iter().map(|cell| cell.dot)).is_none() {
        return Err(DecodeError::Invalid { what: "two values of one dot", at });
    }
    for _ in 0..reader.count("number of sums", 7)? {
        let at = reader.at();
        let chain = Chain::decode(reader, table)?;
        let sum = Sum { chain, lives: decode_lives(reader, table, lives)? };
        if column.sums.last().is_some_and(|last| last.chain.seen.birth >= sum.chain.seen.birth) {
            return Err(DecodeError::NotCanonical { what: "order of sums", at });
        }
        column.sums.push(sum);
    }
    Ok(column)
}

fn decode_column_delta(reader: &mut Reader<'_>, table: &DotTable) -> Result<ColumnDelta, DecodeError> {
    let name: ColumnName = reader.bytes("column name length", NAME_BYTES_MAX)?.into();
    let at = reader.at();
    let flags = reader.bounded("flags of a column", 7)?;
    let mut column = ColumnDelta { name, ..ColumnDelta::default() };
    column.replaces = if flags & 2 != 0 { vec![reader.dot(table)?] } else { reader.dots(table)? };
    if flags & 1 != 0 {
        column.write = Some(reader.value()?);
    }
    if flags & 4 != 0 {
        (column.removes, column.add) = decode_counts(reader, table)?;
    }
    let counts = column.add.is_some() || !column.removes.is_empty();
    if (flags & 2 == 0 && column.replaces.len() == 1) || (flags & 4 != 0 && !counts) {
        return Err(DecodeError::NotCanonical { what: "flags of a column", at });
    }
    Ok(column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dot::ReplicaId;

    #[test]
    fn a_dot_writes_one_value_of_a_column() {
        let read = |indices: [u32; 2]| {
            let cell = |index, stamp| Cell {
                dot: Dot::new(ReplicaId(1), 1, index),
                stamp: Hlc(stamp),
                lives: Vec::new(),
                value: Value::Null,
            };
            let cells = vec![cell(indices[0], 9), cell(indices[1], 5)];
            let column = Column { cells, sums: Vec::new() };
            let row = Row { lives: Vec::new(), columns: BTreeMap::from([(b"c"[..].into(), column)]) };
            let table = DotTable::gather(|visit| row.dots(visit));
            let mut writer = Writer::new();
            row.encode(&mut writer, &table);
            Row::decode(&mut Reader::new(&writer.into_bytes()), &table)
        };
        assert!(read([2, 1]).is_ok());
        assert!(matches!(read([1, 1]), Err(DecodeError::Invalid { what: "two values of one dot", .. })));
    }
}
