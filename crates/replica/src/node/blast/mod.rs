//! The blast brake: a commit that changes much of a table at once is kept from the other members for a while.
//!
//! A bad search-replace would otherwise be everywhere in 50 ms. So a group of own batches that touches more than a share
//! of what a table holds (and more than a number) is committed, logged, made durable and acknowledged as always, and only
//! its *sending* waits: until a person releases or discards it, or [`crate::Intervals::blast_hold_ms`] are over. What
//! counts is in `weigh`, the undo of a discard in `undo`, the records in `stored`.
//!
//! The stream of a replica is in order, so everything of our own that follows waits as well. The *frontier* is the first
//! own batch that is held; [`Node::offered`] says how far each own stream is told and given:
//!
//! - **Digests, pushes, pulls** end before the frontier. Nobody can tell a held batch from one that is not written yet.
//! - **Replica ids minted since** come behind the frontier as a whole, as far as nobody is known to have them.
//! - **Snapshots** hold all of our state, so none is begun while something is held: who joins takes the log up to the
//!   frontier, another donor, or waits. One that was begun before goes on, because its cut stands before the group.
//! - **Continuity**: a node doubts itself when a peer knows *more* of its stream than its log has; a peer that knows less
//!   is only behind. A peer that has the first held batch shows that this store is older than the hold: nothing is held
//!   back from it, and the hold ends.
//! - **Stability**: our row still tells that the database shows what is held. A row counts at a peer only when
//!   everything that its member had written up to it is applied there; so for the time of a hold ours stands still there,
//!   and with it collection. Telling less in it would be wrong: it would count, while writes that were made without
//!   having seen what is to be collected are still to come. The log below is cut as far as everybody has it.
//! - **The log** is never cut behind the frontier. When a hold keeps it above twice its cap, the hold ends: memory is
//!   bounded, and a log that is sent can be cut.
//! - **Audits** compare fingerprints on equal vectors; ours is ahead, so there are none.
//! - **Seals**: who evicts this node seals its replicas at what the survivors have, which is before the frontier. What
//!   was held is refused everywhere from then on, like all that an evicted node had not shared.
//! - **A damaged state** is replaced by a snapshot that holds all that we wrote, so the members must have it: the hold ends.
//!   So it does when the held batches themselves are damaged in the log.
//! - **A restart** finds the hold in its record, written with the batches. Its time goes on by the wall clock, and never
//!   lasts longer than one whole hold from the start. Where the record is damaged the batch is held all the same.
//!
//! Holds queue: a second one, behind the first, has its own time. Releasing one that is not the first lets it go with
//! the first. A group that was discarded is not sent before its undo can be sent with it.
//!
//! Fenced, quarantined and forked streams of others stand on the same list. They cannot be discarded: a batch that is left
//! out here alone would make two states of one vector. An origin is left out everywhere by evicting it.

mod stored;
mod undo;
mod undo_row;
mod weigh;

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use crdt::{BatchId, Key, Kind, Namespace, ReplicaId};

use super::inspect::Unready;
use super::{Hold, Node};
use crate::effect::Report;
use crate::log::Stream;
use crate::record::RecordKey;
use crate::time::Now;

pub(super) use stored::Found;
pub(super) use weigh::Population;

/// What a held commit did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blast {
    /// Site of the network.
    pub namespace: Namespace,
    /// Type of the objects; [`Kind::Row`] for rows of a table.
    pub kind: Kind,
    /// The table, for rows of one.
    pub table: Option<Arc<str>>,
    /// Objects that were there and that it changed or removed.
    pub touched: u64,
    /// Objects of this type, in this site and table, that were there; estimated above some 100,000.
    pub rows: u64,
}

/// A commit whose sending is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlastView {
    /// What it did; `None` when its record was damaged.
    pub blast: Option<Blast>,
    /// Batches that it is made of.
    pub batches: u64,
    /// Own batches that wait, from its first one on.
    pub waiting: u64,
    /// When it was committed, in milliseconds since 1970.
    pub since_wall_ms: u64,
    /// Moment of the monotonic clock at which it is sent without anybody's doing.
    pub until_mono_ms: u64,
    /// It was discarded, and is sent together with its undo as soon as nothing else is in the way.
    pub is_discarded: bool,
    /// Why it cannot be discarded, as far as that is known beforehand.
    pub refusal: Option<HeldError>,
}

