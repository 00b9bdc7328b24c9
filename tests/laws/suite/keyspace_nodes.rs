//! Nodes with whole keyspaces, that hear of each other through encoded batches.

use std::collections::{BTreeMap, BTreeSet};

use crdt::change::{MAC_BYTES, seal};
use crdt::keyspace::SHARDS;
use crdt::object::Name;
use crdt::register::RegisterDelta;
use crdt::{
    Batch, BatchHeader, BatchId, Change, Content, Dot, Envelope, Fingerprint, Hlc, Key, Keyspace, Kind, Namespace,
    Object, Op, ReplicaId, Value, VersionVector,
};
use proptest::prelude::*;

use crate::harness::{REPLICAS, Step};
use crate::subjects::{LeafIntent, RegisterIntent, act_on_leaf, path_of};

/// What a user wants of one key.
#[derive(Clone, Debug)]
pub(crate) enum KeyIntent {
    /// To the leaf at the end of the path.
    Leaf { namespace: u32, names: Vec<&'static str>, leaf: LeafIntent },
    /// Everything under a name, of one type, goes.
    Remove { namespace: u32, name: &'static str, kind: Kind },
}

impl KeyIntent {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let namespace = prop::sample::select(vec![0, 300]);
        let name = prop::sample::select(vec!["a", "b", "wp_options"]);
        let kind = prop::sample::select(Kind::ALL.to_vec());
        let path =
            prop_oneof![3 => prop::collection::vec(name.clone(), 1..2), 1 => prop::collection::vec(name.clone(), 2..4)];
        // Lengths around every border of the packed form: in the head byte, beside it, and too long for it.
        let length = prop::sample::select(vec![0, 5, 223, 224, 1_000, 1_024, 1_025, 3_000]);
        let long =
            length.prop_map(|length| LeafIntent::Register(RegisterIntent::Set(Value::bytes(vec![b'x'; length]))));
        let leaf = prop_oneof![2 => LeafIntent::any(), 1 => long];
        prop_oneof![
            8 => (namespace.clone(), path, leaf)
                .prop_map(|(namespace, names, leaf)| Self::Leaf { namespace, names, leaf }),
            1 => (namespace, name, kind).prop_map(|(namespace, name, kind)| Self::Remove { namespace, name, kind }),
        ]
    }

    /// Namespace, path and operation of each change that the intent makes.
    fn act(&self, keyspace: &Keyspace, replica: ReplicaId, now: Hlc) -> Vec<Change> {
        let change = |namespace: u32, path: Vec<Name>, stamp: Hlc, op: Op| Change {
            namespace: Namespace(namespace),
            path,
            stamp,
            content: Content::Op(op),
        };
        match self {
            Self::Leaf { namespace, names, leaf } => {
                let path = path_of(names);
                let object = find(keyspace, Namespace(*namespace), &path, leaf.kind());
                let ops = act_on_leaf(&object, replica, now, leaf).into_iter();
                ops.map(|(stamp, op)| change(*namespace, path.clone(), stamp, op)).collect()
            }
            Self::Remove { namespace, name, kind } => {
                let key = Key::new(Namespace(*namespace), *kind, name);
                let object = keyspace.object(&key).map_or(Object::new(*kind), |object| object.into_owned());
                let mut removals = object.removals();
                if let Object::Row(row) = &object {
                    let delete = row.view().expect("amounts are small").delete();
                    removals.extend(delete.map(|delta| (Vec::new(), Op::Row(delta))));
                }
                let below = |mut path: Vec<Name>| {
                    path.insert(0, key.name.clone());
                    path
                };
                removals.into_iter().map(|(path, op)| change(*namespace, below(path), now, op)).collect()
            }
        }
    }
}

/// The object at the end of a path, or an empty one.
fn find(keyspace: &Keyspace, namespace: Namespace, path: &[Name], kind: Kind) -> Object {
    let kind_at = |place: usize| if place + 1 == path.len() { kind } else { Kind::Map };
    let root = keyspace.object(&Key::new(namespace, kind_at(0), &path[0]));
    let mut object = root.map_or(Object::new(kind_at(0)), |object| object.into_owned());
    for (place, name) in path.iter().enumerate().skip(1) {
        let Object::Map(map) = object else { panic!("a path leads through maps") };
        object = map.entry(name, kind_at(place)).cloned().unwrap_or(Object::new(kind_at(place)));
    }
    object
}

/// One node.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) id: ReplicaId,
    pub(crate) keyspace: Keyspace,
    pub(crate) applied: VersionVector,
    /// What its last batch told of its past.
    told: VersionVector,
    /// Takes changes out of their bytes one by one, or the whole batch first.
    whole: bool,
}

