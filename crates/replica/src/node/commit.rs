//! Local writes: intents of clients become changes that name what they replace.

use core::fmt;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crdt::change::seal;
use crdt::error::CounterOverflow;
use crdt::mutant::{Mutant, active};
use crdt::object::PATH_DEPTH_MAX;
use crdt::pack::CHANGES_MAX;
use crdt::{
    Batch, BatchHeader, BatchId, Change, Content, Dot, Hlc, Key, Kind, Name, Namespace, Object, Op, Register, Value,
    VersionVector,
};

use super::apply::Absorbed;
use super::{Node, Then, Unready};
use crate::log::UNKNOWN_HASH;
use crate::message::write_vector;
use crate::record::{Meta, RecordKey};
use crate::time::Now;

/// Bytes of changes after which a group is split: half the bound, since names and values are estimated.
const PART_BYTES_MAX: usize = crdt::change::BATCH_BYTES_MAX / 2;
/// Changes after which a gathered batch is given out: what a batch costs by itself is small beside a thousand changes.
pub const GATHERED_CHANGES_MAX: usize = 1_000;
/// Bytes after which a gathered batch is given out, estimated: a message holds two such.
pub const GATHERED_BYTES_MAX: usize = 512 << 10;

/// What a client wants of one object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent {
    /// Site of the network.
    pub namespace: Namespace,
    /// Names from the root to the leaf.
    pub path: Vec<Name>,
    /// What shall happen there.
    pub action: Action,
}

/// What shall happen to a leaf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Set a register.
    Set(Value),
    /// Remove an object of this type, with all below it.
    Remove(Kind),
    /// Write a journaled value of a register anew.
    Restore(Dot),
    /// Add to a counter, or subtract.
    Increment(i128),
    /// Add to a growing counter.
    Grow(u64),
    /// Add elements to a set.
    Add(Vec<Name>),
    /// Remove elements from a set.
    Discard(Vec<Name>),
}

/// Why a commit was refused. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitError {
    /// A durable write failed before: open the node anew.
    StoreFailed,
    /// The node is no member yet, or a snapshot is being joined: try again in a moment.
    NotReady,
    /// A counter would leave the range of 128-bit numbers.
    Overflow,
    /// More changes or bytes than one batch holds: split the command.
    TooLarge,
    /// The path is empty, too deep, or has a name that is too long.
    Path,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StoreFailed => "an earlier write could not be made durable; restart the node",
            Self::NotReady => "the node is joining or no member yet; try again in a moment",
            Self::Overflow => "the counter would leave the range of 128-bit numbers",
            Self::TooLarge => "the command is larger than one batch; split it",
            Self::Path => "a path has 1 to 8 names of at most 64 KiB each",
        })
    }
}

impl core::error::Error for CommitError {}

impl From<CounterOverflow> for CommitError {
    fn from(_: CounterOverflow) -> Self {
        Self::Overflow
    }
}

/// What follows when a batch is durable.
struct Committed {
    /// A client is told.
    acknowledge: bool,
    /// The database shows it already.
    is_shown: bool,
}

/// A change without its dot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Draft {
    pub(crate) namespace: Namespace,
    pub(crate) path: Vec<Name>,
    pub(crate) stamp: Hlc,
    pub(crate) op: Op,
}

impl Draft {
    /// The object that it changes.
    pub(crate) fn key(&self) -> Option<Key> {
        let (first, rest) = self.path.split_first()?;
        let kind = if rest.is_empty() { self.op.kind() } else { Kind::Map };
        Some(Key { kind, namespace: self.namespace, name: first.clone() })
    }

    fn bytes(&self) -> usize {
        let values = match &self.op {
            Op::Register(delta) => delta.write.as_ref().map_or(0, Value::payload_bytes),
            Op::Row(delta) => delta
                .columns
                .iter()
                .map(|column| 48 + column.name.len() + column.write.as_ref().map_or(0, Value::payload_bytes))
                .sum(),
            Op::Set(delta) => delta.elements.iter().map(|element| 32 + element.element.len()).sum(),
            Op::GCounter(_) | Op::PnCounter(_) => 64,
        };
        values + 64 + self.path.iter().map(|name| name.len()).sum::<usize>()
    }

