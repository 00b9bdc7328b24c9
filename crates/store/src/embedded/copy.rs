//! The store as a whole: read at one moment while it is written, and made anew out of a backup.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::format;
use super::table::{Slot, Table};
use super::tree::Tree;
use crate::archive::ArchiveError;
use crate::copying::{Batches, StoredPair};
use crate::frame;
use crate::import::{ArchivedPairs, vacant};

/// A batch is handed on when it has so many bytes: bounds memory.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes that are put in order before they are taken into the tree: bounds memory, and the number of tables.
const SORTED_BYTES: usize = 32 << 20;

/// All pairs as of now: those of the tree, then the frozen table's, then the table's, so that of two with one key the later
/// one counts. What is read of the tree is held by it until the last batch was taken or this is dropped; of the table,
/// which goes on changing, a copy is made.
///
/// SUBTLE: a checkpoint may take the frozen table into the tree before or after this moment. It makes no difference, since
/// the frozen one is read in either case.
pub(super) fn batches(tree: &Tree, frozen: Option<Arc<Table>>, table: &Table) -> Batches {
    let latest: Vec<StoredPair> = table.slots().map(pair).collect();
    let mut frozen_at = 0;
    let of_frozen = std::iter::from_fn(move || {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for slot in frozen.as_ref()?.slots().skip(frozen_at) {
            let pair = pair(slot);
            bytes += size(&pair);
            batch.push(pair);
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        frozen_at += batch.len();
        (!batch.is_empty()).then_some(Ok(batch))
    });
    Box::new(tree.batches(BATCH_BYTES).chain(of_frozen).chain(std::iter::once(Ok(latest))))
}

fn pair(slot: &Slot) -> StoredPair {
    StoredPair { key: slot.key.to_vec(), value: slot.body.as_ref().map(|body| frame::seal(&slot.key, body)) }
}

fn size(pair: &StoredPair) -> usize {
    pair.key.len() + pair.value.as_ref().map_or(0, Vec::len)
}

/// Makes a store in the state folder `folder`.
pub(crate) fn import(folder: &Path, batches: ArchivedPairs<'_>) -> Result<(), ArchiveError> {
    let place = folder.join("records");
    let is_vacant = ["records", "log", "ledger"].iter().all(|part| !folder.join(part).exists());
    vacant(is_vacant, || folder.display().to_string())?;
    format::check(folder)?;
    let tree = Tree::at(&place)?;
    let (mut sorted, mut bytes) = (BTreeMap::new(), 0);
    for batch in batches {
        for pair in batch? {
            bytes += size(&pair);
            sorted.insert(pair.key, pair.value);
        }
        if bytes >= SORTED_BYTES {
            tree.ingest(std::mem::take(&mut sorted).into_iter())?;
            bytes = 0;
        }
    }
    tree.ingest(sorted.into_iter())?;
    crate::ledger::sync_folder(folder)?;
    Ok(())
}
