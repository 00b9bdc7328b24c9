//! Who is who: one name twice, and a node that forgot what it had written.

use super::Stage;
use crate::checkers::Violation;
use crate::coverage::Fault;

/// An operator starts a second machine under the name of the second member. It is not that member: it has its own
/// disk and an empty database.
pub(super) fn duplicate_node(stage: &mut Stage) -> Result<(), Violation> {
    stage.pass(10, 20)?;
    let machine = stage.world().add_machine(Some(1));
    stage.world().start_machine(machine);
    stage.world().coverage.fault(Fault::DuplicateNodeId);
    stage.pass(5, 20)?;
    stage.world().stop_machine(machine);
    stage.pass(10, 30)
}

/// The store comes back from a moment ago, and nobody says so: peers know more of the replica than it does itself, and
/// say so while it listens. Whom nobody reaches in that time would write under a dot twice.
pub(super) fn amnesia(stage: &mut Stage) -> Result<(), Violation> {
    stage.world().swarm.intervals.listen_ms = 20_000;
    stage.pass(10, 20)?;
    let node = stage.random.index(3);
    let picture = stage.world().take_picture(node);
    stage.pass(5, 20)?;
    stage.world().stop_machine(node);
    // Of the whole machine, its database says nothing either: only peers know more.
    let whole_machine = stage.random.one_in(2);
    stage.world().put_back_unnoticed(node, picture, whole_machine);
    stage.pass(1, 3)?;
    stage.world().start_machine(node);
    stage.pass(10, 40)
}
