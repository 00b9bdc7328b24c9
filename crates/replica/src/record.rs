//! What a node keeps on disk, and the order in which effects wait for it.
//!
//! A node writes *groups* of records. A group is atomic: after a crash all of it is there or nothing. Groups
//! become durable in the order in which they were written. What must not happen before a group is durable
//! is held back inside the node until [`crate::Node::handle_persisted`] is called with the group's ticket:
//! the type [`Durable`] marks what has passed that gate and exists for nothing else.

use crdt::error::DecodeError;
use crdt::{BatchId, ReplicaId};

/// Names one group of records. Tickets ascend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ticket(pub u64);

/// Names one record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RecordKey {
    /// Identity, clocks and vectors: one small record each.
    Meta(Meta),
    /// A batch of some replica, as its origin encoded it, behind its chain hash.
    Batch(BatchId),
    /// An object of the state that is stored as a whole, by [`crdt::Key::to_bytes`].
    Object(Vec<u8>),
    /// A part of an object whose type has parts ([`crdt::part`]): by [`crdt::Key::to_bytes`], and the part's name.
    Part(Vec<u8>, Vec<u8>),
    /// What the database shows of a row, by [`crate::host::RowId::to_bytes`].
    Shadow(Vec<u8>),
    /// A member's row of the matrix clock, by node id.
    Row(String),
    /// An epoch record, by number.
    Epoch(u64),
    /// A staged chunk of a snapshot, by its place.
    Chunk(u32),
    /// Outbox entries that a batch holds already, by the batch.
    Drained(BatchId),
    /// Remains of removals that wait for stability, by the removing batch; those that a snapshot brought, by the last
    /// batches that it brought.
    Remains(BatchId),
    /// A batch that is held back from applying or sending.
    Held(BatchId),
    /// An own group whose sending is held, by its first batch.
    Brake(BatchId),
    /// A part of what the objects of such a group were before it.
    Preimage(BatchId, u32),
}

/// The single records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Meta {
    /// Cluster, node and replica ids.
    Identity = 0,
    /// Upper bound of all moments that the clock gave.
    ClockBound = 1,
    /// Vector of the state.
    Applied = 2,
    /// Floors of the log with their chain hashes.
    Floors = 3,
    /// Last step that the database is known to hold, the number of the next, and the step that is on its way.
    Step = 4,
    /// A snapshot that is being fetched or joined.
    Install = 5,
    /// The stable cut.
    Stable = 6,
    /// Context that the last own batch claimed.
    Claimed = 8,
    /// What this node must not trust until it is mended: its state, its shadows, its database. Durable,
    /// because the next start may be an orderly one.
    Doubt = 9,
}

impl RecordKey {
    /// Bytes that sort like the keys of one kind: for stores with byte keys.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.tag()];
        match self {
            Self::Meta(meta) => bytes.push(*meta as u8),
            Self::Batch(batch)
            | Self::Drained(batch)
            | Self::Remains(batch)
            | Self::Held(batch)
            | Self::Brake(batch) => {
                bytes.extend_from_slice(&batch.replica.to_bytes());
                bytes.extend_from_slice(&batch.seq.to_be_bytes());
            }
            Self::Preimage(batch, part) => {
                bytes.extend_from_slice(&batch.replica.to_bytes());
                bytes.extend_from_slice(&batch.seq.to_be_bytes());
                bytes.extend_from_slice(&part.to_be_bytes());
            }
            Self::Object(key) | Self::Shadow(key) => bytes.extend_from_slice(key),
            Self::Part(key, part) => {
                let length = u32::try_from(key.len()).expect("names are bounded");
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(part);
            }
            Self::Row(node) => bytes.extend_from_slice(node.as_bytes()),
            Self::Epoch(number) => bytes.extend_from_slice(&number.to_be_bytes()),
            Self::Chunk(place) => bytes.extend_from_slice(&place.to_be_bytes()),
        }
        bytes
    }

    /// The inverse of [`RecordKey::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that name no record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (tag, rest) = bytes.split_first().ok_or(DecodeError::Truncated { at: 0 })?;
        let invalid = DecodeError::Invalid { what: "record key", at: 1 };
        let batch_of = |bytes: &[u8]| {
            let (replica, seq) = bytes.split_at_checked(ReplicaId::BYTES).ok_or(invalid)?;
            let replica = ReplicaId::from_bytes(replica.try_into().map_err(|_| invalid)?);
            Ok(BatchId { replica, seq: u64::from_be_bytes(seq.try_into().map_err(|_| invalid)?) })
        };
        let batch = || batch_of(rest);
        let number = || rest.try_into().map(u64::from_be_bytes).map_err(|_| invalid);
        Ok(match tag {
            0 => match rest {
                [code] => Self::Meta(Meta::from_code(*code).ok_or(invalid)?),
                _ => return Err(invalid),
            },
            1 => Self::Batch(batch()?),
            2 => Self::Object(rest.to_vec()),
            3 => Self::Shadow(rest.to_vec()),
            4 => Self::Row(String::from_utf8(rest.to_vec()).map_err(|_| invalid)?),
            5 => Self::Epoch(number()?),
            6 => Self::Chunk(u32::from_be_bytes(rest.try_into().map_err(|_| invalid)?)),
            7 => Self::Drained(batch()?),
            8 => Self::Remains(batch()?),
            9 => Self::Held(batch()?),
            10 => Self::Brake(batch()?),
            11 => {
                let (batch, part) = rest.split_last_chunk().ok_or(invalid)?;
                Self::Preimage(batch_of(batch)?, u32::from_be_bytes(*part))
            }
            12 => {
                let (length, rest) = rest.split_first_chunk().ok_or(invalid)?;
                let (key, part) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(invalid)?;
                Self::Part(key.to_vec(), part.to_vec())
            }
            _ => return Err(invalid),
        })
    }

    const fn tag(&self) -> u8 {
        match self {
            Self::Meta(_) => 0,
            Self::Batch(_) => 1,
            Self::Object(_) => 2,
            Self::Shadow(_) => 3,
            Self::Row(_) => 4,
            Self::Epoch(_) => 5,
            Self::Chunk(_) => 6,
            Self::Drained(_) => 7,
            Self::Remains(_) => 8,
            Self::Held(_) => 9,
            Self::Brake(_) => 10,
            Self::Preimage(..) => 11,
            Self::Part(..) => 12,
        }
    }
}

