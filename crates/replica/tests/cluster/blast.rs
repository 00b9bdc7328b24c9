//! The blast brake: commits that change much of a table at once.

use std::collections::BTreeMap;

use crdt::{BatchId, Kind, Namespace, Object, Value};
use replica::host::{OutboxEntry, RowId, RowImage, RowOperation, Schema, Table};
use replica::{
    Action, BlastEnd, BlastView, Continuity, HeldError, HeldReason, HeldView, Intent, Limits, RecordKey, Report,
};

use crate::harness::{Cluster, name};

/// Keys of the table that is blasted.
pub(crate) const KEYS: usize = 40;
pub(crate) const HOLD_MS: u64 = 15 * 60_000;

/// A commit that changes more than ten objects is looked at.
pub(crate) fn limits() -> Limits {
    Limits { blast_objects_min: 10, ..Limits::default() }
}

pub(crate) fn intent(key: &str, action: Action) -> Intent {
    Intent { namespace: Namespace(0), path: vec![key.as_bytes().into()], action }
}

pub(crate) fn commit(cluster: &mut Cluster, index: usize, intents: &[Intent]) -> BatchId {
    let now = cluster.now;
    let node = cluster.nodes.get_mut(&name(index)).expect("known");
    let batch = node.commit(now, intents).expect("the node takes writes");
    cluster.settle();
    batch
}

/// One command that sets every key.
pub(crate) fn set_all(cluster: &mut Cluster, index: usize, value: &str) -> BatchId {
    let intents: Vec<Intent> = (0..KEYS).map(|key| intent(&format!("k{key}"), Action::Set(value.into()))).collect();
    commit(cluster, index, &intents)
}

/// Two nodes, or those of them that are there, of which the first has set every key to "old".
pub(crate) fn filled(members: usize, opened: usize) -> Cluster {
    let mut cluster = Cluster::with_opened(members, opened, limits(), None);
    cluster.run(3_000);
    set_all(&mut cluster, 0, "old");
    cluster.run(3_000);
    cluster
}

pub(crate) fn held(cluster: &Cluster) -> Vec<(BatchId, BlastView)> {
    let held = cluster.nodes[&name(0)].held().into_iter();
    let view = |HeldView { batch, reason, blast }| {
        assert_eq!(reason, HeldReason::Blast);
        (batch, blast.expect("it is known"))
    };
    held.map(view).collect()
}

pub(crate) fn ended(cluster: &Cluster) -> Vec<(BatchId, BlastEnd)> {
    let end = |(_, report): &(String, Report)| match report {
        Report::BlastEnded { batch, end } => Some((*batch, *end)),
        _ => None,
    };
    cluster.reports.iter().filter_map(end).collect()
}

pub(crate) fn release(cluster: &mut Cluster, id: BatchId) -> Result<(), HeldError> {
    let now = cluster.now;
    let done = cluster.nodes.get_mut(&name(0)).expect("known").release(now, id);
    cluster.settle();
    done
}

pub(crate) fn discard(cluster: &mut Cluster, id: BatchId) -> Result<(), HeldError> {
    let now = cluster.now;
    let done = cluster.nodes.get_mut(&name(0)).expect("known").discard(now, id);
    cluster.settle();
    done
}

/// How many keys show a value at a node.
pub(crate) fn count(cluster: &Cluster, index: usize, value: &str) -> usize {
    let shows = |key: &usize| cluster.shown(index, &format!("k{key}")) == Some(value.into());
    (0..KEYS).filter(shows).count()
}