    fn into_change(self) -> Change {
        let Self { namespace, path, stamp, op } = self;
        Change { namespace, path, stamp, content: Content::Op(op) }
    }
}

/// Commands of clients that become one batch: part of the state already, and of nothing else.
#[derive(Debug)]
pub(crate) struct Gathered {
    id: BatchId,
    hlc: Hlc,
    changes: Vec<Change>,
    /// Of all commands in it, estimated; above zero once there is one.
    bytes: usize,
    absorbed: Absorbed,
}

impl Node {
    /// Commits what one client command wants, as one batch. [`crate::Effect::Acknowledge`] follows when it is
    /// durable.
    ///
    /// # Errors
    /// [`CommitError`] says why nothing was changed.
    pub fn commit(&mut self, now: Now, intents: &[Intent]) -> Result<BatchId, CommitError> {
        self.seal(now);
        let batch = self.gather(now, intents)?;
        self.seal(now);
        Ok(batch)
    }

    /// Commits what one client command wants into the batch that is being gathered, so that many commands share the
    /// cost of one. What the command did is seen at once by reads and by the next command; the batch leaves with
    /// [`Node::seal`], with whatever else happens to the node, or when it is large.
    ///
    /// # Errors
    /// [`CommitError`] says why this command changed nothing; those gathered before it stay.
    pub fn gather(&mut self, now: Now, intents: &[Intent]) -> Result<BatchId, CommitError> {
        let bytes = match self.takes_writes() {
            Ok(()) => check(intents)?,
            Err(Unready::StoreFailed) => return Err(CommitError::StoreFailed),
            Err(_) => return Err(CommitError::NotReady),
        };
        if self.gathered.as_ref().is_some_and(|gathered| gathered.bytes + bytes > GATHERED_BYTES_MAX) {
            self.seal(now);
        }
        let mut gathered = self.gathered.take().unwrap_or_else(|| self.begin_batch(now));
        let mut drafts = self.draft_all(&gathered, intents);
        let mut weighed = drafts.as_ref().ok().and_then(|drafts| self.weigh(drafts));
        let count = gathered.changes.len() + drafts.as_ref().map_or(0, Vec::len);
        // What may be held back is a batch of its own: other commands have nothing to do with it.
        if (count > GATHERED_CHANGES_MAX || weighed.is_some()) && !gathered.changes.is_empty() {
            self.gathered = Some(gathered);
            self.seal(now);
            // Their dots were those of the batch that is gone.
            gathered = self.begin_batch(now);
            drafts = self.draft_all(&gathered, intents);
            weighed = drafts.as_ref().ok().and_then(|drafts| self.weigh(drafts));
        }
        let result = drafts.map(|drafts| {
            let changes: Vec<Change> = drafts.into_iter().map(Draft::into_change).collect();
            self.absorb(gathered.id, gathered.changes.len(), &changes, &mut gathered.absorbed);
            gathered.changes.extend(changes);
            gathered.bytes += bytes;
            gathered.id
        });
        // A batch that begins with a refused command never was.
        if result.is_ok() || gathered.bytes > 0 {
            self.gathered = Some(gathered);
        }
        if let (Ok(batch), true) = (&result, weighed.is_some()) {
            self.seal_gathered(now);
            self.hold_back(now, &[*batch], weighed);
            self.work(now);
        }
        result
    }

    /// Gives out the batch that is being gathered, if there is one.
    pub fn seal(&mut self, now: Now) {
        if self.seal_gathered(now) {
            self.work(now);
        }
    }

    /// True when there was a batch to give out.
    pub(super) fn seal_gathered(&mut self, now: Now) -> bool {
        let Some(Gathered { id, hlc, changes, absorbed, .. }) = self.gathered.take() else { return false };
        let batch = self.log_own(now, id, hlc, false, changes);
        self.settle_absorbed(id, absorbed);
        self.note_committed(id, &batch.header.context, Committed { acknowledge: true, is_shown: true });
        true
    }

