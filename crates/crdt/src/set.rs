//! Add-wins set without tombstones (OR-Set, in the optimised form ORSWOT).
//!
//! - **Intent**: a set of byte strings.
//! - **Who wins**: an add against a concurrent remove, because the remove did not see the add's dot.
//! - **Tie-break**: none needed.
//! - **Cost of a delete**: none; what the vector covers and the state lacks is removed.
//! - **Paper**: Bieniusa et al., "An optimized conflict-free replicated set" (2012).

use std::collections::BTreeMap;

use crate::crdt::{Crdt, join_dots};
use crate::dot::Dot;
use crate::error::{CounterOverflow, DecodeError};
use crate::fingerprint::{Fingerprint, Leaf, Place, Tally};
use crate::hlc::Hlc;
use crate::pack::{DotTable, Reader, Writer};
use crate::vector::Covers;

/// Longest element or name: 64 KiB, so that a key never needs a stream of its own.
pub const NAME_BYTES_MAX: usize = 64 << 10;

/// An add-wins set of byte strings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OrSet {
    /// Element -> the adds that nobody removed, sorted, never empty.
    elements: BTreeMap<Box<[u8]>, Vec<Dot>>,
}

/// What happens to one element.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElementDelta {
    /// The element.
    pub element: Box<[u8]>,
    /// Adds that the author saw: removed, or replaced by the new one.
    pub removes: Vec<Dot>,
    /// True for an add.
    pub add: bool,
}

/// What one change does to a set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SetDelta {
    /// One entry an element, in the order of elements.
    pub elements: Vec<ElementDelta>,
}

impl OrSet {
    /// Adds elements. An element that is there already is added again, so that the add wins against a
    /// concurrent remove.
    pub fn add<'a>(&self, elements: impl IntoIterator<Item = &'a [u8]>) -> SetDelta {
        self.delta(elements, true)
    }

    /// Removes those of `elements` that are there.
    pub fn remove<'a>(&self, elements: impl IntoIterator<Item = &'a [u8]>) -> SetDelta {
        let mut delta = self.delta(elements, false);
        delta.elements.retain(|element| !element.removes.is_empty());
        delta
    }

    /// Removes everything. `None` when the set is empty.
    pub fn clear(&self) -> Option<SetDelta> {
        (!self.elements.is_empty()).then(|| self.remove(self.iter()))
    }

    fn delta<'a>(&self, elements: impl IntoIterator<Item = &'a [u8]>, add: bool) -> SetDelta {
        let named: BTreeMap<&[u8], Vec<Dot>> = elements
            .into_iter()
            .map(|element| (element, self.elements.get(element).cloned().unwrap_or_default()))
            .collect();
        let delta = |(element, removes): (&[u8], _)| ElementDelta { element: element.into(), removes, add };
        SetDelta { elements: named.into_iter().map(delta).collect() }
    }

    /// True when the element is in the set.
    pub fn contains(&self, element: &[u8]) -> bool {
        self.elements.contains_key(element)
    }

    /// The elements in byte order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.elements.keys().map(AsRef::as_ref)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// True when there is no element.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The set of this element alone, if it is there.
    pub(crate) fn part(&self, element: &[u8]) -> Option<Self> {
        let (element, dots) = self.elements.get_key_value(element)?;
        Some(Self { elements: BTreeMap::from([(element.clone(), dots.clone())]) })
    }

    pub(crate) fn add_parts(&mut self, other: Self) {
        self.elements.extend(other.elements);
    }

    fn sum(place: Place, element: &[u8], dots: &[Dot]) -> Fingerprint {
        let mut sum = Fingerprint::default();
        dots.iter().for_each(|dot| sum.add(place.dot(Leaf::Element, element, *dot)));
        sum
    }
}

impl Crdt for OrSet {
    type Delta = SetDelta;

