//! Links: first words, digests, pushes and pulls, and the audit of equal states.
//!
//! A digest names exactly what its sender has, so a pull names exactly what is missing. Own batches are
//! pushed to every neighbour at once; everything else is pulled when a digest shows it, which is how relays,
//! losses and long cuts heal.

use std::collections::BTreeMap;

use crdt::keyspace::SHARDS;
use crdt::mutant::{Mutant, active};
use crdt::{BatchId, Fingerprint, Key, Keyspace, Kind, ReplicaId, VersionVector};

use super::{Link, Node};
use crate::effect::{MintReason, Report};
use crate::log::{ChainHash, UNKNOWN_HASH};
use crate::matrix::MatrixRow;
use crate::message::{Digest, Hello, Message, Pull};
use crate::record::RecordKey;
use crate::time::Now;
use crate::topology::Source;

/// What was asked of a neighbour and has not come yet.
#[derive(Clone, Debug)]
pub(crate) struct Pulling {
    until: BTreeMap<ReplicaId, u64>,
    credit_bytes: usize,
    /// Bytes of what came, was new and was asked for.
    bytes: usize,
    deadline_mono_ms: u64,
}

impl Pulling {
    /// The neighbour cannot give this stream.
    pub(super) fn forget(&mut self, replica: ReplicaId) {
        self.until.remove(&replica);
    }
}

impl Node {
    pub(super) fn link_changed(&mut self, now: Now, peer: &str, up: bool) {
        let intervals = &self.setup.intervals;
        let (digest_interval_ms, digest_at_mono_ms) = (intervals.digest_ms, now.mono_ms + intervals.retry_ms);
        let link = self.links.entry(peer.to_owned()).or_default();
        *link = Link { up, digest_interval_ms, digest_at_mono_ms, ..Link::default() };
        if up {
            self.send_hello(now, peer);
        } else {
            self.install_lost(now, peer);
        }
    }

    pub(super) fn send_hello(&mut self, now: Now, peer: &str) {
        let mut heard = false;
        if let Some(link) = self.links.get_mut(peer) {
            link.hello_at_mono_ms = now.mono_ms + self.setup.intervals.retry_ms / 2;
            heard = link.ready;
        }
        let (cluster, versions) = (self.setup.cluster, self.setup.versions);
        self.send(peer, &Message::Hello(Hello { cluster, replicas: self.replicas.clone(), versions, heard }));
    }

    pub(super) fn own_row(&self) -> MatrixRow {
        MatrixRow {
            epoch: self.epoch.number,
            replicas: self.replicas.clone(),
            shown: self.shown.clone(),
            received: self.log.streams().map(|(replica, _)| (replica, self.offered(replica))).collect(),
        }
    }

    pub(super) fn send_digest(&mut self, now: Now, peer: &str) {
        let heads = self.log.streams().map(|(replica, stream)| {
            let seq = self.offered(replica);
            (replica, seq, stream.hash_at(seq).unwrap_or(UNKNOWN_HASH))
        });
        let settled = self.is_settled().then(|| (self.applied.clone(), self.keyspace.fingerprint()));
        let (heads, heard) = (heads.collect(), self.heard_of(peer));
        let digest = Digest { row: self.own_row(), heads, settled, heard, times: self.times_for(peer, now) };
        let Some(link) = self.links.get_mut(peer) else { return };
        // Nothing new since the last digest: the next may wait longer, and soon comes when there is.
        let told = Some((digest.row.shown.clone(), digest.row.received.clone()));
        let is_quiet = link.told == told;
        link.told = told;
        self.plan_digest(now, peer, is_quiet);
        self.send(peer, &Message::Digest(digest));
    }

    /// What this node knows a peer to have written under its replica id in use, where its log has less of it.
    fn heard_of(&self, peer: &str) -> Option<BatchId> {
        let row = self.matrix.row(peer)?;
        let replica = *row.replicas.last()?;
        let seq = row.received.seq(replica).max(self.log.head(replica));
        (seq > self.offered(replica)).then_some(BatchId { replica, seq })
    }

    pub(super) fn tick_links(&mut self, now: Now) {
        let due = self.links.iter().filter(|(_, link)| link.up && link.digest_at_mono_ms <= now.mono_ms);
        let due: Vec<(String, bool)> = due.map(|(peer, link)| (peer.clone(), link.ready)).collect();
        for (peer, ready) in due {
            if ready {
                self.send_digest(now, &peer);
            } else {
                // A hello may have been lost.
                self.send_hello(now, &peer);
                if let Some(link) = self.links.get_mut(&peer) {
                    link.digest_at_mono_ms = now.mono_ms + self.setup.intervals.retry_ms;
                }
            }
        }
        for link in self.links.values_mut() {
            if link.pull.as_ref().is_some_and(|pull| pull.deadline_mono_ms <= now.mono_ms) {
                link.pull = None;
            }
        }
    }

