//! Engines on real sockets, with links and stores in memory.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use replica::epoch::{Epoch, Member};
use tempfile::TempDir;
use transport::Hub;
use transport::identity::{Authority, ClusterKeys, ClusterSigner, MacKey};
use transport::join::DirectoryEntry;

use super::*;

const CLUSTER: u128 = 7;
const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes that may come to be.
struct Cluster {
    authority: Authority,
    hub: Hub,
    folder: TempDir,
    members: Vec<&'static str>,
}

/// A node that runs.
struct Running {
    handle: EngineHandle,
    thread: JoinHandle<Result<(), EngineError>>,
    socket: PathBuf,
    disk: MemoryDisk,
}

impl Cluster {
    fn of(members: &[&'static str]) -> Self {
        let authority = Authority::create(CLUSTER, 1_800_000_000).unwrap();
        Self { authority, hub: Hub::new(), folder: tempfile::tempdir().unwrap(), members: members.to_vec() }
    }

    fn start(&self, name: &str) -> Running {
        self.start_with(name, |_| {})
    }

    fn start_with(&self, name: &str, change: impl FnOnce(&mut HotParts)) -> Running {
        let node = NodeId::new(name).unwrap();
        let (links, events) = self.hub.join(node.clone(), transport::Limits::default()).unwrap();
        let member = |(place, name): (usize, &&str)| ((*name).to_owned(), Member { slot: place as u8 + 1 });
        let members = self.members.iter().enumerate().map(member).collect();
        let epoch = self.authority.sign_epoch(&Epoch { number: 1, members, ..Epoch::default() });
        let keys = ClusterKeys::new(MacKey { id: 1, secret: [1; 32] });
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (socket, disk) = (folder.join("door.sock"), MemoryDisk::default());
        let entry = DirectoryEntry { node: node.clone(), counter: 1, addresses: vec![format!("{name}.example:8888")] };
        let opened = disk.clone();
        let mut parts = HotParts {
            clock: Clock::start().unwrap(),
            setup: Setup {
                cluster: CLUSTER,
                node: name.to_owned(),
                schema: None,
                limits: Limits::default(),
                intervals: Intervals::default(),
                versions: PROTOCOL_VERSIONS,
            },
            signer: ClusterSigner::new(CLUSTER, keys, self.authority.epoch_key()),
            epochs: vec![epoch],
            transport: Arc::new(links),
            events,
            membership: MembershipTiming::default(),
            idle_timeout_ms: 15_000,
            directory: Directory::new(node, vec![entry], BTreeMap::new()),
            keeper: None,
            folder,
            store: Box::new(move |wake: Wake| Ok(Box::new(Memory::open(&opened, 1, wake)?))),
            door: DoorParts {
                socket: socket.clone(),
                socket_mode: 0o600,
                tcp: None,
                connections_max: 16,
                buffers_bytes_max: 64 << 20,
                limits: resp::Limits::default(),
            },
            version: "0.0.0-test".to_owned(),
            settings: vec![("http.listen".to_owned(), "off".to_owned(), "default".to_owned())],
            counts: true,
            stop_ms_max: 5_000,
            log: Log::none(),
        };
        change(&mut parts);
        let (handle, thread) = hot::spawn(parts, || {}).unwrap();
        let running = Running { handle, thread, socket, disk };
        // A first start listens to nobody.
        wait_for("the first write", || running.client().ask("SADD ready yes").starts_with(':').then_some(()));
        running
    }
}

impl Running {
    fn client(&self) -> Client {
        Client::connect(&self.socket)
    }

    fn stop(self) -> Result<(), EngineError> {
        self.handle.stop();
        self.thread.join().unwrap()
    }

    fn status(&self) -> Status {
        block_on(self.handle.status()).unwrap()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A client that sends lines, and tells replies as text: arrays with commas.
struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n"));
        self.reply()
    }

