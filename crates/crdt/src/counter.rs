//! Counters: per-replica sums that a removal can name.
//!
//! - **Intent**: count; concurrent increments all count. [`GCounter`] only grows, [`PnCounter`] goes both ways.
//! - **Who wins**: nobody, everything adds up.
//! - **Tie-break**: none needed.
//! - **Cost of a delete**: per replica that counted, one pair (dot, sum) until the removal is stable.
//! - **Paper**: Shapiro et al., "A comprehensive study of CRDTs" (2011), specifications 6 and 7; the
//!   reset that names sums follows Baquero, Almeida, Lerche, "The problem with embedded CRDT counters"
//!   (2016).
//!
//! They are made of chains: see [`crate::chain`].

use crate::chain::{Chain, Increment, Seen};
use crate::crdt::Crdt;
use crate::dot::Dot;
use crate::error::{CounterOverflow, DecodeError};
use crate::fingerprint::{Fingerprint, Place, Tally};
use crate::hlc::Hlc;
use crate::pack::{DotTable, Reader, Writer};
use crate::vector::Covers;

/// A counter that goes up and down (PN-Counter).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PnCounter {
    /// Sorted by birth.
    chains: Vec<Chain>,
}

/// What an increment, a reset or a removal does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CounterDelta {
    /// Sums that the author saw and that no longer count.
    pub removes: Vec<Seen>,
    /// What is added.
    pub add: Option<Increment>,
}

impl PnCounter {
    /// See [`crate::Object::touch`].
    #[inline]
    pub(crate) fn touch(&self) -> u8 {
        // Its two ends: a chain is longer than what comes from memory in one piece.
        self.chains.first().map_or(0, |chain| chain.seen.total as u8 ^ u8::from(chain.removed.is_some()))
    }

    /// Adds `amount`, written by `replica`.
    ///
    /// # Errors
    /// [`CounterOverflow`] when the replica's sum or the counter's value would leave the range.
    pub fn increment(&self, replica: crate::ReplicaId, amount: i128) -> Result<CounterDelta, CounterOverflow> {
        self.value()?.checked_add(amount).ok_or(CounterOverflow)?;
        let own = self.chains.iter().rev().find(|chain| chain.seen.birth.replica == replica);
        let add = Increment { extends: own.map(|chain| chain.seen), amount };
        add.extends.map_or(0, |seen| seen.total).checked_add(amount).ok_or(CounterOverflow)?;
        Ok(CounterDelta { removes: Vec::new(), add: Some(add) })
    }

    /// Removes what is counted so far. `None` when the counter does not exist.
    pub fn remove(&self) -> Option<CounterDelta> {
        let alive: Vec<Seen> = self.chains.iter().filter(|chain| chain.is_alive()).map(|chain| chain.seen).collect();
        (!alive.is_empty()).then_some(CounterDelta { removes: alive, add: None })
    }

    /// Sets the value to `amount`, by removing what is counted so far and starting anew. Never by adding
    /// a negative amount, which two concurrent resets would subtract twice.
    pub fn reset(&self, amount: i128) -> CounterDelta {
        let removes = self.remove().map_or_else(Vec::new, |delta| delta.removes);
        CounterDelta { removes, add: Some(Increment { extends: None, amount }) }
    }

    /// The sum.
    ///
    /// # Errors
    /// [`CounterOverflow`] when the shares do not fit into one i128.
    pub fn value(&self) -> Result<i128, CounterOverflow> {
        self.chains.iter().try_fold(0_i128, |sum, chain| sum.checked_add(chain.share()?).ok_or(CounterOverflow))
    }

    /// True while an increment is left that nobody removed.
    pub fn exists(&self) -> bool {
        self.chains.iter().any(Chain::is_alive)
    }

    /// True while [`PnCounter::collect`] would drop something.
    pub fn has_remains(&self) -> bool {
        !self.chains.iter().all(Chain::is_alive)
    }

    /// Drops chains of which nothing counts any more. Only once their removal is stable: until then a
    /// state that has not seen the removal would count them again.
    pub fn collect(&mut self) -> usize {
        let before = self.chains.len();
        self.chains.retain(Chain::is_alive);
        before - self.chains.len()
    }