/// Why a hold ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlastEnd {
    /// An operator released it.
    Released,
    /// An operator discarded it: the values from before were written again.
    Discarded,
    /// Nobody decided in time.
    Expired,
    /// A peer has it already.
    Known,
    /// This node's state is damaged: the others must have what it wrote, or it would be lost.
    StateDamaged,
    /// Its batches are damaged in the log, and cannot be told apart from what is before them.
    LogDamaged,
    /// What waits behind it fills the log to twice its cap.
    LogFull,
}

impl fmt::Display for BlastEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Released => "an operator released it",
            Self::Discarded => "an operator discarded it",
            Self::Expired => "nobody decided in time",
            Self::Known => "a member has it already",
            Self::StateDamaged => "this node's state is damaged, and the members must have what it wrote",
            Self::LogDamaged => "its batches are damaged",
            Self::LogFull => "what waits behind it fills the log",
        })
    }
}

/// Why something that is held was not released or discarded. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldError {
    /// Nothing is held under this id.
    NotHeld,
    /// Two batches with one dot: the stream stays stopped.
    Forked,
    /// A stream of another node cannot be discarded here alone: equal vectors would have two states.
    NotOwn,
    /// It was discarded already, and waits to be sent with its undo.
    Discarded,
    /// What was there before was larger than [`crate::Limits::blast_preimage_bytes_max`], and was not kept.
    TooLarge,
    /// What was there before was damaged on disk.
    Lost,
    /// It made growing counters grow, which nothing takes back: others may have read and removed their sums.
    Grows,
    /// A counter would leave the range of 128-bit numbers.
    Overflow,
    /// The node takes no writes.
    Unready(Unready),
}

impl HeldError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotHeld => "ERR_NOT_HELD",
            Self::Unready(_) => "ERR_NOT_READY",
            _ => "ERR_HELD_REFUSED",
        }
    }
}

impl fmt::Display for HeldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHeld => "nothing is held under this id; list what is held",
            Self::Forked => "two batches have one dot, so the stream stays stopped; join the node that wrote them anew",
            Self::NotOwn => "a batch of another node cannot be left out here alone; release it",
            Self::Discarded => "it was discarded already, and is sent together with its undo",
            Self::TooLarge => "what was there before is above limits.blast_preimage_bytes_max and was not kept",
            Self::Lost => "what was there before is damaged on disk",
            Self::Grows => "it made growing counters grow, which nothing takes back",
            Self::Overflow => "a counter would leave the range of 128-bit numbers",
            Self::Unready(unready) => return unready.fmt(f),
        })
    }
}

impl core::error::Error for HeldError {}

/// What the objects of a group were before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Before {
    /// Bytes of each; `None` where there was none.
    Kept(BTreeMap<Key, Option<Vec<u8>>>),
    TooLarge,
    Lost,
    Grows,
}

impl Before {
    fn refusal(&self) -> Option<HeldError> {
        match self {
            Self::Kept(_) => None,
            Self::TooLarge => Some(HeldError::TooLarge),
            Self::Lost => Some(HeldError::Lost),
            Self::Grows => Some(HeldError::Grows),
        }
    }

    fn bytes(&self) -> usize {
        let Self::Kept(objects) = self else { return 0 };
        objects.iter().map(|(key, object)| key.name.len() + object.as_ref().map_or(0, Vec::len)).sum()
    }
}

/// Batches of one replica that belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    first: BatchId,
    /// Sequence of the last.
    until: u64,
}

impl Range {
    fn last(&self) -> BatchId {
        BatchId { seq: self.until, ..self.first }
    }
}

/// A group whose sending is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Brake {
    group: Range,
    blast: Option<Blast>,
    since_wall_ms: u64,
    until_mono_ms: u64,
    before: Before,
    /// Records in which `before` stands.
    parts: u32,
    undo: Option<Undone>,
}

