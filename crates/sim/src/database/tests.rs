use super::*;
use crdt::{Namespace, Value};
use replica::host::{RowWrite, SqlRequest, SqlResponse};

const SITE: Namespace = Namespace(1);

fn database() -> Database {
    Database::new(Rc::new(Tables::wordpress()), 1, true)
}

fn option(name: &str) -> RowId {
    RowId::named(SITE, "wp_options", name.as_bytes())
}

fn image(value: &str) -> RowImage {
    RowImage::from([(column("option_value"), Value::from(value))])
}

fn ask(database: &mut Database, session: SessionId, statement: Statement) -> Option<Outcome> {
    database.submit(session, statement);
    let found = database.take_completions().into_iter().find(|(id, _)| *id == session);
    found.map(|(_, outcome)| outcome)
}

fn writer(database: &mut Database) -> SessionId {
    let session = database.connect();
    assert_eq!(ask(database, session, Statement::Begin { is_captured: true }), Some(Outcome::Affected(0)));
    session
}

fn put(database: &mut Database, name: &str, value: &str) {
    let session = writer(database);
    let statement = Statement::Replace { row: option(name), image: image(value) };
    assert!(ask(database, session, statement).is_some());
    assert_eq!(ask(database, session, Statement::Commit), Some(Outcome::Committed));
}

fn lock(database: &mut Database, session: SessionId, rows: &[&str]) -> Option<Outcome> {
    let rows = rows.iter().map(|name| option(name)).collect();
    ask(database, session, Statement::Engine(SqlRequest::Lock { rows }))
}

#[test]
fn outbox_ids_become_visible_out_of_order() {
    let mut database = database();
    let early = writer(&mut database);
    let statement = Statement::Insert { row: option("a"), image: image("1") };
    assert_eq!(ask(&mut database, early, statement), Some(Outcome::Affected(1)));
    put(&mut database, "b", "2");
    let ids = |database: &Database| database.store().outbox().keys().copied().collect::<Vec<_>>();
    assert_eq!(ids(&database), [2]);
    assert_eq!(ask(&mut database, early, Statement::Commit), Some(Outcome::Committed));
    assert_eq!(ids(&database), [1, 2]);
    assert_eq!(database.take_commits().len(), 2);
}

#[test]
fn the_engine_waits_for_a_writer_and_then_sees_its_entry() {
    let mut database = database();
    put(&mut database, "a", "1");
    let engine = database.connect();
    assert_eq!(
        ask(&mut database, engine, Statement::Engine(SqlRequest::DeleteOutbox { ids: vec![1], cursor: 1 })),
        Some(Outcome::Engine(SqlResponse::Deleted))
    );
    let site = writer(&mut database);
    let update = Statement::Update { rows: vec![option("a")], set: image("2"), add: BTreeMap::new() };
    assert_eq!(ask(&mut database, site, update), Some(Outcome::Affected(1)));
    assert_eq!(lock(&mut database, engine, &["a"]), None);
    assert_eq!(database.take_waits().len(), 1);
    database.submit(site, Statement::Commit);
    let completions = database.take_completions();
    let Some((_, Outcome::Engine(SqlResponse::Locked { entries, rows }))) = completions.last() else {
        panic!("{completions:?}")
    };
    assert_eq!(entries, &[2]);
    assert_eq!(rows[&option("a")].as_ref().map(|row| row[&column("option_value")].clone()), Some("2".into()));
    assert!(database.take_misuse().is_empty());
}

#[test]
fn a_missing_row_keeps_no_lock_so_the_insert_meets_1062() {
    let mut database = database();
    let engine = database.connect();
    assert!(matches!(lock(&mut database, engine, &["a"]), Some(Outcome::Engine(SqlResponse::Locked { .. }))));
    put(&mut database, "a", "1");
    let write = SqlRequest::Write { rows: vec![(option("a"), RowWrite::Insert(image("2")))], cursor: 1 };
    assert_eq!(
        ask(&mut database, engine, Statement::Engine(write)),
        Some(Outcome::Engine(SqlResponse::Failed(SqlError::DuplicateKey)))
    );
    assert!(database.take_misuse().is_empty());
}

#[test]
fn cycles_timeouts_and_changed_rows_fail_with_their_numbers() {
    let mut database = database();
    put(&mut database, "a", "1");
    put(&mut database, "b", "1");
    let [one, two] = [writer(&mut database), writer(&mut database)];
    let update = |name| Statement::Update { rows: vec![option(name)], set: image("2"), add: BTreeMap::new() };
    assert!(matches!(ask(&mut database, two, Statement::Read(vec![option("a")])), Some(Outcome::Rows(_))));
    assert!(ask(&mut database, one, update("a")).is_some());
    assert!(ask(&mut database, two, update("b")).is_some());
    assert_eq!(ask(&mut database, one, update("b")), None);
    assert_eq!(ask(&mut database, two, update("a")), Some(Outcome::Failed(SqlError::Deadlock)));
    assert_eq!(ask(&mut database, one, Statement::Commit), Some(Outcome::Committed));

    let [reader, other] = [writer(&mut database), writer(&mut database)];
    assert!(ask(&mut database, reader, Statement::Read(vec![option("b")])).is_some());
    put(&mut database, "a", "3");
    assert_eq!(ask(&mut database, reader, update("a")), Some(Outcome::Failed(SqlError::RecordChanged)));
    assert!(ask(&mut database, other, update("a")).is_some());
    let late = writer(&mut database);
    database.take_waits();
    assert_eq!(ask(&mut database, late, update("a")), None);
    let waits = database.take_waits();
    assert!(database.expire(late, waits[0].1) && !database.expire(late, waits[0].1));
    assert_eq!(database.take_completions(), vec![(late, Outcome::Failed(SqlError::LockTimeout))]);
}

#[test]
fn a_lost_connection_rolls_back_and_keeps_what_was_committed() {
    let mut database = database();
    put(&mut database, "a", "1");
    let engine = database.connect();
    assert!(lock(&mut database, engine, &["a"]).is_some());
    database.disconnect(engine);
    put(&mut database, "a", "2");
    let shown = database.store().row(&option("a")).map(|row| row[&column("option_value")].clone());
    assert_eq!(shown, Some("2".into()));
    assert_eq!(ask(&mut database, engine, Statement::Commit), Some(Outcome::Failed(SqlError::ConnectionLost)));
}
