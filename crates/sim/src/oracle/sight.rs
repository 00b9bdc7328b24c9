//! Who had seen what: the happened-before of clients, told by databases and vectors.

use crdt::BatchId;

use super::truth::Truth;
use crate::history::{CommitId, History, Order};

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

/// True when what the transaction did may be gone for ever, or may name less than its author saw: a restored database no
/// longer held it, a disk lost a batch that may be its own before anybody else had it, or it was drained while the
/// engine was finding out what the database shows.
pub fn is_excused(history: &History, commit: CommitId) -> bool {
    let done = &history.commits()[commit];
    if done.dropped || batches_of(history, commit).into_iter().any(|batch| history.is_gone(batch)) {
        return true;
    }
    let written =
        batches_of(history, commit).into_iter().filter_map(|batch| history.batch(batch)).map(|log| log.order).min();
    history.nodes()[done.node]
        .recoveries
        .iter()
        .any(|(from, until)| done.order < until.unwrap_or(Order::MAX) && written.is_none_or(|written| written > *from))
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
