//! Invariant 1: equal `applied` vectors give equal state digests and equal journals.
//!
//! Digests are held against every state that any node ever had under the same vector, not only against those that
//! stand there now. Journals are compared entry by entry between nodes that stand at one vector: entries past their
//! retention may be gone on one side already.

use std::collections::{BTreeMap, BTreeSet};

use crdt::object::{JournalContent, JournalEntry};
use crdt::{Fingerprint, Key};

use super::{Checker, LeafView, NodeRead, Verdict, WorldRead, refuse};
use crate::hash::Mixer;
use crate::history::{Image, NodeIndex, RowChange, Vector};
use crate::oracle::Oracle;
use replica::Report;
use replica::host::RowId;

/// Journals of equal length are compared at one meeting in this many: most meetings of two nodes at one vector differ
/// in nothing, and a whole journal is the only thing here that costs more than a microsecond.
const MEETINGS_A_LOOK: u64 = 16;

/// See the module's documentation.
#[derive(Default)]
pub struct Convergence {
    /// By hash of the vector: the digest, and who had it first.
    seen: BTreeMap<u128, (Fingerprint, NodeIndex)>,
    /// Per node: hash of its vector and its digest when it was last looked at.
    last: BTreeMap<NodeIndex, (std::rc::Rc<Vector>, Fingerprint, u128)>,
    /// Vectors at which two nodes' journals were compared.
    compared: BTreeSet<(u128, NodeIndex, NodeIndex)>,
    meetings: u64,
    reports: usize,
}

impl Checker for Convergence {
    fn check_step(&mut self, world: &dyn WorldRead, oracle: &Oracle, node: NodeIndex) -> Verdict {
        self.check_reports(world)?;
        let Some(state) = world.node(node).filter(|state| !state.is_installing()) else { return Ok(()) };
        let now = &world.history().nodes()[node].now;
        // An own batch that is not durable yet may die with the process and leave its dot to another content.
        if now.applied.seq(now.replica) > now.received.seq(now.replica) {
            return Ok(());
        }
        let applied = &now.applied;
        let fingerprint = state.fingerprint();
        let known = self.last.get(&node).filter(|(vector, ..)| std::rc::Rc::ptr_eq(vector, applied));
        if known.is_some_and(|(_, known, _)| *known == fingerprint) {
            return Ok(());
        }
        let key = known.map_or_else(|| key_of(applied), |(.., key)| *key);
        self.last.insert(node, (applied.clone(), fingerprint, key));
        let (first, by) = *self.seen.entry(key).or_insert((fingerprint, node));
        if first != fingerprint {
            let mut what = format!(
                "its state has digest {fingerprint:?}, but at the same vector node {by} had {first:?}; vector: {}",
                show(applied)
            );
            let there = world.node(by).filter(|peer| by != node && peer.applied() == state.applied());
            if let Some(difference) = there.and_then(|peer| first_difference(oracle, state, peer)) {
                what.push_str(&format!("; first difference: {difference}"));
            }
            return refuse(1, Some(node), "state", what);
        }
        self.meet(world, node, state, key)
    }

    fn check_rest(&mut self, world: &dyn WorldRead, _oracle: &Oracle) -> Verdict {
        let core = world.core();
        for (at, one) in core.iter().enumerate() {
            for other in &core[at + 1..] {
                let (Some(left), Some(right)) = (world.node(*one), world.node(*other)) else { continue };
                if left.applied() == right.applied() && !left.is_installing() && !right.is_installing() {
                    compare_journals(world, (*one, left), (*other, right))?;
                }
            }
        }
        Ok(())
    }
}

impl Convergence {
    /// A node that finds two digests at one vector itself has found the same as we would.
    fn check_reports(&mut self, world: &dyn WorldRead) -> Verdict {
        let reports = world.history().reports();
        let new = &reports[self.reports.min(reports.len())..];
        self.reports = reports.len();
        for report in new {
            if let Report::Diverged { peer, shard } = &report.report {
                let what = format!("reports ERR_DIVERGED against {peer} in shard {shard}");
                return refuse(1, Some(report.node), "state", what);
            }
        }
        Ok(())
    }

    fn meet(&mut self, world: &dyn WorldRead, node: NodeIndex, state: &dyn NodeRead, key: u128) -> Verdict {
        let history = world.history();
        let applied = &history.nodes()[node].now.applied;
        for other in (0..history.nodes().len()).filter(|other| *other != node) {
            if history.nodes()[other].now.applied != *applied {
                continue;
            }
            let Some(peer) = world.node(other).filter(|peer| !peer.is_installing()) else { continue };
            self.meetings += 1;
            let unequal = state.journal_entries() != peer.journal_entries();
            let pair = (key, node.min(other), node.max(other));
            if (unequal || self.meetings % MEETINGS_A_LOOK == 1) && self.compared.insert(pair) {
                compare_journals(world, (node, state), (other, peer))?;
            }
        }
        Ok(())
    }
}

