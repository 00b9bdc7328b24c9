//! Snapshots between nodes: asking, giving, staging, joining.

use std::collections::{BTreeMap, BTreeSet};

use crdt::mutant::{Mutant, active};
use crdt::pack::Writer;
use crdt::{Key, Located, ReplicaId, VersionVector};

use super::{Node, Then};
use crate::effect::{Effect, Report};
use crate::message::{Chunk, Manifest, Message, write_vector};
use crate::record::{Found, Meta, RecordKey};
use crate::snapshot::{ChunkContent, Donor, Install, content_hash, join_chunk};
use crate::time::Now;

/// A snapshot or a chunk was asked for and has not come yet.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    peer: String,
    deadline_mono_ms: u64,
    awaits: Awaits,
}

/// What must happen for a snapshot to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaits {
    /// The donor answers.
    Answer,
    /// What came is staged durably: only then is the next chunk asked for.
    Disk,
    /// The donor is heard again: the link broke, and nothing has come since.
    Return,
}

impl Node {
    /// A neighbour has cut what we asked for.
    pub(super) fn learn_floor(&mut self, now: Now, from: &str, replica: ReplicaId, floor: u64) {
        let own = self.log.head(replica);
        if let Some(link) = self.links.get_mut(from) {
            link.below_floor.insert(replica, floor);
            if let Some(pull) = &mut link.pull {
                pull.forget(replica);
            }
        }
        if own < floor && self.is_cut_everywhere(replica) {
            self.ask_snapshot(now, from);
        }
    }

    /// True when neighbours have more of a stream, and each of them has cut what comes next here.
    fn is_cut_everywhere(&self, replica: ReplicaId) -> bool {
        let own = self.log.head(replica);
        let more = |link: &&super::Link| link.ready && link.heads.get(&replica).is_some_and(|head| *head > own);
        let mut more = self.links.values().filter(more).peekable();
        more.peek().is_some() && more.all(|link| link.below_floor.get(&replica).is_some_and(|floor| own < *floor))
    }

    fn ask_snapshot(&mut self, now: Now, peer: &str) {
        if self.install.is_some() || self.install_asked.is_some() {
            return;
        }
        self.asked(now, peer);
        self.send_want(peer);
    }

    /// Asks for what comes next: a snapshot, or a chunk of the one that is being taken.
    fn send_want(&mut self, peer: &str) {
        let message = match &self.install {
            Some(install) => Message::WantChunk(install.manifest.id, install.staged),
            None if self.rebuild => Message::WantSnapshot(self.least_cut()),
            None => Message::WantSnapshot(VersionVector::new()),
        };
        self.send(peer, &message);
    }

    /// What a snapshot must hold that replaces a damaged state: what was applied, what the log no longer has, and all
    /// that we wrote ourselves. What was only received stands in the log and is applied afterwards. None of it grows
    /// while the state is damaged, so peers that go on writing cannot outrun the snapshot.
    fn least_cut(&self) -> VersionVector {
        let mut least = self.applied.clone();
        for (replica, stream) in self.log.streams() {
            least.advance(replica, stream.floor());
        }
        let own = self.replica();
        least.advance(own, self.log.head(own));
        least
    }

    fn asked(&mut self, now: Now, peer: &str) {
        let deadline_mono_ms = now.mono_ms + self.setup.intervals.retry_ms;
        self.install_asked = Some(Asked { peer: peer.to_owned(), deadline_mono_ms, awaits: Awaits::Answer });
    }

    /// After a restart in the middle of a snapshot its donor is waited for, as after a broken link.
    pub(super) fn install_reopened(&mut self, now: Now) {
        if let Some(install) = &self.install {
            let peer = install.peer.clone();
            self.asked(now, &peer);
            self.install_lost(now, &peer);
        }
    }

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
        if donor.as_ref().is_some_and(|donor| 0 < place && place.saturating_add(1) < donor.next_place()) {
            // Late, and the answer was taken already; or its store went back, and it needs what cannot be given again.
            // It knows which.
            return self.send(to, &Message::SnapshotGone(id, place));
        }
        let message = match donor.and_then(|donor| donor.chunk(place, &self.keyspace, bytes_max)) {
            Some(chunk) => {
                self.carried(now, to, chunk.content.len());
                Message::Chunk(chunk)
            }
            None => {
                self.donors.retain(|peer, donor| peer != to || donor.manifest.id != id);
                Message::SnapshotGone(id, place)
            }
        };
        self.send(to, &message);
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

