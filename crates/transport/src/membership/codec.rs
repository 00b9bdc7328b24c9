//! Packets of SWIM.
//!
//! ```text
//! member:  length(u8) node id, generation(u64)
//! header:  sender member, sender incarnation(u16), receiver member, kind(u8), [member], [probe number(u8)]
//! update:  member, incarnation(u16), state(u8)
//! ```

use std::fmt;

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};

use crate::node_id::{NODE_ID_BYTES_MAX, NodeId};

/// A node in one of its lives: a greater generation takes the place of a smaller one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Life {
    pub(super) node: NodeId,
    pub(super) generation: u64,
}

impl Identity for Life {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { node: self.node.clone(), generation: self.generation.checked_add(1)? })
    }

    fn addr(&self) -> NodeId {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// Bytes that are no packet, or no room for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CodecError(&'static str);

impl fmt::Display for CodecError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SWIM packet: {}", self.0)
    }
}

impl std::error::Error for CodecError {}

#[derive(Clone, Copy, Debug)]
pub(super) struct PacketCodec;

fn put_life(life: &Life, bytes: &mut Vec<u8>) {
    let node = life.node.as_str().as_bytes();
    bytes.push(u8::try_from(node.len()).expect("a node id has at most 63 bytes"));
    bytes.extend_from_slice(node);
    bytes.extend_from_slice(&life.generation.to_be_bytes());
}

fn take<const BYTES: usize>(buf: &mut impl Buf) -> Result<[u8; BYTES], CodecError> {
    if buf.remaining() < BYTES {
        return Err(CodecError("it is cut"));
    }
    let mut bytes = [0; BYTES];
    buf.copy_to_slice(&mut bytes);
    Ok(bytes)
}

fn take_life(buf: &mut impl Buf) -> Result<Life, CodecError> {
    let [length] = take(buf)?;
    let length = usize::from(length);
    if length > NODE_ID_BYTES_MAX || buf.remaining() < length {
        return Err(CodecError("length of a node id"));
    }
    let mut node = [0; NODE_ID_BYTES_MAX];
    let node = node.get_mut(..length).ok_or(CodecError("length of a node id"))?;
    buf.copy_to_slice(node);
    let node = std::str::from_utf8(node).map_err(|_| CodecError("node id"))?;
    let node = NodeId::new(node).map_err(|_| CodecError("node id"))?;
    Ok(Life { node, generation: u64::from_be_bytes(take(buf)?) })
}

/// All or nothing: foca asks that a buffer without room is left as it was.
fn put(mut buf: impl BufMut, bytes: &[u8]) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError("no room"));
    }
    buf.put_slice(bytes);
    Ok(())
}

impl Codec<Life> for PacketCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Life>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = Vec::with_capacity(160);
        put_life(&header.src, &mut bytes);
        bytes.extend_from_slice(&header.src_incarnation.to_be_bytes());
        put_life(&header.dst, &mut bytes);
        let mut third = |kind: u8, life: &Life, probe: u8| {
            bytes.push(kind);
            put_life(life, &mut bytes);
            bytes.push(probe);
        };
        match &header.message {
            Message::PingReq { target, probe_number } => third(2, target, *probe_number),
            Message::IndirectPing { origin, probe_number } => third(3, origin, *probe_number),
            Message::IndirectAck { target, probe_number } => third(4, target, *probe_number),
            Message::ForwardedAck { origin, probe_number } => third(5, origin, *probe_number),
            Message::Ping(probe) => bytes.extend_from_slice(&[0, *probe]),
            Message::Ack(probe) => bytes.extend_from_slice(&[1, *probe]),
            Message::Announce => bytes.push(6),
            Message::Feed => bytes.push(7),
            Message::Gossip => bytes.push(8),
            Message::Broadcast => bytes.push(9),
            Message::TurnUndead => bytes.push(10),
        }
        put(buf, &bytes)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Life>, CodecError> {
        let src = take_life(&mut buf)?;
        let src_incarnation = u16::from_be_bytes(take(&mut buf)?);
        let dst = take_life(&mut buf)?;
        let [kind] = take(&mut buf)?;
        let third = match kind {
            2..=5 => Some(take_life(&mut buf)?),
            _ => None,
        };
        let probe_number = match kind {
            0..=5 => take::<1>(&mut buf)?[0],
            _ => 0,
        };
        let message = match (kind, third) {
            (0, _) => Message::Ping(probe_number),
            (1, _) => Message::Ack(probe_number),
            (2, Some(target)) => Message::PingReq { target, probe_number },
            (3, Some(origin)) => Message::IndirectPing { origin, probe_number },
            (4, Some(target)) => Message::IndirectAck { target, probe_number },
            (5, Some(origin)) => Message::ForwardedAck { origin, probe_number },
            (6, _) => Message::Announce,
            (7, _) => Message::Feed,
            (8, _) => Message::Gossip,
            (9, _) => Message::Broadcast,
            (10, _) => Message::TurnUndead,
            _ => return Err(CodecError("kind")),
        };
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<Life>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = Vec::with_capacity(80);
        put_life(member.id(), &mut bytes);
        bytes.extend_from_slice(&member.incarnation().to_be_bytes());
        bytes.push(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put(buf, &bytes)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Life>, CodecError> {
        let life = take_life(&mut buf)?;
        let incarnation = u16::from_be_bytes(take(&mut buf)?);
        let [state] = take(&mut buf)?;
        let state = match state {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(CodecError("state")),
        };
        Ok(Member::new(life, incarnation, state))
    }
}