#[test]
fn a_commit_that_changes_a_whole_table_stays_here_for_a_while() {
    let mut cluster = filled(3, 3);
    assert_eq!(held(&cluster), [], "what was written first changed nothing that was there");
    let since_wall_ms = cluster.now.wall_ms;
    let until_mono_ms = cluster.now.mono_ms + HOLD_MS;
    let batch = set_all(&mut cluster, 0, "bad");
    cluster.set(0, "after", "waits");
    cluster.set(1, "elsewhere", "flows");
    cluster.run(60_000);
    let (id, view) = held(&cluster).remove(0);
    let blast = view.blast.clone().expect("its record is whole");
    assert_eq!((id, view.batches, view.waiting, view.is_discarded, view.refusal), (batch, 1, 2, false, None));
    assert_eq!((view.since_wall_ms, view.until_mono_ms), (since_wall_ms, until_mono_ms));
    assert_eq!((blast.kind, blast.table, blast.touched, blast.rows), (Kind::Register, None, 40, 40));
    let said = cluster.reports.iter().find(|(_, report)| matches!(report, Report::BlastHeld { .. }));
    assert_eq!(said.and_then(|(_, report)| report.code()), Some("ERR_BLAST_HELD"));
    assert_eq!(count(&cluster, 0, "bad"), KEYS, "here it counts");
    for index in 1..3 {
        assert_eq!((count(&cluster, index, "old"), cluster.shown(index, "after")), (KEYS, None));
        assert_eq!(cluster.nodes[&name(index)].received().seq(batch.replica), batch.seq - 1);
        // The peers doubt nothing, and neither does the node.
        assert_eq!(cluster.nodes[&name(index)].held(), []);
    }
    assert_eq!(cluster.shown(0, "elsewhere"), Some("flows".into()));
    assert_eq!(cluster.nodes[&name(0)].replicas().len(), 1);
    // A held commit keeps stability from running past what the others have not seen.
    let stable = cluster.nodes[&name(1)].stable().seq(batch.replica);
    assert!(stable < batch.seq, "{stable}");
    cluster.now.wall_ms -= 3_600_000;
    cluster.run(until_mono_ms - cluster.now.mono_ms - 100);
    assert_eq!(count(&cluster, 1, "old"), KEYS);
    assert_eq!(cluster.nodes[&name(0)].poll_timeout().map(|at| at <= until_mono_ms), Some(true));
    cluster.now.wall_ms += 3_600_000;
    cluster.run(100);
    assert_eq!(count(&cluster, 1, "bad"), KEYS);
    assert_eq!(cluster.shown(2, "after"), Some("waits".into()));
    assert_eq!(ended(&cluster), [(batch, BlastEnd::Expired)]);
    cluster.run(20_000);
    cluster.assert_converged();
    assert_eq!(cluster.nodes[&name(0)].gauges().blast_preimage_bytes, 0);
    let leftover = |key: &RecordKey| matches!(key, RecordKey::Brake(_) | RecordKey::Preimage(..));
    assert!(!cluster.disks[&name(0)].keys().any(leftover));
}

#[test]
fn what_is_released_goes_at_once() {
    let mut cluster = filled(2, 2);
    let batch = set_all(&mut cluster, 0, "bad");
    cluster.run(1_000);
    let nobody = BatchId { seq: 99, ..batch };
    assert_eq!(
        (release(&mut cluster, nobody), discard(&mut cluster, nobody)),
        (Err(HeldError::NotHeld), Err(HeldError::NotHeld))
    );
    assert_eq!(release(&mut cluster, batch), Ok(()));
    assert_eq!((count(&cluster, 1, "bad"), held(&cluster)), (KEYS, vec![]));
    assert_eq!(ended(&cluster), [(batch, BlastEnd::Released)]);
    cluster.run(20_000);
    cluster.assert_converged();
}

/// The share and the number both have to be exceeded; what is added takes nothing away; and the brake can be turned off.
#[test]
fn everyday_work_and_imports_are_not_held() {
    let mut cluster = filled(2, 2);
    let some = |count: usize| -> Vec<Intent> {
        (0..count).map(|key| intent(&format!("k{key}"), Action::Set("new".into()))).collect()
    };
    commit(&mut cluster, 0, &some(10));
    assert_eq!(held(&cluster), [], "ten are not more than ten");
    for part in 0..20 {
        let import = |row: usize| intent(&format!("row {part} {row}"), Action::Set("imported".into()));
        commit(&mut cluster, 0, &(0..20).map(import).collect::<Vec<_>>());
        assert_eq!(held(&cluster), [], "part {part} of an import");
    }
    commit(&mut cluster, 0, &some(20));
    assert_eq!(held(&cluster), [], "20 of 440 are less than 5 %");
    let batch = commit(&mut cluster, 0, &some(30));
    assert_eq!(held(&cluster).first().map(|(id, _)| *id), Some(batch), "30 are more");
    let off = Limits { blast_share_percent: 100, ..limits() };
    let mut cluster = Cluster::new(2, off);
    cluster.run(3_000);
    set_all(&mut cluster, 0, "old");
    set_all(&mut cluster, 0, "bad");
    assert_eq!((held(&cluster), count(&cluster, 1, "bad")), (vec![], KEYS));
}