    pub(super) fn take_manifest(&mut self, now: Now, from: &str, manifest: Manifest) {
        let awaited = self.install_asked.as_ref().is_some_and(|asked| asked.peer == from);
        if !awaited || self.install.is_some() {
            return;
        }
        if self.rebuild && !manifest.cut.dominates(&self.least_cut()) {
            return;
        }
        let replace = self.rebuild || active(Mutant::SnapshotReplacesMember);
        let install = Install { peer: from.to_owned(), manifest, staged: 0, complete: false, joined: None, replace };
        self.put_meta(Meta::Install, install.to_bytes());
        self.install = Some(install);
        self.want_chunk(now);
    }

    fn want_chunk(&mut self, now: Now) {
        let Some(install) = &self.install else { return };
        let peer = install.peer.clone();
        self.asked(now, &peer);
        if self.links.get(&peer).is_some_and(|link| link.ready) {
            self.send_want(&peer);
        } else {
            // The link broke while the last chunk was being staged.
            self.install_lost(now, &peer);
        }
    }

    pub(super) fn take_chunk(&mut self, now: Now, from: &str, chunk: Chunk) {
        let Some(install) = &mut self.install else { return };
        let expected = install.peer == from && install.manifest.id == chunk.id && install.staged == chunk.place;
        if !expected || install.complete {
            return;
        }
        if content_hash(&chunk.content) != chunk.hash {
            return self.report(Report::Malformed { from: from.to_owned() });
        }
        // Read to the end here: what does not read once it is staged counts as damage of our own disk.
        let content = ChunkContent::from_bytes(&chunk.content);
        if content.and_then(|content| content.read_objects(&install.manifest.cut)).is_err() {
            // The donor made it so, and would make it so again.
            self.report(Report::Malformed { from: from.to_owned() });
            return self.drop_install();
        }
        install.staged += 1;
        install.complete = chunk.last;
        let bytes = install.to_bytes();
        self.carried(now, from, chunk.content.len());
        self.put(RecordKey::Chunk(chunk.place), Some([&chunk.hash[..], &chunk.content].concat()));
        self.put_meta(Meta::Install, bytes);
        self.after_durable(Then::Staged);
        self.asked(now, from);
        if let Some(asked) = &mut self.install_asked {
            asked.awaits = Awaits::Disk;
        }
    }

    /// A chunk is staged durably: on with the next one, or with joining.
    pub(super) fn chunk_staged(&mut self, now: Now) {
        let Some(install) = &mut self.install else { return };
        if install.complete {
            self.install_asked = None;
            self.begin_joining();
        } else {
            self.want_chunk(now);
        }
    }

    /// From here until the vector has advanced nothing is applied, drained or committed.
    pub(super) fn begin_joining(&mut self) {
        let Some(install) = &mut self.install else { return };
        install.joined.get_or_insert(0);
        if install.replace {
            let missing = !active(Mutant::SnapshotReplacesMember);
            let cut = install.manifest.cut.clone();
            let least = self.least_cut();
            if missing && !cut.dominates(&least) {
                return self.drop_install();
            }
        }
        self.load_next_chunk();
    }

    pub(super) fn load_next_chunk(&mut self) {
        let next = self.install.as_ref().and_then(|install| install.joined);
        if let Some(place) = next {
            self.effect(Effect::Load(RecordKey::Chunk(place)));
        }
    }