fn compare_journals(
    world: &dyn WorldRead,
    (one, left): (NodeIndex, &dyn NodeRead),
    (other, right): (NodeIndex, &dyn NodeRead),
) -> Verdict {
    let left: BTreeSet<(Key, JournalEntry)> = left.journal().into_iter().collect();
    let right: BTreeSet<(Key, JournalEntry)> = right.journal().into_iter().collect();
    for (key, entry) in left.symmetric_difference(&right) {
        let history = world.history();
        let written_us = history.batch(entry.dot.batch()).map_or(0, |batch| batch.time_us);
        if super::retention_is_over(world, written_us) || has_forgotten_part(world, key, entry) {
            continue;
        }
        let (has, lacks) = if left.contains(&(key.clone(), entry.clone())) { (one, other) } else { (other, one) };
        let what =
            format!("node {has} journals {:?} of {}, node {lacks} at the same vector does not", entry, entry.dot);
        return refuse(1, Some(lacks), super::show_key(key), what);
    }
    Ok(())
}

/// True when an amount grew on top of one that is past its retention: a node that had forgotten that one journals what
/// came later, another one still the sum of both.
fn has_forgotten_part(world: &dyn WorldRead, key: &Key, entry: &JournalEntry) -> bool {
    let (Some(row), Some(column)) = (RowId::from_key(key), entry.path.last()) else { return false };
    let cell = |image: &Image| image.as_ref().and_then(|image| image.get(column)).cloned();
    let mut commits = world.history().commits().iter();
    matches!(entry.content, JournalContent::Amount(_))
        && commits.any(|commit| {
            let counts = |change: &RowChange| change.row == row && cell(&change.before) != cell(&change.after);
            super::retention_is_over(world, commit.time_us) && commit.changes.iter().any(counts)
        })
}

/// Where two states differ, if it is in something that a client wrote: for the message, where cost does not matter.
fn first_difference(oracle: &Oracle, one: &dyn NodeRead, other: &dyn NodeRead) -> Option<String> {
    let mut rows = oracle.rows().map(|ledger| &ledger.row);
    let row = rows.find_map(|row| {
        let (left, right) = (one.row(row).shown, other.row(row).shown);
        (left != right).then(|| format!("{}: {left:?} against {right:?}", super::show_row(row)))
    });
    row.or_else(|| {
        oracle.door().leaves().find_map(|leaf| {
            let (left, right) = (one.leaf(leaf), other.leaf(leaf));
            let journals = matches!((&left, &right), (LeafView::Register(l, _), LeafView::Register(r, _)) if l == r);
            (left != right && !journals).then(|| format!("{}: {left:?} against {right:?}", super::show_leaf(leaf)))
        })
    })
}

fn key_of(vector: &Vector) -> u128 {
    let mut mixer = Mixer::new(1);
    for (replica, seq) in vector.iter() {
        mixer.word(replica.0 as u64);
        mixer.word((replica.0 >> 64) as u64);
        mixer.word(seq);
    }
    mixer.finish()
}

fn show(vector: &Vector) -> String {
    let entries: Vec<String> = vector.iter().map(|(replica, seq)| format!("{replica}:{seq}")).collect();
    entries.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::{Stand, entry, key};

    fn pair() -> Stand {
        let mut stand = Stand::new(2);
        for node in 0..2 {
            let replica = stand.replica(0);
            stand.apply(node, replica, 1);
            stand.edit(node).fingerprint = Fingerprint(7);
            stand.observe(node);
        }
        stand
    }

    fn steps(stand: &Stand) -> Verdict {
        let (mut checker, oracle) = (Convergence::default(), stand.oracle());
        checker.check_step(stand, &oracle, 0)?;
        checker.check_step(stand, &oracle, 1)?;
        checker.check_rest(stand, &oracle)
    }

    #[test]
    fn equal_states_pass() {
        let mut stand = pair();
        for node in 0..2 {
            let entry = entry(stand.replica(0), 1, "w1");
            stand.edit(node).journal = vec![(key(1), entry)];
        }
        assert_eq!(steps(&stand), Ok(()));
    }

    #[test]
    fn unequal_digests_at_one_vector_are_refused() {
        let mut stand = pair();
        stand.edit(1).fingerprint = Fingerprint(8);
        assert_eq!(steps(&stand).map_err(|violation| violation.invariant), Err(1));
        stand.edit(1).installing = true;
        assert_eq!(steps(&stand), Ok(()), "a state that is being joined is not what its vector says");
    }

    #[test]
    fn a_digest_that_changes_under_an_unchanged_vector_is_refused() {
        let mut stand = pair();
        let (mut checker, oracle) = (Convergence::default(), stand.oracle());
        assert_eq!(checker.check_step(&stand, &oracle, 0), Ok(()));
        stand.edit(0).fingerprint = Fingerprint(9);
        assert!(checker.check_step(&stand, &oracle, 0).is_err());
    }

    #[test]
    fn a_journal_entry_may_be_missing_only_past_retention() {
        let mut stand = pair();
        stand.history.at(1_000_000);
        stand.carry(0, 1, &[]);
        let entry = entry(stand.replica(0), 1, "w1");
        stand.edit(0).journal = vec![(key(1), entry)];
        assert!(steps(&stand).is_err());
        stand.intervals.journal_retention_ms = 5_000;
        stand.history.at(6_000_001);
        assert_eq!(steps(&stand), Ok(()));
    }

    #[test]
    fn a_reported_divergence_is_refused() {
        let mut stand = pair();
        stand.history.reported(1, Report::Diverged { peer: "node_01".into(), shard: 3 });
        assert!(steps(&stand).is_err());
    }
}