/// All nodes, and all batches as bytes.
pub(crate) struct Cluster {
    pub(crate) sites: Vec<Site>,
    pub(crate) batches: Vec<Vec<u8>>,
}

/// Everything that must be equal where the vectors are.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Digest {
    fingerprint: Fingerprint,
    shards: BTreeMap<usize, Fingerprint>,
    journaled: BTreeSet<Key>,
    journal_entries: u64,
    objects: BTreeMap<Key, Vec<u8>>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let ids = [ReplicaId(5 << 96), ReplicaId(1 << 96), ReplicaId(9 << 96)];
        let site = |at: usize| Site {
            id: ids[at],
            keyspace: keyspace_that_met(ids.iter().cycle().skip(at).take(REPLICAS)),
            applied: VersionVector::new(),
            told: VersionVector::new(),
            whole: at == 2,
        };
        Self { sites: (0..REPLICAS).map(site).collect(), batches: Vec::new() }
    }

    /// Does the step; the number of the site that changed.
    pub(crate) fn run(&mut self, step: &Step<KeyIntent>) -> Option<usize> {
        match step {
            Step::Write { at, time, intents, .. } => {
                let bytes = self.sites[*at].write(Hlc(*time), intents)?;
                self.batches.push(bytes);
                Some(*at)
            }
            Step::Deliver { to, pick, .. } => self.deliver(*to, *pick),
            Step::Join { from, into, .. } => {
                let other = self.sites[*from].clone();
                self.sites[*into].join(&other);
                Some(*into)
            }
        }
    }

    pub(crate) fn deliver(&mut self, to: usize, pick: usize) -> Option<usize> {
        let site = &mut self.sites[to];
        let envelopes = self.batches.iter().map(|bytes| Envelope::parse(bytes).expect("own bytes parse"));
        let applicable: Vec<Envelope<'_>> = envelopes.filter(|envelope| site.accepts(&envelope.header)).collect();
        site.receive(applicable.get(pick % applicable.len().max(1))?);
        Some(to)
    }
}

/// An empty keyspace that gave its internal numbers to replicas in this order.
fn keyspace_that_met<'a>(ids: impl Iterator<Item = &'a ReplicaId>) -> Keyspace {
    let mut keyspace = Keyspace::new();
    let key = Key::new(Namespace(7), Kind::Register, "met");
    for id in ids {
        let delta = RegisterDelta { write: Some(Value::Null), ..RegisterDelta::default() };
        let content = Content::Op(Op::Register(delta));
        let change = Change { namespace: Namespace(7), path: vec![key.name.clone()], stamp: Hlc(1), content };
        keyspace.apply_change(Dot::new(*id, 1, 0), &change).expect("no counter");
        keyspace.remove(&key);
    }
    assert!(keyspace.is_empty() && keyspace.fingerprint() == Fingerprint::default());
    keyspace
}

impl Site {
    /// Writes one batch, and returns its bytes; `None` when nothing was to be done.
    fn write(&mut self, now: Hlc, intents: &[KeyIntent]) -> Option<Vec<u8>> {
        let id = BatchId { replica: self.id, seq: self.applied.seq(self.id) + 1 };
        let mut changes = Vec::new();
        for intent in intents {
            for change in intent.act(&self.keyspace, self.id, now) {
                let dot = Dot::new(id.replica, id.seq, changes.len() as u32);
                self.keyspace.apply_change(dot, &change).expect("amounts are small");
                changes.push(change);
            }
        }
        if changes.is_empty() {
            return None;
        }
        let header = BatchHeader { id, more: false, hlc: now, context: self.context(&changes) };
        self.applied.advance(id.replica, id.seq);
        self.told.clone_from(&self.applied);
        let batch = Batch { header, changes };
        let bytes = seal(batch.to_signed_bytes(3), [7; MAC_BYTES]);
        assert_eq!(Envelope::parse(&bytes).and_then(|envelope| envelope.to_batch()), Ok(batch));
        Some(bytes)
    }

