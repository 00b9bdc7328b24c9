//! Who wrote what: replica ids, batch ids and dots.
//!
//! A *dot* names one change for ever: the replica that made it, the sequence number of its batch and
//! its place in that batch (Preguiça et al., "Dotted Version Vectors", 2010). Everything in this crate
//! that says "replaces", "removes" or "names" does so with dots.

use core::fmt;

/// The only identity inside dots: 128 random bits, minted afresh whenever continuity is not proven.
///
/// SUBTLE: a replica id that is used again after its sequence was forgotten loses writes silently,
/// because peers take the new batches for duplicates. Minting another id costs one vector entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplicaId(pub u128);

impl ReplicaId {
    /// Length of the encoded form in bytes.
    pub const BYTES: usize = 16;

    /// Big-endian bytes, so that byte order and numeric order agree.
    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_be_bytes()
    }

    /// The inverse of [`ReplicaId::to_bytes`].
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Eight digits tell replicas apart for a person; the full id stands in `Debug`.
        write!(f, "{:08x}", self.0 >> 96)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One batch: what one writer made visible at once. Sequences start at 1 and have no holes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The writer.
    pub replica: ReplicaId,
    /// Contiguous per replica, from 1.
    pub seq: u64,
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.replica, self.seq)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Change `index` of batch `seq` of `replica`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The writer.
    pub replica: ReplicaId,
    /// Sequence number of the batch, from 1.
    pub seq: u64,
    /// Place inside the batch, from 0.
    pub index: u32,
}

impl Dot {
    /// A dot from its parts.
    pub const fn new(replica: ReplicaId, seq: u64, index: u32) -> Self {
        Self { replica, seq, index }
    }

    /// The batch that this change belongs to.
    pub const fn batch(&self) -> BatchId {
        BatchId { replica: self.replica, seq: self.seq }
    }

    /// Order of two changes of the *same* replica.
    pub const fn position(&self) -> (u64, u32) {
        (self.seq, self.index)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.replica, self.seq, self.index)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