/// How a group was discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Undone {
    /// Batches that write the values from before again; `None` where all had been written over since.
    batches: Option<Range>,
    /// The own batch up to which all is sent together with the group: at the last one of then nothing of it shows.
    until: BatchId,
}

impl Node {
    /// Lets go on what is held: sends a held commit at once, or takes up the stream of a fenced origin or behind a
    /// quarantined batch again. `id` is [`super::HeldView::batch`].
    ///
    /// # Errors
    /// [`HeldError`]: `NotHeld`, `Forked`, `Discarded`, or `Unready` after a failed write.
    pub fn release(&mut self, now: Now, id: BatchId) -> Result<(), HeldError> {
        if !self.enter(now) {
            return Err(HeldError::Unready(Unready::StoreFailed));
        }
        if let Some(brake) = self.brakes.iter().find(|brake| brake.group.first == id) {
            if brake.undo.is_some() {
                return Err(HeldError::Discarded);
            }
            self.end_hold(id, BlastEnd::Released);
            self.tell_at_once(now);
        } else {
            let held = self.held.get(&id.replica).filter(|(batch, _)| *batch == id);
            match held.ok_or(HeldError::NotHeld)?.1 {
                Hold::Forked => return Err(HeldError::Forked),
                hold => self.release_stream(id, hold),
            }
        }
        self.work(now);
        Ok(())
    }

    /// Takes a held commit back: the values from before are written again, as an own batch behind it, and both are sent.
    /// What was written since, here or elsewhere, stays: a value from before comes back with the stamp that it had. A
    /// row that was deleted comes back as a new one with the old values; what others wrote to it meanwhile is in its
    /// journal.
    ///
    /// # Errors
    /// [`HeldError`] says why nothing was changed.
    pub fn discard(&mut self, now: Now, id: BatchId) -> Result<(), HeldError> {
        self.seal(now);
        self.takes_writes().map_err(HeldError::Unready)?;
        let Some(place) = self.brakes.iter().position(|brake| brake.group.first == id) else {
            let is_held = self.held.get(&id.replica).is_some_and(|(batch, _)| *batch == id);
            return Err(if is_held { HeldError::NotOwn } else { HeldError::NotHeld });
        };
        let drafts = self.undo_drafts(place)?;
        let batches = self.commit_parts(now, drafts, false);
        let ends = batches.first().zip(batches.last());
        let batches = ends.map(|(first, last)| Range { first: *first, until: last.seq });
        let replica = self.replica();
        let until = BatchId { replica, seq: self.log.head(replica) };
        self.brakes[place].undo = Some(Undone { batches, until });
        self.put_brake(place);
        self.report(Report::BlastEnded { batch: id, end: BlastEnd::Discarded });
        self.shown_follows();
        self.work(now);
        Ok(())
    }

    /// How far a stream is told and given to others: as far as it is durable, and no own one behind what is held.
    pub(super) fn offered(&self, replica: ReplicaId) -> u64 {
        let durable = self.log.stream(replica).map_or(0, Stream::durable);
        let Some(frontier) = self.frontier() else { return durable };
        if replica == frontier.replica {
            return durable.min(frontier.seq.saturating_sub(1));
        }
        let first = BatchId { replica, seq: 0 };
        if self.replicas.contains(&replica) && self.place_of(first).0 > self.place_of(frontier).0 {
            return durable.min(self.matrix.received_by_others(&self.setup.node, replica));
        }
        durable
    }

    /// The first own batch that is held.
    fn frontier(&self) -> Option<BatchId> {
        let mut frontier = None;
        for brake in self.brakes.iter().rev() {
            if self.is_held(brake, frontier) {
                frontier = Some(brake.group.first);
            }
        }
        frontier
    }

    /// True while a group must stay here, with what follows held from `frontier` on.
    fn is_held(&self, brake: &Brake, frontier: Option<BatchId>) -> bool {
        brake.undo.is_none_or(|undo| {
            let last = undo.until;
            let is_durable = self.log.stream(last.replica).is_none_or(|stream| stream.durable() >= last.seq);
            !is_durable || frontier.is_some_and(|frontier| self.place_of(last) >= self.place_of(frontier))
        })
    }