    fn chain(&mut self, birth: Dot) -> Result<&mut Chain, usize> {
        match self.chains.binary_search_by_key(&birth, |chain| chain.seen.birth) {
            Ok(at) => Ok(&mut self.chains[at]),
            Err(at) => Err(at),
        }
    }

    fn holds(&self, birth: Dot) -> bool {
        self.chains.binary_search_by_key(&birth, |chain| chain.seen.birth).is_ok()
    }

    fn join_chain(&mut self, other: &Chain) {
        match self.chain(other.seen.birth) {
            Ok(chain) => chain.join(other),
            Err(at) => self.chains.insert(at, *other),
        }
    }

    fn add(&mut self, dot: Dot, increment: &Increment) -> Result<(), CounterOverflow> {
        let birth = increment.extends.map_or(dot, |seen| seen.birth);
        match self.chain(birth) {
            Ok(chain) => chain.extend(increment, dot)?,
            Err(at) => self.chains.insert(at, Chain::start(increment, dot)?),
        }
        Ok(())
    }

    fn fingerprint_of(&mut self, birth: Dot, place: Place) -> Fingerprint {
        self.chain(birth).map_or_else(|_| Fingerprint::default(), |chain| chain.fingerprint(place, &[]))
    }
}

impl Crdt for PnCounter {
    type Delta = CounterDelta;

    fn apply(
        &mut self,
        dot: Dot,
        _stamp: Hlc,
        delta: &CounterDelta,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow> {
        if let Some(increment) = &delta.add {
            let birth = increment.seen(dot)?.birth;
            let before = self.fingerprint_of(birth, place);
            self.add(dot, increment)?;
            tally.fingerprint.remove(before);
            tally.fingerprint.add(self.fingerprint_of(birth, place));
        }
        for seen in &delta.removes {
            tally.fingerprint.remove(self.fingerprint_of(seen.birth, place));
            match self.chain(seen.birth) {
                Ok(chain) => chain.remove(*seen),
                // Removed and collected already.
                Err(_) => continue,
            }
            tally.fingerprint.add(self.fingerprint_of(seen.birth, place));
        }
        Ok(())
    }

    fn named(delta: &CounterDelta, visit: &mut dyn FnMut(Dot)) {
        for seen in &delta.removes {
            visit(seen.birth);
            visit(seen.tip);
        }
        if let Some(increment) = &delta.add {
            increment.dots(visit);
        }
    }

    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        self.chains.retain(|chain| !chain.was_collected(other.holds(chain.seen.birth), theirs));
        for chain in &other.chains {
            if !chain.was_collected(self.holds(chain.seen.birth), mine) {
                self.join_chain(chain);
            }
        }
    }

    fn tally(&self, place: Place) -> Tally {
        let mut tally = Tally::default();
        self.chains.iter().for_each(|chain| tally.fingerprint.add(chain.fingerprint(place, &[])));
        tally
    }

    fn is_bottom(&self) -> bool {
        self.chains.is_empty()
    }

    fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        self.chains.iter().for_each(|chain| chain.dots(visit));
    }

    fn encode(&self, writer: &mut Writer, table: &DotTable) {
        writer.varint(self.chains.len() as u64);
        self.chains.iter().for_each(|chain| chain.encode(writer, table));
    }

    fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let count = reader.count("number of chains", 6)?;
        let mut chains: Vec<Chain> = Vec::with_capacity(count);
        for _ in 0..count {
            let at = reader.at();
            let chain = Chain::decode(reader, table)?;
            if chains.last().is_some_and(|last| last.seen.birth >= chain.seen.birth) {
                return Err(DecodeError::NotCanonical { what: "order of chains", at });
            }
            chains.push(chain);
        }
        Ok(Self { chains })
    }

    fn encode_delta(delta: &CounterDelta, writer: &mut Writer, table: &DotTable) {
        encode_counts(&delta.removes, delta.add.as_ref(), writer, table);
    }

    fn decode_delta(reader: &mut Reader<'_>, table: &DotTable) -> Result<CounterDelta, DecodeError> {
        let (removes, add) = decode_counts(reader, table)?;
        Ok(CounterDelta { removes, add })
    }
}

