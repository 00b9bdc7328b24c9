//! Checkpoints with a few kilobytes each, so that all that happens around them happens often.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use replica::{Found, Record, Ticket, WriteGroup};

use super::*;

const SMALL: Limits =
    Limits { table_bytes: 20 << 10, log_bytes: 40 << 10, table_bytes_max: 40 << 10, log_bytes_max: 60 << 10 };

/// Groups after which the second record of a group is removed.
const LIFE: u64 = 30;

const FOLDER: &str = "CRDT_STORE_CHECKPOINT_FOLDER";
const DURABILITY: &str = "CRDT_STORE_CHECKPOINT_DURABILITY";

fn open(folder: &Path, durability: Durability) -> Embedded {
    let surroundings = Surroundings { machine: "machine".into(), boot: "boot".into() };
    let options = EmbeddedOptions { folder: folder.into(), durability, surroundings, fresh: 7, wake: Arc::new(|| ()) };
    Embedded::open_within(options, SMALL).unwrap()
}

fn durable(store: &mut Embedded, ticket: u64) {
    loop {
        match store.wait(Duration::from_secs(60)) {
            Some(Completion::Durable(done)) if done >= Ticket(ticket) => return,
            Some(Completion::Durable(_)) => {}
            other => panic!("group {ticket} did not become durable: {other:?}"),
        }
    }
}

fn all(store: &mut Embedded) -> BTreeMap<RecordKey, Found> {
    let mut records = BTreeMap::new();
    for record in store.load().unwrap() {
        let (key, found) = record.unwrap();
        assert_eq!(records.insert(key.clone(), found), None, "{key:?} comes twice");
    }
    records
}

fn long_lived(number: u64) -> Record {
    // Out of 500 keys.
    let key = RecordKey::Object((number % 500).to_be_bytes().to_vec());
    Record { key, value: Some(format!("{number}").repeat(9).into_bytes()) }
}

fn short_lived(number: u64) -> Record {
    Record { key: RecordKey::Epoch(number), value: Some(vec![number as u8; 200]) }
}

fn group(number: u64) -> WriteGroup {
    let mut records = vec![long_lived(number), short_lived(number)];
    if let Some(old) = number.checked_sub(LIFE).filter(|old| *old > 0) {
        records.push(Record { value: None, ..short_lived(old) });
    }
    records.push(Record { key: RecordKey::Chunk(0), value: Some(number.to_be_bytes().to_vec()) });
    WriteGroup { ticket: Ticket(number), records }
}

/// What the groups up to a number leave.
fn expected(last: u64) -> BTreeMap<RecordKey, Found> {
    let mut records = BTreeMap::new();
    for record in (1..=last).flat_map(|number| group(number).records) {
        match record.value {
            Some(value) => records.insert(record.key, Found::Intact(value)),
            None => records.remove(&record.key),
        };
    }
    records
}

/// Number of the last group; all records are those of a moment.
fn moment(store: &mut Embedded) -> u64 {
    let records = all(store);
    let last = match records.get(&RecordKey::Chunk(0)) {
        Some(Found::Intact(bytes)) => u64::from_be_bytes(bytes.as_slice().try_into().unwrap()),
        None => 0,
        damaged => panic!("{damaged:?}"),
    };
    assert!(records == expected(last), "the records are not those of group {last}");
    last
}

