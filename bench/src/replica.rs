//! What a library must be able to do to stand in this bench.

use std::error::Error;

use crate::workload::{Cell, Cells};

/// A library's own error, kept as it is; the caller adds which library and which step it was.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Sizes of the measured batches: a write on its own, and a busy site's flush.
pub(crate) const BATCH_SIZES: [usize; 2] = [1, 100];

/// One replica of a map from text keys to byte values, in one library's hands.
///
/// The bench drives it in three ways:
/// - **writer**: `open`, then [`write`](Self::write) for the load (batches of 1,000 cells) and for
///   the updates (batches of 1 or 100). This is never inside a clock;
/// - **receiver**, in a process of its own: `open`, then [`apply`](Self::apply) for the load, and,
///   inside the clock, once for each batch of updates, in the order in which they were written;
/// - **three writers in turn**: each writes a batch and the other two apply it before the next one
///   writes, so no two writes are concurrent and all three end up equal.
pub(crate) trait Replica: Sized {
    /// The name in tables, in `results.json` and on the receiver's command line.
    const NAME: &'static str;

    /// What a reader must know to judge this library's figures: encoding, settings.
    const CONDITIONS: &'static str;

    /// How many updates a run makes at a batch size. It is 1,000,000 unless the library is too slow
    /// for the bench to end in minutes; a smaller count is named beside the figure.
    fn update_count(batch_size: usize) -> usize {
        let _ = batch_size;
        1_000_000
    }

    /// An empty replica. `writer` is 1, 2 or 3 and differs between the replicas of one run; the
    /// library widens it to an identity of the size that it uses in production.
    fn open(writer: u8) -> Outcome<Self>;

    /// Sets all `cells` in one local transaction and returns the bytes that a replica which has
    /// seen everything before needs to do the same: no snapshot, nothing that was sent before.
    fn write(&mut self, cells: &[Cell]) -> Outcome<Vec<u8>>;

    /// Decodes what another replica's `write` returned and joins it into this one. When it returns,
    /// the state is ready to be read: no decoding, joining or indexing is left for later.
    fn apply(&mut self, batch: &[u8]) -> Outcome<()>;

    /// Everything that the replica holds, for the comparison with the expected values.
    fn cells(&self) -> Outcome<Cells>;
}

/// A library whose bytes can be read for their keys and values alone, so that a plain map can show
/// the limit: the cost of the same bytes without a CRDT.
pub(crate) trait BareCells: Replica {
    /// Decodes what `write` returned, with all checks that `apply` makes before it joins, and hands
    /// out each key and value in order. What else the bytes carry is decoded and dropped.
    fn for_each_cell(batch: &[u8], take: impl FnMut(&[u8], &[u8])) -> Outcome<()>;
}

/// Widens the number of a writer to 64 random-looking bits: a library that writes identities with
/// variable length must not gain from small ones, which no production system has.
pub(crate) const fn identity(writer: u8) -> u64 {
    0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(writer as u64 + 1)
}