    pub(super) fn link_timer(&self) -> Option<u64> {
        let links = self.links.values().filter(|link| link.up);
        let timers = links.flat_map(|link| {
            let pull = link.pull.as_ref().map(|pull| pull.deadline_mono_ms);
            [Some(link.digest_at_mono_ms), pull]
        });
        timers.flatten().min()
    }

    pub(super) fn take_digest(&mut self, now: Now, from: &str, digest: Digest) {
        let Digest { row, heads, settled, heard, times } = digest;
        self.hear_times(now, from, times);
        if row.epoch > self.epoch.number {
            self.send(from, &Message::WantEpochs(self.epoch.number + 1));
        } else if row.epoch < self.epoch.number {
            // It may not even know us yet, and could not ask.
            self.give_epochs(from, row.epoch + 1);
        }
        for (replica, seq, hash) in &heads {
            if *hash != UNKNOWN_HASH {
                self.compare_hash(from, BatchId { replica: *replica, seq: *seq }, *hash);
            }
            if self.replicas.contains(replica) && *seq > self.log.head(*replica) {
                self.forgot(now, *replica);
            }
        }
        // What a peer only heard of is lost with our store, unless it comes from somewhere: but its dots are used.
        if let Some(batch) = heard
            && batch.replica == self.replica()
            && batch.seq > self.log.head(batch.replica)
        {
            self.forgot(now, batch.replica);
        }
        if let Some(link) = self.links.get_mut(from) {
            link.digests_heard += 1;
            link.settled.clone_from(&settled);
            link.heads = heads.iter().map(|(replica, seq, _)| (*replica, *seq)).collect();
            for (replica, seq) in row.received.iter() {
                let sent = link.sent.entry(replica).or_insert(0);
                *sent = (*sent).max(seq);
            }
        }
        self.end_known_holds(now, &row.received);
        self.end_donor(from, &row.received);
        if self.matrix.learn(from, row) {
            self.put_row(from);
        }
        if self.links.get(from).is_some_and(|link| link.digests_heard == 1) {
            // Who sends a digest has taken our hello: from now on it listens.
            self.install_resumes(from);
        }
        if let Some((applied, fingerprint)) = settled
            && applied == self.applied
            && self.is_settled()
            && fingerprint != self.keyspace.fingerprint()
        {
            self.send(from, &Message::WantAudit(applied));
        }
    }

    /// Writes down what a member is known to have.
    pub(super) fn put_row(&mut self, member: &str) {
        let Some(row) = self.matrix.row(member) else { return };
        let mut writer = crdt::pack::Writer::new();
        crate::message::write_row(&mut writer, row);
        self.put(RecordKey::Row(member.to_owned()), Some(writer.into_bytes()));
    }

    /// Same dot, same hash: or somebody wrote two batches under one dot. Where damage made ours unknown, the peer's is
    /// taken over.
    fn compare_hash(&mut self, from: &str, batch: BatchId, hash: ChainHash) {
        if self.log.learn_hash(batch.replica, batch.seq, hash) {
            return self.put_hashes(batch.replica, batch.seq);
        }
        let ours = self.log.stream(batch.replica).and_then(|stream| stream.hash_at(batch.seq));
        if ours.is_some_and(|ours| ours != hash) {
            self.forked(from, batch);
        }
    }

    /// Writes down the hashes of a stream from `seq` on.
    fn put_hashes(&mut self, replica: ReplicaId, seq: u64) {
        let Some(stream) = self.log.stream(replica) else { return };
        for seq in seq..=stream.head() {
            self.put_logged(BatchId { replica, seq });
        }
        self.put_floors();
    }

    /// A peer has batches of ours that our log does not have, or knows that they were written.
    pub(super) fn forgot(&mut self, now: Now, replica: ReplicaId) {
        if replica == self.replica() && !active(Mutant::SequenceReused) {
            self.mint(MintReason::PeerKnowsMore);
            self.begin_timeline(now);
        }
        self.history_is_lost(now);
    }

