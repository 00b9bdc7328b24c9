//! `backup` beside a real node that is written to, and `restore` of what it made.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, Value, cmd};

const PATIENCE: Duration = Duration::from_secs(60);
/// Written before the backup begins.
const BEFORE: u64 = 5_000;

/// A node folder, and the daemon on it if it runs.
struct Node {
    folder: PathBuf,
    /// Settings beside those of every test.
    settings: Vec<String>,
    child: Option<Child>,
}

impl Node {
    fn new(folder: PathBuf, settings: &[String]) -> Self {
        Self { folder, settings: settings.to_vec(), child: None }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crdt-engine"));
        command.args(words).arg("--folder").arg(&self.folder).stdin(Stdio::null());
        command.args(["--listen", "127.0.0.1:0", "--http", "off"]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    fn call(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.call(words);
        let (told, errors) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{words:?}: {told}{errors}");
        told
    }

    /// The first line of what a command that fails says, with its code.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(!output.status.success(), "{words:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    fn start(&mut self) {
        let log = fs::File::create(self.folder.with_extension("log")).unwrap();
        self.child = Some(self.command(&["run"]).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        // A first start takes writes when it has listened.
        let is_ready = |mut client: Connection| cmd("SET").arg("ready").arg("yes").exec(&mut client).is_ok();
        while !self.client().is_some_and(is_ready) {
            let log = fs::read_to_string(self.folder.with_extension("log")).unwrap();
            assert!(Instant::now() < until, "{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn client(&self) -> Option<Connection> {
        let socket = self.folder.join("door.sock");
        UnixStream::connect(&socket).ok()?;
        redis::Client::open(format!("unix://{}", socket.display())).unwrap().get_connection().ok()
    }

    /// Its replica id.
    fn replica(&self) -> String {
        let answer: Vec<Value> = cmd("CRDT.CLOCK").query(&mut self.client().unwrap()).unwrap();
        let at = answer.iter().position(|value| *value == Value::BulkString(b"replica".to_vec())).unwrap();
        redis::from_redis_value(answer[at + 1].clone()).unwrap()
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Writes pairs of keys by transactions, each pair with one number, until it is told to stop. Gives the last number that
/// was acknowledged.
fn write(mut client: Connection, from: u64, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut number = from;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        redis::pipe()
            .atomic()
            .set(format!("a{number}"), number)
            .set(format!("b{number}"), number)
            .exec(&mut client)
            .unwrap();
        acknowledged.store(number, Ordering::Relaxed);
    }
}

/// Every pair is whole; gives the last number.
fn whole_pairs(node: &Node) -> u64 {
    let mut client = node.client().unwrap();
    let mut number = 0;
    loop {
        let keys = [format!("a{}", number + 1), format!("b{}", number + 1)];
        let pair: [Option<u64>; 2] = cmd("MGET").arg(&keys).query(&mut client).unwrap();
        match pair {
            [None, None] => return number,
            pair => assert_eq!(pair, [Some(number + 1); 2], "a pair is whole, with its number"),
        }
        number += 1;
    }
}

/// The whole way on one kind of store.
fn there_and_back(settings: &[String], restored_settings: &[String]) {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let mut node = Node::new(at("node"), settings);
    node.done(&["init", "--node-id", "node_01"]);
    node.start();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writer = {
        let (client, told, stop) = (node.client().unwrap(), Arc::clone(&acknowledged), Arc::clone(&stop));
        thread::spawn(move || write(client, 0, told, stop))
    };
    while acknowledged.load(Ordering::Relaxed) < BEFORE {
        thread::sleep(Duration::from_millis(5));
    }
    let least = acknowledged.load(Ordering::Relaxed);
    let told = node.done(&["backup", path(&at("backup"))]);
    let most = acknowledged.load(Ordering::Relaxed) + 1;
    assert!(told.starts_with("node_01 is kept in "), "{told}");
    assert!(most > least + 1, "it was written to meanwhile");
    assert!(node.refused(&["backup", path(&at("backup"))]).contains("ERR_BACKUP_EXISTS"));
    assert!(!node.folder.join("records.copy").exists(), "no copy is left behind");
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let replica = node.replica();
    assert!(node.refused(&["restore", path(&at("backup"))]).contains("ERR_FOLDER_IN_USE"));
    node.stop();

    let mut restored = Node::new(at("restored"), restored_settings);
    let told = restored.done(&["restore", path(&at("backup"))]);
    assert!(told.contains("fresh replica id"), "{told}");
    restored.start();
    let found = whole_pairs(&restored);
    assert!((least..=most).contains(&found), "{found} of {least} to {most}");
    assert_ne!(restored.replica(), replica, "nobody takes its new writes for old ones");
    cmd("SET").arg("after").arg("yes").exec(&mut restored.client().unwrap()).unwrap();

    damage(&node, &at("backup"), &at("other"), restored_settings);
}

/// A backup with a flipped byte, or without its end, brings nothing back.
fn damage(_: &Node, backup: &Path, other: &Path, settings: &[String]) {
    let records = backup.join("records");
    let whole = fs::read(&records).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for bad in [&flipped[..], &whole[..whole.len() - 1], &[]] {
        fs::write(&records, bad).unwrap();
        let node = Node::new(other.to_owned(), settings);
        let told = node.refused(&["restore", path(backup)]);
        assert!(told.contains("ERR_BACKUP_INVALID"), "{told}");
        assert!(!other.join("identity/cluster.toml").exists(), "no node came of it");
    }
    fs::write(&records, &whole).unwrap();
    fs::remove_file(backup.join("backup.toml")).unwrap();
    let told = Node::new(other.to_owned(), settings).refused(&["restore", path(backup)]);
    assert!(told.contains("backup.toml is missing"), "{told}");
}

#[test]
fn a_node_is_backed_up_while_it_is_written_to() {
    there_and_back(&[], &[]);
}

#[test]
fn a_node_whose_state_is_in_redis_is_backed_up_and_comes_back_there() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "yes", "--dir"])
        .arg(folder.path())
        .arg("--unixsocket")
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn();
    let mut server = Server(server.expect("this test needs redis-server 7 in PATH"));
    let until = Instant::now() + PATIENCE;
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < until && server.0.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(10));
    }
    let at = |prefix: &str| vec![format!("redis.url=unix://{}", socket.display()), format!("redis.prefix={prefix}")];
    there_and_back(&at("first"), &at("second"));
    // Where the node lives still, nothing is written over.
    let root = tempfile::tempdir().unwrap();
    let mut node = Node::new(root.path().join("node"), &at("third"));
    node.done(&["init", "--node-id", "node_01"]);
    node.start();
    let backup = root.path().join("backup");
    node.done(&["backup", path(&backup)]);
    node.stop();
    let told = node.refused(&["restore", path(&backup)]);
    assert!(told.contains("ERR_STORE_OCCUPIED") && told.contains("third"), "{told}");
}

/// Ends with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