    /// The next reply; empty at the end of the connection.
    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_owned();
        let count = || line[1..].parse::<i64>().unwrap();
        match line.as_bytes().first() {
            Some(b'$') if count() >= 0 => {
                let mut bytes = vec![0; count() as usize + 2];
                self.reader.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Some(b'*') if count() >= 0 => {
                let parts: Vec<String> = (0..count()).map(|_| self.reply()).collect();
                format!("[{}]", parts.join(","))
            }
            _ => line,
        }
    }
}

#[test]
fn what_one_node_writes_the_other_shows() {
    let cluster = Cluster::of(&["a", "b"]);
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let (mut of_a, mut of_b) = (a.client(), b.client());
    assert_eq!(of_a.ask("SET k from-a"), "+OK");
    assert_eq!(of_a.ask("CRDT.WAIT 1 20000"), ":1", "the other one has it");
    wait_for("b shows it", || (of_b.ask("GET k") == "from-a").then_some(()));
    assert_eq!(of_b.ask("INCRBY n 5"), ":5");
    wait_for("both equal", || {
        let found = of_a.ask("CRDT.VERIFY");
        found.starts_with("[b,[vector_equal,:1,digest_equal,:1,").then_some(())
    });
    assert_eq!(of_a.ask("GET n"), "5");
    let peers = of_a.ask("CRDT.PEERS");
    assert!(peers.contains("node,b,state,") && peers.contains("link,up"), "{peers}");
    assert!(of_a.ask("CRDT.VERIFY c").contains("ERR_NOT_MEMBER"));
    wait_for("the directory spreads", || {
        a.status().peers.iter().any(|peer| peer.address == "b.example:8888").then_some(())
    });
    b.stop().unwrap();
    wait_for("b is gone", || a.status().peers.iter().all(|peer| !peer.is_up).then_some(()));
    assert_eq!(of_a.ask("SET alone yes"), "+OK");
    assert_eq!(of_a.ask("CRDT.WAIT 1 50"), ":0");
    assert_eq!(a.status().unreplicated_ops, 1);
    a.stop().unwrap();
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let cluster = Cluster::of(&["a"]);
    let a = cluster.start("a");
    let mut client = a.client();
    client.send(&"INCR n\r\nGET n\r\n".repeat(1_000));
    for number in 1..=1_000 {
        assert_eq!((client.reply(), client.reply()), (format!(":{number}"), number.to_string()));
    }
    assert!(a.disk.damage(&replica::RecordKey::Meta(replica::Meta::Identity)), "the store has it");
    a.stop().unwrap();
}

#[test]
fn a_client_that_writes_no_more_still_gets_its_replies() {
    let cluster = Cluster::of(&["a"]);
    let a = cluster.start("a");
    let mut client = a.client();
    client.send(&"SET k v\r\n".repeat(100));
    client.reader.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    let replies: Vec<String> = (0..100).map(|_| client.reply()).collect();
    assert!(replies.iter().all(|reply| reply == "+OK"), "{replies:?}");
    assert_eq!(client.reply(), "", "then the connection ends");
    wait_for("it is gone", || (a.status().clients == 0).then_some(()));
    a.stop().unwrap();
}

#[test]
fn replies_that_nobody_takes_stop_the_reading_and_come_later() {
    let cluster = Cluster::of(&["a"]);
    let a = cluster.start("a");
    let mut client = a.client();
    let value = "x".repeat(100_000);
    client.send(&format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n{value}\r\n", value.len()));
    assert_eq!(client.reply(), "+OK");
    // Far more than fits into sockets and buffers, asked for without taking any of it.
    let asking = client.reader.get_ref().try_clone().unwrap();
    let asker = std::thread::spawn(move || (&asking).write_all("GET big\r\n".repeat(500).as_bytes()).unwrap());
    wait_for("others are served", || (a.client().ask("PING") == "+PONG").then_some(()));
    for _ in 0..500 {
        assert_eq!(client.reply().len(), value.len());
    }
    asker.join().unwrap();
    a.stop().unwrap();
}

#[test]
fn a_store_that_fails_refuses_writes_and_says_why() {
    let cluster = Cluster::of(&["a", "b"]);
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let mut client = a.client();
    assert_eq!(client.ask("SET k before"), "+OK");
    a.disk.set_full(true);
    let refused = client.ask("SET k after");
    assert!(refused.starts_with("-MISCONF") && refused.contains("ERR_STORE_FAILED"), "{refused}");
    let again = client.ask("SET k again");
    assert!(again.starts_with("-MISCONF") && again.contains("ERR_STORE_FAILED"), "{again}");
    // It goes on to answer what needs no disk.
    assert!(client.ask("EXISTS k").starts_with(':'));
    assert!(client.ask("INFO persistence").contains("store_error_code:ERR_STORE_FULL"));
    assert!(client.ask("CRDT.STATS crdt_store_errors*").contains("ERR_STORE_FULL"));
    assert_eq!(client.ask("CRDT.STATS crdt_ready"), "[crdt_ready,:0]");
    assert_eq!(a.status().unready.first().map(|unready| unready.code), Some("ERR_STORE_FULL"));
    // And has left the others, who go on.
    wait_for("a is gone", || b.status().peers.iter().all(|peer| !peer.is_up).then_some(()));
    assert_eq!(b.client().ask("SET k on"), "+OK");
    assert_eq!(a.stop().unwrap_err().code(), "ERR_STORE_FULL");
    b.stop().unwrap();
}

#[test]
fn an_orderly_end_answers_what_was_asked_and_takes_the_socket_away() {
    let cluster = Cluster::of(&["a"]);
    let a = cluster.start("a");
    let mut client = a.client();
    assert_eq!(client.ask("SET k v"), "+OK");
    let socket = a.socket.clone();
    a.stop().unwrap();
    assert_eq!(client.reply(), "", "the connection ended");
    assert!(!socket.exists());
}

#[test]
fn above_the_most_clients_one_is_refused() {
    let cluster = Cluster::of(&["a"]);
    let a = cluster.start_with("a", |parts| parts.door.connections_max = 2);
    wait_for("the starter is gone", || (a.status().clients == 0).then_some(()));
    let mut clients = [a.client(), a.client()];
    assert!(clients.iter_mut().all(|client| client.ask("PING") == "+PONG"));
    let mut third = a.client();
    assert!(third.reply().contains("ERR_DOOR_FULL"));
    assert_eq!(third.reply(), "");
    drop(clients);
    wait_for("a place is free", || (a.status().clients == 0).then_some(()));
    assert_eq!(a.client().ask("PING"), "+PONG");
    a.stop().unwrap();
}

#[test]
fn tcp_wants_the_password() {
    let cluster = Cluster::of(&["a"]);
    let a = cluster.start_with("a", |parts| {
        parts.door.tcp = Some(("127.0.0.1:0".parse().unwrap(), resp::Password::new(b"secret").unwrap()));
    });
    let address = a.status().door_tcp.unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"PING\r\nAUTH wrong\r\nAUTH secret\r\nPING\r\nQUIT\r\n").unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    let lines: Vec<&str> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["-NOAUTH", "-WRONGPASS", "+OK", "+PONG", "+OK"]);
    a.stop().unwrap();
}

