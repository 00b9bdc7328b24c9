//! Snapshots for others: the manifest, the chunks, and objects kept as they were.

use crdt::pack::Writer;
use crdt::{Key, Located, VersionVector};

use super::Node;
use crate::message::{Manifest, Message, write_vector};
use crate::snapshot::{Donor, NoChunk, content_hash};
use crate::time::Now;

impl Node {
    /// Gives snapshots that were asked for, once everything in them is durable here.
    pub(super) fn give_snapshots(&mut self) {
        let busy = self.is_joining() || self.rebuild || self.gate.is_waiting() || !self.records.is_empty();
        if busy || self.wanted_snapshots.is_empty() {
            return;
        }
        for (peer, at_least) in core::mem::take(&mut self.wanted_snapshots) {
            if !self.applied.dominates(&at_least) {
                continue;
            }
            // Asked twice: the cut that is being given serves both.
            let serves = |donor: &&Donor| !donor.is_finished() && donor.manifest.cut.dominates(&at_least);
            if let Some(donor) = self.donors.get(&peer).filter(serves) {
                let manifest = donor.manifest.clone();
                self.send(&peer, &Message::Manifest(manifest));
                continue;
            }
            if !self.brakes.is_empty() {
                // The state holds what must not be sent yet.
                self.wanted_snapshots.insert(peer, at_least);
                continue;
            }
            self.snapshots_given += 1;
            let cut = self.applied.clone();
            // Two snapshots have one id only if they are the same, also over a restart of the donor.
            let mut writer = Writer::new();
            writer.raw(&self.replica().to_bytes());
            writer.varint(self.snapshots_given);
            write_vector(&mut writer, &cut);
            let id = u128::from_be_bytes(content_hash(&writer.into_bytes())) as u64;
            let hash = |replica| self.log.stream(replica).and_then(|stream| stream.hash_at(cut.seq(replica)));
            let hashes = cut.iter().filter_map(|(replica, _)| Some((replica, hash(replica)?))).collect();
            let manifest = Manifest { id, cut, clock: self.clock.last(), hashes };
            self.donors.insert(peer.clone(), Donor::new(manifest.clone()));
            self.send(&peer, &Message::Manifest(manifest));
        }
    }

    pub(super) fn give_chunk(&mut self, now: Now, to: &str, id: u64, place: u32) {
        let bytes_max = self.setup.limits.chunk_bytes_max;
        let donor = self.donors.get_mut(to).filter(|donor| donor.manifest.id == id);
        let chunks = match donor.map(|donor| donor.chunks(place, &self.keyspace, bytes_max)) {
            Some(Ok(chunks)) => chunks,
            // Late, and the answer was taken already; or its store went back, and it needs what cannot be given again.
            // It knows which.
            None | Some(Err(NoChunk::Given)) => return self.send(to, &Message::SnapshotGone(id, place)),
            Some(Err(NoChunk::FromTheBeginning)) => {
                self.donors.remove(to);
                return self.send(to, &Message::SnapshotGone(id, place));
            }
        };
        for chunk in chunks {
            self.carried(now, to, chunk.content.len());
            self.send(to, &Message::Chunk(chunk));
        }
    }

    /// A member told what it has: a snapshot that it has taken over needs not be kept for it.
    pub(super) fn end_donor(&mut self, of: &str, received: &VersionVector) {
        let is_taken = |donor: &Donor| donor.is_finished() && received.dominates(&donor.manifest.cut);
        if self.donors.get(of).is_some_and(is_taken) {
            self.donors.remove(of);
        }
    }

    /// An object is about to change: snapshots that are being given keep it as it was.
    pub(super) fn keep_preimage(&mut self, key: &[u8], place: Located) {
        if !self.donors.is_empty()
            && let Ok(named) = Key::from_bytes(key)
            && self.donors.values().any(|donor| donor.wants(&named))
        {
            let before = self.keyspace.object_bytes(key, place);
            self.keep_preimage_as(&named, before);
        }
    }

    /// An object's bytes as they are now, if a snapshot is being given.
    pub(super) fn preimage(&self, key: &Key) -> Option<Vec<u8>> {
        if self.donors.is_empty() {
            return None;
        }
        let key = key.to_bytes();
        self.keyspace.object_bytes(&key, Located::new(&key))
    }

    /// An object changed: snapshots that are being given keep the bytes that it had.
    pub(super) fn keep_preimage_as(&mut self, key: &Key, before: Option<Vec<u8>>) {
        let bytes_max = self.setup.limits.snapshot_preimage_bytes_max;
        self.donors.values_mut().for_each(|donor| donor.keep(key, &before));
        self.donors.retain(|_, donor| donor.preimage_bytes() <= bytes_max);
    }
}
