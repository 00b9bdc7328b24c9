//! The state as the commands of one commit see it: what the node shows, and what the commands before have written.
//!
//! Only the differences are kept, so that a member more in a set of a million costs one entry.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crdt::{CounterOverflow, Key, Kind, KindSet, Name, Namespace, Object, OrMap, Value};
use replica::{Action, Intent};

use crate::view::View;

/// Types of fields that the door shows, the one that HGET shows first in front.
pub(crate) const FIELD_KINDS: [Kind; 2] = [Kind::Register, Kind::PnCounter];

/// A Redis key: all types under one name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct KeyName {
    pub(crate) namespace: Namespace,
    pub(crate) name: Name,
}

/// What a register or a counter shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    /// A register's value.
    Value(Value),
    /// A counter's sum.
    Amount(i128),
}

/// The smallest thing that a command writes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Cell {
    key: KeyName,
    /// Type of the object under the key.
    root: Kind,
    /// Member of a set, or field of a map with its type.
    below: Option<(Name, Kind)>,
}

/// What a cell holds after the commands so far; a member holds nothing but itself.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Content {
    Shown(Shown),
    Member,
}

/// The state with the writes so far.
pub(crate) struct Staged<'v> {
    view: &'v dyn View,
    /// `None`: removed.
    written: BTreeMap<Cell, Option<Content>>,
    /// Objects that were removed as a whole: of them only what was written since is there.
    cleared: BTreeSet<(KeyName, Kind)>,
    intents: Vec<Intent>,
}

impl<'v> Staged<'v> {
    /// Nothing is written yet.
    pub(crate) fn new(view: &'v dyn View) -> Self {
        Self { view, written: BTreeMap::new(), cleared: BTreeSet::new(), intents: Vec::new() }
    }

    /// What is to be committed, in order.
    pub(crate) fn into_intents(self) -> Vec<Intent> {
        self.intents
    }

    /// Types of which something may be shown under the name: those that [`Staged::exists`] need be asked for.
    pub(crate) fn kinds(&self, key: &KeyName) -> KindSet {
        if !self.written.is_empty() {
            return KindSet::all();
        }
        self.view.kinds(key.namespace, &key.name)
    }

    /// True while something of this type is shown under the name.
    pub(crate) fn exists(&self, key: &KeyName, kind: Kind) -> bool {
        match kind {
            Kind::Set if !self.touches(key, kind) => self.base(key, kind).is_some_and(|object| object.exists()),
            Kind::Set => self.cardinality(key) > 0,
            Kind::Map if !self.touches(key, kind) => match self.base(key, kind).as_deref() {
                Some(Object::Map(map)) => map.entries().any(|(field, object)| is_field(field.kind) && object.exists()),
                _ => false,
            },
            Kind::Map => !self.fields(key).is_empty(),
            Kind::PnCounter => match self.staged(key, kind) {
                Some(content) => content.is_some(),
                None => self.base(key, kind).is_some_and(|object| object.exists()),
            },
            _ => self.register(key).is_some(),
        }
    }

    /// The register's value.
    pub(crate) fn register(&self, key: &KeyName) -> Option<Value> {
        match self.staged(key, Kind::Register) {
            Some(Some(Content::Shown(Shown::Value(value)))) => Some(value.clone()),
            Some(_) => None,
            None => register_value(self.base(key, Kind::Register).as_deref()),
        }
    }

    /// The counter's sum; `None` where there is no counter.
    pub(crate) fn counter(&self, key: &KeyName) -> Result<Option<i128>, CounterOverflow> {
        match self.staged(key, Kind::PnCounter) {
            Some(Some(Content::Shown(Shown::Amount(amount)))) => Ok(Some(*amount)),
            Some(_) => Ok(None),
            None => counter_value(self.base(key, Kind::PnCounter).as_deref()),
        }
    }

    /// True for a member of the set.
    pub(crate) fn contains(&self, key: &KeyName, member: &Name) -> bool {
        if !self.written.is_empty()
            && let Some(content) = self.written.get(&cell(key, Kind::Set, Some((member.clone(), Kind::Set))))
        {
            return content.is_some();
        }
        match self.base(key, Kind::Set).as_deref() {
            Some(Object::Set(set)) => set.contains(member),
            _ => false,
        }
    }

