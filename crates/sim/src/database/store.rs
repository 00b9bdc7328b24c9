//! Committed rows with their older versions, the outbox, and the cursor.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crdt::row::ColumnName;
use crdt::{Namespace, Value};
use replica::host::{OutboxEntry, RowId, RowImage};

use super::tables::Tables;

/// A row at one moment; `None` where there is none.
pub type Image = Option<Rc<RowImage>>;

/// Ids of one residue class modulo this number belong to one node: fixed for life.
pub const ID_INCREMENT: u64 = 64;

#[derive(Clone, Debug)]
struct Version {
    commit: u64,
    image: Image,
}

/// Everything that is committed.
#[derive(Clone, Debug)]
pub struct Store {
    tables: Rc<Tables>,
    /// Versions of each row, oldest first. Older ones are kept only while a snapshot may read them.
    rows: BTreeMap<RowId, Vec<Version>>,
    outbox: BTreeMap<u64, OutboxEntry>,
    /// Greatest id of each table with numeric ids: what AUTO_INCREMENT goes on from.
    last_ids: BTreeMap<(Namespace, Arc<str>), u64>,
    last_outbox_id: u64,
    cursor: u64,
    commits: u64,
}

impl Store {
    /// An empty database with these tables.
    pub fn new(tables: Rc<Tables>) -> Self {
        Self {
            tables,
            rows: BTreeMap::new(),
            outbox: BTreeMap::new(),
            last_ids: BTreeMap::new(),
            last_outbox_id: 0,
            cursor: 0,
            commits: 0,
        }
    }

    /// The number of the last commit: what a snapshot taken now shows.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// The step that the engine stored last.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The row as it is committed now.
    pub fn row(&self, row: &RowId) -> Option<&Rc<RowImage>> {
        self.rows.get(row)?.last()?.image.as_ref()
    }

    /// The row as a snapshot shows it.
    pub fn row_at(&self, row: &RowId, snapshot: u64) -> Option<&Rc<RowImage>> {
        let versions = self.rows.get(row)?;
        versions.iter().rev().find(|version| version.commit <= snapshot)?.image.as_ref()
    }

    /// The commit that changed the row last; 0 where none is known.
    pub fn changed_by(&self, row: &RowId) -> u64 {
        self.rows.get(row).and_then(|versions| versions.last()).map_or(0, |version| version.commit)
    }

    /// All rows in the order of their ids.
    pub fn rows(&self) -> impl Iterator<Item = (&RowId, &Rc<RowImage>)> {
        self.rows.iter().filter_map(|(row, versions)| Some((row, versions.last()?.image.as_ref()?)))
    }

