//! Changes, and batches of them as they travel.
//!
//! ```text
//! envelope   "CRB" version(1) | body | key id (4, big endian) | MAC (16)
//! body       CBOR array: replica (16 bytes), seq, more, hlc, context, number of changes, changes
//! context    [replica (16 bytes), seq]*, in the order of replica ids, without the writer itself
//! change     head(1) [namespace] [stamp] [depth] name* [length] operation
//! head       low 4 bits: operation; 16: another namespace than the change before follows (varint, at first 0);
//!            32: a stamp other than the batch's hlc follows (signed, stamp minus hlc); 64: more than one name, their number follows
//! operation  0 register, 1 growing counter, 2 counter, 3 set, 4 row, 5 and 6 register written with one value or
//!            none replaced (value only); 7..=15 unknown here: length and bytes, stored and forwarded
//! ```
//! Dots inside changes are relative to the context and to the batch's own sequence ([`DotTable`]). So a
//! batch cannot name anything that its context does not cover: there is no form for it.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

pub use crate::changes::{CellWrite, ChangeRef, Changes};
use crate::dot::{BatchId, ReplicaId};
use crate::error::DecodeError;
use crate::hlc::Hlc;
use crate::object::{Name, Op};
use crate::pack::{CHANGES_MAX, DotTable, REPLICAS_MAX, SEQ_MAX, Writer};
use crate::vector::VersionVector;

/// Format version of batches. 0 until the first release: golden bytes change deliberately.
pub const BATCH_VERSION: u8 = 0;
/// Largest encoded batch. Larger groups are split with `more` before dots are given.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes of a MAC: HMAC-SHA-256 cut to 128 bits, as RFC 4868 cuts it.
pub const MAC_BYTES: usize = 16;

const MAGIC: &[u8; 3] = b"CRB";
const TRAILER_BYTES: usize = 4 + MAC_BYTES;
pub(crate) const HEAD_NAMESPACE: u8 = 16;
pub(crate) const HEAD_STAMP: u8 = 32;
pub(crate) const HEAD_DEPTH: u8 = 64;

/// The site of a network that a change belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Namespace(pub u32);

impl Namespace {
    /// What all sites of a network share.
    pub const NETWORK: Self = Self(0);
}

/// One change: where, when, what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Site of the network.
    pub namespace: Namespace,
    /// Names from the root to the leaf, 1 to [`PATH_DEPTH_MAX`].
    pub path: Vec<Name>,
    /// Write stamp. May exceed the batch's hlc.
    pub stamp: Hlc,
    /// What happens there.
    pub content: Content,
}

/// The operation of a change, known here or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// An operation that this build applies.
    Op(Op),
    /// An operation of a later version: stored and forwarded, applied after the upgrade.
    Unknown {
        /// Its number, 7 to 15.
        code: u8,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// What stands in front of a batch's changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Writer and sequence.
    pub id: BatchId,
    /// The next batch of this replica belongs to this one.
    pub more: bool,
    /// Commit clock, monotone per replica.
    pub hlc: Hlc,
    /// What must be applied first, as far as it changed since the batch before or is named here; without the
    /// writer's own batches, which always come first.
    pub context: VersionVector,
}

/// A batch with its changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The header.
    pub header: BatchHeader,
    /// The changes; change i has the dot (replica, seq, i).
    pub changes: Vec<Change>,
}

/// A batch as it arrived, checked as far as its header.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The header.
    pub header: BatchHeader,
    /// Key of the MAC.
    pub key_id: u32,
    /// The MAC over [`Envelope::signed`].
    pub mac: [u8; MAC_BYTES],
    /// The bytes that the MAC covers.
    pub signed: &'a [u8],
    /// Number of changes.
    pub change_count: u32,
    changes: &'a [u8],
}

impl BatchHeader {
    /// The replicas that dots are relative to: the writer first, then the context.
    fn table(&self) -> DotTable {
        let own = (self.id.replica, self.id.seq);
        DotTable::new(core::iter::once(own).chain(self.context.iter()))
    }
}

