//! Receiving: every message is checked, every batch is verified and logged, nothing is applied here.

use crdt::change::Envelope;
use crdt::error::DecodeError;
use crdt::{BatchHeader, BatchId, ReplicaId};

use super::{Hold, Node, Then};
use crate::effect::{Effect, Report};
use crate::epoch::{Epoch, SignedEpoch};
use crate::message::{Hello, Message};
use crate::record::RecordKey;
use crate::time::Now;

/// What became of a batch that came.
enum Taken {
    /// It was not here, and there was room for it.
    New(BatchId),
    /// It was here already.
    Again,
    /// It is not genuine, not wanted, or there was no room for it.
    Refused,
}

impl Node {
    pub(super) fn receive_message(&mut self, now: Now, from: &str, bytes: &[u8]) {
        let message = match Message::from_bytes(bytes) {
            Ok(message) => message,
            Err(DecodeError::Version { found, .. }) => {
                let theirs = (found.into(), found.into());
                return self.report(Report::VersionSkew { peer: from.to_owned(), theirs });
            }
            Err(_) => return self.report(Report::Malformed { from: from.to_owned() }),
        };
        match message {
            Message::Hello(hello) => return self.greet(now, from, hello),
            Message::WantEpochs(number) => return self.give_epochs(from, number),
            Message::Epochs(epochs) => return epochs.into_iter().for_each(|epoch| self.take_epoch(epoch)),
            Message::Refused(known) => return self.was_refused(now, from, known),
            _ => {}
        }
        // Anything else only from a member whose hello fitted.
        let ready = self.links.get(from).is_some_and(|link| link.ready);
        if !ready || !self.epoch.members.contains_key(from) {
            return;
        }
        match message {
            Message::Digest(digest) => self.take_digest(now, from, digest),
            Message::WantDigest => self.send_digest(now, from),
            Message::Pull(pull) => self.give_batches(now, from, &pull),
            Message::Batches(batches) => self.take_batches(now, from, batches),
            Message::BelowFloor(replica, floor) => self.learn_floor(now, from, replica, floor),
            Message::WantSnapshot(at_least) => drop(self.wanted_snapshots.insert(from.to_owned(), at_least)),
            Message::Manifest(manifest) => self.take_manifest(now, from, manifest),
            Message::WantChunk(id, place) => self.give_chunk(now, from, id, place),
            Message::Chunk(chunk) => self.take_chunk(now, from, chunk),
            Message::SnapshotGone(id, place) => self.snapshot_gone(from, id, place),
            Message::WantAudit(vector) => self.give_audit(from, &vector),
            Message::Audit(vector, shards) => self.take_audit(from, &vector, &shards),
            Message::Hello(_) | Message::WantEpochs(_) | Message::Epochs(_) | Message::Refused(_) => {}
        }
    }

    /// First words: only who fits gets any further.
    fn greet(&mut self, now: Now, from: &str, hello: Hello) {
        if hello.cluster != self.setup.cluster {
            return self.report(Report::WrongCluster { peer: from.to_owned() });
        }
        let (least, greatest) = self.setup.versions;
        let floor = self.epoch.version_min;
        if hello.versions.0 > greatest || hello.versions.1 < least || hello.versions.1 < floor {
            return self.report(Report::VersionSkew { peer: from.to_owned(), theirs: hello.versions });
        }
        let known = self.matrix.row(from).map(|row| row.replicas.clone()).unwrap_or_default();
        let superseded = known.iter().any(|replica| !hello.replicas.contains(replica));
        if superseded || from == self.setup.node {
            if self.refused.insert(from.to_owned()) {
                self.report(Report::NodeIdCollision { node: from.to_owned() });
            }
            return self.send(from, &Message::Refused(known));
        }
        self.refused.remove(from);
        // Its store may have gone back unnoticed: what waits beyond a gap would follow batches that it writes anew. That
        // they were written is kept, for it to be told.
        let ahead = self.beyond.keys().filter(|batch| hello.replicas.last() == Some(&batch.replica)).max().copied();
        if ahead.is_some_and(|batch| self.matrix.saw_written(from, batch)) {
            self.put_row(from);
        }
        self.beyond.retain(|batch, _| !hello.replicas.contains(&batch.replica));
        let link = self.links.entry(from.to_owned()).or_default();
        link.up = true;
        link.ready = true;
        link.digest_at_mono_ms = now.mono_ms;
        if !hello.heard && now.mono_ms >= link.hello_at_mono_ms {
            // The peer may have heard nothing of us: its link came up later than ours, or our hello was lost.
            self.send_hello(now, from);
        }
        self.send_digest(now, from);
    }

