//! What every store does alike.

use replica::{Continuity, Found, Record, RecordKey, Ticket, WriteGroup};
use store::{Completion, Doubt, Durability, KEY_DIRECT_BYTES_MAX, StoreError, VALUE_BYTES_MAX};

use crate::ground::{
    EmbeddedGround, Ground, MemoryGround, PATIENCE, RedisGround, all, durable, group, key, whole_groups, write,
};

fn a_first_start_is_empty_and_proves_nothing(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    assert_eq!(store.proof().doubts, [Doubt::FirstStart]);
    assert_eq!(store.proof().continuity(), Continuity::NotProven);
    assert!(all(&mut *store).is_empty());
}

fn what_was_written_is_found_again(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=20);
    store.close().unwrap();
    let mut store = ground.open().unwrap();
    assert_eq!(store.proof().doubts, Vec::<Doubt>::new());
    assert_eq!(store.proof().sequence, 20);
    assert_eq!(whole_groups(&mut *store), 20);
}

fn a_store_that_was_dropped_keeps_what_was_durable(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=20);
    drop(store);
    let mut store = ground.open().unwrap();
    assert_eq!(store.proof().continuity(), Continuity::Proven, "{:?}", store.proof().doubts);
    assert_eq!(whole_groups(&mut *store), 20);
}

fn groups_become_durable_in_order(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    (1..=200).for_each(|number| store.write(group(number)).unwrap());
    let mut last = Ticket(0);
    while last < Ticket(200) {
        let Some(Completion::Durable(ticket)) = store.wait(PATIENCE) else { panic!("after {last:?}") };
        assert!(ticket > last);
        last = ticket;
    }
    let sizes = store.sizes();
    assert_eq!((sizes.groups, sizes.sequence, sizes.queued_groups, sizes.queued_bytes), (200, 200, 0, 0));
    assert!(sizes.commits <= 200);
}

fn the_last_change_of_a_key_counts(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    let change = |value: Option<&[u8]>| Record { key: RecordKey::Epoch(5), value: value.map(<[u8]>::to_vec) };
    let twice = vec![change(Some(b"a")), change(None), change(Some(b"b"))];
    store.write(WriteGroup { ticket: Ticket(1), records: twice }).unwrap();
    let other = Record { key: RecordKey::Epoch(6), value: Some(Vec::new()) };
    store.write(WriteGroup { ticket: Ticket(2), records: vec![other.clone()] }).unwrap();
    let none = Record { value: None, ..other };
    store.write(WriteGroup { ticket: Ticket(3), records: vec![none] }).unwrap();
    store.write(WriteGroup { ticket: Ticket(4), records: Vec::new() }).unwrap();
    durable(&mut *store, 4);
    store.close().unwrap();
    let found = all(&mut *ground.open().unwrap());
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [(RecordKey::Epoch(5), Found::Intact(b"b".to_vec()))]);
}

fn a_read_sees_what_was_written_before_it(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    store.write(group(1)).unwrap();
    store.read(key(1, 1)).unwrap();
    store.read(key(2, 1)).unwrap();
    assert_eq!(store.wait(PATIENCE), Some(Completion::Durable(Ticket(1))));
    let found = group(1).records.pop().unwrap().value.map(Found::Intact);
    assert_eq!(store.wait(PATIENCE), Some(Completion::Loaded { key: key(1, 1), found }));
    assert_eq!(store.wait(PATIENCE), Some(Completion::Loaded { key: key(2, 1), found: None }));
    assert_eq!(store.load().err(), Some(StoreError::AlreadyRunning));
}

fn damage_is_noticed_and_never_served(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=3);
    store.close().unwrap();
    ground.damage(&key(2, 0));
    let mut store = ground.open().unwrap();
    assert_eq!(store.proof().continuity(), Continuity::NotProven);
    let found = all(&mut *store);
    let damaged: Vec<_> = found.iter().filter(|(_, found)| **found == Found::Damaged).map(|(key, _)| key).collect();
    assert_eq!((found.len(), damaged), (7, vec![&key(2, 0)]));
    store.read(key(2, 0)).unwrap();
    let answer = Completion::Loaded { key: key(2, 0), found: Some(Found::Damaged) };
    assert_eq!(store.wait(PATIENCE), Some(answer));
}

fn long_keys_and_values_are_records_like_others(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    let long = RecordKey::Shadow(vec![3; KEY_DIRECT_BYTES_MAX * 3]);
    let record = Record { key: long.clone(), value: Some(vec![4; 3 << 20]) };
    store.write(WriteGroup { ticket: Ticket(1), records: vec![record] }).unwrap();
    durable(&mut *store, 1);
    store.close().unwrap();
    let found = all(&mut *ground.open().unwrap());
    assert_eq!(found.get(&long), Some(&Found::Intact(vec![4; 3 << 20])));
}

fn a_record_above_the_bound_is_refused_and_nothing_else(mut ground: impl Ground) {
    let mut store = ground.open().unwrap();
    let record = Record { key: RecordKey::Epoch(1), value: Some(vec![0; VALUE_BYTES_MAX + 1]) };
    let refused = store.write(WriteGroup { ticket: Ticket(1), records: vec![record] });
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    write(&mut *store, 1..=1);
}

fn one_process_at_a_time(mut ground: impl Ground) {
    let _store = ground.open().unwrap();
    assert_eq!(ground.open().err().map(|error| error.code()), Some("ERR_STORE_LOCKED"));
}

macro_rules! conformance {
    ($($ground:ident: $make:expr;)*) => { $(mod $ground {
        use super::*;
        conformance!(@tests $make;
            a_first_start_is_empty_and_proves_nothing, what_was_written_is_found_again,
            a_store_that_was_dropped_keeps_what_was_durable, groups_become_durable_in_order,
            the_last_change_of_a_key_counts, a_read_sees_what_was_written_before_it,
            damage_is_noticed_and_never_served, long_keys_and_values_are_records_like_others,
            a_record_above_the_bound_is_refused_and_nothing_else, one_process_at_a_time);
    })* };
    (@tests $make:expr; $($test:ident),*) => { $(#[test] fn $test() { super::$test($make); })* };
}

conformance! {
    memory: MemoryGround::default();
    embedded_everysec: EmbeddedGround::new(Durability::Everysec);
    embedded_always: EmbeddedGround::new(Durability::Always);
    redis_7: RedisGround::new();
}
