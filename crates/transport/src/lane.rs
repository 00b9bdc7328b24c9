//! What a message is for, and how it may travel.

/// Who a message is for at the other end. One byte on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// A message of `replica`, as `replica::message` encodes it.
    Replica,
    /// A packet of [`crate::membership`].
    Membership,
}

/// How a message may travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Delivery {
    /// As a datagram if it is of a kind that is pulled or told again when lost, and fits one; else in order.
    Auto,
    /// In order with all other messages of this link that travel in order, and not lost while the link is up.
    InOrder,
}

/// What a message holds, for figures. Told from the lane and the kind byte of a replica message; nothing else of the
/// message is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// First words, refusals.
    Hello = 0,
    /// Vectors and clocks.
    Digest = 1,
    /// What is wanted of the log.
    Pull = 2,
    /// Batches.
    Batches = 3,
    /// Epoch records.
    Epochs = 4,
    /// Snapshots: manifests, chunks and requests for them.
    Snapshot = 5,
    /// Shard digests.
    Audit = 6,
    /// SWIM.
    Membership = 7,
    /// A kind that this build does not know.
    Other = 8,
}

impl Lane {
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::Replica => 0,
            Self::Membership => 1,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Replica),
            1 => Some(Self::Membership),
            _ => None,
        }
    }
}

impl Kind {
    /// Every kind, in the order of [`Kind::index`].
    pub const ALL: [Self; 9] = [
        Self::Hello,
        Self::Digest,
        Self::Pull,
        Self::Batches,
        Self::Epochs,
        Self::Snapshot,
        Self::Audit,
        Self::Membership,
        Self::Other,
    ];

    /// Place in [`Kind::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name of the kind as a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Digest => "digest",
            Self::Pull => "pull",
            Self::Batches => "batches",
            Self::Epochs => "epochs",
            Self::Snapshot => "snapshot",
            Self::Audit => "audit",
            Self::Membership => "membership",
            Self::Other => "other",
        }
    }

    /// The kind of a message.
    pub fn of(lane: Lane, bytes: &[u8]) -> Self {
        match (lane, bytes.get(1)) {
            (Lane::Membership, _) => Self::Membership,
            (Lane::Replica, Some(0 | 14)) => Self::Hello,
            (Lane::Replica, Some(1)) => Self::Digest,
            (Lane::Replica, Some(2)) => Self::Pull,
            (Lane::Replica, Some(3)) => Self::Batches,
            (Lane::Replica, Some(4 | 7..=11)) => Self::Snapshot,
            (Lane::Replica, Some(5 | 6)) => Self::Epochs,
            (Lane::Replica, Some(12 | 13)) => Self::Audit,
            (Lane::Replica, _) => Self::Other,
        }
    }

    /// True for what is told or pulled again when it is lost, so that a datagram is good enough. A lost hello would
    /// cost a retry interval, and a snapshot is asked for in order.
    pub(crate) const fn survives_loss(self) -> bool {
        matches!(self, Self::Digest | Self::Pull | Self::Batches | Self::Membership)
    }
}

#[cfg(test)]
mod tests {
    use replica::message::{Digest, Hello, Message, Pull, Times};

    use super::*;

    #[test]
    fn kinds_are_told_from_messages_as_replica_encodes_them() {
        let times = Times::default();
        let digest = Digest { row: Default::default(), heads: vec![], settled: None, heard: None, times };
        let messages = [
            (Message::Hello(Hello { cluster: 1, replicas: vec![], versions: (1, 1), heard: false }), Kind::Hello),
            (Message::Digest(digest), Kind::Digest),
            (Message::Pull(Pull { ranges: vec![], credit_bytes: 1 }), Kind::Pull),
            (Message::Batches(vec![]), Kind::Batches),
            (Message::WantEpochs(1), Kind::Epochs),
            (Message::Epochs(vec![]), Kind::Epochs),
            (Message::WantChunk(1, 1), Kind::Snapshot),
            (Message::SnapshotGone(1, 1), Kind::Snapshot),
            (Message::Refused(vec![]), Kind::Hello),
        ];
        for (message, kind) in messages {
            assert_eq!(Kind::of(Lane::Replica, &message.to_bytes()), kind, "{message:?}");
        }
        assert_eq!(Kind::of(Lane::Replica, &[]), Kind::Other);
        assert_eq!(Kind::of(Lane::Membership, &[]), Kind::Membership);
        assert!(Kind::ALL.iter().enumerate().all(|(place, kind)| kind.index() == place));
    }
}