/// The child: only does something when the parent says where. Writes groups and prints the acknowledged numbers.
#[test]
fn child() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let mut store = open(folder.as_ref(), env::var(DURABILITY).unwrap().parse().unwrap());
    let mut next = moment(&mut store) + 1;
    loop {
        let last = next + next % 40;
        (next..=last).for_each(|number| store.write(group(number)).unwrap());
        next = last + 1;
        durable(&mut store, last);
        let mut out = std::io::stdout().lock();
        out.write_all(format!("\nacknowledged {last}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

fn kills(durability: Durability) {
    let folder = tempfile::tempdir().unwrap();
    let (mut seed, mut last): (u64, u64) = (0x9E37_79B9_7F4A_7C15, 0);
    let mut segments = Vec::new();
    for round in 0..25 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "embedded::tests::child", "--nocapture", "--test-threads", "1"])
            .env(FOLDER, folder.path())
            .env(DURABILITY, durability.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let reader = thread::spawn(move || {
            lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).last().unwrap_or(0)
        });
        // The moment of the kill is what the test varies; there is no condition to wait for.
        thread::sleep(Duration::from_millis(30 + (seed >> 33) % 300));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged: u64 = reader.join().unwrap();
        segments.push(fs::read_dir(folder.path().join("log")).map_or(0, Iterator::count));
        let mut store = open(folder.path(), durability);
        let found = moment(&mut store);
        assert!(found >= acknowledged, "round {round}: {acknowledged} was acknowledged, {found} is there");
        if last > 0 {
            assert_eq!(store.proof().doubts, Vec::<Doubt>::new(), "round {round}");
        }
        // The parent's own group, without which a first start stays in doubt.
        last = found + 1;
        store.write(group(last)).unwrap();
        durable(&mut store, last);
    }
    assert!(last > 1_000, "the children wrote only {last} groups");
    assert!(segments.iter().any(|count| *count > 1), "no kill came while a checkpoint was on its way: {segments:?}");
}

#[test]
fn killed_around_checkpoints_under_everysec() {
    kills(Durability::Everysec);
}

#[test]
fn killed_around_checkpoints_under_always() {
    kills(Durability::Always);
}

#[test]
fn records_are_those_of_a_model_over_many_checkpoints_and_starts() {
    let folder = tempfile::tempdir().unwrap();
    let mut model: BTreeMap<RecordKey, Found> = BTreeMap::new();
    let mut seed: u64 = 1;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut reads = 0;
    for start in 0..12 {
        let mut store = open(folder.path(), Durability::Everysec);
        assert!(all(&mut store) == model, "start {start}");
        for ticket in 1..=400 {
            let records: Vec<Record> = (0..1 + random(4))
                .map(|_| {
                    let key = RecordKey::Epoch(random(300));
                    let value = (random(3) > 0).then(|| vec![random(256) as u8; random(300) as usize]);
                    Record { key, value }
                })
                .collect();
            for Record { key, value } in records.clone() {
                match value {
                    Some(value) => model.insert(key, Found::Intact(value)),
                    None => model.remove(&key),
                };
            }
            store.write(WriteGroup { ticket: Ticket(ticket), records }).unwrap();
            if random(8) == 0 {
                durable(&mut store, ticket);
                let key = RecordKey::Epoch(random(300));
                store.read(key.clone()).unwrap();
                let found = model.get(&key).cloned();
                let answer = store.wait(Duration::from_secs(60));
                assert_eq!(answer, Some(Completion::Loaded { key, found }), "start {start}, group {ticket}");
                reads += 1;
            } else if ticket == 400 {
                durable(&mut store, ticket);
            }
        }
        if random(2) == 0 {
            Box::new(store).close().unwrap();
        }
    }
    assert!(reads > 100);
}

#[test]
fn what_is_removed_soon_never_reaches_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), Durability::Everysec);
    for number in 1..=5_000 {
        store.write(group(number)).unwrap();
        // A commit takes all that waits, and a bound is looked at before each.
        if number % 20 == 0 {
            durable(&mut store, number);
        }
    }
    Box::new(store).close().unwrap();
    let tree = Tree::at(&folder.path().join("records")).unwrap();
    let short = tree.pairs().filter(|pair| pair.as_ref().unwrap().0[0] == RecordKey::Epoch(0).to_bytes()[0]).count();
    let all = tree.pairs().count();
    assert!(short <= LIFE as usize && all > 500, "{short} of {all} records are short-lived");
    drop(tree);
    // Little is left of a log of two megabytes.
    let log: u64 =
        fs::read_dir(folder.path().join("log")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(log <= 2 * SMALL.log_bytes_max, "{log} bytes of log");
    assert_eq!(moment(&mut open(folder.path(), Durability::Everysec)), 5_000);
}
