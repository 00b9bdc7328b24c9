//! What a counter column of a row may show and what its journal may hold.
//!
//! Each INSERT counts with its amount, each UPDATE with the difference that it made, each REPLACE with its new amount.
//! A contribution hangs on the lives that its author's database showed. It is *removed* when a DELETE or REPLACE saw
//! it; else it counts while one of its lives lives; else it stands in the journal.
//!
//! Exact, whatever the drain boundaries: differences telescope, because between two changes of one row in one database
//! nothing is applied to it without a drain. Open are only contributions for which the record cannot tell whether a
//! remover had seen them (its database was just being written to), whether a DELETE and an INSERT met in one drain, or
//! that a disk lost, or that a store which went back drained once more. They widen the interval by their own amount and by nothing else.

use crdt::Value;
use crdt::row::ColumnName;
use replica::host::RowId;

use super::lives::Lives;
use super::rows::{Event, EventKind, RowLedger};
use super::sight::{drained_anew, is_excused, saw};
use super::truth::{Interval, Truth};
use crate::history::{History, Image};

/// What one counter column of a row must come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// What it shows.
    pub shown: Interval,
    /// What stands in the journal, added up.
    pub journaled: Interval,
}

/// Adds up a counter column.
pub fn of_column(history: &History, ledger: &RowLedger, lives: &Lives, column: &ColumnName) -> Sums {
    let mut sums = Sums::default();
    for event in &ledger.events {
        let amount = contribution(history, event, column);
        if amount == 0 {
            continue;
        }
        let removed = removed(history, &ledger.row, lives, event);
        let alive = alive(history, lives, event);
        let open = is_excused(history, event.commit, &ledger.row);
        sums.shown.add(amount, removed.negate().and(alive).unless(open));
        // With several removers the one that saw it may have seen it dead already, and then did not name it.
        let named = if lives.removers.len() > 1 && removed == Truth::Yes { Truth::Maybe } else { removed };
        sums.journaled.add(amount, named.negate().and(alive.negate()).unless(open));
        if drained_anew(history, event.commit) {
            // Counted twice, and who removed the first may not have seen the second.
            sums.shown.add(amount, Truth::Maybe);
            sums.journaled.add(amount, Truth::Maybe);
        }
    }
    sums
}

/// What the event adds.
pub fn contribution(history: &History, event: &Event, column: &ColumnName) -> i128 {
    let change = &history.commits()[event.commit].changes[event.place];
    match event.kind {
        EventKind::Delete => 0,
        EventKind::Insert | EventKind::Replace => amount(&change.after, column),
        EventKind::Update => amount(&change.after, column) - amount(&change.before, column),
    }
}

fn amount(image: &Image, column: &ColumnName) -> i128 {
    match image.as_ref().and_then(|image| image.get(column)) {
        Some(Value::Integer(number)) => number.get(),
        _ => 0,
    }
}

fn removed(history: &History, row: &RowId, lives: &Lives, event: &Event) -> Truth {
    let others = lives.removers.iter().filter(|remover| remover.event.commit != event.commit);
    Truth::any(others.map(|remover| {
        let open = is_excused(history, remover.event.commit, row);
        saw(history, remover.event.commit, event.commit).unless(open)
    }))
}

fn alive(history: &History, lives: &Lives, event: &Event) -> Truth {
    Truth::any(lives.lives.iter().filter(|life| life.ended != Truth::Yes).map(|life| {
        let own = life.event.commit == event.commit;
        let hangs = if own { Truth::Yes } else { saw(history, event.commit, life.event.commit) };
        hangs.and(life.made).and(life.ended.negate())
    }))
}