    fn begin_batch(&mut self, now: Now) -> Gathered {
        let replica = self.replica();
        Gathered {
            id: BatchId { replica, seq: self.log.head(replica) + 1 },
            hlc: self.clock.tick(now.wall_ms),
            changes: Vec::new(),
            bytes: 0,
            absorbed: Absorbed::default(),
        }
    }

    /// Derives the changes of all intents of a command. The state is as before afterwards.
    fn draft_all(&mut self, gathered: &Gathered, intents: &[Intent]) -> Result<Vec<Draft>, CommitError> {
        let mut before: BTreeMap<Key, Option<Object>> = BTreeMap::new();
        let mut drafts = Vec::new();
        for intent in intents {
            // Only a later intent has to see what an earlier one does.
            let seen = (intents.len() > 1).then_some(&mut before);
            if let Err(error) = self.draft(gathered, intent, &mut drafts, seen) {
                self.undo(before);
                return Err(error);
            }
        }
        self.undo(before);
        Ok(drafts)
    }

    /// Derives the changes of one intent. With `before`, applies them as well, so that the next intent sees
    /// them, and keeps there what they changed.
    fn draft(
        &mut self,
        gathered: &Gathered,
        intent: &Intent,
        drafts: &mut Vec<Draft>,
        mut before: Option<&mut BTreeMap<Key, Option<Object>>>,
    ) -> Result<(), CommitError> {
        for (path, stamp, op) in self.derive(gathered.hlc, intent)? {
            if drafts.len() >= CHANGES_MAX as usize {
                return Err(CommitError::TooLarge);
            }
            let BatchId { replica, seq } = gathered.id;
            let dot = Dot::new(replica, seq, (gathered.changes.len() + drafts.len()) as u32);
            let draft = Draft { namespace: intent.namespace, path, stamp, op };
            if let Some(before) = &mut before {
                let change = draft.clone().into_change();
                if let Some(key) = Key::of_change(&change) {
                    let present = self.keyspace.object(&key).map(Cow::into_owned);
                    before.entry(key).or_insert(present);
                }
                self.keyspace.apply_change(dot, &change)?;
            }
            drafts.push(draft);
        }
        Ok(())
    }

    fn undo(&mut self, before: BTreeMap<Key, Option<Object>>) {
        for (key, object) in before {
            match object {
                Some(object) => self.keyspace.load(&key, object),
                None => self.keyspace.remove(&key),
            }
        }
    }

    /// The operations that an intent means in the present state.
    fn derive(&self, hlc: Hlc, intent: &Intent) -> Result<Vec<(Vec<Name>, Hlc, Op)>, CommitError> {
        let path = intent.path.as_slice();
        let one = |stamp, op| Ok(vec![(path.to_vec(), stamp, op)]);
        if let (Action::Set(value), [name]) = (&intent.action, path)
            && let key = (Key { kind: Kind::Register, namespace: intent.namespace, name: name.clone() })
            && let Some((dot, stamp)) = self.keyspace.single(&key)
        {
            let (stamp, delta) = Register::set_single(dot, stamp, value.clone(), hlc);
            return one(stamp, Op::Register(delta));
        }
        let kind = match &intent.action {
            Action::Set(_) | Action::Restore(_) => Kind::Register,
            Action::Increment(_) => Kind::PnCounter,
            Action::Grow(_) => Kind::GCounter,
            Action::Add(_) | Action::Discard(_) => Kind::Set,
            Action::Remove(kind) => *kind,
        };
        let object = self.leaf(intent.namespace, path, kind);
        match (&intent.action, &*object) {
            (Action::Set(value), Object::Register(register)) => {
                let (stamp, delta) = register.set(value.clone(), hlc);
                one(stamp, Op::Register(delta))
            }
            (Action::Restore(dot), Object::Register(register)) => match register.restore(*dot, hlc) {
                Some((stamp, delta)) => one(stamp, Op::Register(delta)),
                None => Ok(Vec::new()),
            },
            (Action::Increment(amount), Object::PnCounter(counter)) => {
                one(hlc, Op::PnCounter(counter.increment(self.replica(), *amount)?))
            }
            (Action::Grow(amount), Object::GCounter(counter)) => {
                one(hlc, Op::GCounter(counter.increment(self.replica(), *amount)?))
            }
            (Action::Add(elements), Object::Set(set)) => one(hlc, Op::Set(set.add(elements.iter().map(AsRef::as_ref)))),
            (Action::Discard(elements), Object::Set(set)) => {
                let delta = set.remove(elements.iter().map(AsRef::as_ref));
                if delta.elements.is_empty() { Ok(Vec::new()) } else { one(hlc, Op::Set(delta)) }
            }
            (Action::Remove(_), object) => {
                let below = |(rest, op): (Vec<Name>, Op)| (path.iter().cloned().chain(rest).collect(), hlc, op);
                Ok(object.removals().into_iter().map(below).collect())
            }
            (_, object) => unreachable!("a leaf of another type: {:?}", object.kind()),
        }
    }