/// The limits as they are by default, and a group of more than one type.
#[test]
fn by_default_more_than_a_thousand_are_too_many() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(3_000);
    let set = |count: usize, value: &str| -> Vec<Intent> {
        (0..count).map(|key| intent(&format!("k{key}"), Action::Set(value.into()))).collect()
    };
    commit(&mut cluster, 0, &set(1_100, "old"));
    commit(&mut cluster, 0, &set(1_000, "new"));
    assert_eq!(held(&cluster), []);
    let batch = commit(&mut cluster, 0, &set(1_001, "bad"));
    assert_eq!(held(&cluster).first().map(|(id, _)| *id), Some(batch));
    assert_eq!(discard(&mut cluster, batch), Ok(()));
    cluster.run(20_000);
    assert_eq!(cluster.shown(1, "k1000"), Some("old".into()));
    assert_eq!(cluster.shown(1, "k999"), Some("new".into()));
    cluster.assert_converged();
}

#[test]
fn what_is_discarded_was_as_if_it_had_never_been() {
    let mut cluster = filled(3, 3);
    // One key nobody had, one that was written elsewhere and not heard of, one that is written elsewhere meanwhile.
    cluster.link("node_00", "node_02", false);
    cluster.link("node_01", "node_02", false);
    cluster.set(2, "k3", "of before");
    cluster.run(1_000);
    let mut intents: Vec<Intent> = (1..KEYS).map(|key| intent(&format!("k{key}"), Action::Set("bad".into()))).collect();
    intents.push(intent("k0", Action::Remove(Kind::Register)));
    intents.push(intent("added", Action::Set("bad".into())));
    let batch = commit(&mut cluster, 0, &intents);
    cluster.run(1_000);
    cluster.set(1, "k4", "of meanwhile");
    cluster.set(0, "k5", "of here");
    cluster.run(1_000);
    assert_eq!(cluster.shown(0, "k4"), Some("of meanwhile".into()), "it is later, and wins here already");
    assert_eq!(discard(&mut cluster, batch), Ok(()));
    assert_eq!(discard(&mut cluster, batch), Err(HeldError::NotHeld), "it is on its way");
    assert_eq!(ended(&cluster), [(batch, BlastEnd::Discarded)]);
    cluster.link("node_00", "node_02", true);
    cluster.link("node_01", "node_02", true);
    cluster.run(20_000);
    for index in 0..3 {
        let shown = ["k0", "k1", "k3", "k4", "k5", "added"].map(|key| cluster.shown(index, key));
        let expected = ["old", "old", "of before", "of meanwhile", "of here"].map(|value| Some(Value::from(value)));
        assert_eq!((&shown[..5], &shown[5]), (&expected[..], &None), "node {index}");
        assert_eq!(count(&cluster, index, "old"), KEYS - 3);
    }
    cluster.assert_converged();
}