    /// Number of members.
    pub(crate) fn cardinality(&self, key: &KeyName) -> usize {
        let base = self.base(key, Kind::Set);
        let set = match base.as_deref() {
            Some(Object::Set(set)) => Some(set),
            _ => None,
        };
        let mut count = set.map_or(0, |set| set.len());
        for (member, _, content) in self.below(key, Kind::Set) {
            let was = set.is_some_and(|set| set.contains(member));
            match (was, content.is_some()) {
                (false, true) => count += 1,
                (true, false) => count -= 1,
                _ => {}
            }
        }
        count
    }

    /// The members in the order of bytes.
    pub(crate) fn members(&self, key: &KeyName) -> Vec<Name> {
        let base = self.base(key, Kind::Set);
        let present = match base.as_deref() {
            Some(Object::Set(set)) => set.iter().map(Name::from).collect(),
            _ => Vec::new(),
        };
        if !self.touches(key, Kind::Set) {
            return present;
        }
        let mut members: BTreeSet<Name> = present.into_iter().collect();
        for (member, _, content) in self.below(key, Kind::Set) {
            if content.is_some() {
                members.insert(member.clone());
            } else {
                members.remove(member);
            }
        }
        members.into_iter().collect()
    }

    /// What the field shows as a register or as a counter.
    pub(crate) fn leaf(&self, key: &KeyName, field: &Name, kind: Kind) -> Result<Option<Shown>, CounterOverflow> {
        if !self.written.is_empty()
            && let Some(content) = self.written.get(&cell(key, Kind::Map, Some((field.clone(), kind))))
        {
            return Ok(content.as_ref().and_then(Content::shown));
        }
        match self.base(key, Kind::Map).as_deref() {
            Some(Object::Map(map)) => leaf_of(map, field, kind),
            _ => Ok(None),
        }
    }

    /// Types of what is there under the field.
    pub(crate) fn field_kinds(&self, key: &KeyName, field: &Name) -> KindSet {
        let mut kinds = match self.base(key, Kind::Map).as_deref() {
            Some(Object::Map(map)) => map.kinds(field),
            _ => KindSet::default(),
        };
        if !self.written.is_empty() {
            for kind in FIELD_KINDS {
                if let Some(content) = self.written.get(&cell(key, Kind::Map, Some((field.clone(), kind)))) {
                    kinds.set(kind, content.is_some());
                }
            }
        }
        kinds
    }

    /// What the field shows: the register first, else the counter.
    pub(crate) fn field(&self, key: &KeyName, field: &Name) -> Result<Option<Shown>, CounterOverflow> {
        match self.leaf(key, field, Kind::Register)? {
            Some(shown) => Ok(Some(shown)),
            None => self.leaf(key, field, Kind::PnCounter),
        }
    }

    /// The fields that show something, in the order of bytes.
    pub(crate) fn fields(&self, key: &KeyName) -> Vec<Name> {
        let mut leaves: BTreeSet<(Name, Kind)> = BTreeSet::new();
        if let Some(Object::Map(map)) = self.base(key, Kind::Map).as_deref() {
            let shown = map.entries().filter(|(field, object)| is_field(field.kind) && object.exists());
            leaves.extend(shown.map(|(field, _)| (field.name.clone(), field.kind)));
        }
        for (field, kind, content) in self.below(key, Kind::Map) {
            let leaf = (field.clone(), kind);
            if content.is_some() {
                leaves.insert(leaf);
            } else {
                leaves.remove(&leaf);
            }
        }
        let mut names: Vec<Name> = leaves.into_iter().map(|(name, _)| name).collect();
        names.dedup();
        names
    }

    /// Sets the register.
    pub(crate) fn set(&mut self, key: &KeyName, value: Value) {
        self.intend(key, None, Action::Set(value.clone()));
        self.write(key, Kind::Register, None, Some(Content::Shown(Shown::Value(value))));
    }

    /// Adds to the counter, whose sum becomes `sum`.
    pub(crate) fn increment(&mut self, key: &KeyName, amount: i128, sum: i128) {
        self.intend(key, None, Action::Increment(amount));
        self.write(key, Kind::PnCounter, None, Some(Content::Shown(Shown::Amount(sum))));
    }

    /// Adds members.
    pub(crate) fn add(&mut self, key: &KeyName, members: Vec<Name>) {
        for member in &members {
            self.write(key, Kind::Set, Some((member.clone(), Kind::Set)), Some(Content::Member));
        }
        self.intend(key, None, Action::Add(members));
    }

    /// Removes members.
    pub(crate) fn discard(&mut self, key: &KeyName, members: Vec<Name>) {
        for member in &members {
            self.write(key, Kind::Set, Some((member.clone(), Kind::Set)), None);
        }
        self.intend(key, None, Action::Discard(members));
    }

