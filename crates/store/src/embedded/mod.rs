//! The default store: a log of our own, a table in memory, and a tree, behind one writer thread.
//!
//! ```text
//! FOLDER/format       which of these pictures is the folder's
//! FOLDER/ledger/      what tells of the last run (`ledger`)
//! FOLDER/log/         segments: every group since the last checkpoint, as it came (`segment`, `log`)
//! FOLDER/records/     the tree: a `fjall` database with every record as of the last checkpoint (`tree`)
//! FOLDER/quarantine/  damage, kept as it was found, by run
//!
//! write: group -> log (one write call for all that wait, synced by the policy) -> table -> durable
//! checkpoint: table, frozen -> tree, as a whole, with the number of its last group -> its segments are deleted
//! start: tree, and over it the groups in the log with higher numbers
//! ```
//!
//! A record that is written again, or removed soon after, costs the log its bytes and the tree nothing: only what a
//! table holds when it is frozen gets there.
//!
//! At the start everything is read once. A segment that does not read, or is missing, ends the log there, and the rest
//! goes to quarantine: what is left is an earlier moment, whole. A tree that does not read is set aside, and what does
//! read is taken over into a new one (`salvage`).

mod background;
mod copy;
mod files;
mod format;
mod log;
mod quarantine;
mod salvage;
mod segment;
mod table;
#[cfg(test)]
mod tests;
mod tree;

use std::path::PathBuf;

use replica::RecordKey;

pub(crate) use self::copy::import;
use self::files::{Files, Parts};
use self::log::{Log, Recovered};
use self::quarantine::Quarantine;
use self::table::Table;
use self::tree::{Survey, Tree, UNPLACED_KEY};
use crate::continuity::{self, Present};
use crate::ledger::Ledger;
use crate::writer::Writer;
use crate::{Completion, Copying, Doubt, Durability, Proof, Records, Sizes, Store, StoreError, Surroundings, Wake};

/// When a table is frozen, and when the writer waits for the checkpoint before. Looked at before each commit, so each may
/// be passed by one commit.
#[derive(Clone, Copy)]
struct Limits {
    /// Bytes of the table, as it counts them. Twice that, and twice [`Limits::table_bytes_max`] at worst, is what the
    /// store holds in memory; with less, keys that are written again and again reach the tree more often. A hundred
    /// thousand keys of a hundred bytes fit, and what a busy node's log gathers in a second or two.
    table_bytes: usize,
    /// Bytes of the log since the last checkpoint: what a start reads again, in some 0.4 s.
    log_bytes: u64,
    /// Bytes of the table at which the writer waits while a checkpoint is on its way.
    table_bytes_max: usize,
    /// Bytes of the log at which it does.
    log_bytes_max: u64,
}

impl Limits {
    const USUAL: Self =
        Self { table_bytes: 48 << 20, log_bytes: 192 << 20, table_bytes_max: 96 << 20, log_bytes_max: 384 << 20 };
}

/// How an embedded store is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The state folder; it is made if need be, and belongs to this store alone.
    pub folder: PathBuf,
    /// When a group counts as durable.
    pub durability: Durability,
    /// Machine and boot; [`Surroundings::here`] but in tests.
    pub surroundings: Surroundings,
    /// 128 random bits, used as the identity of a store that has none.
    pub fresh: u128,
    /// Called when there is a completion.
    pub wake: Wake,
}

/// The embedded store.
pub struct Embedded(Writer<Files>);

impl Embedded {
    /// Opens the store, sets damage aside and judges continuity.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Format`] and what the disk refuses. Damage is no error: it is a
    /// [`Doubt::Damaged`] in the proof.
    pub fn open(options: EmbeddedOptions) -> Result<Self, StoreError> {
        Self::open_within(options, Limits::USUAL)
    }

    fn open_within(options: EmbeddedOptions, limits: Limits) -> Result<Self, StoreError> {
        let EmbeddedOptions { folder, durability, surroundings, fresh, wake } = options;
        let (place, log) = (folder.join("records"), folder.join("log"));
        let mut damage: Vec<Doubt> = format::check(&folder)?.into_iter().collect();
        let (mut ledger, mut past) = Ledger::open(&folder.join("ledger"), surroundings, fresh)?;
        if ledger.is_new() {
            past.doubts.push(if place.exists() || log.exists() { Doubt::NoLedger } else { Doubt::FirstStart });
        }
        let mut quarantine = Quarantine::new(folder.join("quarantine"));
        // The lower half of what nobody else knows.
        let seed = fresh as u64;
        let mut table = Table::new(seed);
        let (tree, mut survey, mut lost) = Tree::open(&place, |key| table.hash(key), &mut quarantine)?;
        damage.append(&mut lost);
        let after_power_cut = past.doubts.contains(&Doubt::PowerCut);
        let put = |key: &[u8], body: Option<&[u8]>| {
            let hash = table.hash(key);
            if body.is_some() || survey.filter.may_hold(hash) {
                table.put(hash, key.to_vec(), body.map(<[u8]>::to_vec));
            } else {
                table.forget(hash, key);
            }
        };
        let Recovered { log, last: sequence, segments, root, damage: cut } =
            Log::recover(&log, survey.sequence, after_power_cut, &mut quarantine, put)?;
        damage.extend(cut);
        // What a group in the log has replaced or removed is no loss any more.
        survey.damaged.retain(|key| table.get(table.hash(key), key).is_none());
        survey.strays.retain(|key| table.get(table.hash(key), key).is_none());
        let records = survey.damaged.len() + survey.strays.len();
        if records > 0 {
            damage.push(Doubt::Damaged { what: format!("the checksums of {records} records"), kept: None });
        }
        if survey.is_sequence_damaged || root.is_some() {
            damage.push(Doubt::Damaged { what: "the database's number of its last group".into(), kept: None });
            tree.root(root.unwrap_or_default(), root.is_some())?;
        }
        if root.is_some() {
            survey.strays.push(UNPLACED_KEY.to_vec());
            survey.filter.insert(table.hash(UNPLACED_KEY));
        }
        let doubts = continuity::doubts(&past, &Present { sequence, service: None, doubts: damage });
        let Survey { filter, strays, .. } = survey;
        let parts = Parts { log, table, seed, filter, tree, sequence, segments, strays };
        let files = Files::new(parts, durability, limits);
        // Numbers are not used twice, whatever was lost.
        let sequence = sequence.max(past.acknowledged).max(past.closed.unwrap_or_default());
        ledger.begin(doubts.is_empty(), sequence, None)?;
        let proof = Proof { doubts, store: ledger.store(), sequence };
        Ok(Self(Writer::new(files, ledger, proof, durability, wake)))
    }
}

impl Store for Embedded {
    fn proof(&self) -> &Proof {
        self.0.proof()
    }

    fn load(&mut self) -> Result<Records<'_>, StoreError> {
        self.0.load()
    }

    fn write(&mut self, group: replica::WriteGroup) -> Result<(), StoreError> {
        self.0.write(group)
    }

    fn read(&mut self, key: RecordKey) -> Result<(), StoreError> {
        self.0.read(key)
    }

    fn poll(&mut self) -> Option<Completion> {
        self.0.poll()
    }

    fn wait(&mut self, timeout: std::time::Duration) -> Option<Completion> {
        self.0.wait(timeout)
    }

    fn copy(&mut self) -> Result<Copying, StoreError> {
        self.0.copy()
    }

    fn sizes(&self) -> Sizes {
        self.0.sizes()
    }

    fn failure(&self) -> Option<StoreError> {
        self.0.failure()
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Box::new(self.0).close()
    }
}