    /// A peer knows replica ids of this node that it does not know itself. A node that was restored, perhaps twice from
    /// one backup, has forgotten them and takes them over; any other one is not the node whose name it has.
    fn was_refused(&mut self, now: Now, from: &str, known: Vec<ReplicaId>) {
        let lived_before = self.replicas.first().is_some_and(|first| known.first() == Some(first));
        if self.is_restored && lived_before {
            let forgotten: Vec<ReplicaId> =
                known.into_iter().filter(|replica| !self.replicas.contains(replica)).collect();
            let current = self.replicas.len() - 1;
            self.replicas.splice(current..current, forgotten);
            self.put_identity();
            self.history_is_lost(now);
            return self.send_hello(now, from);
        }
        if self.refused.insert(self.setup.node.clone()) {
            self.report(Report::NodeIdCollision { node: self.setup.node.clone() });
        }
    }

    /// An epoch record: the chain grows by one, or a second record with a known number lets the stable cut stand still
    /// while this process runs.
    pub(super) fn take_epoch(&mut self, signed: SignedEpoch) {
        if !self.signer.verify_epoch(&signed.bytes, &signed.signature) {
            return self.report(Report::MacMismatch { from: "epoch".to_owned() });
        }
        let Ok(epoch) = Epoch::from_bytes(&signed.bytes) else {
            return self.report(Report::Malformed { from: "epoch".to_owned() });
        };
        if let Some(known) = self.epochs.get(&epoch.number) {
            if known.bytes != signed.bytes && !self.epoch_forked {
                self.epoch_forked = true;
                self.report(Report::EpochFork { number: epoch.number });
            }
            return;
        }
        let value = epoch_record(&signed);
        self.put(RecordKey::Epoch(epoch.number), Some(value));
        self.epochs.insert(epoch.number, signed);
        if epoch.number > self.epoch.number {
            self.epoch = epoch;
            self.repairs_are_due();
            let strangers = self.links.iter_mut().filter(|(peer, _)| !self.epoch.members.contains_key(*peer));
            strangers.for_each(|(_, link)| link.ready = false);
        }
    }

    pub(super) fn give_epochs(&mut self, to: &str, from: u64) {
        let epochs: Vec<SignedEpoch> = self.epochs.range(from..).map(|(_, epoch)| epoch.clone()).collect();
        if !epochs.is_empty() {
            self.send(to, &Message::Epochs(epochs));
        }
    }

    fn take_batches(&mut self, now: Now, from: &str, batches: Vec<Vec<u8>>) {
        self.overflows &= !self.has_room();
        let (mut new_bytes, mut again_bytes, mut asked_bytes) = (0, 0, 0);
        for batch in batches {
            let bytes = batch.len();
            match self.take_batch(now, from, batch) {
                Taken::New(id) => {
                    new_bytes += bytes;
                    if self.is_asked_of(from, id) {
                        asked_bytes += bytes;
                    }
                }
                Taken::Again => again_bytes += bytes,
                Taken::Refused => {}
            }
        }
        if let Some(link) = self.links.get_mut(from)
            && new_bytes + again_bytes > 0
        {
            link.traffic.useful(now.mono_ms, new_bytes);
            link.traffic.wasted(now.mono_ms, again_bytes as u64);
        }
        self.pulled(now, from, asked_bytes);
    }

    /// Verifies a batch and logs it, or keeps it until what is missing before it has come.
    fn take_batch(&mut self, now: Now, from: &str, bytes: Vec<u8>) -> Taken {
        let Ok(envelope) = Envelope::parse(&bytes) else {
            self.report(Report::Malformed { from: from.to_owned() });
            return Taken::Refused;
        };
        if !self.signer.verify(envelope.key_id, envelope.signed, &envelope.mac) {
            self.report(Report::MacMismatch { from: from.to_owned() });
            return Taken::Refused;
        }
        let id = envelope.header.id;
        let stopped = self.held.get(&id.replica).is_some_and(|(_, hold)| *hold == Hold::Forked);
        if stopped || self.epoch.seals.get(&id.replica).is_some_and(|seal| id.seq > *seal) {
            return Taken::Refused;
        }
        let head = self.log.head(id.replica);
        if self.replicas.contains(&id.replica) && id.seq > head {
            self.forgot(now, id.replica);
        }
        if id.seq <= head {
            self.compare(from, id, &bytes);
            return Taken::Again;
        }
        if id.seq > head + 1 {
            return self.keep_beyond(id, bytes);
        }
        let applies = self.continues_next_group(&envelope.header);
        if !applies && self.log_is_full(bytes.len()) {
            // It can be pulled again, when what is here is applied and cut.
            self.cut_log();
            self.overflowed();
            return Taken::Refused;
        }
        self.log_batch(now, from, bytes);
        while let Some(next) = self.beyond.remove(&BatchId { seq: self.log.head(id.replica) + 1, ..id }) {
            self.log_batch(now, from, next);
        }
        Taken::New(id)
    }