    /// Rows behind `after` in the order of their ids.
    pub fn rows_after<'a>(&'a self, after: Option<&RowId>) -> impl Iterator<Item = (&'a RowId, &'a Rc<RowImage>)> + 'a {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, |row| Bound::Excluded(row.clone()));
        let range = self.rows.range((start, Bound::Unbounded));
        range.filter_map(|(row, versions)| Some((row, versions.last()?.image.as_ref()?)))
    }

    /// The outbox in the order of ids.
    pub fn outbox(&self) -> &BTreeMap<u64, OutboxEntry> {
        &self.outbox
    }

    /// An id for a new entry. It stays used even when its transaction rolls back.
    pub fn next_outbox_id(&mut self) -> u64 {
        self.last_outbox_id += 1;
        self.last_outbox_id
    }

    /// An id for a new row, from the residue class of `slot`. It stays used even when its transaction rolls back.
    pub fn next_id(&mut self, namespace: Namespace, table: &str, slot: u8) -> u64 {
        let last = self.last_ids.entry((namespace, table.into())).or_insert(0);
        let slot = u64::from(slot);
        let base = last.saturating_sub(slot) / ID_INCREMENT * ID_INCREMENT + slot;
        *last = if base > *last { base } else { base + ID_INCREMENT };
        *last
    }

    /// Columns that an INSERT leaves out, with their defaults: counters are 0, the others NULL.
    pub fn complete(&self, row: &RowId, image: RowImage) -> RowImage {
        let Some(table) = self.tables.table(&row.table) else { return image };
        let mut complete: RowImage = table.columns.iter().map(|name| (name.clone(), table.default_of(name))).collect();
        complete.extend(image);
        complete
    }

    /// `column = column + amount`, on a NULL from 0.
    pub fn add(image: &mut RowImage, column: &ColumnName, amount: i64) {
        let now = match image.get(column) {
            Some(Value::Integer(number)) => number.get(),
            _ => 0,
        };
        let sum = i64::try_from(now + i128::from(amount)).unwrap_or(i64::MAX);
        image.insert(column.clone(), sum.into());
    }

    /// Commits new versions. Versions that no snapshot from `oldest_snapshot` on can read are dropped.
    pub fn commit(&mut self, writes: &BTreeMap<RowId, Image>, oldest_snapshot: Option<u64>) -> u64 {
        self.commits += 1;
        let oldest = oldest_snapshot.unwrap_or(self.commits);
        for (row, image) in writes {
            if let (Some(_), Some(id)) = (image, row.number()) {
                let last = self.last_ids.entry((row.namespace, row.table.clone())).or_insert(0);
                *last = (*last).max(id);
            }
            let versions = self.rows.entry(row.clone()).or_default();
            versions.push(Version { commit: self.commits, image: image.clone() });
            let needed_from = versions.iter().rposition(|version| version.commit <= oldest).unwrap_or(0);
            versions.drain(..needed_from);
            if versions.len() == 1 && image.is_none() {
                self.rows.remove(row);
            }
        }
        self.commits
    }

    /// Puts committed entries into the outbox.
    pub fn insert_outbox(&mut self, entries: impl IntoIterator<Item = OutboxEntry>) {
        self.outbox.extend(entries.into_iter().map(|entry| (entry.id, entry)));
    }

    /// Takes entries out of the outbox.
    pub fn delete_outbox(&mut self, ids: &[u64]) {
        ids.iter().for_each(|id| drop(self.outbox.remove(id)));
    }

    /// Sets the cursor.
    pub fn set_cursor(&mut self, cursor: u64) {
        self.cursor = cursor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(row: &RowId, value: Option<i64>) -> BTreeMap<RowId, Image> {
        let image = value.map(|value| Rc::new(RowImage::from([(b"n".as_slice().into(), Value::from(value))])));
        BTreeMap::from([(row.clone(), image)])
    }

    #[test]
    fn a_snapshot_reads_its_own_moment() {
        let mut store = Store::new(Rc::new(Tables::default()));
        let row = RowId::numbered(Namespace(1), "t", 1);
        store.commit(&writes(&row, Some(1)), None);
        let snapshot = store.commits();
        store.commit(&writes(&row, Some(2)), Some(snapshot));
        store.commit(&writes(&row, None), Some(snapshot));
        let seen = store.row_at(&row, snapshot).and_then(|image| image.get(b"n".as_slice()));
        assert_eq!(seen, Some(&Value::from(1_i64)));
        assert_eq!(store.row(&row), None);
        store.commit(&writes(&row, None), None);
        assert_eq!(store.row_at(&row, snapshot), None);
    }

    #[test]
    fn ids_come_from_the_slot_and_go_on_behind_the_greatest() {
        let mut store = Store::new(Rc::new(Tables::default()));
        let site = Namespace(1);
        assert_eq!(store.next_id(site, "t", 3), 3);
        assert_eq!(store.next_id(site, "t", 3), 67);
        store.commit(&writes(&RowId::numbered(site, "t", 132), Some(1)), None);
        assert_eq!(store.next_id(site, "t", 3), 195);
        assert_eq!(store.next_id(site, "t", 4), 196);
        assert_eq!(store.next_id(site, "t", 1), 257);
    }
}
