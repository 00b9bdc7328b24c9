//! Snapshots: what stands in a chunk, and how a donor keeps its cut while it goes on.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crdt::error::DecodeError;
use crdt::keyspace::SHARDS;
use crdt::pack::{Reader, Writer};
use crdt::register::{Entry, Register};
use crdt::{CellWrite, Covers, Dot, Hlc, Key, Keyspace, Kind, Located, Object, VersionVector};

use crate::log::{ChainHash, chain_hash};
use crate::message::{Chunk, Manifest, read_array, read_vector, write_vector};

/// Where a key stands in the order of a snapshot: shard, then the key's bytes.
pub(crate) type Position = (u32, Vec<u8>);

pub(crate) fn position(key: &Key) -> Position {
    (key.shard() as u32, key.to_bytes())
}

/// How many chunks a receiver asks for before the first of them is durable there, and how many a donor keeps: what a
/// crash or a broken link takes away is among these.
pub(crate) const CHUNKS_AHEAD: u32 = 8;

/// Borrowed from a chunk that is read, owned by one that is made.
type Bytes<'a> = Cow<'a, [u8]>;

/// What a chunk holds: every object behind `after` and up to `until`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChunkContent<'a> {
    pub(crate) after: Option<Position>,
    pub(crate) until: Option<Position>,
    /// Key and object, in their bytes.
    pub(crate) objects: Vec<(Bytes<'a>, Bytes<'a>)>,
}

/// An object of a chunk.
pub(crate) enum Incoming<'a> {
    /// A register with one plain entry, as the write that made it: nearly all objects are such.
    Cell(&'a [u8], Dot, CellWrite<'a>),
    /// Any other.
    Object(Key, Object),
}

impl<'a> Incoming<'a> {
    fn read(key: &'a [u8], object: &'a [u8]) -> Result<Self, DecodeError> {
        let (kind, namespace, name) = Key::split(key)?;
        if kind == Kind::Register
            && let Some((dot, stamp, value)) = Register::read_single(object)
        {
            return Ok(Self::Cell(key, dot, CellWrite { namespace, name, stamp, replaces: None, value }));
        }
        Ok(Self::Object(Key::new(namespace, kind, name), Object::from_bytes(kind, object)?))
    }

    fn is_covered(&self, cut: &VersionVector) -> bool {
        match self {
            Self::Cell(_, dot, _) => cut.covers(dot),
            Self::Object(_, object) => {
                let mut covered = true;
                object.dots(&mut |dot| covered &= cut.covers(&dot));
                covered
            }
        }
    }

    fn key(&self) -> Key {
        match self {
            Self::Cell(_, _, cell) => Key::new(cell.namespace, Kind::Register, cell.name),
            Self::Object(key, _) => key.clone(),
        }
    }

    fn into_object(self) -> Object {
        match self {
            Self::Cell(_, dot, CellWrite { stamp, value, .. }) => {
                Object::Register(Register::from_single(Entry { dot, stamp, value: value.into_owned() }))
            }
            Self::Object(_, object) => object,
        }
    }
}

fn write_position(writer: &mut Writer, position: Option<&Position>) {
    writer.byte(position.is_some().into());
    if let Some((shard, key)) = position {
        writer.varint((*shard).into());
        writer.bytes(key);
    }
}

fn read_position(reader: &mut Reader<'_>) -> Result<Option<Position>, DecodeError> {
    if reader.bounded("position mark", 1)? == 0 {
        return Ok(None);
    }
    let shard = reader.bounded("shard", SHARDS as u64 - 1)? as u32;
    Ok(Some((shard, reader.bytes("bytes of a key", 1 << 20)?.to_vec())))
}

