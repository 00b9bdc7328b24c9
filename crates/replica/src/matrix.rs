//! The matrix clock: what every member is known to have, and what follows from it.

use std::collections::BTreeMap;

use crdt::mutant::{Mutant, active};
use crdt::{BatchId, ReplicaId, VersionVector};

use crate::epoch::Epoch;

/// What one member said of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MatrixRow {
    /// Epoch in which it said so; a row of a later epoch waits for that record.
    pub epoch: u64,
    /// Every replica id that the member ever used, oldest first.
    pub replicas: Vec<ReplicaId>,
    /// What its database shows, durably.
    pub shown: VersionVector,
    /// What stands in its log, durably.
    pub received: VersionVector,
}

/// The rows of all members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matrix {
    latest: BTreeMap<String, MatrixRow>,
    /// Per member the last row that counted.
    counting: BTreeMap<String, VersionVector>,
    stable: VersionVector,
}

impl Matrix {
    /// Takes a member's row. Rows of one replica never go back, whatever epoch they are of: a member whose store went back
    /// unnoticed is told by them what it had written. A row of a fresh replica id replaces the one before, because a
    /// restored member really has less. True when it told something new.
    pub(crate) fn learn(&mut self, member: &str, row: MatrixRow) -> bool {
        let known = self.latest.entry(member.to_owned()).or_default();
        if *known == row {
            return false;
        }
        let before = known.clone();
        if known.replicas.last() == row.replicas.last() {
            known.epoch = known.epoch.max(row.epoch);
            known.shown.join(&row.shown);
            known.received.join(&row.received);
        } else if known.replicas.len() <= row.replicas.len() {
            *known = row;
        }
        *known != before
    }

    pub(crate) fn row(&self, member: &str) -> Option<&MatrixRow> {
        self.latest.get(member)
    }

    /// A batch of a member was seen, so it has all up to there itself. True when that is more than it had told of the
    /// replica id that it uses.
    pub(crate) fn saw_written(&mut self, member: &str, batch: BatchId) -> bool {
        let Some(row) = self.latest.get_mut(member) else { return false };
        let is_more = row.replicas.last() == Some(&batch.replica) && batch.seq > row.received.seq(batch.replica);
        if is_more {
            row.received.advance(batch.replica, batch.seq);
        }
        is_more
    }

