//! `automerge`: keys of the root object, one change for each batch.

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, Change, ROOT, ReadDoc, ScalarValue, ScalarValueRef, ValueRef};

use crate::replica::{Outcome, Replica, identity};
use crate::workload::{Cell, Cells};

/// A document whose root object is the map.
pub(crate) struct Automerge {
    doc: AutoCommit,
}

impl Replica for Automerge {
    const NAME: &'static str = "automerge";
    const CONDITIONS: &'static str = "keys of the root object, one change a batch";

    /// Its cost of a change grows with the document: at full count a run would take hours.
    fn update_count(batch_size: usize) -> usize {
        if batch_size == 1 { 60 } else { 3_000 }
    }

    fn open(writer: u8) -> Outcome<Self> {
        let mut actor = identity(writer).to_le_bytes().to_vec();
        actor.extend(identity(writer + 3).to_le_bytes());
        let doc = AutoCommit::new().with_actor(ActorId::from(actor));
        Ok(Self { doc })
    }

    fn write(&mut self, cells: &[Cell]) -> Outcome<Vec<u8>> {
        for cell in cells {
            let value = ScalarValue::Bytes(cell.value.to_vec());
            self.doc.put(ROOT, str::from_utf8(&cell.key)?, value)?;
        }
        self.doc.commit();
        match self.doc.get_last_local_change() {
            Some(change) => Ok(change.raw_bytes().to_vec()),
            None => Err("the commit left no change".into()),
        }
    }

    fn apply(&mut self, batch: &[u8]) -> Outcome<()> {
        // `load_incremental` is no faster and skips what it cannot read without an error.
        self.doc.apply_changes([Change::from_bytes(batch.to_vec())?])?;
        Ok(())
    }

    fn cells(&self) -> Outcome<Cells> {
        let mut cells = Cells::new();
        for item in self.doc.map_range(ROOT, ..) {
            let ValueRef::Scalar(ScalarValueRef::Bytes(bytes)) = item.value else {
                return Err(format!("the value of {} is not bytes", item.key).into());
            };
            cells.insert(item.key.as_bytes().to_vec(), bytes.to_vec());
        }
        Ok(cells)
    }
}
