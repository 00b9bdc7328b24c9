//! Invariant 10: at rest the database equals the state on every node, and the connected core has converged.
//!
//! Value by value, independent of digests: the rows of each database against the node's repaired view, the databases
//! against each other, the leaves of the door against each other. Rows are those of all databases and all that any
//! client ever wrote.

use std::collections::BTreeSet;

use crdt::Value;
use replica::host::{RowId, RowImage};

use super::{Checker, LeafView, NodeRead, Verdict, WorldRead, refuse, show_leaf, show_row};
use crate::history::NodeIndex;
use crate::oracle::Oracle;
use crate::oracle::names::base;

/// See the module's documentation.
#[derive(Default)]
pub struct Database;

impl Checker for Database {
    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        let core = world.core();
        for node in &core {
            check_quiet(world, *node)?;
        }
        let running = core.iter().filter_map(|node| Some((*node, world.node(*node)?)));
        let nodes: Vec<(NodeIndex, &dyn NodeRead)> = running.collect();
        let Some(((first, reference), others)) = nodes.split_first() else { return Ok(()) };
        for (node, state) in others {
            if state.applied() != reference.applied() {
                let what = format!("its vector differs from that of node {first} at rest");
                return refuse(10, Some(*node), "state", what);
            }
            if state.fingerprint() != reference.fingerprint() {
                return refuse(10, Some(*node), "state", format!("its digest differs from that of node {first}"));
            }
        }
        rows(world, oracle).iter().try_for_each(|row| check_row(world, &nodes, row))?;
        for leaf in oracle.door().leaves() {
            let expected = shown(reference.leaf(leaf));
            for (node, state) in others {
                let found = shown(state.leaf(leaf));
                if found != expected {
                    let what = format!("it shows {found:?}, node {first} shows {expected:?}");
                    return refuse(10, Some(*node), show_leaf(leaf), what);
                }
            }
        }
        Ok(())
    }
}

fn check_quiet(world: &dyn WorldRead, node: NodeIndex) -> Verdict {
    let Some(state) = world.node(node) else {
        return refuse(10, Some(node), "process", "a node of the core does not run".to_owned());
    };
    if !state.is_settled() || state.is_installing() {
        return refuse(10, Some(node), "process", "it does not come to rest".to_owned());
    }
    // What is held until a person acts was received and waits.
    let all = state.figures().held > 0 || state.applied() == state.received();
    if !all || (state.applied() != state.shown() && world.database(node).is_some()) {
        return refuse(
            10,
            Some(node),
            "state",
            "it has received more than it applied, or applied more than it shows".into(),
        );
    }
    Ok(())
}

fn rows(world: &dyn WorldRead, oracle: &Oracle) -> BTreeSet<RowId> {
    let mut rows: BTreeSet<RowId> = oracle.rows().map(|ledger| ledger.row.clone()).collect();
    for node in world.core() {
        for (row, _) in world.database(node).into_iter().flat_map(|database| database.rows()) {
            if !rows.contains(row) {
                rows.insert(row.clone());
            }
        }
    }
    rows
}

fn check_row(world: &dyn WorldRead, nodes: &[(NodeIndex, &dyn NodeRead)], row: &RowId) -> Verdict {
    let mut reference: Option<(NodeIndex, Option<&RowImage>)> = None;
    let mut view: Option<(NodeIndex, Option<RowImage>)> = None;
    for (node, state) in nodes {
        let shown = state.row(row).shown;
        if let Some(database) = world.database(*node) {
            let image = database.row(row);
            if let Some(what) = difference(image, shown.as_ref()) {
                return refuse(10, Some(*node), show_row(row), format!("the database {what}"));
            }
            let (first, expected) = *reference.get_or_insert((*node, image));
            if image != expected {
                let what = format!("the database has {image:?}, that of node {first} has {expected:?}");
                return refuse(10, Some(*node), show_row(row), what);
            }
        }
        // Names are repaired only where there is a database to repair them for.
        let plain = |image: RowImage| -> RowImage {
            image
                .into_iter()
                .map(|(column, value)| (column.clone(), base(world.schema(), row, &column, &value)))
                .collect()
        };
        let shown = shown.map(plain);
        let (first, expected) = view.get_or_insert_with(|| (*node, shown.clone()));
        if shown != *expected {
            let what = format!("the state shows {shown:?}, that of node {first} shows {expected:?}");
            return refuse(10, Some(*node), show_row(row), what);
        }
    }
    Ok(())
}

