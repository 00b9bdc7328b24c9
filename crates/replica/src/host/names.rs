//! Unique names without a coordinator: which row shows which name.
//!
//! Names are assigned in the order of ids: a row takes its own name, and while a row with a lower id has that
//! one, it appends `-<id>`. Seen from the names, each goes to the lowest id that wants it, so the assignment
//! is the stable matching of rows and names (Gale and Shapley, 1962). There is exactly one, whatever the order
//! in which rows came; so it can be kept up to date row by row.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crdt::Namespace;

use super::sql::RowId;

type Scope = (Namespace, Arc<str>);

/// The assignment for all tables with a unique column.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    scopes: BTreeMap<Scope, Assignment>,
}

#[derive(Clone, Debug, Default)]
struct Assignment {
    /// Row id -> its own name and how many times the id is appended.
    rows: BTreeMap<u64, (Vec<u8>, usize)>,
    /// Name -> the rows that have it or were turned away from it. The lowest has it.
    wanted: BTreeMap<Vec<u8>, BTreeSet<u64>>,
}

fn suffixed(name: &[u8], id: u64, times: usize) -> Vec<u8> {
    let mut suffixed = name.to_vec();
    (0..times).for_each(|_| suffixed.extend_from_slice(format!("-{id}").as_bytes()));
    suffixed
}

impl Names {
    /// Sets the own name of a row, or takes the row out. Returns the rows whose shown name changed.
    pub(crate) fn set(&mut self, row: &RowId, name: Option<&[u8]>) -> BTreeSet<RowId> {
        let Some(id) = row.number() else { return BTreeSet::new() };
        let assignment = self.scopes.entry((row.namespace, row.table.clone())).or_default();
        if assignment.rows.get(&id).map(|(own, _)| own.as_slice()) == name {
            return BTreeSet::new();
        }
        let mut changed = BTreeSet::from([id]);
        assignment.remove(id, &mut changed);
        if let Some(name) = name {
            assignment.insert(id, name, &mut changed);
        }
        changed.into_iter().map(|id| RowId::numbered(row.namespace, &row.table, id)).collect()
    }

    /// The name that a row shows; `None` for a row that has none.
    pub(crate) fn shown(&self, row: &RowId) -> Option<Vec<u8>> {
        let assignment = self.scopes.get(&(row.namespace, row.table.clone()))?;
        let id = row.number()?;
        assignment.rows.get(&id).map(|(name, times)| suffixed(name, id, *times))
    }

    /// Rows that show another name than their own.
    pub(crate) fn repaired(&self) -> Vec<RowId> {
        let scopes = self.scopes.iter();
        let repaired = scopes.flat_map(|((namespace, table), assignment)| {
            let rows = assignment.rows.iter().filter(|(_, (_, times))| *times > 0);
            rows.map(|(id, _)| RowId::numbered(*namespace, table, *id))
        });
        repaired.collect()
    }

    /// The row that has the name which this one wanted for itself.
    pub(crate) fn rival(&self, row: &RowId) -> Option<RowId> {
        let assignment = self.scopes.get(&(row.namespace, row.table.clone()))?;
        let (name, _) = assignment.rows.get(&row.number()?)?;
        let rival = assignment.wanted.get(name)?.first()?;
        Some(RowId::numbered(row.namespace, &row.table, *rival))
    }
}

impl Assignment {
    fn insert(&mut self, id: u64, name: &[u8], changed: &mut BTreeSet<u64>) {
        self.rows.insert(id, (name.to_vec(), 0));
        self.propose(id, changed);
    }

    /// Lets rows take names until nobody is without one.
    fn propose(&mut self, first: u64, changed: &mut BTreeSet<u64>) {
        let mut free = VecDeque::from([first]);
        while let Some(id) = free.pop_front() {
            let Some((name, mut times)) = self.rows.get(&id).cloned() else { continue };
            let loser = loop {
                let wanted = self.wanted.entry(suffixed(&name, id, times)).or_default();
                let holder = wanted.first().copied().filter(|holder| *holder != id);
                wanted.insert(id);
                match holder {
                    Some(holder) if holder < id => times += 1,
                    holder => break holder,
                }
            };
            changed.insert(id);
            self.rows.insert(id, (name, times));
            // A row that lost its name goes on from its next one.
            if let Some((_, times)) = loser.and_then(|loser| self.rows.get_mut(&loser)) {
                *times += 1;
                free.extend(loser);
            }
        }
    }

    fn remove(&mut self, id: u64, changed: &mut BTreeSet<u64>) {
        let Some((name, times)) = self.rows.remove(&id) else { return };
        let mut freed: Vec<Vec<u8>> = Vec::new();
        for level in 0..=times {
            self.release(suffixed(&name, id, level), id, &mut freed);
        }
        while let Some(name) = freed.pop() {
            self.hand_over(&name, changed, &mut freed);
        }
    }

    /// Takes a row off the list of a name; a name that it had becomes free.
    fn release(&mut self, name: Vec<u8>, id: u64, freed: &mut Vec<Vec<u8>>) {
        let Some(wanted) = self.wanted.get_mut(&name) else { return };
        let had = wanted.first() == Some(&id);
        wanted.remove(&id);
        if wanted.is_empty() {
            self.wanted.remove(&name);
        } else if had {
            freed.push(name);
        }
    }

    /// Gives a free name to the lowest row that was turned away from it, which gives up its later ones.
    fn hand_over(&mut self, name: &[u8], changed: &mut BTreeSet<u64>, freed: &mut Vec<Vec<u8>>) {
        let Some(id) = self.wanted.get(name).and_then(|wanted| wanted.first().copied()) else { return };
        let Some((own, times)) = self.rows.get(&id).cloned() else { return };
        let Some(level) = (0..=times).find(|level| suffixed(&own, id, *level) == name) else { return };
        for later in level + 1..=times {
            self.release(suffixed(&own, id, later), id, freed);
        }
        self.rows.insert(id, (own, level));
        changed.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_definition(rows: &BTreeMap<u64, Vec<u8>>) -> BTreeMap<u64, Vec<u8>> {
        let mut taken = BTreeSet::new();
        let mut shown = BTreeMap::new();
        for (id, name) in rows {
            let free = (0..).map(|times| suffixed(name, *id, times)).find(|name| !taken.contains(name));
            let free = free.expect("names are unbounded");
            taken.insert(free.clone());
            shown.insert(*id, free);
        }
        shown
    }

    #[test]
    fn the_assignment_is_the_greedy_one_after_every_change() {
        let mut seed = 1_u64;
        let mut random = move |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % bound
        };
        let row = |id| RowId::numbered(Namespace(0), "posts", id);
        for _ in 0..200 {
            let mut names = Names::default();
            let mut rows: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            for _ in 0..60 {
                let id = random(8) + 1;
                let before: BTreeMap<u64, Option<Vec<u8>>> = (1..9).map(|id| (id, names.shown(&row(id)))).collect();
                let changed = if random(4) == 0 {
                    rows.remove(&id);
                    names.set(&row(id), None)
                } else {
                    let name = [&b"a"[..], b"a-2", b"a-2-3", b"b", b"a-5"][random(5) as usize].to_vec();
                    rows.insert(id, name.clone());
                    names.set(&row(id), Some(&name))
                };
                for (id, shown) in by_definition(&rows) {
                    assert_eq!(names.shown(&row(id)), Some(shown), "row {id} of {rows:?}");
                }
                for (id, shown) in before {
                    let differs = names.shown(&row(id)) != shown;
                    assert!(!differs || changed.contains(&row(id)), "row {id} changed without being named");
                }
            }
        }
    }
}
