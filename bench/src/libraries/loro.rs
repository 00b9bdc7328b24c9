//! `loro`: one root map, one commit and one export of the updates since the last for each batch.

use loro::{ExportMode, LoroDoc, LoroMap, LoroValue, ValueOrContainer};

use crate::replica::{Outcome, Replica, identity};
use crate::workload::{Cell, Cells};

const ROOT: &str = "cells";

/// A document with one map.
pub(crate) struct Loro {
    doc: LoroDoc,
    map: LoroMap,
}

impl Replica for Loro {
    const NAME: &'static str = "loro";
    const CONDITIONS: &'static str = "LoroMap, export of updates since the last batch";

    /// Single updates cost it much more than batches; at full count it alone would run for minutes.
    fn update_count(batch_size: usize) -> usize {
        if batch_size == 1 { 200_000 } else { 500_000 }
    }

    fn open(writer: u8) -> Outcome<Self> {
        let doc = LoroDoc::new();
        doc.set_peer_id(identity(writer))?;
        let map = doc.get_map(ROOT);
        Ok(Self { doc, map })
    }

    fn write(&mut self, cells: &[Cell]) -> Outcome<Vec<u8>> {
        let before = self.doc.oplog_vv();
        for cell in cells {
            self.map.insert(str::from_utf8(&cell.key)?, LoroValue::from(cell.value.to_vec()))?;
        }
        self.doc.commit();
        Ok(self.doc.export(ExportMode::updates(&before))?)
    }

    fn apply(&mut self, batch: &[u8]) -> Outcome<()> {
        let status = self.doc.import(batch)?;
        match status.pending {
            None => Ok(()),
            Some(missing) => Err(format!("updates wait for others: {missing:?}").into()),
        }
    }

    fn cells(&self) -> Outcome<Cells> {
        let mut cells = Cells::new();
        let mut foreign = None;
        self.map.for_each(|key, value| match value {
            ValueOrContainer::Value(LoroValue::Binary(bytes)) => {
                cells.insert(key.as_bytes().to_vec(), bytes.to_vec());
            }
            _ => foreign = Some(key.to_owned()),
        });
        match foreign {
            None => Ok(cells),
            Some(key) => Err(format!("the value of {key} is not bytes").into()),
        }
    }
}
