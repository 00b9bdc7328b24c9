//! Snapshots from others: asking, staging, joining. Giving them is in `give.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crdt::mutant::{Mutant, active};
use crdt::pack::Writer;
use crdt::{Key, Located, ReplicaId, VersionVector};

use super::{Node, Then};
use crate::effect::{Effect, Installed, Report};
use crate::message::{Chunk, Manifest, Message};
use crate::record::{Found, Meta, RecordKey};
use crate::snapshot::{CHUNKS_AHEAD, ChunkContent, Incoming, Install, content_hash, join_chunk};
use crate::time::Now;

/// A snapshot or chunks were asked for and have not come yet.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    peer: String,
    deadline_mono_ms: u64,
    awaits: Awaits,
    /// The place behind the last chunk that was asked for.
    until: u32,
    /// Chunks that came before their turn.
    early: BTreeMap<u32, Chunk>,
}

/// What must happen for a snapshot to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaits {
    /// The donor answers.
    Answer,
    /// What came becomes durable: only then are more chunks asked for.
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

    /// Asks for what comes next: a snapshot, or chunks of the one that is being taken.
    fn send_want(&mut self, peer: &str) {
        let message = match &self.install {
            Some(_) => return self.ask_ahead(peer),
            None if self.rebuild => Message::WantSnapshot(self.least_cut()),
            None => Message::WantSnapshot(VersionVector::new()),
        };
        self.send(peer, &message);
    }

    /// Asks for the chunks that were not asked for yet, as far ahead of what is durable as the donor keeps them.
    fn ask_ahead(&mut self, peer: &str) {
        let (Some(install), Some(asked)) = (&self.install, &mut self.install_asked) else { return };
        if install.complete {
            return;
        }
        let (id, until) = (install.manifest.id, install.durable + CHUNKS_AHEAD);
        let places = asked.until.max(install.staged)..until;
        let places: Vec<u32> = places.filter(|place| !asked.early.contains_key(place)).collect();
        asked.until = asked.until.max(until);
        for place in places {
            self.send(peer, &Message::WantChunk(id, place));
        }
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
        let peer = peer.to_owned();
        self.install_asked =
            Some(Asked { peer, deadline_mono_ms, awaits: Awaits::Answer, until: 0, early: BTreeMap::new() });
    }

    /// After a restart in the middle of a snapshot its donor is waited for, as after a broken link.
    pub(super) fn install_reopened(&mut self, now: Now) {
        if let Some(install) = &self.install {
            let peer = install.peer.clone();
            self.asked(now, &peer);
            self.install_lost(now, &peer);
        }
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
        let joined = (!self.rebuild && self.is_blank()).then_some(0);
        let (peer, staged, durable, complete) = (from.to_owned(), 0, 0, false);
        let install = Install { peer, manifest, staged, durable, complete, joined, replace };
        self.put_meta(Meta::Install, install.to_bytes());
        self.install = Some(install);
        self.asked(now, from);
        self.ask_ahead(from);
    }

    /// True for a node that holds nothing and has written nothing. It joins chunks as they come: there is no state that
    /// half a snapshot could harm.
    fn is_blank(&self) -> bool {
        self.applied.is_empty() && self.log.head(self.replica()) == 0 && self.keyspace.is_empty()
    }

    pub(super) fn take_chunk(&mut self, now: Now, from: &str, chunk: Chunk) {
        let (Some(install), Some(asked)) = (&self.install, &mut self.install_asked) else { return };
        let awaited = install.staged..install.durable + CHUNKS_AHEAD;
        let is_awaited = install.peer == from && install.manifest.id == chunk.id && awaited.contains(&chunk.place);
        if !is_awaited || install.complete {
            return;
        }
        asked.early.insert(chunk.place, chunk);
        while let Some(install) = &self.install
            && let Some(asked) = &mut self.install_asked
            && let Some(chunk) = asked.early.remove(&install.staged)
        {
            asked.deadline_mono_ms = now.mono_ms + self.setup.intervals.retry_ms;
            let is_last_asked = chunk.last || chunk.place + 1 >= asked.until;
            asked.awaits = if is_last_asked { Awaits::Disk } else { Awaits::Answer };
            if !self.take_next_chunk(now, from, &chunk) {
                return;
            }
        }
    }

    /// Stages the chunk whose turn it is, or joins it at once. False when it is of no use.
    fn take_next_chunk(&mut self, now: Now, from: &str, chunk: &Chunk) -> bool {
        let Some(install) = &mut self.install else { return false };
        if content_hash(&chunk.content) != chunk.hash {
            self.report(Report::Malformed { from: from.to_owned() });
            return false;
        }
        // Read to the end here: what does not read once it is staged counts as damage of our own disk.
        let content = ChunkContent::from_bytes(&chunk.content);
        let incoming = content.as_ref().ok().map(|content| content.read_objects(&install.manifest.cut));
        let Some(Ok(incoming)) = incoming else {
            // The donor made it so, and would make it so again.
            self.report(Report::Malformed { from: from.to_owned() });
            self.drop_install();
            return false;
        };
        install.staged += 1;
        let place = install.staged;
        if let Some(joined) = &mut install.joined {
            *joined = place;
            let bytes = install.to_bytes();
            self.put_meta(Meta::Install, bytes);
            self.enter_objects(incoming);
            if chunk.last {
                self.finish_install(now);
            }
        } else {
            install.complete = chunk.last;
            let bytes = install.to_bytes();
            self.put(RecordKey::Chunk(chunk.place), Some([&chunk.hash[..], &chunk.content].concat()));
            self.put_meta(Meta::Install, bytes);
        }
        self.carried(now, from, chunk.content.len());
        self.after_durable(Then::Staged { id: chunk.id, chunks: place });
        true
    }

    /// Puts objects into a state that holds none of their keys.
    fn enter_objects(&mut self, incoming: Vec<Incoming<'_>>) {
        self.population.changes(incoming.len());
        for object in incoming {
            match object {
                Incoming::Cell(key, dot, cell) => {
                    let place = Located::new(key);
                    self.keyspace.write_cell(key, place, dot, &cell);
                    self.put_object(key.to_vec(), place);
                }
                Incoming::Object(key, object) => {
                    self.keyspace.load(&key, object);
                    self.put_changed(&key, Vec::new());
                    self.row_changed(&key);
                }
            }
        }
    }

    /// Chunks are durable: on with the next ones, or with joining.
    pub(super) fn chunk_staged(&mut self, now: Now, id: u64, chunks: u32) {
        let Some(install) = self.install.as_mut().filter(|install| install.manifest.id == id) else { return };
        install.durable = install.durable.max(chunks);
        if install.complete {
            if install.durable == install.staged {
                self.install_asked = None;
                self.begin_joining();
            }
            return;
        }
        let (peer, retry_ms) = (install.peer.clone(), self.setup.intervals.retry_ms);
        let Some(asked) = &mut self.install_asked else { return };
        if asked.awaits == Awaits::Disk {
            (asked.awaits, asked.deadline_mono_ms) = (Awaits::Answer, now.mono_ms + retry_ms);
        }
        if self.links.get(&peer).is_some_and(|link| link.ready) {
            self.ask_ahead(&peer);
        } else {
            // The link broke while these were being written down.
            self.install_lost(now, &peer);
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
        self.install_asked = None;
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
        let how = match (install.replace, install.complete) {
            (true, _) => Installed::Replaced,
            (false, true) => Installed::Joined,
            (false, false) => Installed::AsItCame,
        };
        self.report(Report::SnapshotInstalled { how });
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
        for place in install.joined.unwrap_or(0)..install.staged {
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
            install.peer == from && install.manifest.id == id && is_next
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
        if let Some(asked) = &mut self.install_asked
            && asked.peer == peer
            && asked.awaits == Awaits::Return
        {
            asked.until = 0;
            self.send_want(peer);
        }
    }

    pub(super) fn tick_install(&mut self, now: Now) {
        if self.install_asked.as_ref().is_some_and(|asked| asked.deadline_mono_ms > now.mono_ms) {
            return;
        }
        let late = self.install_asked.take();
        match &self.install {
            Some(install) if !install.complete => {
                let peer = install.peer.clone();
                if self.links.get(&peer).is_some_and(|link| link.ready) {
                    self.asked(now, &peer);
                    self.ask_ahead(&peer);
                } else {
                    self.drop_install();
                }
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

fn staged_content(bytes: &[u8]) -> Option<ChunkContent<'_>> {
    let (hash, content) = bytes.split_at_checked(16)?;
    if content_hash(content) != hash {
        return None;
    }
    ChunkContent::from_bytes(content).ok()
}
