//! Opening: a node from what stands on disk.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crdt::change::Envelope;
use crdt::error::DecodeError;
use crdt::mutant::{Mutant, active};
use crdt::pack::{Reader, Writer};
use crdt::{BatchId, Hlc, Key, Keyspace, Object, ReplicaId, VersionVector};

use super::{Continuity, FullMesh, Hold, Node, RESTORED, Setup, Start, blast, clock, collect};
use crate::effect::{MintReason, Report};
use crate::epoch::{Epoch, SignedEpoch};
use crate::host::{Doubts, Host};
use crate::log::{ChainHash, Log, UNKNOWN_HASH};
use crate::matrix::Matrix;
use crate::message::{read_array, read_replica, read_replicas, read_row, read_vector, write_replicas};
use crate::record::{Found, Gate, Meta, RecordKey};
use crate::signer::Signer;
use crate::snapshot::Install;

/// Why a node cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The records belong to another cluster or node.
    Foreign {
        /// Cluster of the records.
        cluster: u128,
        /// Node of the records.
        node: String,
    },
    /// The node's name is not 1-63 of `a-z 0-9 _ -`.
    NodeId(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { cluster, node } => {
                write!(f, "the state folder belongs to node {node} of cluster {cluster:032x}; point to another folder")
            }
            Self::NodeId(node) => write!(f, "node id {node:?} is not 1-63 of a-z 0-9 _ -"),
        }
    }
}

impl core::error::Error for OpenError {}

/// What is read from records before the node stands.
#[derive(Default)]
struct Loading {
    damaged: u64,
    /// The state cannot be trusted as a whole.
    rebuild: bool,
    /// What is known of the steps in the database cannot be trusted as a whole.
    host_damaged: bool,
    lost_shadows: Vec<Vec<u8>>,
    metas: BTreeMap<Meta, Vec<u8>>,
    batches: BTreeMap<BatchId, Option<Vec<u8>>>,
    shadows: BTreeMap<Vec<u8>, Vec<u8>>,
    drained: BTreeMap<BatchId, Vec<u8>>,
    holds: blast::Found,
    /// Objects that are stored in parts, as far as they came.
    objects: BTreeMap<Key, Object>,
}

impl Loading {
    fn add_part(&mut self, name: &[u8], part: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = Key::from_bytes(name)?;
        let read = Object::from_bytes(key.kind, bytes)?;
        if !read.part_names().iter().map(AsRef::as_ref).eq([part]) {
            return Err(DecodeError::Invalid { what: "part of an object", at: 0 });
        }
        self.objects.entry(key).or_insert_with_key(|key| Object::new(key.kind)).add_parts(read);
        Ok(())
    }
}

