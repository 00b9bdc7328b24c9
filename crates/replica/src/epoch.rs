//! Membership: a chain of numbered records, each signed with the cluster's CA key.

use std::collections::BTreeMap;

use crdt::ReplicaId;
use crdt::error::DecodeError;
use crdt::pack::{REPLICAS_MAX, Reader, SEQ_MAX, Writer};

/// Longest node id.
pub const NODE_ID_BYTES_MAX: usize = 63;
/// Most members: one a slot.
pub const MEMBERS_MAX: usize = 64;

/// Who is in from this epoch on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Epoch {
    /// Ascending from 1.
    pub number: u64,
    /// Members by node id.
    pub members: BTreeMap<String, Member>,
    /// Replica ids of evicted members, each with the greatest sequence that any survivor received. What
    /// comes behind it is refused; collection waits until everything up to it is applied.
    pub seals: BTreeMap<ReplicaId, u64>,
    /// Least protocol version that a member must speak.
    pub version_min: u16,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// Residue class of its row ids, 1 to 64, for life.
    pub slot: u8,
}

impl Epoch {
    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.varint(self.number);
        writer.varint(self.version_min.into());
        writer.varint(self.members.len() as u64);
        for (node, member) in &self.members {
            writer.bytes(node.as_bytes());
            writer.byte(member.slot);
        }
        writer.varint(self.seals.len() as u64);
        for (replica, seq) in &self.seals {
            writer.raw(&replica.to_bytes());
            writer.varint(*seq);
        }
        writer.into_bytes()
    }

    /// The inverse of [`Epoch::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no epoch record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut epoch = Self { number: reader.varint()?, ..Self::default() };
        epoch.version_min = reader.bounded("version", u16::MAX.into())? as u16;
        for _ in 0..reader.bounded("number of members", MEMBERS_MAX as u64)? {
            let at = reader.at();
            let node = reader.bytes("node id length", NODE_ID_BYTES_MAX)?;
            let node = core::str::from_utf8(node).map_err(|_| DecodeError::Invalid { what: "node id", at })?;
            let slot = reader.byte()?;
            if !(1..=MEMBERS_MAX).contains(&slot.into()) {
                return Err(DecodeError::Invalid { what: "slot of a member", at });
            }
            // One record has one form; above all, nobody stands in it twice with different slots.
            if epoch.members.last_key_value().is_some_and(|(last, _)| last.as_str() >= node) {
                return Err(DecodeError::NotCanonical { what: "order of members", at });
            }
            epoch.members.insert(node.to_owned(), Member { slot });
        }
        for _ in 0..reader.bounded("number of seals", REPLICAS_MAX as u64)? {
            let at = reader.at();
            let replica = reader.raw(ReplicaId::BYTES)?.try_into();
            let replica = replica.map_err(|_| DecodeError::Invalid { what: "replica id", at })?;
            let replica = ReplicaId::from_bytes(replica);
            if epoch.seals.last_key_value().is_some_and(|(last, _)| *last >= replica) {
                return Err(DecodeError::NotCanonical { what: "order of seals", at });
            }
            epoch.seals.insert(replica, reader.bounded("sequence", SEQ_MAX)?);
        }
        reader.finish()?;
        Ok(epoch)
    }
}

/// An epoch record as it travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedEpoch {
    /// [`Epoch::to_bytes`].
    pub bytes: Vec<u8>,
    /// Over `bytes`, by the CA.
    pub signature: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An epoch of these members, as somebody might write it who does not sort.
    fn record(members: &[(&str, u8)], seals: &[(u128, u64)]) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.varint(1);
        writer.varint(1);
        writer.varint(members.len() as u64);
        for (node, slot) in members {
            writer.bytes(node.as_bytes());
            writer.byte(*slot);
        }
        writer.varint(seals.len() as u64);
        for (replica, seq) in seals {
            writer.raw(&replica.to_be_bytes());
            writer.varint(*seq);
        }
        writer.into_bytes()
    }

    #[test]
    fn a_record_round_trips() {
        let bytes = record(&[("a", 1), ("b", 64)], &[(1, 0), (2, 9)]);
        assert_eq!(Epoch::from_bytes(&bytes).map(|epoch| epoch.to_bytes()), Ok(bytes));
    }

    #[test]
    fn a_record_that_names_somebody_twice_is_refused() {
        for members in [&[("a", 1), ("a", 2)], &[("b", 1), ("a", 2)]] {
            let refused = Epoch::from_bytes(&record(members, &[]));
            assert!(matches!(refused, Err(DecodeError::NotCanonical { what: "order of members", .. })));
        }
        let refused = Epoch::from_bytes(&record(&[], &[(7, 3), (7, 5)]));
        assert!(matches!(refused, Err(DecodeError::NotCanonical { what: "order of seals", .. })));
    }

    #[test]
    fn a_slot_outside_the_residue_classes_is_refused() {
        for slot in [0, 65] {
            let refused = Epoch::from_bytes(&record(&[("a", slot)], &[]));
            assert!(matches!(refused, Err(DecodeError::Invalid { what: "slot of a member", .. })));
        }
    }
}
