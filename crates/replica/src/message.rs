//! What nodes say to each other.
//!
//! A message is one byte of version, one of kind, packed fields (see [`crdt::pack`]), and eight bytes of a
//! checksum over all before. The transport authenticates the neighbour; the checksum only keeps a damaged
//! message from being taken for a vector, and every batch inside carries its origin's MAC.

use crdt::error::DecodeError;
use crdt::fingerprint::{Fingerprint, Place};
use crdt::pack::{REPLICAS_MAX, Reader, SEQ_MAX, Writer};
use crdt::{BatchId, Hlc, ReplicaId, VersionVector};

use crate::epoch::SignedEpoch;
use crate::log::ChainHash;
use crate::matrix::MatrixRow;

const MESSAGE_VERSION: u8 = 0;
const CHECKSUM_BYTES: usize = 8;
/// Room that a message begins with: most are digests and small batches.
const USUAL_BYTES: usize = 512;

/// First words on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Cluster of the sender.
    pub cluster: u128,
    /// Every replica id that it ever used; the last is in use.
    pub replicas: Vec<ReplicaId>,
    /// Least and greatest protocol version that it speaks.
    pub versions: (u16, u16),
    /// The sender has heard the receiver since their link came up, and wants no hello in return.
    pub heard: bool,
}

/// Four timestamps of clock comparison travel with digests: what the sender last heard, and now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// The receiver's clock in its last digest, 0 for none.
    pub echo_ms: u64,
    /// The sender's clock when that arrived.
    pub heard_ms: u64,
    /// The sender's clock now.
    pub sent_ms: u64,
}

/// What the sender has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digest {
    /// Its row of the matrix clock.
    pub row: MatrixRow,
    /// Per replica in its log the chain hash at the head; zeros where damage made it unknown.
    pub heads: Vec<(ReplicaId, u64, ChainHash)>,
    /// Vector and digest of its state, when nothing is under way there.
    pub settled: Option<(VersionVector, Fingerprint)>,
    /// The last batch that the receiver is known to have written under the replica id that it told last, where that is
    /// more than `heads` tells: the receiver said so, or a batch of its own came behind a gap.
    pub heard: Option<BatchId>,
    /// Clocks.
    pub times: Times,
}

/// Batches that the sender wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Per replica: after this sequence, up to and including that one.
    pub ranges: Vec<(ReplicaId, u64, u64)>,
    /// Most bytes that may come.
    pub credit_bytes: u64,
}

/// A snapshot that the sender can give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Names the snapshot at its donor.
    pub id: u64,
    /// The cut.
    pub cut: VersionVector,
    /// The donor's clock: later than every batch in the cut that it followed.
    pub clock: Hlc,
    /// Chain hashes at the cut, where known.
    pub hashes: Vec<(ReplicaId, ChainHash)>,
}

/// A chunk: all objects whose key stands behind `after` and up to `until`, in the order of shards and keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// The snapshot.
    pub id: u64,
    /// Place from 0.
    pub place: u32,
    /// True for the last one.
    pub last: bool,
    /// Hash of the content.
    pub hash: ChainHash,
    /// [`crate::snapshot::ChunkContent::to_bytes`].
    pub content: Vec<u8>,
}

/// Everything that one node can say to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// First words.
    Hello(Hello),
    /// What the sender has.
    Digest(Digest),
    /// Batches that it wants.
    Pull(Pull),
    /// Batches as their origins encoded them.
    Batches(Vec<Vec<u8>>),
    /// What was pulled is cut here, or damaged: a snapshot is needed.
    BelowFloor(ReplicaId, u64),
    /// Epoch records from this number on are wanted.
    WantEpochs(u64),
    /// Epoch records.
    Epochs(Vec<SignedEpoch>),
    /// A snapshot is wanted whose cut includes this.
    WantSnapshot(VersionVector),
    /// A snapshot is there.
    Manifest(Manifest),
    /// A chunk is wanted.
    WantChunk(u64, u32),
    /// A chunk.
    Chunk(Chunk),
    /// The chunk that was asked for, by snapshot and place, cannot be given any more.
    SnapshotGone(u64, u32),
    /// Shard digests are wanted, of a state with this vector.
    WantAudit(VersionVector),
    /// Shard digests of a state with this vector.
    Audit(VersionVector, Vec<Fingerprint>),
    /// The sender's node id belongs to somebody else as well, or it does not know all replica
    /// ids that the node of its name has used. These are they.
    Refused(Vec<ReplicaId>),
    /// A digest is wanted now.
    WantDigest,
}

