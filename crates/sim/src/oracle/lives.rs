//! Whether a row exists: which INSERTs made a life, and which DELETEs ended it.

use super::rows::{Event, EventKind, RowLedger};
use super::sight::{drained_anew, is_excused, saw};
use super::truth::Truth;
use crate::history::History;

/// One INSERT.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// The event.
    pub event: Event,
    /// Whether it made a life. Not when one drain showed it together with a DELETE before it: that is an update.
    pub made: Truth,
    /// Whether somebody who saw it ended it.
    pub ended: Truth,
}

/// What ends lives or resets counters: a DELETE or a REPLACE.
#[derive(Clone, Copy, Debug)]
pub struct Remover {
    /// The event.
    pub event: Event,
    /// Whether it ended the lives that it saw. A REPLACE does not; nor does a DELETE that became part of an update.
    pub ends: Truth,
}

/// The lives of one row.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    /// INSERTs in order.
    pub lives: Vec<Life>,
    /// DELETEs and REPLACEs in order.
    pub removers: Vec<Remover>,
}

impl Lives {
    /// Works out the lives of a row.
    pub fn of(history: &History, ledger: &RowLedger) -> Self {
        let mut lives = Self::default();
        for (at, event) in ledger.events.iter().enumerate() {
            match event.kind {
                EventKind::Update => {}
                EventKind::Insert => {
                    let earlier = ledger.events[..at].iter().rev().find(|earlier| earlier.node == event.node);
                    let deleted = earlier.filter(|earlier| earlier.kind == EventKind::Delete);
                    let made = deleted.map_or(Truth::Yes, |deleted| apart(history, deleted, event));
                    let made = made.unless(is_excused(history, event.commit, &ledger.row));
                    lives.lives.push(Life { event: *event, made, ended: Truth::No });
                }
                EventKind::Replace => lives.removers.push(Remover { event: *event, ends: Truth::No }),
                EventKind::Delete => {
                    let next = ledger.events[at + 1..].iter().find(|later| later.node == event.node);
                    let inserted = next.filter(|later| later.kind == EventKind::Insert);
                    let ends = inserted.map_or(Truth::Yes, |inserted| apart(history, event, inserted));
                    let ends = ends.unless(is_excused(history, event.commit, &ledger.row));
                    lives.removers.push(Remover { event: *event, ends });
                }
            }
        }
        for life in &mut lives.lives {
            let ended = |remover: &Remover| remover.ends.and(saw_at(history, remover.event, life.event));
            let ended = Truth::any(lives.removers.iter().map(ended));
            life.ended = ended.unless(drained_anew(history, life.event.commit));
        }
        lives
    }

    /// Whether the row exists once everything is applied.
    pub fn exists(&self) -> Truth {
        Truth::any(self.lives.iter().map(|life| life.made.and(life.ended.negate())))
    }
}

/// Whether a DELETE and the INSERT after it, on one node, went into different drains.
fn apart(history: &History, deleted: &Event, inserted: &Event) -> Truth {
    Truth::from(history.drained_together(deleted.commit, inserted.commit)).negate()
}

fn saw_at(history: &History, later: Event, earlier: Event) -> Truth {
    saw(history, later.commit, earlier.commit)
}