    /// Where an own batch stands among all own ones.
    fn place_of(&self, batch: BatchId) -> (usize, u64) {
        (self.replicas.iter().position(|own| *own == batch.replica).unwrap_or(0), batch.seq)
    }

    /// Ends the holds whose time is over or that must not go on.
    pub(super) fn end_holds(&mut self, now: Now) {
        if self.brakes.is_empty() {
            return;
        }
        let is_full = self.log_is_full(0);
        let all = if self.rebuild { Some(BlastEnd::StateDamaged) } else { is_full.then_some(BlastEnd::LogFull) };
        let due = |brake: &Brake| (brake.until_mono_ms <= now.mono_ms).then_some(BlastEnd::Expired);
        let open = self.brakes.iter().filter(|brake| brake.undo.is_none());
        let ended = open.filter_map(|brake| Some((brake.group.first, all.or_else(|| due(brake))?)));
        let ended: Vec<(BatchId, BlastEnd)> = ended.collect();
        let held = self.brakes.len();
        ended.into_iter().for_each(|(id, end)| self.end_hold(id, end));
        self.forget_discarded();
        if self.brakes.len() < held {
            self.tell_at_once(now);
        }
    }

    /// A peer told what it has of our streams: nothing of that is held back from anybody.
    pub(super) fn end_known_holds(&mut self, now: Now, received: &crdt::VersionVector) {
        let known = self.brakes.iter().map(|brake| brake.group.first).filter(|first| received.contains(*first));
        let known: Vec<BatchId> = known.collect();
        if !known.is_empty() {
            known.into_iter().for_each(|id| self.end_hold(id, BlastEnd::Known));
            self.tell_at_once(now);
        }
    }

    pub(super) fn blast_timer(&self) -> Option<u64> {
        self.brakes.iter().filter(|brake| brake.undo.is_none()).map(|brake| brake.until_mono_ms).min()
    }

    /// Bytes of what objects were before held groups.
    pub(super) fn blast_preimage_bytes(&self) -> usize {
        self.brakes.iter().map(|brake| brake.before.bytes()).sum()
    }

    pub(super) fn blast_views(&self) -> impl Iterator<Item = (BatchId, BlastView)> + '_ {
        self.brakes.iter().map(|brake| {
            let group = brake.group;
            let view = BlastView {
                blast: brake.blast.clone(),
                batches: group.until + 1 - group.first.seq,
                waiting: self.waiting_from(group.first),
                since_wall_ms: brake.since_wall_ms,
                until_mono_ms: brake.until_mono_ms,
                is_discarded: brake.undo.is_some(),
                refusal: if brake.undo.is_some() { Some(HeldError::Discarded) } else { brake.before.refusal() },
            };
            (group.first, view)
        })
    }

    /// Own batches from one on.
    fn waiting_from(&self, first: BatchId) -> u64 {
        let place = self.place_of(first).0;
        let same = (self.log.head(first.replica) + 1).saturating_sub(first.seq);
        let later = self.replicas.iter().skip(place + 1).map(|replica| self.log.head(*replica));
        same + later.sum::<u64>()
    }

    fn end_hold(&mut self, id: BatchId, end: BlastEnd) {
        let Some(place) = self.brakes.iter().position(|brake| brake.group.first == id) else { return };
        self.drop_brake(place);
        self.report(Report::BlastEnded { batch: id, end });
        self.forget_discarded();
    }

    /// Forgets discarded groups that are sent with their undo. One behind another hold stays: the undo of that one has to
    /// know that what it did counts no more.
    fn forget_discarded(&mut self) {
        while let Some(brake) = self.brakes.first()
            && brake.undo.is_some()
            && self.frontier() != Some(brake.group.first)
        {
            self.drop_brake(0);
        }
    }

    fn drop_brake(&mut self, place: usize) {
        let brake = self.brakes.remove(place);
        self.put(RecordKey::Brake(brake.group.first), None);
        (0..brake.parts).for_each(|part| self.put(RecordKey::Preimage(brake.group.first, part), None));
    }

    fn tell_at_once(&mut self, now: Now) {
        for link in self.links.values_mut().filter(|link| link.ready) {
            link.digest_at_mono_ms = now.mono_ms;
        }
        self.tick_links(now);
    }
}