    pub(super) fn chunk_loaded(&mut self, now: Now, key: &RecordKey, found: Option<Found>) {
        let Some(install) = &self.install else { return };
        let Some(joined) = install.joined.filter(|joined| *key == RecordKey::Chunk(*joined)) else { return };
        let content = match &found {
            Some(Found::Intact(bytes)) => staged_content(bytes),
            _ => None,
        };
        let Some(content) = content else {
            self.report(Report::StoreCorrupt { records: 1 });
            return self.drop_install();
        };
        let (theirs, replace, staged) = (install.manifest.cut.clone(), install.replace, install.staged);
        let incoming = content.objects.iter().filter_map(|(key, _)| Key::from_bytes(key).ok());
        let mut parts = BTreeMap::new();
        for key in content.keys_in_range(&self.keyspace).into_iter().chain(incoming) {
            let bytes = key.to_bytes();
            self.keep_preimage(&bytes, Located::new(&bytes));
            if key.kind.has_parts() {
                parts.insert(key.clone(), self.stored_parts(&key));
            }
        }
        let Ok(touched) = join_chunk(&mut self.keyspace, &content, &self.applied, &theirs, replace) else {
            self.report(Report::StoreCorrupt { records: 1 });
            return self.drop_install();
        };
        self.population.changes(touched.len());
        for key in &touched {
            self.put_changed(key, parts.remove(key).unwrap_or_default());
            self.row_changed(key);
        }
        self.put(RecordKey::Chunk(joined), None);
        if let Some(install) = &mut self.install {
            install.joined = Some(joined + 1);
            let bytes = install.to_bytes();
            self.put_meta(Meta::Install, bytes);
        }
        if joined + 1 == staged {
            self.finish_install(now);
        }
        self.after_durable(Then::Joined);
    }

    pub(super) fn chunk_joined(&mut self, _now: Now) {
        self.load_next_chunk();
    }

    /// The state holds the snapshot: the vector advances, and the log begins at the cut where it was behind.
    fn finish_install(&mut self, now: Now) {
        let Some(install) = self.install.take() else { return };
        let Manifest { cut, hashes, clock, .. } = install.manifest;
        self.follow_clock(now, clock);
        self.put_clock();
        // Removals up to here are noted batch by batch. A state that is replaced may have lost those notes.
        let noted = if install.replace { self.stable().clone() } else { self.applied.clone() };
        self.note_joined_remains(&cut, &noted);
        if install.replace {
            self.applied = cut.clone();
            self.rebuild = false;
        } else {
            self.applied.join(&cut);
        }
        let mut gone = Vec::new();
        for (replica, seq) in cut.iter() {
            let hash = hashes.iter().find(|(known, _)| *known == replica).map(|(_, hash)| *hash);
            if self.log.head(replica) < seq {
                gone.extend(self.log.stream(replica).map(|stream| (replica, stream.floor(), stream.head())));
                self.log.begin(replica, seq, hash);
            }
        }
        for (replica, floor, head) in gone {
            for seq in floor + 1..=head {
                self.put(RecordKey::Batch(crdt::BatchId { replica, seq }), None);
            }
        }
        self.beyond.retain(|batch, _| batch.seq > cut.seq(batch.replica));
        self.put_applied();
        self.put_floors();
        self.put(RecordKey::Meta(Meta::Install), None);
        self.report(Report::SnapshotInstalled { joined: !install.replace });
        self.links.values_mut().for_each(|link| link.below_floor.clear());
        self.shown_follows();
    }

    pub(super) fn put_floors(&mut self) {
        let mut writer = Writer::new();
        let streams: Vec<_> =
            self.log.streams().map(|(replica, stream)| (replica, stream.floor(), stream.floor_hash())).collect();
        writer.varint(streams.len() as u64);
        for (replica, floor, hash) in streams {
            writer.raw(&replica.to_bytes());
            writer.varint(floor);
            writer.byte(hash.is_some().into());
            writer.raw(&hash.unwrap_or_default());
        }
        self.put_meta(Meta::Floors, writer.into_bytes());
    }