    /// What changed since the batch before, and whoever is named.
    fn context(&self, changes: &[Change]) -> VersionVector {
        let mut named = BTreeSet::new();
        for change in changes {
            let Content::Op(op) = &change.content else { continue };
            op.named(&mut |dot| {
                named.insert(dot.replica);
            });
        }
        let others = self.applied.iter().filter(|(replica, _)| *replica != self.id);
        others.filter(|(replica, seq)| *seq > self.told.seq(*replica) || named.contains(replica)).collect()
    }

    fn accepts(&self, header: &BatchHeader) -> bool {
        self.applied.seq(header.id.replica) + 1 == header.id.seq && self.applied.dominates(&header.context)
    }

    fn receive(&mut self, envelope: &Envelope<'_>) {
        let BatchId { replica, seq } = envelope.header.id;
        if self.whole {
            let batch = envelope.to_batch().expect("own changes decode");
            for (index, change) in batch.changes.iter().enumerate() {
                let dot = Dot::new(replica, seq, index as u32);
                self.keyspace.apply_change(dot, change).expect("amounts are small");
            }
        } else {
            let mut changes = envelope.changes();
            while let Some((index, change)) = changes.next().expect("own changes decode") {
                self.keyspace.apply(Dot::new(replica, seq, index), &change).expect("amounts are small");
            }
        }
        self.applied.advance(replica, seq);
    }

    /// Joins another site's state key by key; a key that it lacks is joined with an empty object.
    fn join(&mut self, other: &Self) {
        let keys: BTreeSet<Key> = self.keyspace.keys().chain(other.keyspace.keys()).collect();
        for key in keys {
            let missing = Object::new(key.kind);
            let object = other.keyspace.object(&key);
            self.keyspace.join(&key, object.as_deref().unwrap_or(&missing), &self.applied, &other.applied);
        }
        self.applied.join(&other.applied);
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.keyspace)
    }
}

impl Digest {
    /// Also checks that all figures that are kept agree with those counted from scratch.
    pub(crate) fn of(keyspace: &Keyspace) -> Self {
        let keys: Vec<Key> = keyspace.keys().collect();
        let object = |key: &Key| keyspace.object(key).expect("listed keys are there").into_owned();
        let shards: BTreeMap<usize, Fingerprint> = (0..SHARDS)
            .map(|shard| (shard, keyspace.shard_fingerprint(shard)))
            .filter(|(_, fingerprint)| *fingerprint != Fingerprint::default())
            .collect();
        let mut sum = Fingerprint::default();
        shards.values().for_each(|fingerprint| sum.add(*fingerprint));
        let tally = keyspace.recount();
        assert_eq!(tally.fingerprint, keyspace.fingerprint(), "kept and recounted fingerprint");
        assert_eq!(sum, keyspace.fingerprint(), "shards and whole");
        assert_eq!(tally.journal_entries, keyspace.journal_entries(), "kept and recounted journal");
        let journaled: BTreeSet<Key> = keyspace.journaled().collect();
        let expected = keys.iter().filter(|key| !object(key).journal().is_empty()).cloned().collect();
        assert_eq!(journaled, expected, "keys with a journal");
        assert_eq!(keys.len(), keyspace.len());
        let objects = keys.into_iter().map(|key| (key.clone(), object(&key).to_bytes())).collect();
        Self { fingerprint: tally.fingerprint, shards, journaled, journal_entries: keyspace.journal_entries(), objects }
    }

    /// The same keyspace, built from the objects' bytes.
    pub(crate) fn load(&self) -> Keyspace {
        let mut keyspace = Keyspace::new();
        for (key, bytes) in &self.objects {
            keyspace.load(key, Object::from_bytes(key.kind, bytes).expect("own bytes decode"));
        }
        keyspace
    }
}
