//! Taking back what a held group did to a row.

use std::collections::{BTreeMap, BTreeSet};

use crdt::chain::Increment;
use crdt::row::{ColumnDelta, ColumnName, RowDelta};
use crdt::{Content, Dot, Hlc, Object, Op, Row};

use super::HeldError;
use super::undo::{Leaf, Undo, Written};

impl Undo<'_> {
    pub(super) fn row(&mut self, leaf: &Leaf<'_>) -> Result<(), HeldError> {
        let Object::Row(current) = self.current(leaf) else { return Ok(()) };
        let deltas = leaf.changes.iter().filter_map(|(_, change)| match &change.content {
            Content::Op(Op::Row(delta)) => Some(delta),
            _ => None,
        });
        let deltas: Vec<&RowDelta> = deltas.collect();
        if deltas.iter().any(|delta| delta.insert || !delta.ends.is_empty()) {
            return self.whole_row(leaf, &current);
        }
        self.columns(leaf, &current, &deltas)
    }

    /// A row that the group inserted goes; one that it deleted comes back.
    fn whole_row(&mut self, leaf: &Leaf<'_>, current: &Row) -> Result<(), HeldError> {
        if self.later.rows.contains(&leaf.id.0) {
            return Ok(());
        }
        let is_touched = |written: &Written| written.rows.contains(&leaf.id.0);
        let Object::Row(target) = self.target(leaf, is_touched)? else { return Ok(()) };
        let view = current.view().map_err(|_| HeldError::Overflow)?;
        let mut delta = view.delete().unwrap_or_default();
        delta.ends.retain(|life| self.is_cancelled(life));
        for column in &mut delta.columns {
            column.replaces.retain(|dot| self.is_cancelled(dot));
            column.removes.retain(|seen| self.is_cancelled(&seen.birth));
        }
        delta.columns.retain(|column| !column.replaces.is_empty() || !column.removes.is_empty());
        let ends = !delta.ends.is_empty();
        if ends {
            self.push(leaf, self.clock(), Op::Row(delta));
        }
        // A row that others inserted under the same key is there already.
        let is_there = !ends && current.lives().iter().any(|life| target.lives().contains(life));
        if !target.exists() || is_there {
            return Ok(());
        }
        let (mut columns, mut stamp) = (Vec::new(), None);
        for name in target.column_names() {
            let cell = target.shown(name);
            stamp = stamp.max(cell.map(|cell| cell.stamp));
            let amount = target.amount(name).map_err(|_| HeldError::Overflow)?;
            let column = ColumnDelta {
                name: name.into(),
                write: cell.map(|cell| cell.value.clone()),
                add: amount.map(|amount| Increment { extends: None, amount }),
                ..ColumnDelta::default()
            };
            if column.write.is_some() || column.add.is_some() {
                columns.push(column);
            }
        }
        let delta = RowDelta { insert: true, columns, ..RowDelta::default() };
        self.push(leaf, stamp.unwrap_or_else(|| self.clock()), Op::Row(delta));
        Ok(())
    }

    /// A row that the group updated, column by column.
    fn columns(&mut self, leaf: &Leaf<'_>, current: &Row, deltas: &[&RowDelta]) -> Result<(), HeldError> {
        let changed = |is: fn(&ColumnDelta) -> bool| -> BTreeSet<ColumnName> {
            let columns = deltas.iter().flat_map(|delta| &delta.columns).filter(|column| is(column));
            columns.map(|column| column.name.clone()).collect()
        };
        let written = changed(|column| column.write.is_some() || !column.replaces.is_empty());
        let counted = changed(|column| column.add.is_some() || !column.removes.is_empty());
        // The group's dots stand in other columns as well; naming them here takes nothing away there.
        let replaces = self.cancelled_dots(&Object::Row(current.clone()));
        let mut undo: BTreeMap<Hlc, RowDelta> = BTreeMap::new();
        let mut lives: BTreeSet<Dot> = BTreeSet::new();
        for name in written {
            if self.later.has_column(&leaf.id, &name) {
                continue;
            }
            let target = self.target(leaf, |written| written.has_column(&leaf.id, &name))?;
            let Object::Row(target) = target else { continue };
            let living = target.lives().iter().filter(|life| current.lives().contains(life));
            lives.extend(living);
            // Of a row that was deleted elsewhere there is nothing to show: only what the group wrote goes.
            let cell = if current.exists() { target.shown(&name) } else { None };
            let stamp = cell.map_or_else(|| self.clock(), |cell| cell.stamp);
            let write = cell.map(|cell| cell.value.clone());
            let column = ColumnDelta { name, replaces: replaces.clone(), write, ..ColumnDelta::default() };
            if column.write.is_some() || !column.replaces.is_empty() {
                undo.entry(stamp).or_default().columns.push(column);
            }
        }
        let (Object::Row(before), Object::Row(after)) = (self.before(leaf)?, self.after(leaf)?) else { return Ok(()) };
        lives.extend(before.lives().iter().filter(|life| current.lives().contains(life)));
        for name in counted {
            let amount = |row: &Row| row.amount(&name).map(Option::unwrap_or_default);
            let sums = amount(&before).ok().zip(amount(&after).ok());
            let amount = sums.and_then(|(before, after)| before.checked_sub(after)).ok_or(HeldError::Overflow)?;
            if amount == 0 || lives.is_empty() {
                continue;
            }
            // SUBTLE: a chain of its own. The site may count on from what its database shows, which has not seen this:
            // two increments that extend one end of one chain would be one.
            let add = Some(Increment { extends: None, amount });
            let columns = &mut undo.entry(self.clock()).or_default().columns;
            match columns.iter_mut().find(|column| column.name == name) {
                Some(column) => column.add = add,
                None => columns.push(ColumnDelta { name, add, ..ColumnDelta::default() }),
            }
        }
        for (stamp, mut delta) in undo {
            delta.lives = lives.iter().copied().collect();
            delta.columns.sort_by(|left, right| left.name.cmp(&right.name));
            self.push(leaf, stamp, Op::Row(delta));
        }
        Ok(())
    }
}