impl<'a> ChunkContent<'a> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        write_position(&mut writer, self.after.as_ref());
        write_position(&mut writer, self.until.as_ref());
        writer.varint(self.objects.len() as u64);
        for (key, object) in &self.objects {
            writer.bytes(key);
            writer.bytes(object);
        }
        writer.into_bytes()
    }

    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (after, until) = (read_position(&mut reader)?, read_position(&mut reader)?);
        let count = reader.count("number of objects", 4)?;
        let mut objects = Vec::with_capacity(count);
        for _ in 0..count {
            let key = reader.bytes("bytes of a key", 1 << 20)?;
            objects.push((key.into(), reader.bytes("bytes of an object", usize::MAX)?.into()));
        }
        reader.finish()?;
        Ok(Self { after, until, objects })
    }

    /// The objects, none of which may name what the snapshot's cut does not hold.
    ///
    /// SUBTLE: a dot beyond the cut would be shown although its batch is not applied. A local write over it
    /// would name it, and its own context could not cover it.
    pub(crate) fn read_objects(&self, cut: &VersionVector) -> Result<Vec<Incoming<'_>>, DecodeError> {
        let mut objects = Vec::with_capacity(self.objects.len());
        for (key, object) in &self.objects {
            let incoming = Incoming::read(key, object)?;
            if !incoming.is_covered(cut) {
                return Err(DecodeError::Invalid { what: "dot beyond the cut of a snapshot", at: 0 });
            }
            objects.push(incoming);
        }
        Ok(objects)
    }

    /// Keys of `keyspace` that lie in the chunk's range.
    pub(crate) fn keys_in_range(&self, keyspace: &Keyspace) -> Vec<Key> {
        let first = self.after.as_ref().map_or(0, |(shard, _)| *shard as usize);
        let last = self.until.as_ref().map_or(SHARDS - 1, |(shard, _)| *shard as usize);
        let inside = |key: &Key| {
            let position = position(key);
            self.after.as_ref().is_none_or(|after| position > *after)
                && self.until.as_ref().is_none_or(|until| position <= *until)
        };
        (first..=last).flat_map(|shard| keyspace.shard_keys(shard)).filter(inside).collect()
    }
}

/// Hash under which a chunk is addressed.
pub(crate) fn content_hash(content: &[u8]) -> ChainHash {
    chain_hash(&ChainHash::default(), content)
}

/// Why a donor cannot give a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoChunk {
    /// It was taken, and those behind it as well.
    Given,
    /// This is no place of the snapshot that is being given: it begins anew.
    FromTheBeginning,
}

/// A snapshot that is being given away. The cut stays what it was: an object that changes before it was
/// sent is kept as it stood.
#[derive(Debug)]
pub(crate) struct Donor {
    pub(crate) manifest: Manifest,
    sent_until: Option<Position>,
    next_place: u32,
    finished: bool,
    /// The chunks that were given last.
    recent: VecDeque<Chunk>,
    preimages: BTreeMap<Position, Option<Vec<u8>>>,
    preimage_bytes: usize,
}

impl Donor {
    pub(crate) fn new(manifest: Manifest) -> Self {
        Self {
            manifest,
            sent_until: None,
            next_place: 0,
            finished: false,
            recent: VecDeque::new(),
            preimages: BTreeMap::new(),
            preimage_bytes: 0,
        }
    }

    pub(crate) fn preimage_bytes(&self) -> usize {
        self.preimage_bytes
    }

    /// True when the last chunk was cut.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// True while the object is to be kept as it was, should it change.
    pub(crate) fn wants(&self, key: &Key) -> bool {
        let position = position(key);
        let sent = self.finished || self.sent_until.as_ref().is_some_and(|until| position <= *until);
        !sent && !self.preimages.contains_key(&position)
    }

    /// An object changes, whose bytes were these; `None` when there was none.
    pub(crate) fn keep(&mut self, key: &Key, object: &Option<Vec<u8>>) {
        if !self.wants(key) {
            return;
        }
        let position = position(key);
        self.preimage_bytes += object.as_ref().map_or(0, Vec::len) + position.1.len();
        self.preimages.insert(position, object.clone());
    }

    /// The chunk at `place` with those before it that were not given yet, or one of the last ones again. Nothing behind
    /// the end of the snapshot.
    pub(crate) fn chunks(&mut self, place: u32, keyspace: &Keyspace, bytes_max: usize) -> Result<Vec<Chunk>, NoChunk> {
        if let Some(again) = self.recent.iter().find(|chunk| chunk.place == place) {
            return Ok(vec![again.clone()]);
        }
        if place < self.next_place {
            return Err(if place == 0 { NoChunk::FromTheBeginning } else { NoChunk::Given });
        }
        if place - self.next_place >= CHUNKS_AHEAD {
            return Err(NoChunk::FromTheBeginning);
        }
        let mut chunks = Vec::new();
        while self.next_place <= place && !self.finished {
            chunks.push(self.next_chunk(keyspace, bytes_max));
        }
        Ok(chunks)
    }

    fn next_chunk(&mut self, keyspace: &Keyspace, bytes_max: usize) -> Chunk {
        let content = self.next_content(keyspace, bytes_max);
        let bytes = content.to_bytes();
        self.sent_until = content.until;
        self.finished = self.sent_until.is_none();
        let (id, place, last) = (self.manifest.id, self.next_place, self.finished);
        self.next_place += 1;
        self.forget_sent();
        let chunk = Chunk { id, place, last, hash: content_hash(&bytes), content: bytes };
        if self.recent.len() == CHUNKS_AHEAD as usize {
            self.recent.pop_front();
        }
        self.recent.push_back(chunk.clone());
        chunk
    }