/// Counters, sets and maps.
#[test]
fn every_type_of_the_door_is_taken_back() {
    let mut cluster = filled(2, 2);
    let keys: Vec<String> = (0..20).map(|key| format!("c{key}")).collect();
    let all = |action: &dyn Fn() -> Action| -> Vec<Intent> { keys.iter().map(|key| intent(key, action())).collect() };
    let names = |names: &[&str]| -> Vec<crdt::Name> { names.iter().map(|name| name.as_bytes().into()).collect() };
    let below = |action: &dyn Fn() -> Action| -> Vec<Intent> {
        let path = |key: &String| vec![key.as_bytes().into(), b"field".as_slice().into()];
        keys.iter().map(|key| Intent { namespace: Namespace(0), path: path(key), action: action() }).collect()
    };
    commit(&mut cluster, 0, &all(&|| Action::Increment(10)));
    // One by one: the other node has a brake as well.
    for key in &keys {
        commit(&mut cluster, 1, &[intent(key, Action::Increment(7))]);
    }
    commit(&mut cluster, 0, &all(&|| Action::Add(names(&["kept", "removed"]))));
    commit(&mut cluster, 0, &below(&|| Action::Set("old".into())));
    cluster.run(3_000);
    let before = cluster.nodes[&name(0)].journal();
    let held_ones = [
        commit(&mut cluster, 0, &all(&|| Action::Increment(-1_000))),
        commit(&mut cluster, 0, &all(&|| Action::Discard(names(&["removed"])))),
        commit(&mut cluster, 0, &all(&|| Action::Add(names(&["added"])))),
        commit(&mut cluster, 0, &below(&|| Action::Remove(Kind::Register))),
        commit(&mut cluster, 0, &all(&|| Action::Remove(Kind::PnCounter))),
    ];
    assert_eq!(held(&cluster).len(), 5);
    commit(&mut cluster, 1, &[intent("c3", Action::Increment(5))]);
    commit(&mut cluster, 0, &[intent("c3", Action::Increment(2))]);
    // In no particular order.
    for at in [2, 0, 4, 1, 3] {
        assert_eq!(discard(&mut cluster, held_ones[at]), Ok(()), "group {at}");
    }
    assert_eq!(held(&cluster), []);
    cluster.run(20_000);
    for index in 0..2 {
        let node = &cluster.nodes[&name(index)];
        for key in &keys {
            let object = |kind| node.keyspace().object(&crdt::Key::new(Namespace(0), kind, key));
            let counter = object(Kind::PnCounter).expect("it is there again");
            let Object::PnCounter(counter) = counter.as_ref() else { panic!("{counter:?}") };
            let expected = if key == "c3" { 24 } else { 17 };
            assert_eq!(counter.value(), Ok(expected), "{key} at node {index}");
            let set = object(Kind::Set).expect("it is there again");
            let Object::Set(set) = set.as_ref() else { panic!("{set:?}") };
            assert_eq!(set.iter().collect::<Vec<_>>(), [&b"kept"[..], b"removed"], "{key} at node {index}");
            let map = object(Kind::Map).expect("it is there again");
            let Object::Map(map) = map.as_ref() else { panic!("{map:?}") };
            let Some(Object::Register(register)) = map.entry(b"field", Kind::Register) else { panic!("{map:?}") };
            assert_eq!(register.shown().map(|entry| &entry.value), Some(&"old".into()));
        }
        assert_eq!(node.journal(), before);
    }
    cluster.assert_converged();
}

#[test]
fn a_discard_that_cannot_be_right_is_refused() {
    let mut cluster = Cluster::new(2, Limits { blast_preimage_bytes_max: 200, ..limits() });
    cluster.run(3_000);
    set_all(&mut cluster, 0, "old");
    let batch = set_all(&mut cluster, 0, "bad");
    assert_eq!(held(&cluster)[0].1.refusal, Some(HeldError::TooLarge));
    assert_eq!(discard(&mut cluster, batch), Err(HeldError::TooLarge));
    assert_eq!(HeldError::TooLarge.code(), "ERR_HELD_REFUSED");
    assert_eq!(release(&mut cluster, batch), Ok(()));
    let grow =
        |count: usize| -> Vec<Intent> { (0..count).map(|key| intent(&format!("g{key}"), Action::Grow(1))).collect() };
    commit(&mut cluster, 0, &grow(20));
    let batch = commit(&mut cluster, 0, &grow(20));
    assert_eq!(discard(&mut cluster, batch), Err(HeldError::Grows));
    assert_eq!(held(&cluster).len(), 1, "it stays held");
    assert_eq!(release(&mut cluster, batch), Ok(()));
    cluster.run(20_000);
    cluster.assert_converged();
}

const TITLE: &[u8] = b"post_title";

fn titled(title: &str) -> RowImage {
    RowImage::from([(TITLE.into(), Value::from(title))])
}