    fn apply(
        &mut self,
        dot: Dot,
        _stamp: Hlc,
        delta: &SetDelta,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow> {
        for ElementDelta { element, removes, add } in &delta.elements {
            let change = |dots: &mut Vec<Dot>, tally: &mut Tally| {
                tally.fingerprint.remove(Self::sum(place, element, dots));
                dots.retain(|present| !removes.contains(present));
                if *add && let Err(at) = dots.binary_search(&dot) {
                    dots.insert(at, dot);
                }
                tally.fingerprint.add(Self::sum(place, element, dots));
            };
            match self.elements.get_mut(element) {
                Some(dots) => {
                    change(dots, tally);
                    if dots.is_empty() {
                        self.elements.remove(element);
                    }
                }
                None => {
                    let mut dots = Vec::new();
                    change(&mut dots, tally);
                    if !dots.is_empty() {
                        self.elements.insert(element.clone(), dots);
                    }
                }
            }
        }
        Ok(())
    }

    fn named(delta: &SetDelta, visit: &mut dyn FnMut(Dot)) {
        delta.elements.iter().flat_map(|element| &element.removes).copied().for_each(visit);
    }

    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        for (element, dots) in &mut self.elements {
            let others = other.elements.get(element).map_or(&[][..], Vec::as_slice);
            join_dots(dots, mine, others, theirs);
        }
        for (element, others) in &other.elements {
            if !self.elements.contains_key(element) {
                let mut dots = Vec::new();
                join_dots(&mut dots, mine, others, theirs);
                self.elements.insert(element.clone(), dots);
            }
        }
        self.elements.retain(|_, dots| !dots.is_empty());
    }

    fn tally(&self, place: Place) -> Tally {
        let mut tally = Tally::default();
        self.elements.iter().for_each(|(element, dots)| tally.fingerprint.add(Self::sum(place, element, dots)));
        tally
    }

    fn is_bottom(&self) -> bool {
        self.elements.is_empty()
    }

    fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        self.elements.values().flatten().copied().for_each(visit);
    }

    fn encode(&self, writer: &mut Writer, table: &DotTable) {
        writer.varint(self.elements.len() as u64);
        for (element, dots) in &self.elements {
            writer.bytes(element);
            writer.dots(dots, table);
        }
    }

    fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let count = reader.count("number of elements", 4)?;
        let mut elements: BTreeMap<Box<[u8]>, Vec<Dot>> = BTreeMap::new();
        for _ in 0..count {
            let at = reader.at();
            let element = reader.bytes("element length", NAME_BYTES_MAX)?;
            let dots = reader.sorted_dots(table)?;
            let ascending = elements.last_key_value().is_none_or(|(last, _)| last.as_ref() < element);
            if !ascending || dots.is_empty() {
                return Err(DecodeError::NotCanonical { what: "element", at });
            }
            elements.insert(element.into(), dots);
        }
        Ok(Self { elements })
    }

    fn encode_delta(delta: &SetDelta, writer: &mut Writer, table: &DotTable) {
        writer.varint(delta.elements.len() as u64);
        for ElementDelta { element, removes, add } in &delta.elements {
            writer.bytes(element);
            writer.varint(removes.len() as u64 * 2 + u64::from(*add));
            removes.iter().for_each(|dot| writer.dot(*dot, table));
        }
    }

    fn decode_delta(reader: &mut Reader<'_>, table: &DotTable) -> Result<SetDelta, DecodeError> {
        let count = reader.count("number of elements", 2)?;
        let mut elements: Vec<ElementDelta> = Vec::with_capacity(count);
        for _ in 0..count {
            let at = reader.at();
            let element: Box<[u8]> = reader.bytes("element length", NAME_BYTES_MAX)?.into();
            if elements.last().is_some_and(|last| last.element >= element) {
                return Err(DecodeError::NotCanonical { what: "order of elements", at });
            }
            let (count, add) = reader.flagged_count("number of removed adds", 2)?;
            let mut removes = Vec::with_capacity(count);
            for _ in 0..count {
                removes.push(reader.dot(table)?);
            }
            elements.push(ElementDelta { element, removes, add });
        }
        Ok(SetDelta { elements })
    }
}