impl Message {
    /// The bytes of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(USUAL_BYTES);
        writer.byte(MESSAGE_VERSION);
        self.encode(&mut writer);
        let mut bytes = writer.into_bytes();
        let checksum = Place::root(&bytes).hash();
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The inverse of [`Message::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let length = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(DecodeError::Truncated { at: bytes.len() })?;
        let (body, checksum) = bytes.split_at(length);
        if Place::root(body).hash().to_be_bytes() != checksum {
            return Err(DecodeError::Invalid { what: "checksum of a message", at: length });
        }
        let mut reader = Reader::new(body);
        let found = reader.byte()?;
        if found != MESSAGE_VERSION {
            return Err(DecodeError::Version { found, known: MESSAGE_VERSION });
        }
        let message = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(message)
    }

    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Hello(hello) => {
                writer.byte(0);
                writer.raw(&hello.cluster.to_be_bytes());
                write_replicas(writer, &hello.replicas);
                writer.varint(hello.versions.0.into());
                writer.varint(hello.versions.1.into());
                writer.byte(hello.heard.into());
            }
            Self::Digest(digest) => {
                writer.byte(1);
                write_digest(writer, digest);
            }
            Self::Pull(pull) => {
                writer.byte(2);
                writer.varint(pull.credit_bytes);
                writer.varint(pull.ranges.len() as u64);
                for (replica, after, until) in &pull.ranges {
                    writer.raw(&replica.to_bytes());
                    writer.varint(*after);
                    writer.varint(*until);
                }
            }
            Self::Batches(batches) => {
                writer.byte(3);
                writer.varint(batches.len() as u64);
                batches.iter().for_each(|batch| writer.bytes(batch));
            }
            Self::BelowFloor(replica, floor) => {
                writer.byte(4);
                writer.raw(&replica.to_bytes());
                writer.varint(*floor);
            }
            Self::WantEpochs(from) => {
                writer.byte(5);
                writer.varint(*from);
            }
            Self::Epochs(epochs) => {
                writer.byte(6);
                writer.varint(epochs.len() as u64);
                for epoch in epochs {
                    writer.bytes(&epoch.bytes);
                    writer.bytes(&epoch.signature);
                }
            }
            Self::WantSnapshot(at_least) => {
                writer.byte(7);
                write_vector(writer, at_least);
            }
            Self::Manifest(manifest) => {
                writer.byte(8);
                writer.varint(manifest.id);
                write_vector(writer, &manifest.cut);
                writer.varint(manifest.clock.0);
                writer.varint(manifest.hashes.len() as u64);
                for (replica, hash) in &manifest.hashes {
                    writer.raw(&replica.to_bytes());
                    writer.raw(hash);
                }
            }
            Self::WantChunk(id, place) => {
                writer.byte(9);
                writer.varint(*id);
                writer.varint((*place).into());
            }
            Self::Chunk(chunk) => {
                writer.byte(10);
                writer.varint(chunk.id);
                writer.varint(chunk.place.into());
                writer.byte(chunk.last.into());
                writer.raw(&chunk.hash);
                writer.bytes(&chunk.content);
            }
            Self::SnapshotGone(id, place) => {
                writer.byte(11);
                writer.varint(*id);
                writer.varint((*place).into());
            }
            Self::WantAudit(vector) => {
                writer.byte(12);
                write_vector(writer, vector);
            }
            Self::Audit(vector, shards) => {
                writer.byte(13);
                write_vector(writer, vector);
                writer.varint(shards.len() as u64);
                shards.iter().for_each(|shard| writer.raw(&shard.0.to_be_bytes()));
            }
            Self::Refused(known) => {
                writer.byte(14);
                write_replicas(writer, known);
            }
            Self::WantDigest => writer.byte(15),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.at();
        Ok(match reader.byte()? {
            0 => Self::Hello(Hello {
                cluster: u128::from_be_bytes(read_array(reader)?),
                replicas: read_replicas(reader)?,
                versions: (read_version(reader)?, read_version(reader)?),
                heard: reader.bounded("heard mark", 1)? == 1,
            }),
            1 => Self::Digest(read_digest(reader)?),
            2 => {
                let credit_bytes = reader.varint()?;
                let read = |reader: &mut Reader<'_>| Ok((read_replica(reader)?, read_seq(reader)?, read_seq(reader)?));
                Self::Pull(Pull { credit_bytes, ranges: read_list(reader, "number of ranges", 18, read)? })
            }
            3 => Self::Batches(read_list(reader, "number of batches", 2, |reader| {
                reader.bytes("bytes of a batch", crdt::change::BATCH_BYTES_MAX).map(<[u8]>::to_vec)
            })?),
            4 => Self::BelowFloor(read_replica(reader)?, read_seq(reader)?),
            5 => Self::WantEpochs(reader.varint()?),
            6 => Self::Epochs(read_list(reader, "number of epochs", 2, |reader| {
                let bytes = reader.bytes("bytes of an epoch", 1 << 20)?.to_vec();
                Ok(SignedEpoch { bytes, signature: reader.bytes("bytes of a signature", 1 << 10)?.to_vec() })
            })?),
            7 => Self::WantSnapshot(read_vector(reader)?),
            8 => {
                let (id, cut, clock) = (reader.varint()?, read_vector(reader)?, Hlc(reader.varint()?));
                let read = |reader: &mut Reader<'_>| Ok((read_replica(reader)?, read_array(reader)?));
                Self::Manifest(Manifest { id, cut, clock, hashes: read_list(reader, "number of hashes", 32, read)? })
            }
            9 => Self::WantChunk(reader.varint()?, reader.bounded("place of a chunk", u32::MAX.into())? as u32),
            10 => Self::Chunk(Chunk {
                id: reader.varint()?,
                place: reader.bounded("place of a chunk", u32::MAX.into())? as u32,
                last: reader.bounded("last mark", 1)? == 1,
                hash: read_array(reader)?,
                content: reader.bytes("bytes of a chunk", usize::MAX)?.to_vec(),
            }),
            11 => Self::SnapshotGone(reader.varint()?, reader.bounded("place of a chunk", u32::MAX.into())? as u32),
            12 => Self::WantAudit(read_vector(reader)?),
            13 => {
                let vector = read_vector(reader)?;
                let read = |reader: &mut Reader<'_>| Ok(Fingerprint(u128::from_be_bytes(read_array(reader)?)));
                Self::Audit(vector, read_list(reader, "number of shards", 16, read)?)
            }
            14 => Self::Refused(read_replicas(reader)?),
            15 => Self::WantDigest,
            _ => return Err(DecodeError::Invalid { what: "kind of a message", at }),
        })
    }
}

fn write_digest(writer: &mut Writer, digest: &Digest) {
    write_row(writer, &digest.row);
    writer.varint(digest.heads.len() as u64);
    for (replica, seq, hash) in &digest.heads {
        writer.raw(&replica.to_bytes());
        writer.varint(*seq);
        writer.raw(hash);
    }
    writer.byte(digest.settled.is_some().into());
    if let Some((vector, fingerprint)) = &digest.settled {
        write_vector(writer, vector);
        writer.raw(&fingerprint.0.to_be_bytes());
    }
    writer.byte(digest.heard.is_some().into());
    if let Some(batch) = &digest.heard {
        writer.raw(&batch.replica.to_bytes());
        writer.varint(batch.seq);
    }
    writer.varint(digest.times.echo_ms);
    writer.varint(digest.times.heard_ms);
    writer.varint(digest.times.sent_ms);
}

fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, DecodeError> {
    let row = read_row(reader)?;
    let read = |reader: &mut Reader<'_>| Ok((read_replica(reader)?, read_seq(reader)?, read_array(reader)?));
    let heads = read_list(reader, "number of heads", 33, read)?;
    let mut settled = None;
    if reader.bounded("settled mark", 1)? == 1 {
        settled = Some((read_vector(reader)?, Fingerprint(u128::from_be_bytes(read_array(reader)?))));
    }
    let mut heard = None;
    if reader.bounded("heard mark", 1)? == 1 {
        heard = Some(BatchId { replica: read_replica(reader)?, seq: read_seq(reader)? });
    }
    let times = Times { echo_ms: reader.varint()?, heard_ms: reader.varint()?, sent_ms: reader.varint()? };
    Ok(Digest { row, heads, settled, heard, times })
}

/// Appends a vector.
pub(crate) fn write_vector(writer: &mut Writer, vector: &VersionVector) {
    writer.varint(vector.len() as u64);
    for (replica, seq) in vector.iter() {
        writer.raw(&replica.to_bytes());
        writer.varint(seq);
    }
}

/// Reads a vector, which has one form: in the order of replica ids, without idle ones.
pub(crate) fn read_vector(reader: &mut Reader<'_>) -> Result<VersionVector, DecodeError> {
    let at = reader.at();
    let read = |reader: &mut Reader<'_>| Ok((read_replica(reader)?, read_seq(reader)?));
    let entries = read_list(reader, "entries of a vector", 17, read)?;
    if !entries.is_sorted_by(|left, right| left.0 < right.0) || entries.iter().any(|(_, seq)| *seq == 0) {
        return Err(DecodeError::NotCanonical { what: "vector", at });
    }
    Ok(entries.into_iter().collect())
}

/// Appends a row of the matrix clock.
pub(crate) fn write_row(writer: &mut Writer, row: &MatrixRow) {
    writer.varint(row.epoch);
    write_replicas(writer, &row.replicas);
    write_vector(writer, &row.shown);
    write_vector(writer, &row.received);
}

/// Reads a row of the matrix clock.
pub(crate) fn read_row(reader: &mut Reader<'_>) -> Result<MatrixRow, DecodeError> {
    Ok(MatrixRow {
        epoch: reader.varint()?,
        replicas: read_replicas(reader)?,
        shown: read_vector(reader)?,
        received: read_vector(reader)?,
    })
}

pub(crate) fn write_replicas(writer: &mut Writer, replicas: &[ReplicaId]) {
    writer.varint(replicas.len() as u64);
    replicas.iter().for_each(|replica| writer.raw(&replica.to_bytes()));
}

pub(crate) fn read_replicas(reader: &mut Reader<'_>) -> Result<Vec<ReplicaId>, DecodeError> {
    read_list(reader, "number of replicas", ReplicaId::BYTES, read_replica)
}

pub(crate) fn read_replica(reader: &mut Reader<'_>) -> Result<ReplicaId, DecodeError> {
    read_array(reader).map(ReplicaId::from_bytes)
}

fn read_seq(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    reader.bounded("sequence", SEQ_MAX)
}

fn read_version(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    reader.bounded("version", u16::MAX.into()).map(|version| version as u16)
}

pub(crate) fn read_array<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
    let at = reader.at();
    reader.raw(N)?.try_into().map_err(|_| DecodeError::Truncated { at })
}

fn read_list<T>(
    reader: &mut Reader<'_>,
    what: &'static str,
    item_bytes_min: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(what, item_bytes_min)?;
    let bound = (REPLICAS_MAX * 64) as u64;
    if count as u64 > bound {
        return Err(DecodeError::Limit { what, value: count as u64, bound });
    }
    (0..count).map(|_| read(reader)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_has_one_form() {
        let read = |entries: &[(u128, u64)]| {
            let mut writer = Writer::new();
            writer.varint(entries.len() as u64);
            for (replica, seq) in entries {
                writer.raw(&replica.to_be_bytes());
                writer.varint(*seq);
            }
            read_vector(&mut Reader::new(&writer.into_bytes()))
        };
        assert_eq!(read(&[(1, 2), (2, 1)]), Ok([(ReplicaId(1), 2), (ReplicaId(2), 1)].into_iter().collect()));
        for entries in [&[(2, 1), (1, 2)][..], &[(1, 2), (1, 3)], &[(1, 0)]] {
            assert!(matches!(read(entries), Err(DecodeError::NotCanonical { .. })), "{entries:?}");
        }
    }
}
