//! Which commits are held.
//!
//! Counted are objects that were there and that the group changes or removes. What it adds takes nothing away, so an
//! import is never held: neither the first group of it, which meets an empty table, nor the many that follow and meet what
//! the ones before brought. A group is measured before it is applied, by table for rows, else by namespace and type.
//!
//! Counting a table costs a walk over the keys. So it is done only for a group above the number, above some 100,000
//! keys by a sample, and a count is used again as long as not enough can have changed since to make a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crdt::keyspace::SHARDS;
use crdt::{BatchId, Key, Kind, Namespace, Op};

use super::{Before, Blast, Brake, Range};
use crate::effect::Report;
use crate::host::RowId;
use crate::node::{Draft, Node};
use crate::time::Now;

/// Keys that are looked at to count a table: 100,000 take some 30 ms. Of a larger keyspace every n-th shard is looked at,
/// which keys are spread over by a hash.
const SAMPLE_KEYS: usize = 100_000;
/// Tables whose counts are remembered. Above it all are forgotten, which costs one walk each.
const COUNTS_MAX: usize = 256;

type Scope = (Namespace, Kind, Option<Arc<str>>);

/// How much there is in tables.
#[derive(Clone, Debug, Default)]
pub(in crate::node) struct Population {
    /// Objects that ever changed in this process, however often.
    changed: u64,
    /// Objects there when so many had changed.
    counts: BTreeMap<Scope, (u64, u64)>,
}

impl Population {
    /// So many objects may have come or gone.
    pub(in crate::node) fn changes(&mut self, objects: usize) {
        self.changed += objects as u64;
    }
}

/// A group that is to be held.
pub(in crate::node) struct Weighed {
    blast: Blast,
    before: Before,
}

fn scope_of(key: &Key) -> Scope {
    (key.namespace, key.kind, RowId::from_key(key).map(|row| row.table))
}

impl Node {
    /// Measures a group that is about to be committed; `None` when it is sent like any other.
    pub(in crate::node) fn weigh(&mut self, drafts: &[Draft]) -> Option<Weighed> {
        let limits = &self.setup.limits;
        let (objects_min, share) = (limits.blast_objects_min as u64, u64::from(limits.blast_share_percent));
        if self.setup.intervals.blast_hold_ms == 0 || share >= 100 || drafts.len() as u64 <= objects_min {
            return None;
        }
        let keys: BTreeSet<Key> = drafts.iter().filter_map(Draft::key).collect();
        let mut touched: BTreeMap<Scope, u64> = BTreeMap::new();
        for key in &keys {
            if self.exists(key) {
                *touched.entry(scope_of(key)).or_default() += 1;
            }
        }
        touched.retain(|_, touched| *touched > objects_min);
        let mut blast = None;
        for (scope, touched) in touched {
            let rows = self.population_of(&scope, touched, share);
            if touched * 100 > share * rows {
                let (namespace, kind, table) = scope;
                blast = Some(Blast { namespace, kind, table, touched, rows });
            }
        }
        Some(Weighed { blast: blast?, before: self.before(&keys, drafts) })
    }

    fn exists(&self, key: &Key) -> bool {
        self.keyspace.object(key).is_some_and(|object| object.exists())
    }

    /// Objects of a table; an earlier count where it is enough to tell that so many touched ones are below the share.
    fn population_of(&mut self, scope: &Scope, touched: u64, share: u64) -> u64 {
        let population = &mut self.population;
        if let Some((rows, changed)) = population.counts.get(scope) {
            let at_least = rows.saturating_sub(population.changed - changed);
            if touched * 100 <= share * at_least {
                return at_least;
            }
        }
        let step = (self.keyspace.len() / SAMPLE_KEYS + 1).min(SHARDS);
        let looked_at = (0..SHARDS).step_by(step);
        let shards = looked_at.len() as u64;
        let keys = looked_at.flat_map(|shard| self.keyspace.shard_keys(shard));
        let found = keys.filter(|key| scope_of(key) == *scope && self.exists(key)).count() as u64;
        let rows = (found * SHARDS as u64 / shards).max(touched);
        let population = &mut self.population;
        if population.counts.len() >= COUNTS_MAX {
            population.counts.clear();
        }
        population.counts.insert(scope.clone(), (rows, population.changed));
        rows
    }

    /// What the objects of a group are before it.
    fn before(&self, keys: &BTreeSet<Key>, drafts: &[Draft]) -> Before {
        let grows = |draft: &Draft| matches!(&draft.op, Op::GCounter(delta) if delta.add.is_some());
        if drafts.iter().any(grows) {
            return Before::Grows;
        }
        let bytes_max = self.setup.limits.blast_preimage_bytes_max;
        let (mut objects, mut bytes) = (BTreeMap::new(), self.blast_preimage_bytes());
        for key in keys {
            let object = self.keyspace.object(key).map(|object| object.to_bytes());
            bytes += key.name.len() + object.as_ref().map_or(0, Vec::len);
            if bytes > bytes_max {
                return Before::TooLarge;
            }
            objects.insert(key.clone(), object);
        }
        Before::Kept(objects)
    }

    /// Holds a group that was just committed, if it was found to be too large.
    pub(in crate::node) fn hold_back(&mut self, now: Now, batches: &[BatchId], weighed: Option<Weighed>) {
        let (Some(Weighed { blast, before }), Some(first), Some(last)) = (weighed, batches.first(), batches.last())
        else {
            return;
        };
        self.report(Report::BlastHeld { batch: *first, blast: blast.clone() });
        self.brakes.push(Brake {
            group: Range { first: *first, until: last.seq },
            blast: Some(blast),
            since_wall_ms: now.wall_ms,
            until_mono_ms: now.mono_ms + self.setup.intervals.blast_hold_ms,
            before,
            parts: 0,
            undo: None,
        });
        let place = self.brakes.len() - 1;
        self.put_preimages(place);
        self.put_brake(place);
    }
}