    /// True for a batch of the group that is applied next: all that is here may be waiting for it.
    fn continues_next_group(&self, header: &BatchHeader) -> bool {
        let BatchId { replica, seq } = header.id;
        let mut context = header.context.iter();
        let covered = context.all(|(other, seq)| other == replica || self.applied.seq(other) >= seq);
        let mut before = self.applied.seq(replica) + 1..seq;
        covered && before.all(|seq| self.log.get(BatchId { replica, seq }).is_some_and(|logged| logged.header.more))
    }

    pub(super) fn log_is_full(&self, bytes: usize) -> bool {
        self.log.bytes() + bytes > self.setup.limits.log_bytes_max.saturating_mul(2)
    }

    fn log_batch(&mut self, now: Now, from: &str, bytes: Vec<u8>) {
        let Ok(envelope) = Envelope::parse(&bytes) else { return };
        let (header, id) = (envelope.header.clone(), envelope.header.id);
        let decodes = envelope.knows_all().is_ok();
        self.log.append(header, bytes, now.mono_ms);
        self.put_logged(id);
        self.after_durable(Then::Received { batch: id, from: from.to_owned() });
        if !decodes {
            // A member made it and its MAC fits, so it is kept and forwarded; its stream waits for a person.
            self.hold(id, Hold::Quarantined);
            self.report(Report::Quarantined { batch: id });
        }
    }

    /// The same dot again: with the same bytes it is a duplicate, with others a fork.
    fn compare(&mut self, from: &str, batch: BatchId, bytes: &[u8]) {
        let differs = self.log.get(batch).is_some_and(|logged| logged.bytes != bytes);
        if differs {
            self.forked(from, batch);
        }
    }

    pub(super) fn forked(&mut self, from: &str, batch: BatchId) {
        if self.held.get(&batch.replica).is_some_and(|(_, hold)| *hold == Hold::Forked) {
            return;
        }
        self.hold(batch, Hold::Forked);
        self.report(Report::IdempotencyViolation { batch, from: from.to_owned() });
    }

    fn keep_beyond(&mut self, batch: BatchId, bytes: Vec<u8>) -> Taken {
        if self.beyond.contains_key(&batch) {
            return Taken::Again;
        }
        if self.beyond.len() >= self.setup.limits.beyond_gap_batches_max {
            // The one furthest away helps least: everything before it has to come first.
            if self.beyond.last_key_value().is_some_and(|(last, _)| *last > batch) {
                self.beyond.pop_last();
            } else {
                self.overflowed();
                return Taken::Refused;
            }
            self.overflowed();
        }
        self.beyond.insert(batch, bytes);
        Taken::New(batch)
    }

    /// A batch was dropped for want of room: told once, until there is room again.
    fn overflowed(&mut self) {
        if !core::mem::replace(&mut self.overflows, true) {
            self.report(Report::BufferFull);
        }
    }

    /// True when log and buffer are half empty: a single place that becomes free is no end of an episode.
    fn has_room(&self) -> bool {
        let limits = &self.setup.limits;
        self.beyond.len() <= limits.beyond_gap_batches_max / 2 && self.log.bytes() <= limits.log_bytes_max
    }

    pub(super) fn send(&mut self, to: &str, message: &Message) {
        self.effect(Effect::Send { to: to.to_owned(), bytes: message.to_bytes() });
    }
}

/// An epoch record as it is stored: the signature's length, the signature, the record.
pub(super) fn epoch_record(signed: &SignedEpoch) -> Vec<u8> {
    let mut writer = crdt::pack::Writer::new();
    writer.bytes(&signed.signature);
    writer.bytes(&signed.bytes);
    writer.into_bytes()
}
