//! A plain hash map that takes every write as it comes: no CRDT, but the limit that one can come
//! near to. It decodes the same bytes as a CRDT, throws away all but the cells, and copies a new
//! value over the old one without an allocation.

use hashbrown::HashMap;

use crate::replica::{BareCells, Outcome, Replica};
use crate::workload::{Cell, Cells};

/// The map, and the CRDT whose bytes it reads; a receiver's CRDT stays empty.
pub(crate) struct PlainMap<Source> {
    source: Source,
    values: HashMap<Vec<u8>, Vec<u8>>,
}

impl<Source: BareCells> Replica for PlainMap<Source> {
    const NAME: &'static str = "plain-map";
    const CONDITIONS: &'static str = "the limit: the same bytes decoded into a hashbrown map, nothing joined";

    fn open(writer: u8) -> Outcome<Self> {
        Ok(Self { source: Source::open(writer)?, values: HashMap::new() })
    }

    fn write(&mut self, cells: &[Cell]) -> Outcome<Vec<u8>> {
        let batch = self.source.write(cells)?;
        self.apply(&batch)?;
        Ok(batch)
    }

    fn apply(&mut self, batch: &[u8]) -> Outcome<()> {
        let values = &mut self.values;
        Source::for_each_cell(batch, |key, value| match values.get_mut(key) {
            Some(held) => {
                held.clear();
                held.extend_from_slice(value);
            }
            None => {
                values.insert(key.to_vec(), value.to_vec());
            }
        })
    }

    fn cells(&self) -> Outcome<Cells> {
        Ok(self.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
