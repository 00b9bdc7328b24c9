//! Hostile and careless clients on real sockets, before a host that does what a test wants, on time that a test makes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crdt::{Keyspace, ReplicaId};
use mio::{Events, Poll};
use tempfile::TempDir;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
/// Of the tests, so that little is enough to reach them.
const FRAME_BYTES_MAX: usize = 128 << 10;
const BUFFERS_BYTES_MAX: usize = 512 << 10;
const CLIENTS_MAX: usize = 12;

/// Commits whatever it is given.
#[derive(Default)]
struct Backend {
    keyspace: Keyspace,
    commits: Vec<(ClientId, BatchId)>,
    /// Commits up to here are durable.
    told: usize,
    /// Calls that are not answered at once.
    calls: Vec<(ClientId, Ticket)>,
    is_congested: bool,
}

impl Host for Backend {
    fn view(&self) -> &dyn View {
        &self.keyspace
    }

    fn is_congested(&self) -> bool {
        self.is_congested
    }

    fn commit(&mut self, from: ClientId, _: &[Intent]) -> Result<BatchId, CommitError> {
        let batch = BatchId { replica: ReplicaId(1), seq: self.commits.len() as u64 + 1 };
        self.commits.push((from, batch));
        Ok(batch)
    }

    fn call(&mut self, from: ClientId, ticket: Ticket, _: Call, _: &DoorFigures) -> Option<Result<Reply, ErrorReply>> {
        self.calls.push((from, ticket));
        None
    }
}

/// A door whose turns a test takes.
struct House {
    poll: Poll,
    events: Events,
    door: Door,
    backend: Backend,
    now_ms: u64,
    /// The most that clients held at the end of a turn.
    held_most: u64,
    folder: TempDir,
}

impl House {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut DoorParts)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = DoorParts {
            socket: folder.path().join("door.sock"),
            socket_mode: 0o600,
            tcp: None,
            connections_max: CLIENTS_MAX,
            buffers_bytes_max: BUFFERS_BYTES_MAX,
            limits: Limits {
                frame_bytes_max: FRAME_BYTES_MAX,
                bulk_bytes_max: FRAME_BYTES_MAX / 2,
                input_bytes_max: FRAME_BYTES_MAX + (16 << 10),
                output_bytes_max: 64 << 10,
                replies_max: 256,
                ..Limits::default()
            },
        };
        change(&mut parts);
        let poll = Poll::new().unwrap();
        let door = Door::open(parts, "0", poll.registry().try_clone().unwrap(), Log::none()).unwrap();
        let (events, backend) = (Events::with_capacity(64), Backend::default());
        Self { poll, events, door, backend, now_ms: 0, held_most: 0, folder }
    }

    fn client(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.path().join("door.sock")).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    fn turn(&mut self) {
        let wait = if self.door.has_work() { Duration::ZERO } else { Duration::from_millis(1) };
        self.poll.poll(&mut self.events, Some(wait)).unwrap();
        for event in &self.events {
            self.door.take_event(event);
        }
        self.door.turn(&mut self.backend, self.now_ms);
        self.door.take_gone();
        self.held_most = self.held_most.max(self.door.figures().held_bytes);
    }

    /// Everything that was committed becomes durable.
    fn make_durable(&mut self) {
        for (client, batch) in self.backend.commits.split_off(self.backend.told) {
            self.door.acknowledge(client, batch);
            self.backend.commits.push((client, batch));
        }
        self.backend.told = self.backend.commits.len();
    }

    /// Takes turns until `look` finds something.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            self.turn();
            if let Some(found) = look(self) {
                return found;
            }
            assert!(Instant::now() < until, "in vain: {what}");
        }
    }

    /// Sends all of it, taking turns where the socket is full.
    fn send(&mut self, client: &mut impl Write, mut bytes: &[u8]) {
        self.until("sent", |_| {
            match client.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
            bytes.is_empty().then_some(())
        });
    }

    /// Reads until what was read ends so.
    fn read_to(&mut self, client: &mut impl Read, end: &str) -> String {
        let mut told = Vec::new();
        self.until(end, |_| {
            read_some(client, &mut told);
            told.ends_with(end.as_bytes()).then_some(())
        });
        String::from_utf8(told).unwrap()
    }

    /// Everything that comes until the connection ends.
    fn read_all(&mut self, client: &mut impl Read) -> String {
        let mut told = Vec::new();
        self.until("the end of the connection", |_| read_some(client, &mut told).then_some(()));
        String::from_utf8_lossy(&told).into_owned()
    }

    fn is_served(&mut self) {
        let mut client = self.client();
        self.send(&mut client, b"PING\r\n");
        assert_eq!(self.read_to(&mut client, "\r\n"), "+PONG\r\n");
        drop(client);
        let clients = self.door.figures().clients;
        self.until("it has gone", |house| (house.door.figures().clients < clients).then_some(()));
    }
}