/// A search-replace in the database of a site, that also deletes rows and adds one.
#[test]
fn rows_of_a_database_come_back() {
    let row = |id: u64| RowId::numbered(Namespace(1), "posts", id);
    let titles = |cluster: &Cluster, index: usize| -> BTreeMap<u64, Value> {
        let rows = cluster.databases[&name(index)].rows.iter();
        rows.map(|(row, image)| (row.number().expect("numbered"), image[TITLE].clone())).collect()
    };
    for restarts in [false, true] {
        let schema = Schema { tables: BTreeMap::from([("posts".into(), Table::default())]) };
        let mut cluster = Cluster::with_schema(2, limits(), Some(schema));
        cluster.run(3_000);
        for id in 1..=30 {
            cluster.write_row(0, &row(id), "old");
            cluster.now.mono_ms += 1;
        }
        cluster.run(3_000);
        assert_eq!(held(&cluster), [], "an import into an empty table");
        let before = titles(&cluster, 1);
        assert_eq!(before.len(), 30);
        for id in 1..=25 {
            cluster.now.mono_ms += 1;
            if id <= 5 { cluster.change_row(0, &row(id), None) } else { cluster.write_row(0, &row(id), "bad") }
        }
        cluster.write_row(0, &row(31), "bad");
        cluster.run(3_000);
        let (id, view) = held(&cluster).remove(0);
        let blast = view.blast.expect("its record is whole");
        assert_eq!((blast.kind, blast.table.as_deref(), blast.touched, blast.rows), (Kind::Row, Some("posts"), 25, 30));
        assert_eq!((titles(&cluster, 0).len(), titles(&cluster, 1)), (26, before.clone()));
        // The other site goes on meanwhile: with a row that the blast changed, and with one that it left alone.
        cluster.write_row(1, &row(10), "of the other site");
        cluster.run(1_000);
        cluster.write_row(1, &row(28), "of the other site");
        cluster.run(3_000);
        if restarts {
            cluster.open(0, Continuity::Proven);
            cluster.run(3_000);
        }
        assert_eq!(discard(&mut cluster, id), Ok(()));
        cluster.run(20_000);
        let mut expected = before.clone();
        expected.extend([10, 28].map(|id| (id, Value::from("of the other site"))));
        for index in 0..2 {
            assert_eq!(titles(&cluster, index), expected, "node {index}");
        }
        assert_eq!(cluster.databases[&name(0)].rows[&row(1)], titled("old"));
        cluster.assert_converged();
        for (name, node) in &cluster.nodes {
            assert_eq!(node.shown(), node.applied(), "{name}");
        }
    }
}

/// A site counts the same row on both sides of a blast, and another site counts it meanwhile.
#[test]
fn counters_of_rows_get_the_difference_back() {
    const HITS: &[u8] = b"hits";
    let row = |id: u64| RowId::numbered(Namespace(1), "posts", id);
    let table = Table { counters: [HITS.into()].into(), ..Table::default() };
    let schema = Schema { tables: BTreeMap::from([("posts".into(), table)]) };
    let mut cluster = Cluster::with_schema(2, limits(), Some(schema));
    cluster.run(3_000);
    let hits = |cluster: &Cluster, index: usize, id: u64| cluster.databases[&name(index)].rows[&row(id)][HITS].clone();
    let count = |cluster: &mut Cluster, index: usize, id: u64, hits: i64| {
        let (now, database) = (cluster.now, cluster.databases.get_mut(&name(index)).expect("known"));
        let image = RowImage::from([(HITS.into(), Value::from(hits))]);
        let before = database.rows.insert(row(id), image);
        let operation = if before.is_some() { RowOperation::Update } else { RowOperation::Insert };
        database.outbox.push(OutboxEntry { id: now.mono_ms, row: row(id), operation, time_ms: now.wall_ms });
        cluster.now.mono_ms += 1;
    };
    (1..=20).for_each(|id| count(&mut cluster, 0, id, 10));
    cluster.run(3_000);
    (1..=20).for_each(|id| count(&mut cluster, 0, id, 999));
    cluster.run(3_000);
    let id = held(&cluster)[0].0;
    count(&mut cluster, 0, 7, 1_002);
    count(&mut cluster, 1, 7, 14);
    cluster.run(3_000);
    assert_eq!((hits(&cluster, 0, 7), hits(&cluster, 1, 7)), (1_006_i64.into(), 14_i64.into()));
    assert_eq!(discard(&mut cluster, id), Ok(()));
    cluster.run(3_000);
    count(&mut cluster, 0, 7, 18);
    cluster.run(20_000);
    for index in 0..2 {
        assert_eq!(hits(&cluster, index, 7), 18_i64.into(), "10, 3 and 1 here, 4 there");
        assert_eq!(hits(&cluster, index, 8), 10_i64.into());
    }
    cluster.assert_converged();
}