impl Meta {
    const ALL: [Self; 9] = [
        Self::Identity,
        Self::ClockBound,
        Self::Applied,
        Self::Floors,
        Self::Step,
        Self::Install,
        Self::Stable,
        Self::Claimed,
        Self::Doubt,
    ];

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|meta| *meta as u8 == code)
    }
}

/// A change of one record: its new bytes, or `None` to remove it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which record.
    pub key: RecordKey,
    /// Its bytes.
    pub value: Option<Vec<u8>>,
}

/// Records that become durable together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WriteGroup {
    /// To be handed back when the group is durable.
    pub ticket: Ticket,
    /// The changes, in order.
    pub records: Vec<Record>,
}

/// A record as it was found at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Its bytes.
    Intact(Vec<u8>),
    /// The record was there, and its checksum does not fit.
    Damaged,
}

/// Something that rests on a durable group. Only this module makes one, when the group's ticket has come
/// back; so an effect that takes a `Durable` cannot be asked for too early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// What rests on it.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What rests on it.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// Groups that are on their way to the disk, each with what waits for it.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    next: Ticket,
    waiting: std::collections::VecDeque<(Ticket, Vec<T>)>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { next: Ticket(1), waiting: std::collections::VecDeque::new() }
    }
}

impl<T> Gate<T> {
    /// A group with what may happen once it is durable.
    pub(crate) fn write(&mut self, records: Vec<Record>, then: Vec<T>) -> WriteGroup {
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        self.waiting.push_back((ticket, then));
        WriteGroup { ticket, records }
    }

    /// What may happen now that every group up to `ticket` is durable.
    pub(crate) fn open(&mut self, ticket: Ticket) -> Vec<Durable<T>> {
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|(waiting, _)| *waiting <= ticket) {
            let (_, then) = self.waiting.pop_front().expect("the front was just seen");
            ready.extend(then.into_iter().map(Durable));
        }
        ready
    }

    /// True while a group is on its way.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let batch = BatchId { replica: ReplicaId(7), seq: 9 };
        let mut keys: Vec<RecordKey> = Meta::ALL.into_iter().map(RecordKey::Meta).collect();
        keys.extend([
            RecordKey::Batch(batch),
            RecordKey::Object(vec![1, 2]),
            RecordKey::Part(vec![1, 2], vec![3]),
            RecordKey::Part(vec![], vec![]),
            RecordKey::Shadow(vec![]),
            RecordKey::Row("node_01".into()),
            RecordKey::Epoch(4),
            RecordKey::Chunk(5),
            RecordKey::Drained(batch),
            RecordKey::Remains(batch),
            RecordKey::Held(batch),
            RecordKey::Brake(batch),
            RecordKey::Preimage(batch, 3),
        ]);
        for key in keys {
            assert_eq!(RecordKey::from_bytes(&key.to_bytes()), Ok(key));
        }
        assert!(RecordKey::from_bytes(&[]).is_err() && RecordKey::from_bytes(&[99]).is_err());
    }

    #[test]
    fn a_key_with_bytes_left_over_names_nothing() {
        let mut key = RecordKey::Meta(Meta::Step).to_bytes();
        key.push(0);
        assert!(RecordKey::from_bytes(&key).is_err(), "two keys would name one record");
    }

    #[test]
    fn the_gate_opens_in_order_and_once() {
        let mut gate = Gate::default();
        let first = gate.write(Vec::new(), vec!["a"]);
        let second = gate.write(Vec::new(), vec!["b", "c"]);
        assert_eq!(gate.open(Ticket(0)), Vec::new());
        assert_eq!(gate.open(second.ticket), vec![Durable("a"), Durable("b"), Durable("c")]);
        assert_eq!(gate.open(first.ticket), Vec::new());
        assert!(!gate.is_waiting());
    }
}
