//! `kill -9` at random points: nothing acknowledged is missing, and no group is there in part.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use replica::Continuity;
use store::{Completion, Doubt, Durability, Store, Surroundings};

use crate::ground::{PATIENCE, embedded, group, here, whole_groups, write};

const FOLDER: &str = "CRDT_STORE_CRASH_FOLDER";
const DURABILITY: &str = "CRDT_STORE_CRASH_DURABILITY";

/// The child: only does something when the parent says where. Writes groups and prints the acknowledged numbers.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let durability: Durability = std::env::var(DURABILITY).unwrap().parse().unwrap();
    let mut store = embedded(folder.as_ref(), durability, here()).unwrap();
    let mut next = whole_groups(&mut store) + 1;
    loop {
        // Bursts, so that commits of one and of many groups are hit.
        for _ in 0..1 + next % 40 {
            store.write(group(next)).unwrap();
            next += 1;
        }
        let mut last = 0;
        while last < next - 1 {
            let Some(Completion::Durable(ticket)) = store.wait(PATIENCE) else { panic!("no completion") };
            last = ticket.0;
            // One write: the harness does not capture it, and the parent never reads half a line.
            let line = format!("\nacknowledged {last}\n");
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            std::io::stdout().lock().flush().unwrap();
        }
    }
}

/// Runs the child for a while, kills it, and gives the last number that it acknowledged.
fn kill_after(folder: &std::path::Path, durability: Durability, life: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .env(DURABILITY, durability.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = thread::spawn(move || {
        let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok());
        numbers.last().unwrap_or(0)
    });
    // The moment of the kill is what the test varies; there is no condition to wait for.
    thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn kills(durability: Durability, rounds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut seed: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut most = 0;
    for round in 0..rounds {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(20 + (seed >> 33) % 400);
        let acknowledged = kill_after(folder.path(), durability, life);
        let mut store = embedded(folder.path(), durability, here()).unwrap();
        let found = whole_groups(&mut store);
        assert!(found >= acknowledged, "round {round}: {acknowledged} was acknowledged, {found} is there");
        if most > 0 {
            assert_eq!(store.proof().continuity(), Continuity::Proven, "round {round}: {:?}", store.proof().doubts);
        }
        // The parent's own group, without which a first start stays in doubt.
        write(&mut store, found + 1..=found + 1);
        most = found + 1;
    }
    assert!(most > rounds, "the children wrote nothing");
}

#[test]
fn killed_under_everysec() {
    kills(Durability::Everysec, 25);
}

#[test]
fn killed_under_always() {
    kills(Durability::Always, 25);
}

#[test]
fn another_boot_without_an_orderly_end_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let boot = |boot: &str| Surroundings { boot: boot.into(), ..here() };
    let open = |now: &str| embedded(folder.path(), Durability::Always, boot(now)).unwrap();
    let mut store = open("1");
    write(&mut store, 1..=3);
    drop(store);
    let mut store = open("2");
    assert_eq!(store.proof().doubts, [Doubt::PowerCut]);
    assert_eq!(whole_groups(&mut store), 3);
    write(&mut store, 4..=4);
    Box::new(store).close().unwrap();
    assert_eq!(open("3").proof().doubts, Vec::<Doubt>::new(), "it was closed in order");
}

#[test]
fn a_doubt_outlives_a_process_that_did_not_act_on_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(embedded(folder.path(), Durability::Always, here()).unwrap());
    let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
    assert_eq!(store.proof().doubts, [Doubt::Unsettled]);
    write(&mut store, 1..=1);
    drop(store);
    assert_eq!(embedded(folder.path(), Durability::Always, here()).unwrap().proof().doubts, Vec::<Doubt>::new());
}

#[test]
fn a_copied_folder_and_another_machine_are_noticed() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
    write(&mut store, 1..=3);
    Box::new(store).close().unwrap();
    let copied = Command::new("cp").arg("-a").arg(folder.path().join(".")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let mut store = embedded(copy.path(), Durability::Always, here()).unwrap();
    assert_eq!(store.proof().doubts, [Doubt::Copied]);
    assert_eq!(whole_groups(&mut store), 3);
    let elsewhere = Surroundings { machine: "other".into(), ..here() };
    let store = embedded(folder.path(), Durability::Always, elsewhere).unwrap();
    assert_eq!(store.proof().doubts, [Doubt::OtherMachine]);
}