impl Node {
    /// Opens a node from its records: none at the first start.
    ///
    /// # Errors
    /// [`OpenError`] when the records are not this node's.
    pub fn open(
        setup: Setup,
        signer: Box<dyn Signer>,
        start: Start,
        records: impl IntoIterator<Item = (RecordKey, Found)>,
    ) -> Result<Self, OpenError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if setup.node.is_empty() || setup.node.len() > crate::epoch::NODE_ID_BYTES_MAX || !setup.node.bytes().all(fits)
        {
            return Err(OpenError::NodeId(setup.node));
        }
        let mut node = Self::empty(setup, signer, start);
        let mut loading = Loading::default();
        for (key, found) in records {
            node.load_record(&mut loading, key, found);
        }
        node.finish_opening(start, loading)?;
        Ok(node)
    }

    fn empty(setup: Setup, signer: Box<dyn Signer>, start: Start) -> Self {
        let host = setup.schema.clone().map(Host::new);
        let gc_at_mono_ms = start.now.mono_ms + setup.intervals.gc_ms;
        Self {
            setup,
            signer,
            topology: Box::new(FullMesh),
            replicas: Vec::new(),
            fresh_replica: start.fresh_replica,
            clock: clock::Clock::default(),
            log: Log::default(),
            beyond: BTreeMap::new(),
            overflows: false,
            keyspace: Keyspace::new(),
            applied: VersionVector::new(),
            shown: VersionVector::new(),
            claimed: VersionVector::new(),
            matrix: Matrix::default(),
            epochs: BTreeMap::new(),
            epoch: Epoch::default(),
            epoch_forked: false,
            links: BTreeMap::new(),
            refused: BTreeSet::new(),
            diverged: BTreeSet::new(),
            held: BTreeMap::new(),
            brakes: Vec::new(),
            population: blast::Population::default(),
            turn: None,
            skew_reported: BTreeSet::new(),
            donors: BTreeMap::new(),
            wanted_snapshots: BTreeMap::new(),
            snapshots_given: 0,
            install: None,
            install_asked: None,
            doubt_on_disk: 0,
            rebuild: false,
            is_restored: false,
            listen_until_mono_ms: None,
            worked_at_mono_ms: 0,
            host,
            remains: collect::Remains::default(),
            ages: BTreeMap::new(),
            forgotten_until: None,
            gc_at_mono_ms,
            cut_at_mono_ms: start.now.mono_ms,
            gate: Gate::default(),
            records: Vec::new(),
            then: Vec::new(),
            effects: VecDeque::new(),
            gathered: None,
            failed: false,
        }
    }

    fn load_record(&mut self, loading: &mut Loading, key: RecordKey, found: Found) {
        let Found::Intact(bytes) = found else {
            loading.damaged += 1;
            match &key {
                RecordKey::Batch(batch) => drop(loading.batches.insert(*batch, None)),
                RecordKey::Brake(batch) => drop(loading.holds.brakes.insert(*batch, None)),
                RecordKey::Preimage(batch, part) => drop(loading.holds.preimages.insert((*batch, *part), None)),
                RecordKey::Shadow(row) => loading.lost_shadows.push(row.clone()),
                RecordKey::Drained(_) | RecordKey::Meta(Meta::Step) => loading.host_damaged = true,
                // Of the last one: whether a snapshot was half joined is not known any more.
                RecordKey::Object(_) | RecordKey::Part(..) | RecordKey::Remains(_) | RecordKey::Meta(Meta::Install) => {
                    loading.rebuild = true;
                }
                RecordKey::Meta(Meta::Applied | Meta::Floors | Meta::Identity | Meta::Doubt) => {
                    (loading.rebuild, loading.host_damaged) = (true, true);
                }
                _ => {}
            }
            return self.put(key, None);
        };
        let read = match &key {
            RecordKey::Meta(meta) => {
                loading.metas.insert(*meta, bytes);
                Ok(())
            }
            RecordKey::Batch(batch) => {
                loading.batches.insert(*batch, Some(bytes));
                Ok(())
            }
            RecordKey::Object(name) => self.load_object(name, &bytes),
            RecordKey::Part(name, part) => loading.add_part(name, part, &bytes),
            RecordKey::Shadow(row) => {
                loading.shadows.insert(row.clone(), bytes);
                Ok(())
            }
            RecordKey::Row(member) => read_row(&mut Reader::new(&bytes)).map(|row| {
                self.matrix.learn(member, row);
            }),
            RecordKey::Epoch(number) => self.load_epoch(*number, &bytes),
            RecordKey::Drained(batch) => {
                loading.drained.insert(*batch, bytes);
                Ok(())
            }
            RecordKey::Remains(batch) => self.load_remains(*batch, &bytes),
            RecordKey::Held(batch) => {
                let hold = match bytes.first() {
                    Some(0) => Hold::Forked,
                    Some(1) => Hold::Fenced,
                    // A batch that could not be applied is tried again by this build.
                    _ => return self.put(key, None),
                };
                self.held.insert(batch.replica, (*batch, hold));
                Ok(())
            }
            RecordKey::Brake(batch) => {
                loading.holds.brakes.insert(*batch, Some(bytes));
                Ok(())
            }
            RecordKey::Preimage(batch, part) => {
                loading.holds.preimages.insert((*batch, *part), Some(bytes));
                Ok(())
            }
            RecordKey::Chunk(_) => Ok(()),
        };
        if read.is_err() {
            loading.damaged += 1;
            loading.rebuild = true;
            // Nobody would know of it any more when the object is written anew.
            if let RecordKey::Part(..) = key {
                self.put(key, None);
            }
        }
    }

    fn load_object(&mut self, name: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = Key::from_bytes(name)?;
        if key.kind.has_parts() {
            return Err(DecodeError::Invalid { what: "object that has parts", at: 0 });
        }
        let object = Object::from_bytes(key.kind, bytes)?;
        self.keyspace.load(&key, object);
        Ok(())
    }

    fn load_epoch(&mut self, number: u64, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        let signature = reader.bytes("bytes of a signature", 1 << 10)?.to_vec();
        let signed = SignedEpoch { signature, bytes: reader.bytes("bytes of an epoch", 1 << 20)?.to_vec() };
        let epoch = Epoch::from_bytes(&signed.bytes)?;
        self.epochs.insert(number, signed);
        if epoch.number > self.epoch.number {
            self.epoch = epoch;
        }
        Ok(())
    }

    fn load_remains(&mut self, batch: BatchId, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut keys = BTreeSet::new();
        for _ in 0..reader.count("number of keys", 2)? {
            keys.insert(Key::from_bytes(reader.bytes("bytes of a key", 1 << 20)?)?);
        }
        self.remains.add(batch, keys);
        Ok(())
    }

    fn finish_opening(&mut self, start: Start, mut loading: Loading) -> Result<(), OpenError> {
        self.load_identity(&loading)?;
        for (key, object) in core::mem::take(&mut loading.objects) {
            self.keyspace.load(&key, object);
        }
        let vector = |meta| {
            let bytes: Option<&Vec<u8>> = loading.metas.get(&meta);
            bytes.and_then(|bytes| read_vector(&mut Reader::new(bytes)).ok()).unwrap_or_default()
        };
        self.applied = vector(Meta::Applied);
        self.claimed = vector(Meta::Claimed);
        self.matrix.restore_stable(vector(Meta::Stable));
        let batches = core::mem::take(&mut loading.batches);
        self.load_log(start, loading.metas.get(&Meta::Floors), batches);
        let bound = loading.metas.get(&Meta::ClockBound).and_then(|bytes| bytes.as_slice().try_into().ok());
        self.clock = clock::Clock::resume(bound.map_or(Hlc::ZERO, |bytes| Hlc(u64::from_be_bytes(bytes))));
        self.install = loading.metas.get(&Meta::Install).and_then(|bytes| Install::from_bytes(bytes).ok());
        let (doubt, noticed) = match loading.metas.get(&Meta::Doubt).and_then(|bytes| bytes.split_first()) {
            Some((doubt, noticed)) => (*doubt, noticed.try_into().ok().map(u64::from_be_bytes)),
            None => (0, None),
        };
        self.doubt_on_disk = doubt;
        self.rebuild = loading.rebuild || doubt & 1 != 0;
        if self.rebuild && self.install.as_ref().is_some_and(|install| !install.replace) {
            self.drop_install();
        }
        if loading.damaged > 0 {
            self.report(Report::StoreCorrupt { records: loading.damaged });
        }
        let proven = start.continuity == Continuity::Proven || active(Mutant::SequenceReused);
        if self.replicas.is_empty() {
            self.mint(MintReason::FirstStart);
        } else if !proven {
            self.mint(MintReason::ContinuityNotProven);
        }
        self.load_brakes(start.now, core::mem::take(&mut loading.holds));
        let fresh = loading.metas.is_empty();
        let is_unproven = !fresh && start.continuity == Continuity::NotProven;
        self.is_restored = is_unproven || doubt & RESTORED != 0;
        // A fresh replica id cannot use a sequence number twice.
        let listens = !fresh && !is_unproven;
        self.listen_until_mono_ms = listens.then(|| start.now.mono_ms + self.setup.intervals.listen_ms);
        let doubts = Doubts {
            is_first_start: fresh,
            is_unproven: is_unproven || doubt & 2 != 0,
            is_damaged: loading.host_damaged || doubt & 8 != 0,
            database_went_back: doubt & 4 != 0,
            noticed_wall_ms: noticed.filter(|_| doubt & 4 != 0),
        };
        let (shadows, step) = (&loading.shadows, loading.metas.get(&Meta::Step));
        self.open_host(start.now, shadows, &loading.drained, &loading.lost_shadows, step, doubts);
        if self.install.as_ref().is_some_and(|install| install.complete && install.joined.is_some()) {
            self.load_next_chunk();
        } else if self.install.as_ref().is_some_and(|install| install.complete) {
            self.begin_joining();
        } else {
            self.install_reopened(start.now);
            self.shown_follows();
        }
        self.work(start.now);
        Ok(())
    }

    fn load_identity(&mut self, loading: &Loading) -> Result<(), OpenError> {
        let Some(bytes) = loading.metas.get(&Meta::Identity) else { return Ok(()) };
        let mut reader = Reader::new(bytes);
        let mut read = || -> Result<(u128, String, Vec<ReplicaId>), DecodeError> {
            let cluster = u128::from_be_bytes(read_array(&mut reader)?);
            let node = String::from_utf8_lossy(reader.bytes("node id length", 64)?).into_owned();
            Ok((cluster, node, read_replicas(&mut reader)?))
        };
        let Ok((cluster, node, replicas)) = read() else { return Ok(()) };
        if cluster != self.setup.cluster || node != self.setup.node {
            return Err(OpenError::Foreign { cluster, node });
        }
        self.replicas = replicas;
        Ok(())
    }

    pub(super) fn put_identity(&mut self) {
        let mut writer = Writer::new();
        writer.raw(&self.setup.cluster.to_be_bytes());
        writer.bytes(self.setup.node.as_bytes());
        write_replicas(&mut writer, &self.replicas);
        self.put_meta(Meta::Identity, writer.into_bytes());
    }

    /// The log: each stream from its floor as far as it has no gap. A damaged batch that is applied is cut
    /// out with all before it; one that is not is fetched again with all behind it.
    fn load_log(&mut self, start: Start, floors: Option<&Vec<u8>>, batches: BTreeMap<BatchId, Option<Vec<u8>>>) {
        for (replica, floor, hash) in floors.and_then(|bytes| read_floors(bytes).ok()).unwrap_or_default() {
            self.log.begin(replica, floor, hash);
            self.log.mark_durable(replica, floor);
        }
        for (id, bytes) in batches {
            let intact = bytes.as_deref().and_then(|bytes| bytes.split_at_checked(16));
            let parsed = intact.and_then(|(hash, bytes)| Some((hash, bytes, Envelope::parse(bytes).ok()?.header)));
            let expected = self.log.head(id.replica) + 1;
            match parsed {
                Some((hash, bytes, header)) if id.seq == expected => {
                    let hash = hash.try_into().ok().filter(|hash| *hash != UNKNOWN_HASH);
                    self.log.restore(header, bytes.to_vec(), hash, start.now.mono_ms);
                    self.log.mark_durable(id.replica, id.seq);
                }
                None if id.seq <= self.applied.seq(id.replica) => {
                    for seq in self.log.stream(id.replica).map_or(0, |stream| stream.floor()) + 1..id.seq {
                        self.put(RecordKey::Batch(BatchId { seq, ..id }), None);
                    }
                    self.log.begin(id.replica, id.seq, None);
                    self.put_floors();
                }
                // Behind a gap, or damaged and not applied: it comes again.
                _ => self.put(RecordKey::Batch(id), None),
            }
        }
    }
}

type Floor = (ReplicaId, u64, Option<ChainHash>);

fn read_floors(bytes: &[u8]) -> Result<Vec<Floor>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut floors = Vec::new();
    for _ in 0..reader.count("number of floors", 34)? {
        let (replica, floor) = (read_replica(&mut reader)?, reader.varint()?);
        let known = reader.byte()? == 1;
        let hash = read_array(&mut reader)?;
        floors.push((replica, floor, known.then_some(hash)));
    }
    Ok(floors)
}