    /// What each member said last.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &MatrixRow> {
        self.latest.values()
    }

    /// How much of a stream others than one member have.
    pub(crate) fn received_by_others(&self, member: &str, replica: ReplicaId) -> u64 {
        let others = self.latest.iter().filter(|(other, _)| *other != member);
        others.map(|(_, row)| row.received.seq(replica)).max().unwrap_or(0)
    }

    pub(crate) fn stable(&self) -> &VersionVector {
        &self.stable
    }

    pub(crate) fn restore_stable(&mut self, stable: VersionVector) {
        self.stable.join(&stable);
    }

    /// Recomputes the stable cut: the minimum over the members, none of which may be missing.
    ///
    /// SUBTLE: member m's row counts only when everything that m itself had written up to it is applied
    /// here. Else a write of m from before, made without having seen what is to be collected, is still on
    /// its way.
    pub(crate) fn advance_stable(&mut self, epoch: &Epoch, applied: &VersionVector) {
        for (member, row) in &self.latest {
            let written = |replica: &ReplicaId| row.shown.seq(*replica);
            let complete = row.replicas.iter().all(|replica| applied.seq(*replica) >= written(replica));
            if row.epoch <= epoch.number && (complete || active(Mutant::RowCountsTooEarly)) {
                self.counting.insert(member.clone(), row.shown.clone());
            }
        }
        let sealed = |(replica, seal): (&ReplicaId, &u64)| applied.seq(*replica) >= *seal;
        if epoch.members.is_empty() || !epoch.seals.iter().all(sealed) {
            return;
        }
        let nothing = VersionVector::new();
        let mut cut: Option<VersionVector> = None;
        for member in epoch.members.keys() {
            let row = match self.counting.get(member) {
                Some(row) => row,
                None if active(Mutant::NewcomerIgnored) => continue,
                None => &nothing,
            };
            cut = Some(cut.map_or_else(|| row.clone(), |cut| cut.meet(row)));
        }
        self.stable.join(&cut.unwrap_or_default());
    }

    /// What every member of the epoch has in its log: the log below is needed by nobody.
    pub(crate) fn received_by_all(&self, epoch: &Epoch) -> VersionVector {
        self.received_by_members(epoch.members.keys()).unwrap_or_default()
    }

    /// What every member of the epoch but this one has in its log; `None` where there is no other.
    pub(crate) fn received_by_others_all(&self, member: &str, epoch: &Epoch) -> Option<VersionVector> {
        self.received_by_members(epoch.members.keys().filter(|other| *other != member))
    }

    fn received_by_members<'a>(&self, members: impl Iterator<Item = &'a String>) -> Option<VersionVector> {
        let nothing = MatrixRow::default();
        let rows = members.map(|member| &self.latest.get(member).unwrap_or(&nothing).received);
        rows.cloned().reduce(|cut, row| cut.meet(&row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Member;

    const A: ReplicaId = ReplicaId(1);
    const B: ReplicaId = ReplicaId(2);

    fn vector(entries: &[(ReplicaId, u64)]) -> VersionVector {
        entries.iter().copied().collect()
    }

    fn row(replica: ReplicaId, shown: &[(ReplicaId, u64)]) -> MatrixRow {
        MatrixRow { epoch: 1, replicas: vec![replica], shown: vector(shown), received: vector(shown) }
    }

    fn epoch(members: &[&str]) -> Epoch {
        let members = members.iter().map(|member| ((*member).to_owned(), Member::default())).collect();
        Epoch { number: 1, members, ..Epoch::default() }
    }

    #[test]
    fn a_member_without_a_row_holds_everything_back() {
        let mut matrix = Matrix::default();
        matrix.learn("a", row(A, &[(A, 5)]));
        matrix.advance_stable(&epoch(&["a", "b"]), &vector(&[(A, 5)]));
        assert!(matrix.stable().is_empty());
        matrix.learn("b", row(B, &[(A, 3)]));
        matrix.advance_stable(&epoch(&["a", "b"]), &vector(&[(A, 5)]));
        assert_eq!(*matrix.stable(), vector(&[(A, 3)]));
    }

    #[test]
    fn a_member_alone_lacks_nobody_and_one_that_told_nothing_has_nothing() {
        let mut matrix = Matrix::default();
        assert_eq!(matrix.received_by_others_all("a", &epoch(&["a"])), None);
        assert_eq!(matrix.received_by_others_all("a", &epoch(&["a", "b"])), Some(VersionVector::new()));
        matrix.learn("a", row(A, &[(A, 1)]));
        matrix.learn("b", row(B, &[(A, 4)]));
        assert_eq!(matrix.received_by_others_all("a", &epoch(&["a", "b"])), Some(vector(&[(A, 4)])));
        assert_eq!(matrix.received_by_all(&epoch(&["a", "b"])), vector(&[(A, 1)]));
    }

    #[test]
    fn a_row_waits_until_its_members_own_writes_are_applied() {
        let mut matrix = Matrix::default();
        matrix.learn("a", row(A, &[(A, 5), (B, 2)]));
        matrix.learn("b", row(B, &[(A, 5), (B, 2)]));
        matrix.advance_stable(&epoch(&["a", "b"]), &vector(&[(A, 5), (B, 1)]));
        assert!(matrix.stable().is_empty(), "batch 2 of B is still on its way");
        matrix.advance_stable(&epoch(&["a", "b"]), &vector(&[(A, 5), (B, 2)]));
        assert_eq!(*matrix.stable(), vector(&[(A, 5), (B, 2)]));
    }

    #[test]
    fn a_row_of_a_later_epoch_waits_for_its_record() {
        let mut matrix = Matrix::default();
        matrix.learn("a", MatrixRow { epoch: 2, ..row(A, &[(A, 5)]) });
        matrix.advance_stable(&epoch(&["a"]), &vector(&[(A, 5)]));
        assert!(matrix.stable().is_empty());
    }

    #[test]
    fn seals_freeze_the_cut_until_they_are_applied() {
        let mut matrix = Matrix::default();
        matrix.learn("a", row(A, &[(A, 5)]));
        let mut sealed = epoch(&["a"]);
        sealed.seals.insert(B, 4);
        matrix.advance_stable(&sealed, &vector(&[(A, 5), (B, 3)]));
        assert!(matrix.stable().is_empty());
        matrix.advance_stable(&sealed, &vector(&[(A, 5), (B, 4)]));
        assert_eq!(matrix.stable().seq(A), 5);
    }

    #[test]
    fn a_fresh_replica_id_replaces_the_row() {
        let mut matrix = Matrix::default();
        matrix.learn("a", row(A, &[(A, 5)]));
        matrix.learn("a", MatrixRow { replicas: vec![A, B], ..row(B, &[(A, 3)]) });
        assert_eq!(matrix.row("a").map(|row| row.shown.seq(A)), Some(3));
        matrix.learn("a", row(A, &[(A, 9)]));
        assert_eq!(matrix.row("a").map(|row| row.shown.seq(A)), Some(3), "an older replica id says nothing any more");
    }

    #[test]
    fn what_a_member_told_of_a_replica_stands_although_its_store_went_back_to_an_earlier_epoch() {
        let mut matrix = Matrix::default();
        assert!(matrix.learn("a", MatrixRow { epoch: 2, ..row(A, &[(A, 5)]) }));
        assert!(!matrix.learn("a", row(A, &[(A, 3)])));
        assert_eq!(matrix.row("a").map(|row| (row.epoch, row.received.seq(A))), Some((2, 5)));
        assert!(!matrix.saw_written("a", BatchId { replica: A, seq: 5 }));
        assert!(matrix.saw_written("a", BatchId { replica: A, seq: 6 }));
        assert!(!matrix.saw_written("a", BatchId { replica: B, seq: 9 }), "it never told that it uses this one");
        assert_eq!(matrix.row("a").map(|row| row.received.clone()), Some(vector(&[(A, 6)])));
    }
}
