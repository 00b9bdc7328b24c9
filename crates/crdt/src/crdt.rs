//! What every data type of this crate offers.

use core::fmt::Debug;

use crate::context::CausalContext;
use crate::dot::Dot;
use crate::error::{CounterOverflow, DecodeError};
use crate::fingerprint::{Place, Tally};
use crate::hlc::Hlc;
use crate::pack::{DotTable, Reader, Writer};
use crate::vector::Covers;

/// A delta-state CRDT whose deltas name the dots that they replace or remove.
///
/// Two ways lead to the same state, and the laws in the package `laws` hold every type to it:
/// - [`Crdt::apply`]: changes in causal order, each exactly once. It is the fast path, and needs no
///   causal context, because whatever a change names has been applied before it.
/// - [`Crdt::join`]: two states with the pasts that they hold. A dot survives where both have it, or
///   where one has it and the other's past does not cover it; what the other's past covers and its state lacks
///   *is* removed, so no tombstone is needed (Bieniusa et al., "An optimized conflict-free replicated
///   set", 2012).
pub trait Crdt: Clone + Default + PartialEq + Debug {
    /// What one change does.
    type Delta: Clone + PartialEq + Debug;

    /// Applies the change `dot`, stamped `stamp`, and keeps `tally` (of this object at `place`) true.
    ///
    /// # Errors
    /// [`CounterOverflow`] when a sum leaves its range; the state is as before.
    fn apply(
        &mut self,
        dot: Dot,
        stamp: Hlc,
        delta: &Self::Delta,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow>;

    /// All dots that the delta names, removed or merely referred to: what a batch's context must cover.
    fn named(delta: &Self::Delta, visit: &mut dyn FnMut(Dot));

    /// Joins `other`, whose past is `theirs`, into this state, whose past is `mine`.
    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers);

    /// Fingerprint and journal counted from scratch.
    fn tally(&self, place: Place) -> Tally;

    /// True when nothing is left, neither shown nor journaled nor remembered: the object can go.
    fn is_bottom(&self) -> bool;

    /// Every dot that the encoding will mention.
    fn dots(&self, visit: &mut dyn FnMut(Dot));

    /// Appends the canonical form.
    fn encode(&self, writer: &mut Writer, table: &DotTable);

    /// Reads the canonical form.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Crdt::encode`] would not have written.
    fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError>;

    /// Appends a delta.
    fn encode_delta(delta: &Self::Delta, writer: &mut Writer, table: &DotTable);

    /// Reads a delta.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Crdt::encode_delta`] would not have written.
    fn decode_delta(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self::Delta, DecodeError>;
}

/// A state together with its past: a semilattice under [`Causal::join`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Causal<T> {
    /// The state.
    pub state: T,
    /// What it includes, shown or removed.
    pub context: CausalContext,
}

impl<T: Crdt> Causal<T> {
    /// Least upper bound.
    pub fn join(&mut self, other: &Self) {
        self.state.join(&self.context, &other.state, &other.context);
        self.context.join(&other.context);
    }
}

/// The rule of the join for one dot of `state`: it stays where the other state has it too, or where the
/// other's past does not cover it.
pub(crate) fn survives(dot: &Dot, in_other: bool, theirs: &dyn Covers) -> bool {
    in_other || !theirs.covers(dot)
}

/// The dots in ascending order; `None` when one of them occurs twice.
pub(crate) fn distinct(dots: impl Iterator<Item = Dot>) -> Option<Vec<Dot>> {
    let mut dots: Vec<Dot> = dots.collect();
    dots.sort_unstable();
    dots.is_sorted_by(|left, right| left < right).then_some(dots)
}

/// Joins two sorted sets of dots.
pub(crate) fn join_dots(own: &mut Vec<Dot>, mine: &dyn Covers, other: &[Dot], theirs: &dyn Covers) {
    own.retain(|dot| survives(dot, other.binary_search(dot).is_ok(), theirs));
    for dot in other {
        if let Err(at) = own.binary_search(dot)
            && !mine.covers(dot)
        {
            own.insert(at, *dot);
        }
    }
}
