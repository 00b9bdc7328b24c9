//! An object of any type, and the map that holds objects.
//!
//! The map (OR-Map):
//! - **Intent**: names to objects, maps inside maps.
//! - **Who wins**: a write to an entry against a concurrent removal of it, because the removal did not see
//!   the write's dot; inside an entry, the entry's own type decides.
//! - **Tie-break**: that of the entry's type. One name can hold one object of each type, as in Riak: two
//!   regions that create a set and a counter under one name keep both.
//! - **Cost of a delete**: that of the entries; a removal is the removal of every leaf, by its dots.
//! - **Paper**: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), section 7.4.
//!
//! LONG: one type and the enum over all of them: each arm is one line, and splitting would hide the symmetry.

use std::sync::Arc;

use crate::chain::Increment;
use crate::counter::{CounterDelta, GCounter, PnCounter};
use crate::crdt::Crdt;
use crate::dot::Dot;
use crate::error::{CounterOverflow, DecodeError};
use crate::fingerprint::{Place, Tally};
use crate::hlc::Hlc;
use crate::index::{Index, Named};
use crate::pack::{DotTable, Reader, Writer};
use crate::register::{Entry, Register, RegisterDelta};
use crate::row::{Row, RowDelta, RowJournalContent, RowJournalEntry};
use crate::set::{NAME_BYTES_MAX, OrSet, SetDelta};
use crate::value::Value;
use crate::vector::Covers;

/// Room that the bytes of an object begin with.
const USUAL_BYTES: usize = 256;

/// Deepest path: a key and seven maps inside each other. Decoding recurses no deeper.
pub const PATH_DEPTH_MAX: usize = 8;

/// A name in a path, as its bytes. Shared: a row's state, what the database shows of it and what is on its way between
/// them say the same names.
pub type Name = Arc<[u8]>;

/// The type of an object. The numbers stand in every format and never change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// [`Register`].
    Register = 0,
    /// [`GCounter`].
    GCounter = 1,
    /// [`PnCounter`].
    PnCounter = 2,
    /// [`OrSet`].
    Set = 3,
    /// [`OrMap`].
    Map = 4,
    /// [`Row`].
    Row = 5,
}

impl Kind {
    /// All types.
    pub const ALL: [Self; 6] = [Self::Register, Self::GCounter, Self::PnCounter, Self::Set, Self::Map, Self::Row];

    /// The type with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// Some of the types.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KindSet(u8);

impl KindSet {
    /// Every type.
    pub fn all() -> Self {
        Kind::ALL.into_iter().collect()
    }

    /// True for a type that is among them.
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Takes a type in, or out.
    pub const fn set(&mut self, kind: Kind, is_in: bool) {
        self.0 = self.0 & !(1 << kind as u8) | (is_in as u8) << kind as u8;
    }
}

impl FromIterator<Kind> for KindSet {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | 1 << kind as u8))
    }
}

/// What one change does to the leaf at the end of its path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// To a register.
    Register(RegisterDelta),
    /// To a counter that only goes up.
    GCounter(CounterDelta),
    /// To a counter.
    PnCounter(CounterDelta),
    /// To a set.
    Set(SetDelta),
    /// To a row.
    Row(RowDelta),
}

