//! `crdts`: a bare hash map of last-writer-wins registers, the least that still converges. It keeps
//! no causality, no journal and no digest.
//!
//! The peer is made as fast as its types allow: keys are borrowed from the input, values are copied
//! once and whole, and a batch is decoded as a stream without a list in between. The encoding that
//! serde derives for `Vec<u8>` goes byte by byte and would be slower.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crdts::{CvRDT, LWWReg};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::replica::{BareCells, Outcome, Replica, identity};
use crate::workload::{Cell, Cells};

/// Time and actor, as wide as a hybrid logical clock and a UUID.
type Marker = (u64, u128);
type Register = LWWReg<ByteBuf, Marker>;

/// One update on the wire; `V` is an owned value to keep or a borrowed one to look at.
#[derive(Serialize, Deserialize)]
struct Update<'a, V> {
    #[serde(borrow)]
    key: &'a Bytes,
    register: LWWReg<V, Marker>,
}

/// A wall clock in microseconds in 2026: markers start here and not at zero, which would make them
/// shorter on the wire than those of any real system.
const FIRST_TIME: u64 = 1_795_000_000_000_000;

/// The map with the hasher of the standard library, as a user of `crdts` writes it.
pub(crate) type Crdts = RegisterMap<RandomState>;

/// The same with the fast hasher, to tell apart what hashing costs.
pub(crate) type CrdtsFastHash = RegisterMap<hashbrown::DefaultHashBuilder>;

/// A replica made of registers under one of the two hashers.
pub(crate) struct RegisterMap<S> {
    actor: u128,
    time: u64,
    registers: HashMap<Vec<u8>, Register, S>,
}

/// What a hasher adds to the name and the conditions.
pub(crate) trait Named {
    /// For `Replica::NAME`.
    const NAME: &'static str;
    /// For `Replica::CONDITIONS`.
    const CONDITIONS: &'static str;
}

impl Named for RandomState {
    const NAME: &'static str = "crdts";
    const CONDITIONS: &'static str =
        "HashMap<Vec<u8>, LWWReg<ByteBuf, (u64, u128)>>, standard hasher, postcard, borrowed keys";
}

impl Named for hashbrown::DefaultHashBuilder {
    const NAME: &'static str = "crdts-foldhash";
    const CONDITIONS: &'static str =
        "HashMap<Vec<u8>, LWWReg<ByteBuf, (u64, u128)>>, foldhash, postcard, borrowed keys";
}

impl<S: BuildHasher + Default + Named> Replica for RegisterMap<S> {
    const NAME: &'static str = S::NAME;
    const CONDITIONS: &'static str = S::CONDITIONS;

    fn open(writer: u8) -> Outcome<Self> {
        Ok(Self {
            actor: u128::from(identity(writer)) << 64 | u128::from(!identity(writer)),
            time: FIRST_TIME,
            registers: HashMap::default(),
        })
    }

    fn write(&mut self, cells: &[Cell]) -> Outcome<Vec<u8>> {
        let mut encoded = Vec::new();
        for cell in cells {
            // The clock also passes what was seen under this key, or the write would lose.
            let seen = self.registers.get(cell.key.as_slice()).map_or(0, |seen| seen.marker.0);
            self.time = self.time.max(seen) + 1;
            let register = LWWReg { val: ByteBuf::from(cell.value.to_vec()), marker: (self.time, self.actor) };
            let update = Update { key: Bytes::new(&cell.key), register };
            encoded = postcard::to_extend(&update, encoded)?;
            self.join(update);
        }
        Ok(encoded)
    }

    fn apply(&mut self, batch: &[u8]) -> Outcome<()> {
        let mut rest = batch;
        while !rest.is_empty() {
            let (update, after) = postcard::take_from_bytes(rest)?;
            self.join(update);
            rest = after;
        }
        Ok(())
    }

    fn cells(&self) -> Outcome<Cells> {
        Ok(self.registers.iter().map(|(key, register)| (key.clone(), register.val.to_vec())).collect())
    }
}

impl<S: BuildHasher + Default + Named> BareCells for RegisterMap<S> {
    fn for_each_cell(batch: &[u8], mut take: impl FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut rest = batch;
        while !rest.is_empty() {
            let (update, after) = postcard::take_from_bytes::<Update<'_, &Bytes>>(rest)?;
            take(update.key, update.register.val);
            rest = after;
        }
        Ok(())
    }
}

impl<S: BuildHasher> RegisterMap<S> {
    fn join(&mut self, Update { key, register }: Update<'_, ByteBuf>) {
        match self.registers.get_mut(key.as_ref()) {
            Some(held) => held.merge(register),
            None => {
                self.registers.insert(key.to_vec(), register);
            }
        }
    }
}