/// What differs between a row in a database and in its node's view. Columns that nobody wrote have the database's
/// default: NULL, and 0 for a counter.
fn difference(image: Option<&RowImage>, shown: Option<&RowImage>) -> Option<String> {
    let (image, shown) = match (image, shown) {
        (None, None) => return None,
        (Some(image), Some(shown)) => (image, shown),
        (Some(_), None) => return Some("has the row, the state does not".into()),
        (None, Some(_)) => return Some("lacks the row, the state has it".into()),
    };
    for (column, value) in image {
        let expected = shown.get(column);
        let default = *value == Value::Null || *value == Value::from(0_u64);
        if expected != Some(value) && !(expected.is_none() && default) {
            return Some(format!("shows {} = {value:?}, the state {expected:?}", column.escape_ascii()));
        }
    }
    let missing = shown.keys().find(|column| !image.contains_key(*column));
    missing.map(|column| format!("lacks the column {}", column.escape_ascii()))
}

/// What must be equal: journals may differ by entries past their retention.
fn shown(view: LeafView) -> LeafView {
    match view {
        LeafView::Register(None, _) | LeafView::Count(None) => LeafView::Nothing,
        LeafView::Register(shown, _) => LeafView::Register(shown, Vec::new()),
        LeafView::Elements(elements) if elements.is_empty() => LeafView::Nothing,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::{Stand, image, leaf, row};
    use crate::history::DoorAction;
    use crdt::{Fingerprint, Kind};

    fn rest(stand: &Stand) -> Result<(), String> {
        Database.check_rest(stand, &stand.oracle()).map_err(|violation| violation.what)
    }

    fn converged() -> Stand {
        let mut stand = Stand::new(2);
        for node in 0..2 {
            stand.write(node, &row(1), &[("title", "w1"), ("views", "#0")]);
            stand.show(node, &row(1), &[("title", "w1")]);
        }
        stand
    }

    #[test]
    fn equal_nodes_pass_and_defaults_count_as_nothing() {
        assert_eq!(rest(&converged()), Ok(()));
    }

    #[test]
    fn every_difference_is_refused() {
        let refused = |change: &dyn Fn(&mut Stand)| {
            let mut stand = converged();
            change(&mut stand);
            rest(&stand).expect_err("it differs")
        };
        refused(&|stand| stand.write(1, &row(1), &[("title", "w2")]));
        refused(&|stand| drop(stand.databases[1].remove(&row(1))));
        refused(&|stand| stand.write(0, &row(2), &[("title", "w2")]));
        refused(&|stand| {
            stand.databases[1].insert(row(1), image(&[("title", "w2")]));
            stand.show(1, &row(1), &[("title", "w2")]);
        });
        refused(&|stand| stand.edit(1).fingerprint = Fingerprint(1));
        refused(&|stand| stand.edit(1).settled = false);
        refused(&|stand| {
            let replica = stand.replica(0);
            stand.edit(1).applied.advance(replica, 1);
        });
        refused(&|stand| {
            let counter = leaf(Kind::PnCounter);
            stand.door(0, 1, &counter, DoorAction::Add(1));
            let replica = stand.replica(0);
            stand.apply(1, replica, 1);
            stand.edit(0).leaves.insert(counter, LeafView::Count(Some(1)));
        });
    }
}