#[test]
fn every_metric_is_there_from_the_start_and_calls_are_answered() {
    let cluster = Cluster::of(&["a", "b"]);
    let a = cluster.start("a");
    let snapshot = block_on(a.handle.metrics()).unwrap();
    assert_eq!(snapshot.missing(), [""; 0]);
    let mut client = a.client();
    assert_eq!(client.ask("CRDT.CONFIG http*"), "[http.listen,[off,default]]");
    assert_eq!(client.ask("CRDT.HELD"), "[]");
    assert!(client.ask("CRDT.HELD RELEASE 1").contains("ERR_NOT_HELD"));
    assert!(client.ask("CRDT.GC").starts_with("[attempted,"));
    assert_eq!(client.ask("CRDT.SYNC"), "+OK");
    assert_eq!(client.ask("CRDT.CONFLICTS"), "[]");
    assert!(client.ask("CRDT.CLOCK").starts_with("[node,a,"));
    assert!(client.ask("CRDT.MATRIX").starts_with("[a,["));
    assert_eq!(client.ask("CRDT.WAIT 0 0"), ":1", "what was never written every member has");
    let members = client.ask("CRDT.STATS crdt_members*");
    assert!(members.ends_with("{state=\"SUSPECT\"},:0,crdt_members{state=\"DEAD\"},:1]"), "{members}");
    let info = client.ask("INFO");
    assert!(info.contains("# Server\r\n") && info.contains("node_id:a\r\n"), "{info}");
    a.stop().unwrap();
}

