//! Membership against collection.

use std::collections::BTreeMap;

use super::Stage;
use crate::checkers::Violation;
use crate::coverage::Path;
use crate::network::PartitionShape;

/// Lets a collection be in flight: everybody writes and deletes for a while, then one member is cut off, so that the
/// others hold what they would collect.
fn collect_in_flight(stage: &mut Stage, away: usize) -> Result<crate::network::PartitionId, Violation> {
    stage.pass(15, 40)?;
    let id = stage.world().cut(PartitionShape::Symmetric { side: 1 << away });
    stage.pass(2, 15)?;
    Ok(id)
}

/// A newcomer that nobody counted must not find that what it needs was collected, and must count from its epoch on.
pub(super) fn newcomer(stage: &mut Stage) -> Result<(), Violation> {
    let id = collect_in_flight(stage, 2)?;
    let machine = stage.world().add_machine(None);
    stage.world().sign_epoch(&[0, 1, 2, machine], &[]);
    // Some members hear of the epoch late: at first one does.
    let first = stage.random.index(3);
    stage.world().hand_epochs(first);
    stage.world().start_machine(machine);
    if stage.random.one_in(2) {
        stage.world().heal_cut(id);
    }
    stage.pass(5, 40)?;
    stage.world().heal_cut(id);
    (0..4).for_each(|node| stage.world().hand_epochs(node));
    stage.pass(20, 60)?;
    if stage.run.world.machines[machine].process.as_ref().is_some_and(|process| !process.node.shown().is_empty()) {
        stage.world().coverage.path(Path::Joined);
    }
    Ok(())
}

/// A member that is cut off goes on writing and is evicted: what any survivor received counts, the rest does not.
pub(super) fn evicted(stage: &mut Stage) -> Result<(), Violation> {
    let evicted = 3;
    let _stays_cut = collect_in_flight(stage, evicted)?;
    stage.pass(5, 30)?;
    let replicas =
        stage.run.world.history.batches().map(|(batch, _)| batch.replica).collect::<std::collections::BTreeSet<_>>();
    let owned = replicas.into_iter().filter(|replica| stage.run.world.history.owner(*replica) == Some(evicted));
    let mut seals = BTreeMap::new();
    for replica in owned {
        let survivors = (0..evicted).filter_map(|node| stage.run.world.machines[node].process.as_ref());
        let greatest = survivors.map(|process| process.received().seq(replica)).max().unwrap_or(0);
        seals.insert(replica, greatest);
    }
    let seals: Vec<_> = seals.into_iter().collect();
    stage.world().stop_machine(evicted);
    stage.world().sign_epoch(&[0, 1, 2], &seals);
    let first = stage.random.index(3);
    stage.world().hand_epochs(first);
    stage.pass(1, 10)?;
    (0..3).for_each(|node| stage.world().hand_epochs(node));
    stage.world().coverage.path(Path::Sealed);
    stage.pass(20, 60)
}

/// A fresh replica id has no row anywhere when it begins to write; what its member wrote before is still on its way.
pub(super) fn fresh_replica(stage: &mut Stage) -> Result<(), Violation> {
    for _ in 0..3 {
        let away = stage.random.index(3);
        let id = collect_in_flight(stage, away)?;
        stage.world().lose_power(away);
        stage.pass(1, 6)?;
        stage.world().start_machine(away);
        stage.pass(2, 15)?;
        stage.world().heal_cut(id);
        stage.pass(5, 20)?;
    }
    Ok(())
}