impl Op {
    /// The type of the leaf.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Register(_) => Kind::Register,
            Self::GCounter(_) => Kind::GCounter,
            Self::PnCounter(_) => Kind::PnCounter,
            Self::Set(_) => Kind::Set,
            Self::Row(_) => Kind::Row,
        }
    }

    /// All dots that the change names.
    pub fn named(&self, visit: &mut dyn FnMut(Dot)) {
        match self {
            Self::Register(delta) => Register::named(delta, visit),
            Self::GCounter(delta) | Self::PnCounter(delta) => PnCounter::named(delta, visit),
            Self::Set(delta) => OrSet::named(delta, visit),
            Self::Row(delta) => Row::named(delta, visit),
        }
    }

    /// True unless the change, as `dot`, goes on with a chain of another replica or with one from behind
    /// itself: a state that holds such a chain has no form, so it could not be read again.
    pub(crate) fn extends_only_before(&self, dot: Dot) -> bool {
        let fits = |add: &Option<Increment>| {
            let extends = add.as_ref().and_then(|increment| increment.extends);
            extends.is_none_or(|seen| seen.tip.replica == dot.replica && seen.tip.position() < dot.position())
        };
        match self {
            Self::GCounter(delta) | Self::PnCounter(delta) => fits(&delta.add),
            Self::Row(delta) => delta.columns.iter().all(|column| fits(&column.add)),
            Self::Register(_) | Self::Set(_) => true,
        }
    }

    /// Appends the delta without its type.
    pub fn encode(&self, writer: &mut Writer, table: &DotTable) {
        match self {
            Self::Register(delta) => Register::encode_delta(delta, writer, table),
            Self::GCounter(delta) | Self::PnCounter(delta) => PnCounter::encode_delta(delta, writer, table),
            Self::Set(delta) => OrSet::encode_delta(delta, writer, table),
            Self::Row(delta) => Row::encode_delta(delta, writer, table),
        }
    }

    /// Reads the delta of a leaf of type `kind`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Op::encode`] would not have written.
    pub fn decode(kind: Kind, reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let at = reader.at();
        Ok(match kind {
            Kind::Register => Self::Register(Register::decode_delta(reader, table)?),
            Kind::GCounter => Self::GCounter(GCounter::decode_delta(reader, table)?),
            Kind::PnCounter => Self::PnCounter(PnCounter::decode_delta(reader, table)?),
            Kind::Set => Self::Set(OrSet::decode_delta(reader, table)?),
            Kind::Row => Self::Row(Row::decode_delta(reader, table)?),
            Kind::Map => return Err(DecodeError::Invalid { what: "type of a leaf", at }),
        })
    }
}

/// An object of any type.
#[derive(Clone, PartialEq, Debug)]
pub enum Object {
    /// A register.
    Register(Register),
    /// A counter that only goes up.
    GCounter(GCounter),
    /// A counter.
    PnCounter(PnCounter),
    /// A set.
    Set(OrSet),
    /// A map.
    Map(OrMap),
    /// A row.
    Row(Row),
}

/// Calls the same method on whichever type the object has.
macro_rules! each {
    ($object:expr, $inner:ident => $call:expr) => {
        match $object {
            Object::Register($inner) => $call,
            Object::GCounter($inner) => $call,
            Object::PnCounter($inner) => $call,
            Object::Set($inner) => $call,
            Object::Map($inner) => $call,
            Object::Row($inner) => $call,
        }
    };
}