/// Reads what is there; true at the end.
fn read_some(client: &mut impl Read, told: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 16 << 10];
    match client.read(&mut bytes) {
        Ok(0) => true,
        Ok(count) => {
            told.extend_from_slice(&bytes[..count]);
            false
        }
        // What was said before was read before.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => true,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
            false
        }
    }
}

/// The beginning of a request whose end never comes.
fn half_frame(bytes: usize) -> Vec<u8> {
    let mut half = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$65536\r\n".to_vec();
    half.resize(bytes, b'x');
    half
}

#[test]
fn half_frames_for_ever_cost_those_who_send_them() {
    let mut house = House::new();
    // All together are far above the bound, no one alone is.
    let mut halves: Vec<UnixStream> = (0..CLIENTS_MAX - 1).map(|_| house.client()).collect();
    let half = half_frame(60_000);
    for client in &mut halves {
        house.send(client, &half);
        house.is_served();
    }
    house.until("all was read", |house| {
        (house.door.figures().bytes_read as usize > halves.len() * half.len()).then_some(())
    });
    let figures = house.door.figures();
    assert!(figures.cut_memory > 0 && figures.cut_memory < halves.len() as u64, "{figures:?}");
    assert!(figures.held_bytes as usize <= BUFFERS_BYTES_MAX, "{figures:?}");
    assert!(house.held_most as usize <= BUFFERS_BYTES_MAX, "{} at the end of some turn", house.held_most);
    let cut = halves.iter_mut().filter_map(|client| {
        let mut told = Vec::new();
        read_some(client, &mut told).then_some(()).or((!told.is_empty()).then_some(()))?;
        Some(String::from_utf8(told).unwrap())
    });
    let cut: Vec<String> = cut.collect();
    assert_eq!(cut.len() as u64, figures.cut_memory);
    assert!(cut.iter().all(|told| told.contains("ERR_DOOR_BUFFERS")), "{cut:?}");
    house.is_served();
    drop(halves);
    house.until("all have gone", |house| (house.door.figures().clients == 0).then_some(()));
    assert_eq!(house.door.figures().held_bytes, 0, "nothing is left of them");
    assert!(house.backend.commits.is_empty());
}

