//! What a real Redis does: restarts, loses its last second, refuses writes, promises too little, has a second writer.

use replica::Continuity;
use store::{Completion, Doubt, Durability, Redis, RedisOptions, Store, StoreError};

use crate::ground::{Ground, PATIENCE, RedisGround, group, whole_groups, write};

/// The failure of the next group.
fn failure(store: &mut dyn Store, number: u64) -> StoreError {
    store.write(group(number)).unwrap();
    match store.wait(PATIENCE) {
        Some(Completion::Failed { error, .. }) => error,
        other => panic!("{other:?} instead of a failure"),
    }
}

#[test]
fn a_restart_while_running_stops_the_store_and_proves_nothing() {
    let mut ground = RedisGround::new();
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=5);
    ground.server.restart(|_| ());
    let error = failure(&mut *store, 6);
    assert!(matches!(error, StoreError::Restarted { .. }), "{error:?}");
    let refused = store.write(group(7));
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    drop(store);
    let mut store = ground.open().unwrap();
    assert!(store.proof().doubts.contains(&Doubt::ServiceRestarted), "{:?}", store.proof().doubts);
    assert_eq!(whole_groups(&mut *store), 5);
    write(&mut *store, 6..=6);
}

#[test]
fn a_server_that_lost_its_last_second_is_noticed() {
    let mut ground = RedisGround::new();
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=5);
    store.close().unwrap();
    ground.server.restart(|folder| std::fs::remove_dir_all(folder.join("appendonlydir")).unwrap());
    let store = ground.open().unwrap();
    let doubts = &store.proof().doubts;
    assert!(doubts.contains(&Doubt::WentBack { found: 0, known: 5 }), "{doubts:?}");
    assert_eq!(store.proof().continuity(), Continuity::NotProven);
    assert_eq!(store.proof().sequence, 5);
}

#[test]
fn a_full_server_stops_the_store() {
    let mut ground = RedisGround::new();
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=2);
    ground.server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = failure(&mut *store, 3);
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(store.close().is_err());
    ground.server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let mut store = ground.open().unwrap();
    assert!(store.proof().doubts.contains(&Doubt::WriteFailed), "{:?}", store.proof().doubts);
    assert_eq!(whole_groups(&mut *store), 2, "nothing of a refused group is there");
}

#[test]
fn a_server_that_became_a_replica_stops_the_store() {
    let mut ground = RedisGround::new();
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=2);
    ground.server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = failure(&mut *store, 3);
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
}

#[test]
fn a_broken_connection_is_mended_without_a_loss() {
    let mut ground = RedisGround::new();
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=2);
    ground.server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    write(&mut *store, 3..=4);
    store.close().unwrap();
    assert_eq!(whole_groups(&mut *ground.open().unwrap()), 4);
}

#[test]
fn a_second_writer_is_noticed() {
    let mut ground = RedisGround::new();
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=2);
    let other = tempfile::tempdir().unwrap();
    let options = RedisOptions { folder: other.path().to_owned(), ..ground.options(10) };
    let second = Redis::open(options).unwrap();
    assert_eq!(second.proof().doubts, [Doubt::NoLedger]);
    let error = failure(&mut *store, 3);
    assert!(matches!(error, StoreError::Owned { .. }), "{error:?}");
}

#[test]
fn a_server_that_promises_less_is_refused() {
    let ground = RedisGround::new();
    let open = |durability| Redis::open(RedisOptions { durability, ..ground.options(9) }).err();
    let weak = open(Durability::Always);
    assert!(matches!(weak, Some(StoreError::Weak { .. })), "{weak:?}");
    ground.server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let weak = open(Durability::Everysec);
    assert!(matches!(weak, Some(StoreError::Weak { .. })), "{weak:?}");
    ground.server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    assert_eq!(open(Durability::Everysec), None);
}

#[test]
fn a_wrong_password_says_so() {
    let ground = RedisGround::new();
    ground.server.command(&["CONFIG", "SET", "requirepass", "secret"]);
    let open = |url: String| Redis::open(RedisOptions { url, ..ground.options(9) }).err();
    let url = ground.server.url();
    assert_eq!(open(url.clone()).map(|error| error.code()), Some("ERR_STORE_DENIED"));
    assert_eq!(open(format!("{url}?pass=wrong")).map(|error| error.code()), Some("ERR_STORE_DENIED"));
    assert_eq!(open(format!("{url}?pass=secret")), None);
}