impl Object {
    /// An empty object.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Register => Self::Register(Register::default()),
            Kind::GCounter => Self::GCounter(GCounter::default()),
            Kind::PnCounter => Self::PnCounter(PnCounter::default()),
            Kind::Set => Self::Set(OrSet::default()),
            Kind::Map => Self::Map(OrMap::default()),
            Kind::Row => Self::Row(Row::default()),
        }
    }

    /// The object's type.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Register(_) => Kind::Register,
            Self::GCounter(_) => Kind::GCounter,
            Self::PnCounter(_) => Kind::PnCounter,
            Self::Set(_) => Kind::Set,
            Self::Map(_) => Kind::Map,
            Self::Row(_) => Kind::Row,
        }
    }

    /// True while something is shown.
    pub fn exists(&self) -> bool {
        match self {
            Self::Register(register) => register.shown().is_some(),
            Self::GCounter(counter) => counter.exists(),
            Self::PnCounter(counter) => counter.exists(),
            Self::Set(set) => !set.is_empty(),
            Self::Map(map) => map.exists(),
            Self::Row(row) => row.exists(),
        }
    }

    /// Reads from where it keeps its content, so that this is near when it is needed. Sets and maps are left out: what
    /// a change needs of them is somewhere in them.
    #[inline]
    pub(crate) fn touch(&self) -> u8 {
        match self {
            Self::Register(register) => register.touch(),
            Self::GCounter(counter) => counter.touch(),
            Self::PnCounter(counter) => counter.touch(),
            Self::Set(_) | Self::Map(_) | Self::Row(_) => 0,
        }
    }

    /// Applies a change at `path` below this object (empty: to this object itself), in causal order.
    ///
    /// # Errors
    /// [`CounterOverflow`] when a sum leaves its range; the state is as before.
    ///
    /// # Panics
    /// When the path or the operation does not fit the object's type. The decoder makes both fit: a path
    /// leads through maps to a leaf of the operation's type.
    pub fn apply(
        &mut self,
        dot: Dot,
        stamp: Hlc,
        path: &[Name],
        op: &Op,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow> {
        match (self, op) {
            (Self::Map(map), _) => map.apply_at(dot, stamp, path, op, place, tally),
            (Self::Register(register), Op::Register(delta)) => register.apply(dot, stamp, delta, place, tally),
            (Self::GCounter(counter), Op::GCounter(delta)) => counter.apply(dot, stamp, delta, place, tally),
            (Self::PnCounter(counter), Op::PnCounter(delta)) => counter.apply(dot, stamp, delta, place, tally),
            (Self::Set(set), Op::Set(delta)) => set.apply(dot, stamp, delta, place, tally),
            (Self::Row(row), Op::Row(delta)) => row.apply(dot, stamp, delta, place, tally),
            (object, op) => unreachable!("{:?} change for a {:?}", op.kind(), object.kind()),
        }
    }

    /// Everything that removes what this object shows: one operation a leaf, with its path below here.
    /// Rows are not removed this way: a DELETE names what the database showed (see [`crate::RowView`]).
    pub fn removals(&self) -> Vec<(Vec<Name>, Op)> {
        let leaf = |op: Option<Op>| op.map(|op| (Vec::new(), op)).into_iter().collect();
        match self {
            Self::Register(register) => leaf(register.remove().map(Op::Register)),
            Self::GCounter(counter) => leaf(counter.remove().map(Op::GCounter)),
            Self::PnCounter(counter) => leaf(counter.remove().map(Op::PnCounter)),
            Self::Set(set) => leaf(set.clear().map(Op::Set)),
            Self::Row(_) => Vec::new(),
            Self::Map(map) => map
                .iter()
                .flat_map(|(field, child)| {
                    child.removals().into_iter().map(|(mut path, op)| {
                        path.insert(0, field.name.clone());
                        (path, op)
                    })
                })
                .collect(),
        }
    }

    /// True while [`Object::collect`] would drop something.
    pub fn has_remains(&self) -> bool {
        match self {
            Self::GCounter(counter) => counter.has_remains(),
            Self::PnCounter(counter) => counter.has_remains(),
            Self::Row(row) => row.has_remains(),
            Self::Map(map) => map.entries().any(|(_, object)| object.has_remains()),
            Self::Register(_) | Self::Set(_) => false,
        }
    }

    /// Drops what no longer counts anywhere, once the removals are stable.
    pub fn collect(&mut self) -> usize {
        match self {
            Self::GCounter(counter) => counter.collect(),
            Self::PnCounter(counter) => counter.collect(),
            Self::Row(row) => row.collect(),
            Self::Map(map) => map.collect(),
            Self::Register(_) | Self::Set(_) => 0,
        }
    }

    /// Drops a journal entry whose retention is over; true when it went. In a row, `path` ends with the column.
    pub fn forget(&mut self, path: &[Name], dot: Dot) -> bool {
        match (self, path) {
            (Self::Register(register), []) => register.forget(dot),
            (Self::Row(row), [column]) => row.forget(column, dot),
            (Self::Map(map), [name, rest @ ..]) => map.forget(name, rest, dot),
            _ => false,
        }
    }

    /// Values that are present and not shown: path below this object (in a row, the column), dot, content.
    pub fn journal(&self) -> Vec<JournalEntry> {
        match self {
            Self::Register(register) => register.journal().map(JournalEntry::of_register).collect(),
            Self::Row(row) => row.journal().map(JournalEntry::of_row).collect(),
            Self::Map(map) => map
                .iter()
                .flat_map(|(field, child)| {
                    child.journal().into_iter().map(|mut entry| {
                        entry.path.insert(0, field.name.clone());
                        entry
                    })
                })
                .collect(),
            Self::GCounter(_) | Self::PnCounter(_) | Self::Set(_) => Vec::new(),
        }
    }

    /// Joins another object of the same type; see [`Crdt::join`].
    ///
    /// # Panics
    /// When the types differ: keys carry the type, so equal keys have equal types.
    pub fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        match (self, other) {
            (Self::Register(own), Self::Register(other)) => own.join(mine, other, theirs),
            (Self::GCounter(own), Self::GCounter(other)) => own.join(mine, other, theirs),
            (Self::PnCounter(own), Self::PnCounter(other)) => own.join(mine, other, theirs),
            (Self::Set(own), Self::Set(other)) => own.join(mine, other, theirs),
            (Self::Map(own), Self::Map(other)) => own.join(mine, other, theirs),
            (Self::Row(own), Self::Row(other)) => own.join(mine, other, theirs),
            (own, other) => unreachable!("join of a {:?} with a {:?}", own.kind(), other.kind()),
        }
    }

    /// Fingerprint and journal counted from scratch.
    pub fn tally(&self, place: Place) -> Tally {
        each!(self, inner => inner.tally(place))
    }

    /// True when nothing is left at all.
    pub fn is_bottom(&self) -> bool {
        each!(self, inner => inner.is_bottom())
    }

    /// Every dot that the encoding mentions.
    pub fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        each!(self, inner => inner.dots(visit));
    }

    /// The canonical bytes: a table of replicas, then the state without its type.
    pub fn to_bytes(&self) -> Vec<u8> {
        let table = DotTable::gather(|visit| self.dots(visit));
        let mut writer = Writer::with_capacity(USUAL_BYTES);
        writer.table(&table);
        each!(self, inner => inner.encode(&mut writer, &table));
        writer.into_bytes()
    }

    /// Reads the canonical bytes of an object of type `kind`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Object::to_bytes`] would not have written.
    pub fn from_bytes(kind: Kind, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let table = reader.table()?;
        let object = Self::decode(kind, &mut reader, &table, 0)?;
        reader.finish()?;
        // Another order, an idle replica or a base too high would give one state two forms.
        if table != DotTable::gather(|visit| object.dots(visit)) {
            return Err(DecodeError::NotCanonical { what: "table of replicas", at: 0 });
        }
        Ok(object)
    }

    fn decode(kind: Kind, reader: &mut Reader<'_>, table: &DotTable, depth: usize) -> Result<Self, DecodeError> {
        Ok(match kind {
            Kind::Register => Self::Register(Register::decode(reader, table)?),
            Kind::GCounter => Self::GCounter(GCounter::decode(reader, table)?),
            Kind::PnCounter => Self::PnCounter(PnCounter::decode(reader, table)?),
            Kind::Set => Self::Set(OrSet::decode(reader, table)?),
            Kind::Map => Self::Map(OrMap::decode_at(reader, table, depth)?),
            Kind::Row => Self::Row(Row::decode(reader, table)?),
        })
    }
}

