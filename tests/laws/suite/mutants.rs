//! Do the models and laws notice? Each deliberate bug of this crate is switched on alone, and must be caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crdt::mutant::{Mutant, activate};

use crate::harness::{Subject, hold};
use crate::laws::{both_ways_lead_to_one_state, cleaning_changes_nothing_that_is_shown};
use crate::models::check;
use crate::subjects::{RegisterSubject, RowSubject};

/// Runs tests with the bug switched on; true when they failed.
fn catches(mutant: Mutant, test: fn()) -> bool {
    activate(Some(mutant));
    let outcome = catch_unwind(AssertUnwindSafe(test));
    activate(None);
    outcome.is_err()
}

fn models<S: Subject>() {
    hold::<S>(200, 40, check::<S>);
}

fn laws<S: Subject>() {
    hold::<S>(200, 40, both_ways_lead_to_one_state::<S>);
}

fn cleaning<S: Subject>() {
    hold::<S>(400, 40, cleaning_changes_nothing_that_is_shown::<S>);
}

#[test]
fn an_asymmetric_tie_break_breaks_a_law() {
    assert!(catches(Mutant::AsymmetricTieBreak, laws::<RegisterSubject>));
}

#[test]
fn a_lost_journal_entry_is_missed() {
    assert!(catches(Mutant::JournalEntryLost, models::<RegisterSubject>));
    assert!(catches(Mutant::JournalEntryLost, models::<RowSubject>));
    assert!(catches(Mutant::JournalEntryLost, laws::<RowSubject>));
}

#[test]
fn a_value_that_names_one_life_is_missed() {
    assert!(catches(Mutant::OneLifeNamed, models::<RowSubject>));
}

#[test]
fn a_counter_reset_by_a_negative_amount_is_noticed() {
    assert!(catches(Mutant::CounterResetByNegative, models::<RowSubject>));
}

#[test]
fn a_hole_left_by_a_forgotten_value_is_noticed() {
    assert!(catches(Mutant::LastValueOfLifeCollected, cleaning::<RowSubject>));
}