#[test]
fn frames_over_limits_are_refused_and_end_the_connection() {
    for (frame, told) in [
        (&b"*2\r\n$3\r\nGET\r\n$99999999\r\n"[..], "ERR Protocol error"),
        (b"*99999999\r\n", "ERR Protocol error"),
        (b"*1\r\n:1\r\n", "ERR Protocol error"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        (b"POST / HTTP/1.1\r\n", "ERR"),
    ] {
        let mut house = House::new();
        let mut client = house.client();
        house.send(&mut client, frame);
        let said = house.read_all(&mut client);
        assert!(said.starts_with('-') && said.contains(told), "{frame:?}: {said}");
        assert_eq!(house.door.figures().clients, 0);
        assert!(house.backend.commits.is_empty());
        house.is_served();
    }
    let mut house = House::new();
    let mut client = house.client();
    // A line without an end is refused before it has grown to what a frame may have.
    house.send(&mut client, &vec![b'x'; 66 << 10]);
    let said = house.read_all(&mut client);
    assert!(said.starts_with("-ERR Protocol error"), "{said}");
}

#[test]
fn ten_thousand_commands_in_a_pipeline_wait_their_turn() {
    const COMMANDS: usize = 10_000;
    let mut house = House::new();
    let mut client = house.client();
    let mut pipeline = Vec::new();
    for number in 0..COMMANDS {
        pipeline.extend_from_slice(format!("SET k{number} v\r\nECHO {number}\r\n").as_bytes());
    }
    let (mut sent, mut told) = (0, Vec::new());
    let mut write = |client: &mut UnixStream| match client.write(&pipeline[sent..]) {
        Ok(count) => sent += count,
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
    };
    // Nothing becomes durable: so far the door takes commands, and no further.
    let mut turns = 0;
    house.until("the client is read no more", |house| {
        write(&mut client);
        let replies_max = 256;
        assert!(house.backend.commits.len() <= replies_max, "{} commits wait", house.backend.commits.len());
        turns = if house.backend.commits.len() == replies_max / 2 { turns + 1 } else { 0 };
        (turns > 50).then_some(())
    });
    assert!(house.held_most as usize <= FRAME_BYTES_MAX + (64 << 10), "{}", house.held_most);
    house.is_served();
    house.until("all is answered", |house| {
        write(&mut client);
        house.make_durable();
        read_some(&mut client, &mut told);
        told.ends_with(format!("\r\n{}\r\n", COMMANDS - 1).as_bytes()).then_some(())
    });
    let expected: String = (0..COMMANDS).map(|n| format!("+OK\r\n${}\r\n{n}\r\n", n.to_string().len())).collect();
    assert!(told == expected.as_bytes(), "in the order of requests");
    assert_eq!(house.backend.commits.len(), COMMANDS);
}

#[test]
fn strangers_over_tcp_may_say_little_until_they_said_the_password() {
    let password = Password::new(b"secret").unwrap();
    let mut house = House::with(|parts| parts.tcp = Some(("127.0.0.1:0".parse().unwrap(), password)));
    let address = house.door.tcp_address().unwrap();
    let stranger = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut client = stranger();
    house.send(
        &mut client,
        b"SET k v\r\nMULTI\r\nEXEC\r\nCRDT.GC\r\nAUTH wrong\r\nAUTH default secret\r\nSET k v\r\nPING\r\n",
    );
    house.until("the write is there", |house| (!house.backend.commits.is_empty()).then_some(()));
    house.make_durable();
    let told = house.read_to(&mut client, "+PONG\r\n");
    let words: Vec<&str> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["-NOAUTH", "-NOAUTH", "-NOAUTH", "-NOAUTH", "-WRONGPASS", "+OK", "+OK", "+PONG"], "{told}");
    assert_eq!((house.backend.commits.len(), house.backend.calls.len()), (1, 0));
    // What a stranger may hold is 16 KiB an argument, and ten arguments.
    for frame in [&b"*2\r\n$4\r\nAUTH\r\n$16385\r\n"[..], b"*11\r\n"] {
        let mut client = stranger();
        house.send(&mut client, frame);
        let told = house.read_all(&mut client);
        assert!(told.starts_with("-ERR Protocol error"), "{frame:?}: {told}");
    }
    // Over the Unix socket its mode has asked already.
    house.is_served();
}

#[test]
fn who_takes_no_replies_is_cut_off_and_who_takes_some_is_not() {
    let mut house = House::new();
    let (mut dead, mut slow) = (house.client(), house.client());
    let asking = "ECHO ".to_owned() + &"x".repeat(8_000) + "\r\n";
    for client in [&mut dead, &mut slow] {
        let mut turns = 0;
        // Until neither the door nor the socket takes any more.
        house.until("it is read no more", |_| {
            let is_full = client.write(asking.as_bytes()).is_err();
            turns = if is_full { turns + 1 } else { 0 };
            (turns > 20).then_some(())
        });
    }
    house.is_served();
    let mut taken = Vec::new();
    for _ in 0..4 {
        house.now_ms += STUCK_MS_MAX / 2;
        let read = house.door.figures().bytes_written;
        // Enough that the system lets the door write again.
        house.until("it takes some", |house| {
            read_some(&mut slow, &mut taken);
            (house.door.figures().bytes_written > read).then_some(())
        });
        house.door.tick(house.now_ms);
    }
    let figures = house.door.figures();
    assert_eq!((figures.cut_slow, figures.clients), (1, 1), "{figures:?}");
    let told = house.read_all(&mut dead);
    assert!(!told.is_empty(), "what was sent before is still there");
    house.is_served();
}

