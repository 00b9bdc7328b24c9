//! Snapshots: what stands in a chunk, and how a donor keeps its cut while it goes on.

use std::collections::{BTreeMap, BTreeSet};

use crdt::error::DecodeError;
use crdt::keyspace::SHARDS;
use crdt::pack::{Reader, Writer};
use crdt::{Covers, Hlc, Key, Keyspace, Object, VersionVector};

use crate::log::{ChainHash, chain_hash};
use crate::message::{Chunk, Manifest, read_array, read_vector, write_vector};

/// Where a key stands in the order of a snapshot: shard, then the key's bytes.
pub(crate) type Position = (u32, Vec<u8>);

pub(crate) fn position(key: &Key) -> Position {
    (key.shard() as u32, key.to_bytes())
}

/// What a chunk holds: every object behind `after` and up to `until`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChunkContent {
    pub(crate) after: Option<Position>,
    pub(crate) until: Option<Position>,
    pub(crate) objects: Vec<(Vec<u8>, Vec<u8>)>,
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

impl ChunkContent {
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

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (after, until) = (read_position(&mut reader)?, read_position(&mut reader)?);
        let count = reader.count("number of objects", 4)?;
        let mut objects = Vec::with_capacity(count);
        for _ in 0..count {
            let key = reader.bytes("bytes of a key", 1 << 20)?.to_vec();
            objects.push((key, reader.bytes("bytes of an object", usize::MAX)?.to_vec()));
        }
        reader.finish()?;
        Ok(Self { after, until, objects })
    }

    /// The objects, none of which may name what the snapshot's cut does not hold.
    ///
    /// SUBTLE: a dot beyond the cut would be shown although its batch is not applied. A local write over it
    /// would name it, and its own context could not cover it.
    pub(crate) fn read_objects(&self, cut: &VersionVector) -> Result<BTreeMap<Key, Object>, DecodeError> {
        let mut objects = BTreeMap::new();
        for (key, object) in &self.objects {
            let key = Key::from_bytes(key)?;
            let object = Object::from_bytes(key.kind, object)?;
            let mut covered = true;
            object.dots(&mut |dot| covered &= cut.covers(&dot));
            if !covered {
                return Err(DecodeError::Invalid { what: "dot beyond the cut of a snapshot", at: 0 });
            }
            objects.insert(key, object);
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

/// A snapshot that is being given away. The cut stays what it was: an object that changes before it was
/// sent is kept as it stood.
#[derive(Debug)]
pub(crate) struct Donor {
    pub(crate) manifest: Manifest,
    sent_until: Option<Position>,
    next_place: u32,
    finished: bool,
    last: Option<Chunk>,
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
            last: None,
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

    /// The place of the chunk that is cut next.
    pub(crate) fn next_place(&self) -> u32 {
        self.next_place
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

    /// The chunk at `place`: the next one, or the last one again. `None` for any other.
    pub(crate) fn chunk(&mut self, place: u32, keyspace: &Keyspace, bytes_max: usize) -> Option<Chunk> {
        if let Some(last) = self.last.as_ref().filter(|last| last.place == place) {
            return Some(last.clone());
        }
        if place != self.next_place || self.finished {
            return None;
        }
        let content = self.next_content(keyspace, bytes_max);
        self.sent_until.clone_from(&content.until);
        self.finished = content.until.is_none();
        self.next_place += 1;
        self.forget_sent();
        let bytes = content.to_bytes();
        let (id, last) = (self.manifest.id, self.finished);
        let chunk = Chunk { id, place, last, hash: content_hash(&bytes), content: bytes };
        self.last = Some(chunk.clone());
        Some(chunk)
    }

    fn next_content(&self, keyspace: &Keyspace, bytes_max: usize) -> ChunkContent {
        let after = self.sent_until.clone();
        let mut content = ChunkContent { after: after.clone(), until: None, objects: Vec::new() };
        let mut bytes = 0;
        let first = after.as_ref().map_or(0, |(shard, _)| *shard);
        for shard in first..SHARDS as u32 {
            let present = keyspace.shard_keys(shard as usize).into_iter().map(|key| key.to_bytes());
            let range = (shard, Vec::new())..(shard + 1, Vec::new());
            let kept = self.preimages.range(range).map(|((_, key), _)| key.clone());
            let keys: BTreeSet<Vec<u8>> = present.chain(kept).collect();
            for key in keys {
                let position = (shard, key);
                if after.as_ref().is_some_and(|after| position <= *after) {
                    continue;
                }
                if bytes >= bytes_max {
                    return content;
                }
                let object = match self.preimages.get(&position) {
                    Some(kept) => kept.clone(),
                    None => Key::from_bytes(&position.1).ok().and_then(|key| Some(keyspace.object(&key)?.to_bytes())),
                };
                if let Some(object) = object {
                    bytes += object.len() + position.1.len();
                    content.objects.push((position.1.clone(), object));
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
    /// Chunks that are staged.
    pub(crate) staged: u32,
    /// True when the last chunk is staged.
    pub(crate) complete: bool,
    /// Chunks that are joined; `None` while chunks are still fetched.
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
        Ok(Self { peer, manifest: Manifest { id, cut, clock, hashes }, staged, complete, joined, replace })
    }
}

/// Joins one chunk into the state; returns the keys that may have changed.
pub(crate) fn join_chunk(
    keyspace: &mut Keyspace,
    content: &ChunkContent,
    mine: &VersionVector,
    theirs: &VersionVector,
    replace: bool,
) -> Result<BTreeSet<Key>, DecodeError> {
    let incoming = content.read_objects(theirs)?;
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
            let chunk = donor.chunk(place, &donor_state, 500).expect("the next chunk is there");
            assert_eq!(donor.chunk(place, &donor_state, 500), Some(chunk.clone()), "the last chunk can be had again");
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
        let content = ChunkContent { after: None, until: None, objects: vec![(key.to_bytes(), object)] };
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
