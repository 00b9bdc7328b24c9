//! A replica's increments of one counter: a *chain*, whose sum is a function of the dot in which it ends.
//!
//! Removing names ends of chains, so two concurrent removals of the same sum subtract it once, and increments that the
//! remover had not seen stay. Counters are made of chains, and so are the columns of a row that count.

use crate::dot::Dot;
use crate::error::{CounterOverflow, DecodeError};
use crate::fingerprint::{Fingerprint, Place};
use crate::mutant::{Mutant, active};
use crate::pack::{DotTable, Reader, Writer};
use crate::vector::Covers;

/// What somebody saw of one chain: its sum at one of its dots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The chain: dot of its first increment.
    pub birth: Dot,
    /// The last increment that was seen; of the same replica.
    pub tip: Dot,
    /// Sum of the chain up to `tip`.
    pub total: i128,
}

impl Seen {
    pub(crate) fn encode(&self, writer: &mut Writer, table: &DotTable) {
        writer.dot(self.birth, table);
        writer.dot(self.tip, table);
        writer.signed(self.total);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let at = reader.at();
        let (birth, tip) = (reader.dot(table)?, reader.dot(table)?);
        if tip.replica != birth.replica || tip.position() < birth.position() {
            return Err(DecodeError::Invalid { what: "end of a counter's chain", at });
        }
        Ok(Self { birth, tip, total: reader.signed()? })
    }
}

/// An increment: a new chain, or the next link of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Increment {
    /// The chain as its replica last left it; `None` starts a chain.
    pub extends: Option<Seen>,
    /// What is added; negative to subtract.
    pub amount: i128,
}

impl Increment {
    /// The chain's end after this increment, made by the change `dot`.
    pub(crate) fn seen(&self, dot: Dot) -> Result<Seen, CounterOverflow> {
        let (birth, before) = self.extends.map_or((dot, 0), |seen| (seen.birth, seen.total));
        Ok(Seen { birth, tip: dot, total: before.checked_add(self.amount).ok_or(CounterOverflow)? })
    }

    pub(crate) fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        if let Some(seen) = self.extends {
            visit(seen.birth);
            visit(seen.tip);
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer, table: &DotTable) {
        writer.byte(self.extends.is_some().into());
        if let Some(seen) = &self.extends {
            seen.encode(writer, table);
        }
        writer.signed(self.amount);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let extends = if reader.bounded("chain mark", 1)? == 1 { Some(Seen::decode(reader, table)?) } else { None };
        Ok(Self { extends, amount: reader.signed()? })
    }
}

/// One replica's increments. Joins by taking the later of each half, whatever the contexts say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Sum up to the last known increment.
    pub seen: Seen,
    /// Sum up to the last increment that somebody removed.
    pub removed: Option<Seen>,
}

impl Chain {
    /// What this chain adds to its counter.
    pub fn share(&self) -> Result<i128, CounterOverflow> {
        self.seen.total.checked_sub(self.removed.map_or(0, |removed| removed.total)).ok_or(CounterOverflow)
    }

    /// True while an increment is left that nobody removed, also when the share is 0.
    pub fn is_alive(&self) -> bool {
        self.removed.is_none_or(|removed| removed.tip.position() < self.seen.tip.position())
    }

    /// True when a side that has all of the chain in its past, and not the chain, has seen it removed and collected it.
    ///
    /// SUBTLE: a node that lost its last writes may not know the removal that it had told others of, and
    /// they collect what everybody had removed. Joined by its dots alone, the sum would count again there.
    pub(crate) fn was_collected(&self, in_other: bool, theirs: &dyn Covers) -> bool {
        !in_other && theirs.covers(&self.seen.tip) && !active(Mutant::CollectedSumReturns)
    }

    pub(crate) fn start(increment: &Increment, dot: Dot) -> Result<Self, CounterOverflow> {
        // A chain that is extended here without being known was removed and collected, so what came
        // before this increment is removed.
        Ok(Self { seen: increment.seen(dot)?, removed: increment.extends })
    }

    pub(crate) fn join(&mut self, other: &Self) {
        let later = |left: Seen, right: Seen| if left.tip.position() >= right.tip.position() { left } else { right };
        self.seen = later(self.seen, other.seen);
        self.removed = match (self.removed, other.removed) {
            (Some(left), Some(right)) => Some(later(left, right)),
            (left, right) => left.or(right),
        };
        if let Some(removed) = self.removed {
            self.seen = later(self.seen, removed);
        }
    }

    pub(crate) fn remove(&mut self, seen: Seen) {
        self.join(&Self { seen, removed: Some(seen) });
    }

    pub(crate) fn extend(&mut self, increment: &Increment, dot: Dot) -> Result<(), CounterOverflow> {
        self.join(&Self { seen: increment.seen(dot)?, removed: None });
        Ok(())
    }

    pub(crate) fn fingerprint(&self, place: Place, name: &[u8]) -> Fingerprint {
        match self.share() {
            Ok(share) if self.is_alive() => place.share(name, self.seen.birth, share),
            _ => Fingerprint::default(),
        }
    }

    pub(crate) fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        visit(self.seen.birth);
        visit(self.seen.tip);
        if let Some(removed) = self.removed {
            visit(removed.tip);
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer, table: &DotTable) {
        self.seen.encode(writer, table);
        writer.byte(self.removed.is_some().into());
        if let Some(removed) = self.removed {
            writer.dot(removed.tip, table);
            writer.signed(removed.total);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let seen = Seen::decode(reader, table)?;
        let mut removed = None;
        let at = reader.at();
        if reader.bounded("removal mark", 1)? == 1 {
            let tip = reader.dot(table)?;
            let between = seen.birth.position()..=seen.tip.position();
            if tip.replica != seen.birth.replica || !between.contains(&tip.position()) {
                return Err(DecodeError::Invalid { what: "removed end of a counter's chain", at });
            }
            removed = Some(Seen { birth: seen.birth, tip, total: reader.signed()? });
        }
        Ok(Self { seen, removed })
    }
}