    fn next_content(&self, keyspace: &Keyspace, bytes_max: usize) -> ChunkContent<'static> {
        let after = self.sent_until.clone();
        let mut content = ChunkContent { after: after.clone(), until: None, objects: Vec::new() };
        let mut bytes = 0;
        let (first, given) = after.unwrap_or_default();
        for shard in first..SHARDS as u32 {
            let mut keys = keyspace.shard_key_bytes(shard as usize);
            let range = (shard, Vec::new())..(shard + 1, Vec::new());
            let mut kept = self.preimages.range(range).map(|((_, key), _)| key.as_slice()).peekable();
            if kept.peek().is_some() {
                keys.extend(kept);
                keys.sort_unstable();
                keys.dedup();
            }
            let begin = if shard == first { keys.partition_point(|key| *key <= given.as_slice()) } else { 0 };
            for key in &keys[begin..] {
                if bytes >= bytes_max {
                    return content;
                }
                let position = (shard, key.to_vec());
                let object = match self.preimages.get(&position) {
                    Some(kept) => kept.clone(),
                    None => keyspace.object_bytes(key, Located::new(key)),
                };
                if let Some(object) = object {
                    bytes += object.len() + key.len();
                    content.objects.push((key.to_vec().into(), object.into()));
                }
                content.until = Some(position);
            }
        }
        content.until = None;
        content
    }

    fn forget_sent(&mut self) {
        match &self.sent_until {
            Some(until) if !self.finished => {
                let rest = self.preimages.split_off(until);
                self.preimages = rest;
                self.preimages.remove(until);
            }
            _ => self.preimages.clear(),
        }
        let kept = self.preimages.iter();
        self.preimage_bytes = kept.map(|((_, key), object)| key.len() + object.as_ref().map_or(0, Vec::len)).sum();
    }
}

/// A snapshot that is being taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Install {
    pub(crate) peer: String,
    pub(crate) manifest: Manifest,
    /// Chunks that came and were written down.
    pub(crate) staged: u32,
    /// Those of them that are durable. After a start, all.
    pub(crate) durable: u32,
    /// True when the last chunk is staged.
    pub(crate) complete: bool,
    /// Chunks that are joined; `None` while they are only staged.
    pub(crate) joined: Option<u32>,
    /// True when the state is replaced because it is damaged.
    pub(crate) replace: bool,
}

impl Install {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.bytes(self.peer.as_bytes());
        writer.varint(self.manifest.id);
        write_vector(&mut writer, &self.manifest.cut);
        writer.varint(self.manifest.clock.0);
        writer.varint(self.manifest.hashes.len() as u64);
        for (replica, hash) in &self.manifest.hashes {
            writer.raw(&replica.to_bytes());
            writer.raw(hash);
        }
        writer.varint(self.staged.into());
        writer.byte(self.complete.into());
        writer.varint(self.joined.map_or(0, |joined| u64::from(joined) + 1));
        writer.byte(self.replace.into());
        writer.into_bytes()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let peer = String::from_utf8_lossy(reader.bytes("node id length", 64)?).into_owned();
        let (id, cut, clock) = (reader.varint()?, read_vector(&mut reader)?, Hlc(reader.varint()?));
        let mut hashes = Vec::new();
        for _ in 0..reader.count("number of hashes", 32)? {
            hashes.push((crate::message::read_replica(&mut reader)?, read_array(&mut reader)?));
        }
        let staged = reader.bounded("chunks", u32::MAX.into())? as u32;
        let complete = reader.byte()? == 1;
        let joined = reader.varint()?.checked_sub(1).map(|joined| joined as u32);
        let replace = reader.byte()? == 1;
        let manifest = Manifest { id, cut, clock, hashes };
        Ok(Self { peer, manifest, staged, durable: staged, complete, joined, replace })
    }
}