impl Batch {
    /// The bytes to be signed: everything but the trailer's MAC. Append it with [`seal`].
    ///
    /// # Panics
    /// When a change names a dot that the header's context does not cover.
    pub fn to_signed_bytes(&self, key_id: u32) -> Vec<u8> {
        let table = self.header.table();
        let mut writer = Writer::new();
        let mut namespace = Namespace::default();
        for change in &self.changes {
            change.encode(&mut namespace, self.header.hlc, &mut writer, &table);
        }
        let mut bytes = Vec::with_capacity(writer.len() + 64 + 24 * self.header.context.len() + TRAILER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.push(BATCH_VERSION);
        let mut encoder = Encoder::new(&mut bytes);
        self.header
            .encode(self.changes.len() as u32, &writer.into_bytes(), &mut encoder)
            .expect("writing to a vector does not fail");
        bytes.extend_from_slice(&key_id.to_be_bytes());
        bytes
    }
}

/// Appends the MAC to the bytes that it was made over.
pub fn seal(mut signed: Vec<u8>, mac: [u8; MAC_BYTES]) -> Vec<u8> {
    signed.extend_from_slice(&mac);
    signed
}

impl BatchHeader {
    fn encode(
        &self,
        count: u32,
        changes: &[u8],
        encoder: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
        encoder.array(7)?.bytes(&self.id.replica.to_bytes())?.u64(self.id.seq)?;
        encoder.bool(self.more)?.u64(self.hlc.0)?.array(self.context.len() as u64 * 2)?;
        for (replica, seq) in self.context.iter() {
            encoder.bytes(&replica.to_bytes())?.u64(seq)?;
        }
        encoder.u32(count)?.bytes(changes)?;
        Ok(())
    }
}

impl<'a> Envelope<'a> {
    /// Reads the header and finds the changes, without reading them.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no batch.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > BATCH_BYTES_MAX {
            let (value, bound) = (bytes.len() as u64, BATCH_BYTES_MAX as u64);
            return Err(DecodeError::Limit { what: "bytes of a batch", value, bound });
        }
        let body_bytes =
            bytes.len().checked_sub(4 + TRAILER_BYTES).ok_or(DecodeError::Truncated { at: bytes.len() })?;
        if &bytes[..3] != MAGIC {
            return Err(DecodeError::Invalid { what: "magic number of a batch", at: 0 });
        }
        if bytes[3] != BATCH_VERSION {
            return Err(DecodeError::Version { found: bytes[3], known: BATCH_VERSION });
        }
        let (signed, mac) = bytes.split_at(bytes.len() - MAC_BYTES);
        let (body, key_id) = signed[4..].split_at(body_bytes);
        let fixed = |_| DecodeError::Truncated { at: bytes.len() };
        let key_id = u32::from_be_bytes(key_id.try_into().map_err(fixed)?);
        let mac = mac.try_into().map_err(fixed)?;
        let mut decoder = Decoder::new(body);
        let (header, change_count, changes) = parse_body(&mut decoder).map_err(|error| match error {
            BodyError::Cbor(error) if error.is_end_of_input() => DecodeError::Truncated { at: 4 + body_bytes },
            BodyError::Cbor(_) => DecodeError::Invalid { what: "field of a batch", at: 4 },
            BodyError::Content(error) => error,
        })?;
        if decoder.position() != body.len() {
            return Err(DecodeError::Trailing { at: 4 + decoder.position() });
        }
        Ok(Self { header, key_id, mac, signed, change_count, changes })
    }

    /// The changes one after the other.
    pub fn changes(&self) -> Changes<'a> {
        Changes::new(self.changes, self.header.table(), self.header.id, self.header.hlc, self.change_count)
    }

    /// Reads every change: true when this build knows the kinds of all of them.
    ///
    /// # Errors
    /// [`DecodeError`] for a change that does not decode.
    pub fn knows_all(&self) -> Result<bool, DecodeError> {
        let mut changes = self.changes();
        let mut all = true;
        while let Some((_, change)) = changes.next()? {
            all &= !matches!(change, ChangeRef::Change(change) if matches!(change.content, Content::Unknown { .. }));
        }
        Ok(all)
    }

    /// The whole batch.
    ///
    /// # Errors
    /// [`DecodeError`] for a change that does not decode.
    pub fn to_batch(&self) -> Result<Batch, DecodeError> {
        // The count was checked against the bytes; a list that doubles as it grows would take three times that.
        let mut changes = Vec::with_capacity(self.change_count as usize);
        let mut iterator = self.changes();
        while let Some((_, change)) = iterator.next()? {
            changes.push(change.into_change());
        }
        Ok(Batch { header: self.header.clone(), changes })
    }
}

enum BodyError {
    Cbor(minicbor::decode::Error),
    Content(DecodeError),
}

impl From<minicbor::decode::Error> for BodyError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Cbor(error)
    }
}

impl From<DecodeError> for BodyError {
    fn from(error: DecodeError) -> Self {
        Self::Content(error)
    }
}