    /// The object at a path, or an empty one. It is not copied: it may be a set of a million.
    pub(super) fn leaf(&self, namespace: Namespace, path: &[Name], kind: Kind) -> Cow<'_, Object> {
        let present = path.split_first().and_then(|(first, rest)| {
            let root = if rest.is_empty() { kind } else { Kind::Map };
            match self.keyspace.object(&Key { kind: root, namespace, name: first.clone() })? {
                Cow::Borrowed(root) => below(root, rest, kind).map(Cow::Borrowed),
                // Only a register comes as a copy, and nothing is below it.
                copy => rest.is_empty().then_some(copy),
            }
        });
        present.unwrap_or_else(|| Cow::Owned(Object::new(kind)))
    }

    /// Commits drafts of a drain: one batch, or several that belong together.
    pub(crate) fn commit_drafts(&mut self, now: Now, drafts: Vec<Draft>) -> Vec<BatchId> {
        let weighed = self.weigh(&drafts);
        let batches = self.commit_parts(now, drafts, true);
        self.hold_back(now, &batches, weighed);
        batches
    }

    /// Commits what belongs together, in as many batches as it takes. It is split before dots are given, so that no two
    /// parts share one. `is_shown`: the database shows it already.
    pub(super) fn commit_parts(&mut self, now: Now, drafts: Vec<Draft>, is_shown: bool) -> Vec<BatchId> {
        let changes_max = self.setup.limits.batch_changes_max.clamp(1, CHANGES_MAX as usize);
        let mut parts: Vec<Vec<Draft>> = Vec::new();
        let mut bytes = 0;
        for draft in drafts {
            let full = parts.last().is_none_or(|part| part.len() >= changes_max);
            if full || bytes + draft.bytes() > PART_BYTES_MAX {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += draft.bytes();
            parts.last_mut().expect("a part was just made").push(draft);
        }
        let count = parts.len();
        let mut batches = Vec::new();
        for (place, part) in parts.into_iter().enumerate() {
            let hlc = self.clock.tick(now.wall_ms);
            batches.push(self.commit_part(
                now,
                hlc,
                part,
                place + 1 < count,
                Committed { acknowledge: false, is_shown },
            ));
        }
        batches
    }

    /// Gives the next dot to a part of a drain, makes it part of the state, and lets it become durable.
    fn commit_part(&mut self, now: Now, hlc: Hlc, drafts: Vec<Draft>, more: bool, committed: Committed) -> BatchId {
        let replica = self.replica();
        let id = BatchId { replica, seq: self.log.head(replica) + 1 };
        let changes = drafts.into_iter().map(Draft::into_change).collect();
        let batch = self.log_own(now, id, hlc, more, changes);
        // The bug under test: a part that follows another is known here under the dot of that one.
        let shared = active(Mutant::PartsShareDot)
            && self.log.get(BatchId { seq: id.seq - 1, ..id }).is_some_and(|last| last.header.more);
        self.absorb_changes(if shared { BatchId { seq: id.seq - 1, ..id } } else { id }, batch.changes);
        self.applied.advance(id.replica, id.seq);
        self.note_committed(id, &batch.header.context, committed);
        id
    }

    /// Puts an own batch into the log.
    fn log_own(&mut self, now: Now, id: BatchId, hlc: Hlc, more: bool, changes: Vec<Change>) -> Batch {
        let context = self.context_of(&changes);
        let batch = Batch { header: BatchHeader { id, more, hlc, context }, changes };
        let signed = batch.to_signed_bytes(self.signer.key_id());
        let mac = self.signer.sign(&signed);
        let bytes = seal(signed, mac);
        self.log.append(batch.header.clone(), bytes, now.mono_ms);
        self.put_logged(id);
        batch
    }

    /// An own batch is part of log and state: lets it become durable.
    fn note_committed(&mut self, id: BatchId, context: &VersionVector, committed: Committed) {
        self.claimed.join(context);
        let mut writer = crdt::pack::Writer::new();
        write_vector(&mut writer, &self.claimed);
        self.put_meta(Meta::Claimed, writer.into_bytes());
        self.put_clock();
        let Committed { acknowledge, is_shown } = committed;
        self.after_durable(Then::Committed { batch: id, acknowledge, is_shown });
    }

    /// What must be applied before a batch with these changes: what was applied since the batch before, and
    /// every replica that is named.
    fn context_of(&self, changes: &[Change]) -> VersionVector {
        let mut named = BTreeSet::new();
        for change in changes {
            if let Content::Op(op) = &change.content {
                op.named(&mut |dot| named.extend([dot.replica]));
            }
        }
        let base = if active(Mutant::ContextWithoutProgress) { &self.shown } else { &self.applied };
        let fresh = base.iter().filter(|(replica, seq)| *seq > self.claimed.seq(*replica)).map(|(replica, _)| replica);
        let mut context = VersionVector::new();
        for replica in fresh.chain(named.iter().copied()).filter(|replica| *replica != self.replica()) {
            let seq = if named.contains(&replica) { self.applied.seq(replica) } else { base.seq(replica) };
            context.advance(replica, seq);
        }
        context
    }

    /// Stores a batch as it stands in the log.
    pub(super) fn put_logged(&mut self, batch: BatchId) {
        let Some(logged) = self.log.get(batch) else { return };
        let value = [&logged.hash.unwrap_or(UNKNOWN_HASH)[..], &logged.bytes].concat();
        self.put(RecordKey::Batch(batch), Some(value));
    }
}

