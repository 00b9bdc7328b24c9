//! The writing side: everything that is encoded before a clock starts.

use crate::batches::Batches;
use crate::failure::Failure;
use crate::replica::Replica;
use crate::workload::{Cell, Cells, Workload};

/// Cells in one batch of the load. Large enough that the slowest library loads in seconds, small
/// enough that decoding one does not leave its mark on a receiver's resident memory.
const LOAD_BATCH: usize = 1_000;

/// Updates of the run with three writers: enough that most keys were last written by any of the
/// three. Fewer flatter `yrs-v2`, whose updates name the items that they replace: while these are
/// still the load's, which one writer wrote, that column packs to almost nothing.
const THREE_WRITERS_UPDATES: usize = 100_000;

/// What one writer sent: the load, then the updates.
pub(crate) struct Sent {
    pub(crate) load: Batches,
    pub(crate) updates: Batches,
    pub(crate) update_count: usize,
}

impl Sent {
    /// Bytes on the wire for one update beside its key and value.
    pub(crate) fn metadata_bytes(&self) -> f64 {
        beside_key_and_value(&self.updates, self.update_count)
    }
}

/// What the run with three writers cost on the wire.
pub(crate) struct ThreeWriters {
    pub(crate) metadata_bytes: f64,
    pub(crate) update_count: usize,
}

/// Writes the load and `update_count` updates on one replica.
pub(crate) fn send<R: Replica>(workload: &Workload, batch_size: usize, update_count: usize) -> Result<Sent, Failure> {
    let mut writer = open::<R>(1)?;
    let mut load = Batches::default();
    for cells in workload.load().chunks(LOAD_BATCH) {
        load.push(&write(&mut writer, cells)?);
    }
    let mut updates = Batches::default();
    for cells in batches(workload, batch_size, update_count) {
        updates.push(&write(&mut writer, &cells)?);
    }
    Ok(Sent { load, updates, update_count })
}

/// Lets three replicas write batches of `batch_size` in turn, each after it has seen all before;
/// `at_most` so many updates, for libraries and runs that clock fewer.
pub(crate) fn three_writers<R: Replica>(
    workload: &Workload,
    batch_size: usize,
    at_most: usize,
) -> Result<ThreeWriters, Failure> {
    let update_count = THREE_WRITERS_UPDATES.min(at_most);
    let mut replicas = [open::<R>(1)?, open::<R>(2)?, open::<R>(3)?];
    for cells in workload.load().chunks(LOAD_BATCH) {
        exchange(&mut replicas, cells)?;
    }
    let mut updates = Batches::default();
    for cells in batches(workload, batch_size, update_count) {
        // Another replica writes each time, or the figure would be that of one actor.
        replicas.rotate_left(1);
        updates.push(&exchange(&mut replicas, &cells)?);
    }
    let expected = workload.expected(update_count);
    for replica in &replicas {
        compare::<R>(replica, &expected)?;
    }
    Ok(ThreeWriters { metadata_bytes: beside_key_and_value(&updates, update_count), update_count })
}

/// Fails unless the replica holds exactly the expected values.
pub(crate) fn compare<R: Replica>(replica: &R, expected: &Cells) -> Result<(), Failure> {
    let held = replica.cells().map_err(Failure::library(R::NAME, "list its cells"))?;
    let right = expected.iter().filter(|(key, value)| held.get(*key) == Some(value)).count();
    let unexpected = held.keys().filter(|key| !expected.contains_key(*key)).count();
    if right == expected.len() && unexpected == 0 {
        return Ok(());
    }
    let missing_or_wrong = expected.len() - right;
    Err(Failure::WrongValues { library: R::NAME, missing_or_wrong, unexpected })
}

/// The first replica writes, all others apply.
fn exchange<R: Replica>(replicas: &mut [R; 3], cells: &[Cell]) -> Result<Vec<u8>, Failure> {
    let [writer, others @ ..] = replicas;
    let batch = write(writer, cells)?;
    for other in others {
        other.apply(&batch).map_err(Failure::library(R::NAME, "apply a batch"))?;
    }
    Ok(batch)
}

fn open<R: Replica>(writer: u8) -> Result<R, Failure> {
    R::open(writer).map_err(Failure::library(R::NAME, "open a replica"))
}

fn write<R: Replica>(writer: &mut R, cells: &[Cell]) -> Result<Vec<u8>, Failure> {
    writer.write(cells).map_err(Failure::library(R::NAME, "write a batch"))
}

/// The first `update_count` updates in batches; the last batch may be short.
fn batches(workload: &Workload, batch_size: usize, update_count: usize) -> impl Iterator<Item = Vec<Cell>> + '_ {
    let mut updates = workload.updates().take(update_count);
    std::iter::from_fn(move || {
        let batch: Vec<Cell> = updates.by_ref().take(batch_size).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

fn beside_key_and_value(updates: &Batches, update_count: usize) -> f64 {
    updates.byte_count() as f64 / update_count as f64 - crate::workload::CELL_BYTES as f64
}