#[test]
fn above_the_bound_clients_are_refused_and_a_place_is_used_again_without_its_past() {
    let mut house = House::new();
    let mut clients: Vec<UnixStream> = (0..CLIENTS_MAX).map(|_| house.client()).collect();
    house.until("all are in", |house| (house.door.figures().clients == CLIENTS_MAX as u64).then_some(()));
    let mut more = house.client();
    assert!(house.read_all(&mut more).contains("ERR_DOOR_FULL"));
    assert_eq!(house.door.figures().refused_full, 1);
    let mut asker = clients.remove(3);
    house.send(&mut asker, b"CRDT.VERIFY\r\n");
    let (gone, ticket) = house.until("the question", |house| house.backend.calls.pop());
    drop(asker);
    house.until("it has gone", |house| (house.door.figures().clients < CLIENTS_MAX as u64).then_some(()));
    let mut next = house.client();
    house.send(&mut next, b"CRDT.VERIFY\r\n");
    let (here, ticket_here) = house.until("the question", |house| house.backend.calls.pop());
    assert!(here.slot == gone.slot && here != gone, "{here:?} has the place of {gone:?}");
    house.door.reply(gone, ticket, Ok(Reply::bulk("for somebody else")));
    house.door.reply(here, ticket_here, Ok(Reply::bulk("yours")));
    assert_eq!(house.read_to(&mut next, "\r\nyours\r\n"), "$5\r\nyours\r\n");
}

#[test]
fn who_asks_and_goes_does_not_keep_its_place() {
    let password = Password::new(b"secret").unwrap();
    let mut house = House::with(|parts| parts.tcp = Some(("127.0.0.1:0".parse().unwrap(), password)));
    let mut client = TcpStream::connect(house.door.tcp_address().unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    // It waits without an end, and over TCP nobody can tell whether it only writes no more.
    house.send(&mut client, b"AUTH secret\r\nCRDT.WAIT 9 0\r\nSET a 1\r\n");
    assert_eq!(house.read_to(&mut client, "\r\n"), "+OK\r\n");
    house.until("the question", |house| house.backend.calls.pop());
    drop(client);
    // What the poll tells of it changes nothing.
    for _ in 0..20 {
        house.turn();
    }
    house.door.tick(house.now_ms);
    assert_eq!(house.door.figures().clients, 1, "an answer may still come");
    house.now_ms += STUCK_MS_MAX + 1;
    house.door.tick(house.now_ms);
    assert_eq!(house.door.figures().clients, 0);
    assert_eq!(house.door.take_gone().len(), 1, "who carries calls out is told");
}

#[test]
fn a_transaction_that_is_not_finished_is_none() {
    let mut house = House::new();
    let (mut leaves, mut stays) = (house.client(), house.client());
    for client in [&mut leaves, &mut stays] {
        house.send(client, b"MULTI\r\nSET a 1\r\nSET b 2\r\n");
        assert_eq!(house.read_to(client, "+QUEUED\r\n+QUEUED\r\n"), "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    }
    assert!(house.door.figures().held_bytes > 0, "what is queued counts");
    drop(leaves);
    house.until("it has gone", |house| (house.door.figures().clients == 1).then_some(()));
    house.send(&mut stays, b"SET c");
    house.door.close();
    assert_eq!(house.read_all(&mut stays), "", "EXEC never came, so there is nothing to say");
    assert!(house.backend.commits.is_empty() && house.door.is_empty());
    assert_eq!(house.door.figures().held_bytes, 0);
    assert!(UnixStream::connect(house.folder.path().join("door.sock")).is_err(), "nobody is let in any more");
}

#[test]
fn a_store_that_is_behind_stops_the_reading_and_not_the_replies() {
    let mut house = House::new();
    let mut client = house.client();
    house.send(&mut client, b"SET a 1\r\n");
    house.until("a write", |house| (!house.backend.commits.is_empty()).then_some(()));
    house.backend.is_congested = true;
    house.send(&mut client, b"SET b 2\r\n");
    for _ in 0..20 {
        house.turn();
    }
    assert_eq!(house.backend.commits.len(), 1);
    house.make_durable();
    assert_eq!(house.read_to(&mut client, "\r\n"), "+OK\r\n");
    house.backend.is_congested = false;
    house.until("the second write", |house| (house.backend.commits.len() == 2).then_some(()));
}