    /// Pushes batches of one source, in order, to those neighbours that the topology chooses and that have the one
    /// before; as many in one message as fit.
    pub(super) fn push(&mut self, now: Now, batches: &[BatchId], source: Source<'_>) {
        // What is held stays here.
        let batches = batches.iter().copied().filter(|batch| batch.seq <= self.offered(batch.replica));
        let batches: Vec<BatchId> = batches.collect();
        if batches.is_empty() {
            return;
        }
        let ready = self.links.iter().filter(|(_, link)| link.ready).map(|(peer, _)| peer.clone());
        let chosen = self.topology.targets(source, ready.collect());
        let message_bytes_max = self.setup.limits.message_bytes_max;
        for peer in chosen {
            let (mut message, mut message_bytes) = (Vec::new(), 0);
            for batch in &batches {
                let Some(bytes) = self.log.get(*batch).map(|logged| logged.bytes.clone()) else { continue };
                let Some(link) = self.links.get_mut(&peer) else { continue };
                let sent = link.sent.entry(batch.replica).or_insert(0);
                if *sent + 1 != batch.seq {
                    continue;
                }
                *sent = batch.seq;
                link.traffic.useful(now.mono_ms, bytes.len());
                if message_bytes + bytes.len() > message_bytes_max && !message.is_empty() {
                    self.send(&peer, &Message::Batches(core::mem::take(&mut message)));
                    message_bytes = 0;
                }
                message_bytes += bytes.len();
                message.push(bytes);
            }
            if !message.is_empty() {
                self.send(&peer, &Message::Batches(message));
            }
        }
    }

    /// Asks for everything that neighbours have and we lack, each stream of one neighbour only.
    pub(super) fn plan_pulls(&mut self, now: Now) {
        let mut asked: BTreeMap<ReplicaId, ()> = BTreeMap::new();
        for link in self.links.values() {
            asked.extend(link.pull.iter().flat_map(|pull| pull.until.keys().map(|replica| (*replica, ()))));
        }
        // While the log is full only what can be applied at once is taken: ask for little.
        let limits = &self.setup.limits;
        let credit_bytes =
            if self.log_is_full(0) { limits.message_bytes_max / 16 } else { limits.pull_bytes_max } as u64;
        let peers: Vec<String> = self.links.keys().cloned().collect();
        for peer in peers {
            let Some(link) = self.links.get(&peer).filter(|link| link.ready && link.pull.is_none()) else { continue };
            let mut pull = Pull { ranges: Vec::new(), credit_bytes };
            for (replica, head) in &link.heads {
                let own = self.log.head(*replica);
                let cut = link.below_floor.get(replica).is_some_and(|floor| own < *floor);
                let stopped = self.held.get(replica).is_some_and(|(_, hold)| *hold == super::Hold::Forked);
                let seal = self.epoch.seals.get(replica).copied().unwrap_or(u64::MAX);
                let until = (*head).min(seal);
                if until > own && !cut && !stopped && asked.insert(*replica, ()).is_none() {
                    pull.ranges.push((*replica, own, until));
                }
            }
            if pull.ranges.is_empty() {
                continue;
            }
            let until = pull.ranges.iter().map(|(replica, _, until)| (*replica, *until)).collect();
            let deadline_mono_ms = now.mono_ms + self.setup.intervals.retry_ms;
            if let Some(link) = self.links.get_mut(&peer) {
                link.pull = Some(Pulling { until, credit_bytes: credit_bytes as usize, bytes: 0, deadline_mono_ms });
            }
            self.send(&peer, &Message::Pull(pull));
        }
    }

    /// True for a batch that the pull under way asks this neighbour for.
    pub(super) fn is_asked_of(&self, from: &str, batch: BatchId) -> bool {
        let pull = self.links.get(from).and_then(|link| link.pull.as_ref());
        pull.and_then(|pull| pull.until.get(&batch.replica)).is_some_and(|until| batch.seq <= *until)
    }

    /// Batches came, so many bytes of them new and asked for: the pull goes on, is done, or has used its credit and is
    /// made anew.
    ///
    /// SUBTLE: what is not new does not count. It is a copy, or the answer to an earlier pull, or there was no room for
    /// it; a pull that ended by it would be made anew while its own answer is still on its way, which would end the next
    /// one: the answers under way would double with each that the network doubles, and go round as fast as it can.
    ///
    /// Nor does what is pushed meanwhile and was not asked for: an author that writes more often than every retry interval
    /// would put off its deadline for ever, and what was lost with its answer would never be asked for again.
    pub(super) fn pulled(&mut self, now: Now, from: &str, bytes: usize) {
        let Some(link) = self.links.get_mut(from) else { return };
        let Some(pull) = &mut link.pull else { return };
        if bytes > 0 {
            pull.bytes += bytes;
            pull.deadline_mono_ms = now.mono_ms + self.setup.intervals.retry_ms;
        }
        pull.until.retain(|replica, until| self.log.head(*replica) < *until);
        if pull.until.is_empty() || pull.bytes >= pull.credit_bytes {
            link.pull = None;
        }
    }

