//! How long writes are on their way, seen from this node: from an origin's commit until it is applied here, and from a
//! commit here until every other live member has told to show it.

use std::collections::{BTreeMap, VecDeque};

use crdt::{BatchId, ChangeRef, Envelope, Key, Kind, ReplicaId, VersionVector};
use replica::{RecordKey, WriteGroup};
use stats::Histogram;

/// Batches that may be followed until they are applied. What comes above it is not measured: a node that is so far behind
/// tells that by the operations that it has not applied.
const WAITING_MAX: usize = 65_536;
/// Own commits whose way to the others is followed. Above it every second one is forgotten, which costs only precision.
const MARKS_MAX: usize = 4_096;
/// Commits that are closer together share a mark.
const MARK_EVERY_US: u64 = 1_000;
/// Between two looks at what members told: each copies their rows.
const LOOK_EVERY_US: u64 = 50_000;
/// Bytes in front of a batch in its record: its chain hash.
const HASH_BYTES: usize = 16;
/// All types.
const KINDS: [(Kind, &str); 6] = [
    (Kind::Register, "register"),
    (Kind::GCounter, "growing_counter"),
    (Kind::PnCounter, "counter"),
    (Kind::Set, "set"),
    (Kind::Map, "map"),
    (Kind::Row, "row"),
];

/// A batch of another node that is stored and not applied.
struct Waiting {
    stamp_ms: u64,
    joins: [u32; KINDS.len()],
}

/// What is measured, since the start.
#[derive(Default)]
pub(crate) struct Lags {
    waiting: BTreeMap<ReplicaId, BTreeMap<u64, Waiting>>,
    waiting_count: usize,
    /// Up to where batches of each replica were measured or were applied before.
    measured: VersionVector,
    applied: BTreeMap<ReplicaId, Histogram>,
    joins: [u64; KINDS.len()],
    /// Own sequence, and when it was first committed to.
    marks: VecDeque<(u64, u64)>,
    converged: Option<Histogram>,
    look_at_us: u64,
}

impl Lags {
    /// Measures what comes on top of `applied`.
    pub(crate) fn new(applied: &VersionVector) -> Self {
        Self { measured: applied.clone(), converged: Some(Histogram::seconds()), ..Self::default() }
    }

    /// The node stores these. Batches of others are followed until they are applied.
    pub(crate) fn note(&mut self, group: &WriteGroup, own: ReplicaId) {
        for record in &group.records {
            let (RecordKey::Batch(batch), Some(value)) = (&record.key, &record.value) else { continue };
            if batch.replica != own && batch.seq > self.measured.seq(batch.replica) {
                self.wait(*batch, value.get(HASH_BYTES..).unwrap_or_default());
            }
        }
    }

    fn wait(&mut self, batch: BatchId, bytes: &[u8]) {
        let Ok(envelope) = Envelope::parse(bytes) else { return };
        if self.waiting_count >= WAITING_MAX {
            return;
        }
        let waiting = Waiting { stamp_ms: envelope.header.hlc.millis(), joins: joins(&envelope) };
        if self.waiting.entry(batch.replica).or_default().insert(batch.seq, waiting).is_none() {
            self.waiting_count += 1;
        }
    }

    /// The node's state includes `applied` now.
    pub(crate) fn settle(&mut self, applied: &VersionVector, wall_ms: u64) {
        if self.waiting_count == 0 {
            return;
        }
        for (replica, waiting) in &mut self.waiting {
            let reached = applied.seq(*replica);
            while let Some(first) = waiting.first_entry().filter(|first| *first.key() <= reached) {
                let (_, Waiting { stamp_ms, joins }) = first.remove_entry();
                self.waiting_count -= 1;
                let lag_ms = wall_ms.saturating_sub(stamp_ms);
                self.applied.entry(*replica).or_insert_with(Histogram::seconds).record(lag_ms as f64 / 1e3);
                for (total, count) in self.joins.iter_mut().zip(joins) {
                    *total += u64::from(count);
                }
            }
            self.measured.advance(*replica, reached);
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
    }

    /// An own batch was committed.
    pub(crate) fn committed(&mut self, seq: u64, mono_us: u64) {
        if let Some((last, since_us)) = self.marks.back_mut()
            && mono_us.saturating_sub(*since_us) < MARK_EVERY_US
        {
            *last = seq;
            return;
        }
        self.marks.push_back((seq, mono_us));
        if self.marks.len() > MARKS_MAX {
            let mut place = 0;
            self.marks.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
    }

    /// True when members' rows are to be looked at.
    pub(crate) fn wants_look(&mut self, mono_us: u64) -> bool {
        if self.marks.is_empty() || mono_us < self.look_at_us {
            return false;
        }
        self.look_at_us = mono_us + LOOK_EVERY_US;
        true
    }

    /// Every live member has told to show own batches up to here.
    pub(crate) fn shown_by_all(&mut self, seq: u64, mono_us: u64) {
        while let Some((_, since_us)) = self.marks.pop_front_if(|(mark, _)| *mark <= seq) {
            if let Some(converged) = &mut self.converged {
                converged.record(mono_us.saturating_sub(since_us) as f64 / 1e6);
            }
        }
    }

    /// Times from commit to applied here, by the origin's replica id.
    pub(crate) fn applied(&self) -> impl Iterator<Item = (ReplicaId, &Histogram)> {
        self.applied.iter().map(|(replica, lags)| (*replica, lags))
    }

    /// Times from commit to shown on all live members.
    pub(crate) fn converged(&self) -> Option<&Histogram> {
        self.converged.as_ref()
    }

    /// Changes of others that were joined into the state, by type.
    pub(crate) fn joins(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.iter().zip(self.joins).map(|((_, name), count)| (*name, count))
    }
}

/// How many changes there are of each type. One that does not decode ends the count: such a batch is not applied.
fn joins(envelope: &Envelope<'_>) -> [u32; KINDS.len()] {
    let mut joins = [0; KINDS.len()];
    let mut changes = envelope.changes();
    while let Ok(Some((_, change))) = changes.next() {
        let kind = match &change {
            ChangeRef::Cell(_) => Some(Kind::Register),
            ChangeRef::Change(change) => Key::of_change(change).map(|key| key.kind),
        };
        let place = KINDS.iter().position(|(known, _)| Some(*known) == kind);
        if let Some(count) = place.and_then(|place| joins.get_mut(place)) {
            *count += 1;
        }
    }
    joins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_the_time_until_all_show_them() {
        let mut lags = Lags::new(&VersionVector::new());
        assert!(!lags.wants_look(1), "nothing is on its way");
        lags.committed(1, 1_000_000);
        lags.committed(2, 1_000_500);
        lags.committed(3, 1_500_000);
        assert!(lags.wants_look(1_600_000) && !lags.wants_look(1_600_001));
        lags.shown_by_all(1, 1_600_000);
        assert_eq!(lags.converged().map(Histogram::count), Some(0), "the second one of the mark is not there");
        lags.shown_by_all(2, 1_700_000);
        lags.shown_by_all(3, 2_000_000);
        let converged = lags.converged().unwrap();
        assert_eq!((converged.count(), converged.sum()), (2, 0.7 + 0.5));
    }

    #[test]
    fn marks_are_bounded_and_keep_the_oldest() {
        let mut lags = Lags::new(&VersionVector::new());
        for number in 1..=20_000 {
            lags.committed(number, number * MARK_EVERY_US);
        }
        assert!(lags.marks.len() <= MARKS_MAX);
        assert_eq!(lags.marks.front(), Some(&(1, MARK_EVERY_US)));
    }
}