    /// Sets a field of the map.
    pub(crate) fn set_field(&mut self, key: &KeyName, field: &Name, value: Value) {
        self.intend(key, Some(field), Action::Set(value.clone()));
        let content = Content::Shown(Shown::Value(value));
        self.write(key, Kind::Map, Some((field.clone(), Kind::Register)), Some(content));
    }

    /// Adds to a field that is a counter, whose sum becomes `sum`.
    pub(crate) fn increment_field(&mut self, key: &KeyName, field: &Name, amount: i128, sum: i128) {
        self.intend(key, Some(field), Action::Increment(amount));
        let content = Content::Shown(Shown::Amount(sum));
        self.write(key, Kind::Map, Some((field.clone(), Kind::PnCounter)), Some(content));
    }

    /// Removes a field of this type.
    pub(crate) fn remove_field(&mut self, key: &KeyName, field: &Name, kind: Kind) {
        self.intend(key, Some(field), Action::Remove(kind));
        self.write(key, Kind::Map, Some((field.clone(), kind)), None);
    }

    /// Removes all of this type under the name.
    pub(crate) fn remove(&mut self, key: &KeyName, kind: Kind) {
        self.intend(key, None, Action::Remove(kind));
        if matches!(kind, Kind::Set | Kind::Map) {
            self.written.retain(|cell, _| cell.key != *key || cell.root != kind);
            self.cleared.insert((key.clone(), kind));
        } else {
            self.write(key, kind, None, None);
        }
    }

    fn intend(&mut self, key: &KeyName, field: Option<&Name>, action: Action) {
        let path = core::iter::once(&key.name).chain(field).cloned().collect();
        self.intents.push(Intent { namespace: key.namespace, path, action });
    }

    fn write(&mut self, key: &KeyName, root: Kind, below: Option<(Name, Kind)>, content: Option<Content>) {
        self.written.insert(cell(key, root, below), content);
    }

    /// The object as the node has it, unless it was removed since.
    fn base(&self, key: &KeyName, kind: Kind) -> Option<Cow<'v, Object>> {
        if !self.cleared.is_empty() && self.cleared.contains(&(key.clone(), kind)) {
            return None;
        }
        self.view.object(&Key { kind, namespace: key.namespace, name: key.name.clone() })
    }

    /// What was written to a register or counter; `Some(None)` when it was removed.
    fn staged(&self, key: &KeyName, kind: Kind) -> Option<&Option<Content>> {
        if self.written.is_empty() {
            return None;
        }
        self.written.get(&cell(key, kind, None))
    }

    /// What was written below a set or map.
    fn below<'a>(
        &'a self,
        key: &'a KeyName,
        root: Kind,
    ) -> impl Iterator<Item = (&'a Name, Kind, &'a Option<Content>)> + 'a {
        let cells = self.written.range(cell(key, root, None)..);
        let same = cells.take_while(move |(cell, _)| cell.key == *key && cell.root == root);
        same.filter_map(|(cell, content)| cell.below.as_ref().map(|(name, kind)| (name, *kind, content)))
    }

    fn touches(&self, key: &KeyName, root: Kind) -> bool {
        !self.written.is_empty() && self.below(key, root).next().is_some()
    }
}

impl Content {
    fn shown(&self) -> Option<Shown> {
        match self {
            Self::Shown(shown) => Some(shown.clone()),
            Self::Member => None,
        }
    }
}

fn cell(key: &KeyName, root: Kind, below: Option<(Name, Kind)>) -> Cell {
    Cell { key: key.clone(), root, below }
}

fn is_field(kind: Kind) -> bool {
    FIELD_KINDS.contains(&kind)
}

fn register_value(object: Option<&Object>) -> Option<Value> {
    match object {
        Some(Object::Register(register)) => register.shown().map(|entry| entry.value.clone()),
        _ => None,
    }
}

fn counter_value(object: Option<&Object>) -> Result<Option<i128>, CounterOverflow> {
    match object {
        Some(Object::PnCounter(counter)) if counter.exists() => counter.value().map(Some),
        _ => Ok(None),
    }
}

fn leaf_of(map: &OrMap, field: &Name, kind: Kind) -> Result<Option<Shown>, CounterOverflow> {
    let object = map.entry(field, kind);
    match kind {
        Kind::Register => Ok(register_value(object).map(Shown::Value)),
        _ => Ok(counter_value(object)?.map(Shown::Amount)),
    }
}
