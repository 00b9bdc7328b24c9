//! Parts of an object: what a set or a map is stored in, so that a write costs what it changes and not what is there.
//!
//! A set's parts are its elements, a map's its entries. Registers, counters and rows have none: they are stored as a whole.
//! A part is an object of the same type that holds nothing else; all parts together are the object.

use crate::change::{Change, Content};
use crate::object::{Kind, Object, Op};

/// Names a part within its object: an element, or an entry's type and name.
pub type PartName = Box<[u8]>;

impl Kind {
    /// True for types whose objects have parts.
    pub const fn has_parts(self) -> bool {
        matches!(self, Self::Set | Self::Map)
    }
}

impl Object {
    /// Names of all parts; none for a type that has none.
    pub fn part_names(&self) -> Vec<PartName> {
        match self {
            Self::Set(set) => set.iter().map(PartName::from).collect(),
            Self::Map(map) => map.iter().map(|(field, _)| entry_name(field.kind, &field.name)).collect(),
            _ => Vec::new(),
        }
    }

    /// One part; `None` where there is none of this name. O(log n), and what the part itself holds.
    pub fn part(&self, name: &[u8]) -> Option<Self> {
        match self {
            Self::Set(set) => set.part(name).map(Self::Set),
            Self::Map(map) => {
                let (code, name) = name.split_first()?;
                map.part(name, Kind::from_code(*code)?).map(Self::Map)
            }
            _ => None,
        }
    }

    /// Takes over the parts of an object of the same type; of two with one name the other's.
    pub fn add_parts(&mut self, other: Self) {
        match (self, other) {
            (Self::Set(set), Self::Set(other)) => set.add_parts(other),
            (Self::Map(map), Self::Map(other)) => map.add_parts(other),
            (object, other) => *object = other,
        }
    }
}

/// Names of the parts that a change may touch; none where its object has no parts.
pub fn of_change(change: &Change) -> Vec<PartName> {
    let Content::Op(op) = &change.content else { return Vec::new() };
    match (change.path.as_slice(), op) {
        ([_], Op::Set(delta)) => delta.elements.iter().map(|element| element.element.clone()).collect(),
        ([_, name], op) => vec![entry_name(op.kind(), name)],
        ([_, name, _, ..], _) => vec![entry_name(Kind::Map, name)],
        _ => Vec::new(),
    }
}

fn entry_name(kind: Kind, name: &[u8]) -> PartName {
    [&[kind as u8], name].concat().into()
}