    pub(super) fn give_batches(&mut self, now: Now, to: &str, pull: &Pull) {
        let credit_bytes = (pull.credit_bytes as usize).min(self.setup.limits.pull_bytes_max);
        let message_bytes_max = self.setup.limits.message_bytes_max;
        let (mut given, mut message_bytes, mut batches) = (0, 0, Vec::new());
        for (replica, after, until) in &pull.ranges {
            let Some(stream) = self.log.stream(*replica) else { continue };
            let (floor, offered) = (stream.floor(), self.offered(*replica));
            if *after < floor {
                self.send(to, &Message::BelowFloor(*replica, floor));
                continue;
            }
            for seq in after + 1..=(*until).min(offered) {
                let Some(bytes) = self.log.get(BatchId { replica: *replica, seq }).map(|logged| logged.bytes.clone())
                else {
                    break;
                };
                if given >= credit_bytes {
                    break;
                }
                let bytes = if active(Mutant::RelayReencodes) { self.reencoded(bytes) } else { bytes };
                given += bytes.len();
                message_bytes += bytes.len();
                batches.push(bytes);
                if let Some(link) = self.links.get_mut(to) {
                    link.sent.insert(*replica, seq);
                    link.traffic.useful(now.mono_ms, batches.last().map_or(0, Vec::len));
                }
                if message_bytes >= message_bytes_max {
                    self.send(to, &Message::Batches(core::mem::take(&mut batches)));
                    message_bytes = 0;
                }
            }
        }
        if !batches.is_empty() {
            self.send(to, &Message::Batches(batches));
        }
    }

    /// The mutant's relay: it takes a batch apart and puts it together in its own way.
    fn reencoded(&self, bytes: Vec<u8>) -> Vec<u8> {
        let parsed = crdt::Envelope::parse(&bytes).and_then(|envelope| envelope.to_batch());
        let Ok(mut batch) = parsed else { return bytes };
        let own = self.replica();
        if batch.header.id.replica != own {
            batch.header.context.advance(own, self.log.head(own));
        }
        let signed = batch.to_signed_bytes(self.signer.key_id());
        let mac = self.signer.sign(&signed);
        crdt::change::seal(signed, mac)
    }

    /// True when everything that the reachable members have told is part of the state.
    pub(crate) fn is_caught_up(&self) -> bool {
        let mut links = self.links.values().filter(|link| link.up).peekable();
        let has = |link: &Link| link.heads.iter().all(|(replica, head)| self.applied.seq(*replica) >= *head);
        links.peek().is_some() && links.all(|link| link.digests_heard > 0 && has(link))
    }

    /// True when there are other members and none of them can be heard.
    pub(crate) fn hears_nobody(&self) -> bool {
        self.epoch.members.len() > 1 && !self.links.values().any(|link| link.digests_heard > 0)
    }

    /// True when every member has told what it has.
    pub(crate) fn has_heard_everybody(&self) -> bool {
        let heard = |member: &String| self.links.get(member).is_some_and(|link| link.digests_heard > 0);
        self.epoch.number > 0 && self.epoch.members.keys().filter(|member| **member != self.setup.node).all(heard)
    }

    pub(super) fn give_audit(&mut self, to: &str, vector: &VersionVector) {
        if *vector == self.applied && self.is_settled() {
            let shards = (0..SHARDS).map(|shard| self.keyspace.shard_fingerprint(shard)).collect();
            self.send(to, &Message::Audit(vector.clone(), shards));
        }
    }

    /// Equal vectors and other digests: a side whose own figures do not add up fetches its state afresh; if
    /// both add up, a person decides.
    ///
    /// SUBTLE: never joined. What one side lacks by damage would read as removed, and spread.
    pub(super) fn take_audit(&mut self, from: &str, vector: &VersionVector, shards: &[Fingerprint]) {
        if *vector != self.applied || !self.is_settled() {
            return;
        }
        let differs =
            shards.iter().enumerate().find(|(shard, theirs)| self.keyspace.shard_fingerprint(*shard) != **theirs);
        let Some((shard, _)) = differs else { return };
        if self.keyspace.recount().fingerprint != self.keyspace.fingerprint() {
            self.report(Report::StoreCorrupt { records: 1 });
            self.rebuild = true;
        } else if active(Mutant::AuditJoins) {
            self.drop_differing_shard(shard);
        } else if self.diverged.insert((from.to_owned(), shard)) {
            self.report(Report::Diverged { peer: from.to_owned(), shard: shard as u32 });
        }
    }

    /// The mutant's way to make two digests equal.
    fn drop_differing_shard(&mut self, shard: usize) {
        for key in self.keyspace.shard_keys(shard) {
            let parts = self.stored_parts(&key);
            self.keyspace.remove(&key);
            self.put_changed(&key, parts);
        }
    }
}

/// Rows of a state, for a host that must look at all of them.
pub(crate) fn rows(keyspace: &Keyspace) -> impl Iterator<Item = Key> + '_ {
    keyspace.keys().filter(|key| key.kind == Kind::Row)
}