/// Joins one chunk into the state; returns the keys that may have changed.
pub(crate) fn join_chunk(
    keyspace: &mut Keyspace,
    content: &ChunkContent<'_>,
    mine: &VersionVector,
    theirs: &VersionVector,
    replace: bool,
) -> Result<BTreeSet<Key>, DecodeError> {
    let incoming = content.read_objects(theirs)?;
    let incoming: BTreeMap<Key, Object> =
        incoming.into_iter().map(|object| (object.key(), object.into_object())).collect();
    let mut touched: BTreeSet<Key> = content.keys_in_range(keyspace).into_iter().collect();
    touched.extend(incoming.keys().cloned());
    for key in &touched {
        let missing = Object::new(key.kind);
        let other = incoming.get(key).unwrap_or(&missing);
        if replace {
            keyspace.load(key, other.clone());
        } else {
            keyspace.join(key, other, mine, theirs);
        }
    }
    Ok(touched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crdt::{Change, Content, Dot, Kind, Namespace, Op, ReplicaId, Value};

    fn write(keyspace: &mut Keyspace, seq: u64, name: &str, value: &str, replaces: Vec<Dot>) -> Dot {
        let dot = Dot::new(ReplicaId(1), seq, 0);
        let delta = crdt::register::RegisterDelta { replaces, retires: Vec::new(), write: Some(Value::from(value)) };
        let content = Content::Op(Op::Register(delta));
        let change = Change { namespace: Namespace(0), path: vec![name.as_bytes().into()], stamp: Hlc(seq), content };
        keyspace.apply_change(dot, &change).expect("no counter");
        dot
    }

    fn keep(donor: &mut Donor, state: &Keyspace, name: &str) {
        let key = Key::new(Namespace(0), Kind::Register, name);
        donor.keep(&key, &state.object(&key).map(|object| object.to_bytes()));
    }

    #[test]
    fn a_cut_stays_while_its_donor_goes_on() {
        let mut donor_state = Keyspace::new();
        let dots: Vec<Dot> =
            (0..300).map(|n| write(&mut donor_state, n + 1, &format!("k{n}"), "old", vec![])).collect();
        let expected = donor_state.fingerprint();
        let cut: VersionVector = [(ReplicaId(1), 300)].into_iter().collect();
        let mut donor = Donor::new(Manifest { id: 1, cut: cut.clone(), clock: Hlc(0), hashes: Vec::new() });
        let mut taken = Keyspace::new();
        let mut place = 0;
        loop {
            let chunks = donor.chunks(place, &donor_state, 500).expect("the next chunk is there");
            let [chunk] = chunks.as_slice() else { panic!("one chunk was asked for") };
            for again in place.saturating_sub(CHUNKS_AHEAD - 1)..place {
                let again = donor.chunks(again, &donor_state, 500).expect("the last chunks can be had again");
                assert_eq!(again.len(), 1);
            }
            let content = ChunkContent::from_bytes(&chunk.content).expect("own bytes");
            join_chunk(&mut taken, &content, &VersionVector::new(), &cut, false).expect("own objects");
            let changed = (place as usize * 7) % 300;
            keep(&mut donor, &donor_state, &format!("k{changed}"));
            write(&mut donor_state, 301 + u64::from(place), &format!("k{changed}"), "new", vec![dots[changed]]);
            keep(&mut donor, &donor_state, &format!("new{place}"));
            write(&mut donor_state, 1_000 + u64::from(place), &format!("new{place}"), "new", vec![]);
            place += 1;
            if chunk.last {
                break;
            }
        }
        assert!(place > 3, "the snapshot came in several chunks");
        assert_eq!(taken.fingerprint(), expected);
        assert_eq!(donor.preimage_bytes(), 0);
    }

    #[test]
    fn an_object_that_names_a_dot_beyond_the_cut_is_refused() {
        let mut state = Keyspace::new();
        write(&mut state, 6, "k", "x", vec![]);
        let key = Key::new(Namespace(0), Kind::Register, "k");
        let object = state.object(&key).expect("just written").to_bytes();
        let objects = vec![(key.to_bytes().into(), object.into())];
        let content = ChunkContent { after: None, until: None, objects };
        let cut = |seq| [(ReplicaId(1), seq)].into_iter().collect::<VersionVector>();
        assert!(content.read_objects(&cut(6)).is_ok());
        let refused = content.read_objects(&cut(5));
        assert!(matches!(refused, Err(DecodeError::Invalid { what: "dot beyond the cut of a snapshot", .. })));
    }

    #[test]
    fn joining_removes_what_the_donor_saw_removed() {
        let mut own = Keyspace::new();
        write(&mut own, 1, "gone", "x", vec![]);
        write(&mut own, 9, "unseen", "y", vec![]);
        let theirs: VersionVector = [(ReplicaId(1), 5)].into_iter().collect();
        let mine: VersionVector = [(ReplicaId(1), 9)].into_iter().collect();
        let everything = ChunkContent { after: None, until: None, objects: Vec::new() };
        join_chunk(&mut own, &everything, &mine, &theirs, false).expect("no objects");
        let names: Vec<_> = own.keys().map(|key| key.name).collect();
        assert_eq!(names, [b"unseen"[..].into()]);
    }
}
