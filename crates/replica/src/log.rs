//! The log: per replica, the batches between its floor and its head, chained by hashes.

use std::collections::{BTreeMap, VecDeque};

use crdt::{BatchHeader, BatchId, ReplicaId, VersionVector};
use sha2::{Digest, Sha256};

/// Hash of a batch and of everything before it of the same replica.
pub type ChainHash = [u8; 16];

/// What stands on disk for a hash that is not known.
pub(crate) const UNKNOWN_HASH: ChainHash = [0; 16];

/// The next hash of a chain: SHA-256 over the one before and the batch's bytes, cut to 128 bits.
pub fn chain_hash(previous: &ChainHash, bytes: &[u8]) -> ChainHash {
    let digest = Sha256::new().chain_update(previous).chain_update(bytes).finalize();
    let mut hash = ChainHash::default();
    hash.copy_from_slice(&digest[..16]);
    hash
}

/// A batch in the log.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// As its origin encoded it.
    pub(crate) bytes: Vec<u8>,
    /// Unknown behind a damaged batch, until a peer tells one.
    pub(crate) hash: Option<ChainHash>,
    pub(crate) header: BatchHeader,
    /// When it arrived, on the monotonic clock.
    pub(crate) received_mono_ms: u64,
}

/// One replica's part of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// Batches up to here are cut.
    floor: u64,
    /// Chain hash at the floor; unknown where a damaged batch was cut out.
    floor_hash: Option<ChainHash>,
    batches: VecDeque<Logged>,
    /// Batches up to here are durable, and may be told and sent.
    durable: u64,
}

impl Stream {
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) fn floor_hash(&self) -> Option<ChainHash> {
        self.floor_hash
    }

    pub(crate) fn head(&self) -> u64 {
        self.floor + self.batches.len() as u64
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Chain hash at the head, where it is known. A chain begins with zeros.
    fn head_hash(&self) -> Option<ChainHash> {
        let beginning = self.floor_hash.or_else(|| (self.floor == 0).then(ChainHash::default));
        self.batches.back().map_or(beginning, |logged| logged.hash)
    }

    /// Chain hash at `seq`, where it is known.
    pub(crate) fn hash_at(&self, seq: u64) -> Option<ChainHash> {
        if seq == self.floor { self.floor_hash } else { self.get(seq)?.hash }
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Logged> {
        let place = seq.checked_sub(self.floor + 1)?;
        self.batches.get(usize::try_from(place).ok()?)
    }
}

/// All streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    streams: BTreeMap<ReplicaId, Stream>,
    bytes: usize,
}

impl Log {
    /// A stream that begins at a floor: from the disk, or from a snapshot.
    pub(crate) fn begin(&mut self, replica: ReplicaId, floor: u64, floor_hash: Option<ChainHash>) {
        let gone = self.streams.insert(replica, Stream { floor, floor_hash, durable: floor, ..Stream::default() });
        self.bytes -= gone.iter().flat_map(|stream| &stream.batches).map(|logged| logged.bytes.len()).sum::<usize>();
    }

    pub(crate) fn stream(&self, replica: ReplicaId) -> Option<&Stream> {
        self.streams.get(&replica)
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = (ReplicaId, &Stream)> {
        self.streams.iter().map(|(replica, stream)| (*replica, stream))
    }

    pub(crate) fn head(&self, replica: ReplicaId) -> u64 {
        self.streams.get(&replica).map_or(0, Stream::head)
    }

    pub(crate) fn get(&self, batch: BatchId) -> Option<&Logged> {
        self.streams.get(&batch.replica)?.get(batch.seq)
    }

    /// Appends the next batch of its replica; the caller has checked that it is the next.
    pub(crate) fn append(&mut self, header: BatchHeader, bytes: Vec<u8>, received_mono_ms: u64) -> Option<ChainHash> {
        let stream = self.streams.entry(header.id.replica).or_default();
        debug_assert_eq!(stream.head() + 1, header.id.seq, "the caller appends without gaps");
        let hash = stream.head_hash().map(|previous| chain_hash(&previous, &bytes));
        self.restore(header, bytes, hash, received_mono_ms);
        hash
    }

    /// Appends a batch whose hash is known already.
    pub(crate) fn restore(
        &mut self,
        header: BatchHeader,
        bytes: Vec<u8>,
        hash: Option<ChainHash>,
        received_mono_ms: u64,
    ) {
        self.bytes += bytes.len();
        let stream = self.streams.entry(header.id.replica).or_default();
        stream.batches.push_back(Logged { bytes, hash, header, received_mono_ms });
    }

    /// Takes a hash over from a peer where damage made ours unknown, and with it all behind it. True when one was
    /// missing.
    pub(crate) fn learn_hash(&mut self, replica: ReplicaId, seq: u64, hash: ChainHash) -> bool {
        let Some(stream) = self.streams.get_mut(&replica) else { return false };
        let here = seq >= stream.floor && seq <= stream.head();
        if !here || stream.hash_at(seq).is_some() || (seq == 0 && stream.floor == 0) {
            return false;
        }
        if seq == stream.floor {
            stream.floor_hash = Some(hash);
        }
        let mut last = hash;
        let floor = stream.floor;
        for (logged, at) in stream.batches.iter_mut().zip(floor + 1..).skip_while(|(_, at)| *at < seq) {
            if at > seq {
                last = chain_hash(&last, &logged.bytes);
            }
            logged.hash = Some(last);
        }
        true
    }

    /// Everything of `replica` up to `seq` is on disk.
    pub(crate) fn mark_durable(&mut self, replica: ReplicaId, seq: u64) {
        if let Some(stream) = self.streams.get_mut(&replica) {
            stream.durable = stream.durable.max(seq);
        }
    }

    /// Cuts everything of `replica` up to `floor`; returns the batches that went.
    pub(crate) fn cut(&mut self, replica: ReplicaId, floor: u64) -> Vec<BatchId> {
        let Some(stream) = self.streams.get_mut(&replica) else { return Vec::new() };
        let mut gone = Vec::new();
        while stream.floor < floor {
            let Some(logged) = stream.batches.pop_front() else { break };
            self.bytes -= logged.bytes.len();
            stream.floor += 1;
            stream.floor_hash = logged.hash;
            gone.push(logged.header.id);
        }
        gone
    }

    /// What is on disk without a gap, per replica: what may be told to others.
    pub(crate) fn durable_vector(&self) -> VersionVector {
        self.streams.iter().map(|(replica, stream)| (*replica, stream.durable)).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.values().map(|stream| stream.batches.len()).sum()
    }
}
