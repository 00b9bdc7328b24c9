//! Who had seen what: the happened-before of clients, told by databases and vectors.

use crdt::BatchId;
use replica::host::RowId;

use super::truth::Truth;
use crate::history::{BatchLog, CommitId, History, Order, SqlCommit};

/// Batches that may hold what a transaction did, as far as drains tell: those between the drain that showed it and the
/// next one. What nothing was made of, or what a disk lost, a later drain shows again. Empty for a transaction that was
/// never drained.
pub fn batches_of(history: &History, commit: CommitId) -> Vec<BatchId> {
    let done = &history.commits()[commit];
    let log = &history.nodes()[done.node];
    let between = |after: Order, before: Order| {
        let start = log.own.partition_point(|(order, _)| *order <= after);
        let own = log.own[start..].iter().take_while(move |(order, _)| *order < before).map(|(_, batch)| *batch);
        own.filter(|batch| history.batch(*batch).is_some_and(|log| !log.rows.is_empty()))
    };
    if !done.captured {
        // Nobody told the engine: it finds the difference when it next looks at the row, whenever that is.
        return between(done.order, Order::MAX).collect();
    }
    let mut batches = Vec::new();
    for number in &done.drains {
        let drain = |number: u64| log.drains.get(number as usize).copied();
        batches.extend(between(drain(number - 1).unwrap_or(Order::MAX), drain(*number).unwrap_or(Order::MAX)));
        if batches.iter().any(|batch| !history.is_gone(*batch)) {
            break;
        }
    }
    batches
}

/// True when what the transaction did to the row may be gone for ever, or may name less than its author saw: a restored
/// database no longer held it, a disk lost a batch that may be its own before anybody else had it, or it was drained
/// while the engine was finding out what the database shows, or not at all before that.
pub fn is_excused(history: &History, commit: CommitId, row: &RowId) -> bool {
    let done = &history.commits()[commit];
    let batches = batches_of(history, commit);
    if done.dropped || batches.iter().any(|batch| history.is_gone(*batch)) {
        return true;
    }
    let logs = batches.iter().filter_map(|batch| history.batch(*batch));
    let written = logs.filter(|log| done.captured || may_tell(log, done, row)).map(|log| log.order).min();
    history.nodes()[done.node]
        .recoveries
        .iter()
        .any(|(from, until)| done.order < until.unwrap_or(Order::MAX) && written.is_none_or(|written| written > *from))
}

/// True when the store of the node was damaged, and it may not know what the transaction replaced: the state that came
/// from a peer has it, but the shadow that would say what the database showed is lost, and the row is gone from both.
pub fn may_not_be_named(history: &History, commit: CommitId) -> bool {
    let done = &history.commits()[commit];
    let batches = batches_of(history, commit);
    let written = batches.iter().filter_map(|batch| history.batch(*batch)).map(|log| log.order).min();
    let told_after = |from: &Order| written.is_none_or(|written| written > *from);
    let mut damages = history.nodes()[done.node].damages.iter();
    damages.any(|(from, until)| done.order < until.unwrap_or(Order::MAX) && told_after(from))
}

/// True when the node's store went back to before it had drained the transaction, and the database still had its entries, as
/// in a backup of both: the engine took it for one that it had never told of, and told of it once more, with dots that nobody
/// had seen.
pub fn drained_anew(history: &History, commit: CommitId) -> bool {
    let done = &history.commits()[commit];
    let log = &history.nodes()[done.node];
    let drained = |number: Option<&u64>| number.and_then(|number| log.drains.get(*number as usize - 1));
    let (Some(first), Some(last)) = (drained(done.drains.first()), drained(done.drains.last())) else { return false };
    log.store_lost.iter().any(|lost| (first..last).contains(&lost))
}

/// True when the batch may tell what a transaction that bypassed capture did to the row. The scan finds each row of such
/// a transaction by itself: when a batch has told of one, or of something else, the engine may still not know of another.
/// If its store goes back then, to before it had that row, a DELETE looks like a row that is still to be written: shadow
/// and database agree that there is none, and no entry says otherwise.
fn may_tell(log: &BatchLog, done: &SqlCommit, row: &RowId) -> bool {
    let change = done.changes.iter().find(|change| change.row == *row);
    log.rows.iter().filter(|carried| carried.row == *row).any(|carried| match change {
        Some(change) if change.before.is_none() => carried.inserts,
        Some(change) if change.after.is_none() => carried.ends,
        _ => true,
    })
}

/// Whether the database of the author of `later` showed what `earlier` had done when `later` was committed.
pub fn saw(history: &History, later: CommitId, earlier: CommitId) -> Truth {
    let (after, before) = (&history.commits()[later], &history.commits()[earlier]);
    if before.order >= after.order {
        return Truth::No;
    }
    // A database that went back may have forgotten it, and was told again at a moment that the record does not have.
    let restored = &history.nodes()[after.node].database_restored;
    if before.dropped || restored.iter().any(|restored| (before.order..after.order).contains(restored)) {
        return Truth::Maybe;
    }
    if before.node == after.node {
        return Truth::Yes;
    }
    let (mut shown, mut applied, mut any) = (true, false, false);
    for batch in batches_of(history, earlier) {
        any = true;
        shown &= history.shown_at(after.node, batch).is_some_and(|order| order < after.order);
        applied |= history.applied_at(after.node, batch).is_some_and(|order| order < after.order);
    }
    match (any, shown, applied) {
        (true, true, _) => Truth::Yes,
        (true, false, true) => Truth::Maybe,
        _ => Truth::No,
    }
}