#[test]
fn the_way_of_writes_is_measured_as_a_stopwatch_does() {
    let cluster = Cluster::of(&["a", "b"]);
    let begun = Instant::now();
    let a = cluster.start("a");
    let mut of_a = a.client();
    // The one that start has made as well: on its way until b is there.
    for line in ["SET k 1", "SET k 2", "INCRBY n 5", "SADD s x y z", "HSET h f 1", "HINCRBY h g 1"] {
        assert!(!of_a.ask(line).starts_with('-'), "{line}");
    }
    // What is to be measured: for so long nobody else has them.
    let apart = Duration::from_millis(300);
    std::thread::sleep(apart);
    let b = cluster.start("b");
    wait_for("b shows it", || (b.client().ask("GET n") == "5").then_some(()));
    let most = begun.elapsed();
    let stats = |node: &Running, name: &str| {
        let told = node.client().ask(&format!("CRDT.STATS {name}"));
        let pairs = told.trim_start_matches('[').trim_end_matches(']').to_owned();
        let values: Vec<String> = pairs.split(',').map(str::to_owned).collect();
        values.chunks(2).map(|pair| (pair[0].clone(), pair[1].trim_start_matches([':', ',']).to_owned())).collect()
    };
    let applied: BTreeMap<String, String> = stats(&b, "crdt_apply_lag_seconds*");
    let number = |found: &BTreeMap<String, String>, name: &str| found[name].parse::<f64>().unwrap();
    let batches = 7.0;
    assert_eq!(number(&applied, "crdt_apply_lag_seconds_count{origin=\"a\"}"), batches);
    let mean = number(&applied, "crdt_apply_lag_seconds_sum{origin=\"a\"}") / batches;
    // Stamps have whole milliseconds.
    let (least, most) = (apart.as_secs_f64() - 0.002, most.as_secs_f64() + 0.002);
    assert!((least..=most).contains(&mean), "{mean} of {least} to {most}");
    let merges: BTreeMap<String, String> = stats(&b, "crdt_merges_total*");
    let kinds = [("register", 2), ("counter", 1), ("set", 2), ("map", 2), ("row", 0), ("growing_counter", 0)];
    for (kind, count) in kinds {
        assert_eq!(merges[&format!("crdt_merges_total{{kind=\"{kind}\"}}")], count.to_string(), "{kind}");
    }
    // b's own write, which a knows of as well.
    wait_for("a has applied it", || {
        let found: BTreeMap<String, String> = stats(&a, "crdt_apply_lag_seconds*");
        (found.get("crdt_apply_lag_seconds_count{origin=\"b\"}").map(String::as_str) == Some("1")).then_some(())
    });
    let converged = wait_for("a has heard that b shows it", || {
        let found: BTreeMap<String, String> = stats(&a, "crdt_convergence_seconds*");
        (number(&found, "crdt_convergence_seconds_count") > 0.0).then_some(found)
    });
    let sum = number(&converged, "crdt_convergence_seconds_sum");
    let count = number(&converged, "crdt_convergence_seconds_count");
    assert!(sum > 0.0 && sum / count <= begun.elapsed().as_secs_f64(), "{sum} of {count}");
    a.stop().unwrap();
    b.stop().unwrap();
}

#[test]
fn health_and_metrics_are_served_also_when_the_port_comes_free_later() {
    let cluster = Cluster::of(&["a"]);
    let a = cluster.start("a");
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(http::serve(address, a.handle.clone(), Log::none()));
    let fetch = |path: &str, accept: &str| {
        let mut stream = TcpStream::connect(address).ok()?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        Some(told)
    };
    let ready = wait_for("http", || fetch("/readyz", "*/*"));
    assert!(ready.starts_with("HTTP/1.1 200") && ready.ends_with("ready\n"), "{ready}");
    let text = fetch("/metrics", "text/plain").unwrap();
    assert!(text.contains("version=0.0.4") && text.contains("\ncrdt_ready 1\n"), "{text}");
    let text = fetch("/metrics", "application/openmetrics-text").unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    a.disk.set_full(true);
    a.client().ask("SET k v");
    let unready = fetch("/readyz", "*/*").unwrap();
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("ERR_STORE_FULL"), "{unready}");
    assert!(fetch("/healthz", "*/*").unwrap().starts_with("HTTP/1.1 200"));
    a.stop().unwrap_err();
    assert!(fetch("/healthz", "*/*").unwrap().contains("ERR_ENGINE_STOPPED"));
    runtime.shutdown_background();
}