/// What a delta removes from a counter and adds to it; one head number holds how many and whether.
pub(crate) fn encode_counts(removes: &[Seen], add: Option<&Increment>, writer: &mut Writer, table: &DotTable) {
    writer.varint(removes.len() as u64 * 2 + u64::from(add.is_some()));
    removes.iter().for_each(|seen| seen.encode(writer, table));
    if let Some(increment) = add {
        increment.encode(writer, table);
    }
}

pub(crate) fn decode_counts(
    reader: &mut Reader<'_>,
    table: &DotTable,
) -> Result<(Vec<Seen>, Option<Increment>), DecodeError> {
    let (count, adds) = reader.flagged_count("number of removed sums", 5)?;
    let mut removes = Vec::with_capacity(count);
    for _ in 0..count {
        removes.push(Seen::decode(reader, table)?);
    }
    let add = if adds { Some(Increment::decode(reader, table)?) } else { None };
    Ok((removes, add))
}

/// A counter that only goes up (G-Counter): a [`PnCounter`] that knows no negative amount.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GCounter(PnCounter);

impl GCounter {
    /// See [`crate::Object::touch`].
    #[inline]
    pub(crate) fn touch(&self) -> u8 {
        self.0.touch()
    }

    /// Adds `amount`, written by `replica`.
    ///
    /// # Errors
    /// [`CounterOverflow`] when a sum would leave the range.
    pub fn increment(&self, replica: crate::ReplicaId, amount: u64) -> Result<CounterDelta, CounterOverflow> {
        self.0.increment(replica, amount.into())
    }

    /// Removes what is counted so far. `None` when the counter does not exist.
    pub fn remove(&self) -> Option<CounterDelta> {
        self.0.remove()
    }

    /// The sum.
    ///
    /// # Errors
    /// [`CounterOverflow`] when the shares do not fit into one i128.
    pub fn value(&self) -> Result<i128, CounterOverflow> {
        self.0.value()
    }

    /// True while an increment is left that nobody removed.
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    /// True while [`GCounter::collect`] would drop something.
    pub fn has_remains(&self) -> bool {
        self.0.has_remains()
    }

    /// Drops chains of which nothing counts any more; see [`PnCounter::collect`].
    pub fn collect(&mut self) -> usize {
        self.0.collect()
    }
}

impl Crdt for GCounter {
    type Delta = CounterDelta;

    fn apply(
        &mut self,
        dot: Dot,
        stamp: Hlc,
        delta: &CounterDelta,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow> {
        self.0.apply(dot, stamp, delta, place, tally)
    }

    fn named(delta: &CounterDelta, visit: &mut dyn FnMut(Dot)) {
        PnCounter::named(delta, visit);
    }

    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        self.0.join(mine, &other.0, theirs);
    }

    fn tally(&self, place: Place) -> Tally {
        self.0.tally(place)
    }

    fn is_bottom(&self) -> bool {
        self.0.is_bottom()
    }

    fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        self.0.dots(visit);
    }

    fn encode(&self, writer: &mut Writer, table: &DotTable) {
        self.0.encode(writer, table);
    }

    fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        PnCounter::decode(reader, table).map(Self)
    }

    fn encode_delta(delta: &CounterDelta, writer: &mut Writer, table: &DotTable) {
        PnCounter::encode_delta(delta, writer, table);
    }

    fn decode_delta(reader: &mut Reader<'_>, table: &DotTable) -> Result<CounterDelta, DecodeError> {
        let at = reader.at();
        let delta = PnCounter::decode_delta(reader, table)?;
        let falls = delta.removes.iter().any(|seen| seen.total < 0)
            || delta.add.is_some_and(|add| add.amount < 0 || add.extends.is_some_and(|seen| seen.total < 0));
        if falls { Err(DecodeError::Invalid { what: "negative amount of a growing counter", at }) } else { Ok(delta) }
    }
}