    /// Gives a snapshot up; what was staged is dropped.
    pub(super) fn drop_install(&mut self) {
        let Some(install) = self.install.take() else { return };
        for place in 0..install.staged {
            self.put(RecordKey::Chunk(place), None);
        }
        self.put(RecordKey::Meta(Meta::Install), None);
        self.install_asked = None;
        // A state of which a part was joined is no state of any vector: it is fetched as a whole.
        self.rebuild |= install.joined.is_some_and(|joined| joined > 0);
        self.report(Report::SnapshotInterrupted { peer: install.peer });
        if install.joined == Some(0) && !self.rebuild {
            // What was written last may have been kept from being told.
            self.shown_follows();
        }
    }

    pub(super) fn snapshot_gone(&mut self, from: &str, id: u64, place: u32) {
        let theirs = |install: &Install| {
            let is_next = install.staged == place && !install.complete;
            install.peer == from && install.manifest.id == id && is_next && install.joined.is_none()
        };
        if self.install.as_ref().is_some_and(theirs) {
            self.drop_install();
        }
    }

    /// The donor is out of reach: what is staged is kept for a while.
    ///
    /// SUBTLE: the while begins with the first break after something came. A link that breaks time and again, as one name
    /// on two machines makes it, would otherwise put its end off for ever: nothing is asked for until then, of nobody.
    pub(super) fn install_lost(&mut self, now: Now, peer: &str) {
        let wait_ms = self.setup.intervals.retry_ms * 4;
        if let Some(asked) = &mut self.install_asked
            && asked.peer == peer
            && asked.awaits == Awaits::Answer
        {
            asked.awaits = Awaits::Return;
            asked.deadline_mono_ms = now.mono_ms + wait_ms;
        }
    }

    /// A neighbour is heard for the first time since its link came up. What was asked of it may have been lost with the
    /// link: it is asked again, and the wait for it goes on.
    pub(super) fn install_resumes(&mut self, peer: &str) {
        if self.install_asked.as_ref().is_some_and(|asked| asked.peer == peer && asked.awaits == Awaits::Return) {
            self.send_want(peer);
        }
    }

    pub(super) fn tick_install(&mut self, now: Now) {
        if self.install_asked.as_ref().is_some_and(|asked| asked.deadline_mono_ms > now.mono_ms) {
            return;
        }
        let late = self.install_asked.take();
        match &self.install {
            Some(install) if install.joined.is_none() && !install.complete => {
                let reachable = self.links.get(&install.peer).is_some_and(|link| link.ready);
                if reachable { self.want_chunk(now) } else { self.drop_install() }
            }
            Some(_) => {}
            None => {
                let cut = self.links.values().flat_map(|link| link.below_floor.keys());
                let is_behind =
                    cut.copied().collect::<BTreeSet<_>>().into_iter().any(|stream| self.is_cut_everywhere(stream));
                if !self.rebuild && !is_behind {
                    return;
                }
                let last = late.map(|asked| asked.peer);
                match self.next_donor(last.as_deref()) {
                    Some(peer) => self.ask_snapshot(now, &peer),
                    None => self.asked(now, ""),
                }
            }
        }
    }

    /// Donors in turn, so that one that cannot serve does not hold us up.
    fn next_donor(&self, last: Option<&str>) -> Option<String> {
        let ready: BTreeSet<&String> = self.links.iter().filter(|(_, link)| link.ready).map(|(peer, _)| peer).collect();
        let after = ready.iter().find(|peer| last.is_none_or(|last| peer.as_str() > last));
        after.or_else(|| ready.first()).map(|peer| (*peer).clone())
    }

    pub(super) fn install_timer(&self) -> Option<u64> {
        self.install_asked.as_ref().map(|asked| asked.deadline_mono_ms)
    }
}

fn staged_content(bytes: &[u8]) -> Option<ChunkContent> {
    let (hash, content) = bytes.split_at_checked(16)?;
    if content_hash(content) != hash {
        return None;
    }
    ChunkContent::from_bytes(content).ok()
}