/// What stands below a root: a leaf of this type.
fn below<'a>(root: &'a Object, path: &[Name], kind: Kind) -> Option<&'a Object> {
    let Some((name, rest)) = path.split_first() else { return Some(root) };
    let Object::Map(map) = root else { return None };
    below(map.entry(name, if rest.is_empty() { kind } else { Kind::Map })?, rest, kind)
}

/// The size of a command, estimated, if it is not too large.
fn check(intents: &[Intent]) -> Result<usize, CommitError> {
    let mut bytes = 0;
    for intent in intents {
        let fits = |name: &Name| name.len() <= crdt::set::NAME_BYTES_MAX;
        let names = !intent.path.is_empty() && intent.path.len() <= PATH_DEPTH_MAX && intent.path.iter().all(fits);
        let elements = match &intent.action {
            Action::Add(elements) | Action::Discard(elements) => elements.as_slice(),
            Action::Set(value) => {
                bytes += value.payload_bytes();
                &[]
            }
            _ => &[],
        };
        if !names || !elements.iter().all(fits) {
            return Err(CommitError::Path);
        }
        bytes += elements.iter().chain(&intent.path).map(|name| name.len() + 32).sum::<usize>();
    }
    let fits = intents.len() <= CHANGES_MAX as usize && bytes <= PART_BYTES_MAX;
    if fits { Ok(bytes) } else { Err(CommitError::TooLarge) }
}