fn parse_body<'a>(decoder: &mut Decoder<'a>) -> Result<(BatchHeader, u32, &'a [u8]), BodyError> {
    let at = |decoder: &Decoder<'_>| 4 + decoder.position();
    let fields = decoder.array()?.filter(|fields| *fields >= 7);
    let fields = fields.ok_or(DecodeError::Invalid { what: "number of fields", at: 4 })?;
    let id = BatchId { replica: parse_replica(decoder)?, seq: parse_seq(decoder)? };
    let more = decoder.bool()?;
    let hlc = Hlc(decoder.u64()?);
    let start = at(decoder);
    let length = decoder.array()?.unwrap_or(u64::MAX);
    let (entries, bound) = (length / 2, REPLICAS_MAX as u64);
    if entries > bound {
        return Err(DecodeError::Limit { what: "entries of a context", value: entries, bound }.into());
    }
    if length % 2 != 0 {
        return Err(DecodeError::Invalid { what: "length of a context", at: start }.into());
    }
    let mut context = VersionVector::new();
    let mut last = None;
    for _ in 0..entries {
        let start = at(decoder);
        let (replica, seq) = (parse_replica(decoder)?, parse_seq(decoder)?);
        if last.is_some_and(|last| last >= replica) || replica == id.replica {
            return Err(DecodeError::NotCanonical { what: "order of a context", at: start }.into());
        }
        last = Some(replica);
        context.advance(replica, seq);
    }
    let count = decoder.u32()?;
    let changes = decoder.bytes()?;
    // A change takes at least three bytes: head, the length of its name, and its operation.
    let bound = (changes.len() as u64 / 3).min(CHANGES_MAX.into());
    if u64::from(count) > bound {
        return Err(DecodeError::Limit { what: "number of changes", value: count.into(), bound }.into());
    }
    // Fields that a later minor version adds are skipped, but stay in the bytes that are forwarded.
    for _ in 7..fields.min(32) {
        match decoder.datatype()? {
            Type::Array | Type::Map => return Err(DecodeError::Invalid { what: "added field", at: at(decoder) }.into()),
            _ => decoder.skip()?,
        }
    }
    Ok((BatchHeader { id, more, hlc, context }, count, changes))
}

fn parse_replica(decoder: &mut Decoder<'_>) -> Result<ReplicaId, BodyError> {
    let at = 4 + decoder.position();
    let bytes = decoder.bytes()?.try_into().map_err(|_| DecodeError::Invalid { what: "replica id", at })?;
    Ok(ReplicaId::from_bytes(bytes))
}

fn parse_seq(decoder: &mut Decoder<'_>) -> Result<u64, BodyError> {
    let at = 4 + decoder.position();
    match decoder.u64()? {
        0 => Err(DecodeError::Invalid { what: "sequence 0", at }.into()),
        value if value > SEQ_MAX => Err(DecodeError::Limit { what: "sequence", value, bound: SEQ_MAX }.into()),
        seq => Ok(seq),
    }
}

/// The number of an operation in the head of its change.
pub(crate) fn op_code(op: &Op) -> u8 {
    match op {
        Op::Register(delta) => match (delta.replaces.len(), delta.retires.is_empty(), &delta.write) {
            (1, true, Some(_)) => 5,
            (0, true, Some(_)) => 6,
            _ => 0,
        },
        Op::GCounter(_) => 1,
        Op::PnCounter(_) => 2,
        Op::Set(_) => 3,
        Op::Row(_) => 4,
    }
}

impl Change {
    fn encode(&self, namespace: &mut Namespace, hlc: Hlc, writer: &mut Writer, table: &DotTable) {
        let code = match &self.content {
            Content::Op(op) => op_code(op),
            Content::Unknown { code, .. } => *code,
        };
        let mut head = code;
        head |= if self.namespace == *namespace { 0 } else { HEAD_NAMESPACE };
        head |= if self.stamp == hlc { 0 } else { HEAD_STAMP };
        head |= if self.path.len() == 1 { 0 } else { HEAD_DEPTH };
        writer.byte(head);
        if head & HEAD_NAMESPACE != 0 {
            writer.varint(self.namespace.0.into());
            *namespace = self.namespace;
        }
        if head & HEAD_STAMP != 0 {
            writer.signed(i128::from(self.stamp.0) - i128::from(hlc.0));
        }
        if head & HEAD_DEPTH != 0 {
            writer.varint(self.path.len() as u64);
        }
        self.path.iter().for_each(|name| writer.bytes(name));
        match &self.content {
            Content::Unknown { bytes, .. } => writer.bytes(bytes),
            Content::Op(Op::Register(delta)) if code >= 5 => {
                delta.replaces.iter().for_each(|dot| writer.dot(*dot, table));
                delta.write.iter().for_each(|value| writer.value(value));
            }
            Content::Op(op) => op.encode(writer, table),
        }
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