/// A value or an amount that is present in an object and not shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JournalEntry {
    /// Names below the object; in a row, the column.
    pub path: Vec<Name>,
    /// Who wrote it.
    pub dot: Dot,
    /// Its write stamp; `None` for an amount.
    pub stamp: Option<Hlc>,
    /// What it is.
    pub content: JournalContent,
}

/// What a journal entry keeps.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum JournalContent {
    /// A value that was written.
    Value(Value),
    /// What a replica had added to a counter of a row that was deleted without seeing it.
    Amount(i128),
}

impl JournalEntry {
    fn of_register(entry: &Entry) -> Self {
        let content = JournalContent::Value(entry.value.clone());
        Self { path: Vec::new(), dot: entry.dot, stamp: Some(entry.stamp), content }
    }

    fn of_row(entry: RowJournalEntry<'_>) -> Self {
        let (stamp, content) = match entry.content {
            RowJournalContent::Value(stamp, value) => (Some(stamp), JournalContent::Value(value.clone())),
            RowJournalContent::Amount(amount) => (None, JournalContent::Amount(amount)),
        };
        Self { path: vec![entry.column.into()], dot: entry.dot, stamp, content }
    }
}

/// An entry of a map: its name and type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Field {
    /// The name.
    pub name: Name,
    /// The type.
    pub kind: Kind,
}

