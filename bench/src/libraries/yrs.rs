//! `yrs`, the Rust port of Yjs: one root map, one transaction and one update for each batch.
//!
//! Both of its wire formats run: V1 is the faster one for single updates, V2 the smaller one for
//! batches. An update of a key that exists names the item that it replaces and not the key, which is
//! why its bytes beside key and value can be fewer than none.

use std::marker::PhantomData;

use yrs::encoding::read::Error as ReadError;
use yrs::updates::decoder::Decode;
use yrs::{Any, ClientID, Doc, Map, MapRef, Options, Out, Transact, TransactionMut, Update};

use crate::replica::{Outcome, Replica, identity};
use crate::workload::{Cell, Cells};

const ROOT: &str = "cells";

/// Identities have 53 bits in `yrs`, so that JavaScript can hold them.
const CLIENT_BITS: u32 = 53;

/// A document with one map, which speaks one of the two formats.
pub(crate) struct Yrs<Format> {
    doc: Doc,
    map: MapRef,
    format: PhantomData<Format>,
}

/// The first wire format.
pub(crate) struct V1;

/// The second, which packs each column of a batch.
pub(crate) struct V2;

/// A wire format and its name.
pub(crate) trait Format {
    /// For `Replica::NAME`.
    const NAME: &'static str;
    /// For `Replica::CONDITIONS`.
    const CONDITIONS: &'static str;

    /// What the transaction did.
    fn encode(transaction: &TransactionMut<'_>) -> Vec<u8>;

    /// The reverse.
    fn decode(batch: &[u8]) -> Result<Update, ReadError>;
}

impl Format for V1 {
    const NAME: &'static str = "yrs-v1";
    const CONDITIONS: &'static str = "Y.Map, V1 updates, garbage collection on";

    fn encode(transaction: &TransactionMut<'_>) -> Vec<u8> {
        transaction.encode_update_v1()
    }

    fn decode(batch: &[u8]) -> Result<Update, ReadError> {
        Update::decode_v1(batch)
    }
}

impl Format for V2 {
    const NAME: &'static str = "yrs-v2";
    const CONDITIONS: &'static str = "Y.Map, V2 updates, garbage collection on";

    fn encode(transaction: &TransactionMut<'_>) -> Vec<u8> {
        transaction.encode_update_v2()
    }

    fn decode(batch: &[u8]) -> Result<Update, ReadError> {
        Update::decode_v2(batch)
    }
}

impl<F: Format> Replica for Yrs<F> {
    const NAME: &'static str = F::NAME;
    const CONDITIONS: &'static str = F::CONDITIONS;

    /// It slows down as overwritten items pile up, so fewer updates flatter it.
    fn update_count(_batch_size: usize) -> usize {
        200_000
    }

    fn open(writer: u8) -> Outcome<Self> {
        let client_id = ClientID::new(identity(writer) >> (u64::BITS - CLIENT_BITS));
        let doc = Doc::with_options(Options { client_id, ..Options::default() });
        let map = doc.get_or_insert_map(ROOT);
        Ok(Self { doc, map, format: PhantomData })
    }

    fn write(&mut self, cells: &[Cell]) -> Outcome<Vec<u8>> {
        let mut transaction = self.doc.transact_mut();
        for cell in cells {
            let key = str::from_utf8(&cell.key)?;
            self.map.insert(&mut transaction, key, Any::Buffer(cell.value.as_slice().into()));
        }
        Ok(F::encode(&transaction))
    }

    fn apply(&mut self, batch: &[u8]) -> Outcome<()> {
        let update = F::decode(batch)?;
        self.doc.transact_mut().apply_update(update)?;
        Ok(())
    }

    fn cells(&self) -> Outcome<Cells> {
        let transaction = self.doc.transact();
        let mut cells = Cells::new();
        for (key, value) in self.map.iter(&transaction) {
            let Out::Any(Any::Buffer(bytes)) = value else {
                return Err(format!("the value of {key} is not bytes").into());
            };
            cells.insert(key.as_bytes().to_vec(), bytes.to_vec());
        }
        Ok(cells)
    }
}
