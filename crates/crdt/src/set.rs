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
use crate::index::Index;
use crate::pack::{DotTable, Reader, Writer};
use crate::vector::Covers;

/// Longest element or name: 64 KiB, so that a key never needs a stream of its own.
pub const NAME_BYTES_MAX: usize = 64 << 10;

/// An add-wins set of byte strings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OrSet {
    /// Element -> the adds that nobody removed, sorted, never empty.
    elements: Index<Box<[u8]>, Vec<Dot>>,
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
        let named: BTreeMap<&[u8], Vec<Dot>> =
            elements.into_iter().map(|element| (element, self.dots_of(element).unwrap_or_default().to_vec())).collect();
        let delta = |(element, removes): (&[u8], _)| ElementDelta { element: element.into(), removes, add };
        SetDelta { elements: named.into_iter().map(delta).collect() }
    }

    /// True when the element is in the set.
    pub fn contains(&self, element: &[u8]) -> bool {
        self.dots_of(element).is_some()
    }

    /// The elements in byte order. O(n log n).
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.elements.sorted().map(|(element, _)| element.as_ref())
    }

    fn dots_of(&self, element: &[u8]) -> Option<&[Dot]> {
        self.elements.get(element, |_| true).map(|(_, dots)| dots.as_slice())
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
        let (element, dots) = self.elements.get(element, |_| true)?;
        Some(Self { elements: [(element.clone(), dots.clone())].into_iter().collect() })
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
            let change = |dots: &mut Vec<Dot>| {
                tally.fingerprint.remove(Self::sum(place, element, dots));
                dots.retain(|present| !removes.contains(present));
                if *add && let Err(at) = dots.binary_search(&dot) {
                    dots.insert(at, dot);
                }
                tally.fingerprint.add(Self::sum(place, element, dots));
                ((), !dots.is_empty())
            };
            self.elements.change(element, |_| true, || (element.clone(), Vec::new()), change);
        }
        Ok(())
    }

    fn named(delta: &SetDelta, visit: &mut dyn FnMut(Dot)) {
        delta.elements.iter().flat_map(|element| &element.removes).copied().for_each(visit);
    }

    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        for (element, dots) in self.elements.iter_mut() {
            join_dots(dots, mine, other.dots_of(element).unwrap_or_default(), theirs);
        }
        for (element, others) in other.elements.iter() {
            if !self.contains(element) {
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
        self.elements.iter().flat_map(|(_, dots)| dots).copied().for_each(visit);
    }

    fn encode(&self, writer: &mut Writer, table: &DotTable) {
        writer.varint(self.elements.len() as u64);
        for (element, dots) in self.elements.sorted() {
            writer.bytes(element);
            writer.dots(dots, table);
        }
    }

    fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let count = reader.count("number of elements", 4)?;
        let mut elements = Index::default();
        let mut last: Option<&[u8]> = None;
        for _ in 0..count {
            let at = reader.at();
            let element = reader.bytes("element length", NAME_BYTES_MAX)?;
            let dots = reader.sorted_dots(table)?;
            if last.is_some_and(|last| last >= element) || dots.is_empty() {
                return Err(DecodeError::NotCanonical { what: "element", at });
            }
            last = Some(element);
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