impl Named for Field {
    fn name(&self) -> &[u8] {
        &self.name
    }
}

/// A map of objects.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OrMap {
    /// Never holds an object of which nothing is left.
    entries: Index<Field, Object>,
}

/// A change to a leaf below a map.
#[derive(Clone, PartialEq, Debug)]
pub struct MapDelta {
    /// Names from this map down to the leaf, at least one.
    pub path: Vec<Name>,
    /// What happens there.
    pub op: Op,
}

impl OrMap {
    /// The object under `name` of type `kind`.
    pub fn entry(&self, name: &[u8], kind: Kind) -> Option<&Object> {
        self.entries.get(name, |field| field.kind == kind).map(|(_, object)| object)
    }

    /// Types of the objects under `name` that show something.
    pub fn kinds(&self, name: &[u8]) -> KindSet {
        self.entries.under(name).filter(|(_, object)| object.exists()).map(|(field, _)| field.kind).collect()
    }

    /// The map of this entry alone, if it is there.
    pub(crate) fn part(&self, name: &[u8], kind: Kind) -> Option<Self> {
        let (field, object) = self.entries.get(name, |field| field.kind == kind)?;
        Some(Self { entries: [(field.clone(), object.clone())].into_iter().collect() })
    }

    pub(crate) fn add_parts(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// Entries in the order of names, then types; also those of which only a journal is left. O(n log n).
    pub fn iter(&self) -> impl Iterator<Item = (&Field, &Object)> {
        self.entries.sorted()
    }

    /// The same in no order.
    pub fn entries(&self) -> impl Iterator<Item = (&Field, &Object)> {
        self.entries.iter()
    }

    /// True while one entry shows something.
    pub fn exists(&self) -> bool {
        self.entries.iter().any(|(_, object)| object.exists())
    }

    fn apply_at(
        &mut self,
        dot: Dot,
        stamp: Hlc,
        path: &[Name],
        op: &Op,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow> {
        let (name, rest) = path.split_first().expect("a path leads through maps to a leaf");
        let kind = if rest.is_empty() { op.kind() } else { Kind::Map };
        let child = place.child(kind as u8, name);
        self.entries.change(
            name,
            |field| field.kind == kind,
            || (Field { name: name.clone(), kind }, Object::new(kind)),
            |object| (object.apply(dot, stamp, rest, op, child, tally), !object.is_bottom()),
        )
    }

    fn forget(&mut self, name: &[u8], path: &[Name], dot: Dot) -> bool {
        let mut gone = false;
        self.entries.retain(|field, object| {
            gone |= &*field.name == name && object.forget(path, dot);
            !object.is_bottom()
        });
        gone
    }

    fn collect(&mut self) -> usize {
        let mut collected = 0;
        self.entries.retain(|_, object| {
            collected += object.collect();
            !object.is_bottom()
        });
        collected
    }

    fn decode_at(reader: &mut Reader<'_>, table: &DotTable, depth: usize) -> Result<Self, DecodeError> {
        if depth + 1 >= PATH_DEPTH_MAX {
            let (value, bound) = (depth as u64 + 2, PATH_DEPTH_MAX as u64);
            return Err(DecodeError::Limit { what: "depth of a map", value, bound });
        }
        let mut entries = Index::default();
        let mut last: Option<Field> = None;
        for _ in 0..reader.count("number of entries", 3)? {
            let at = reader.at();
            let name: Name = reader.bytes("name length", NAME_BYTES_MAX)?.into();
            let kind = Kind::from_code(reader.byte()?).ok_or(DecodeError::Invalid { what: "type", at })?;
            let object = Object::decode(kind, reader, table, depth + 1)?;
            let field = Field { name, kind };
            if last.is_some_and(|last| last >= field) || object.is_bottom() {
                return Err(DecodeError::NotCanonical { what: "entry of a map", at });
            }
            last = Some(field.clone());
            entries.insert(field, object);
        }
        Ok(Self { entries })
    }
}

impl Crdt for OrMap {
    type Delta = MapDelta;

    fn apply(
        &mut self,
        dot: Dot,
        stamp: Hlc,
        delta: &MapDelta,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow> {
        self.apply_at(dot, stamp, &delta.path, &delta.op, place, tally)
    }

    fn named(delta: &MapDelta, visit: &mut dyn FnMut(Dot)) {
        delta.op.named(visit);
    }

    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        for (field, object) in self.entries.iter_mut() {
            let missing = Object::new(field.kind);
            object.join(mine, other.entry(&field.name, field.kind).unwrap_or(&missing), theirs);
        }
        for (field, object) in other.entries.iter() {
            if self.entry(&field.name, field.kind).is_none() {
                let mut joined = Object::new(field.kind);
                joined.join(mine, object, theirs);
                self.entries.insert(field.clone(), joined);
            }
        }
        self.entries.retain(|_, object| !object.is_bottom());
    }

    fn tally(&self, place: Place) -> Tally {
        let mut tally = Tally::default();
        for (field, object) in self.entries.iter() {
            tally.add(object.tally(place.child(field.kind as u8, &field.name)));
        }
        tally
    }

    fn is_bottom(&self) -> bool {
        self.entries.is_empty()
    }

    fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        self.entries.iter().for_each(|(_, object)| object.dots(visit));
    }

    fn encode(&self, writer: &mut Writer, table: &DotTable) {
        writer.varint(self.entries.len() as u64);
        for (field, object) in self.entries.sorted() {
            writer.bytes(&field.name);
            writer.byte(field.kind as u8);
            each!(object, inner => inner.encode(writer, table));
        }
    }

    fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        Self::decode_at(reader, table, 0)
    }

    fn encode_delta(delta: &MapDelta, writer: &mut Writer, table: &DotTable) {
        writer.varint(delta.path.len() as u64);
        delta.path.iter().for_each(|name| writer.bytes(name));
        writer.byte(delta.op.kind() as u8);
        delta.op.encode(writer, table);
    }

    fn decode_delta(reader: &mut Reader<'_>, table: &DotTable) -> Result<MapDelta, DecodeError> {
        let at = reader.at();
        let depth = reader.bounded("depth of a path", PATH_DEPTH_MAX as u64 - 1)?;
        if depth == 0 {
            return Err(DecodeError::Invalid { what: "depth of a path", at });
        }
        let mut path = Vec::with_capacity(depth as usize);
        for _ in 0..depth {
            path.push(reader.bytes("name length", NAME_BYTES_MAX)?.into());
        }
        let kind = Kind::from_code(reader.byte()?).ok_or(DecodeError::Invalid { what: "type", at })?;
        Ok(MapDelta { path, op: Op::decode(kind, reader, table)? })
    }
}
