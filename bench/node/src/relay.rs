//! A UDP relay between every two nodes with a delay, cuts, and counts of what the wire carried, known without asking
//! the engine.
//!
//! One thread for all directions: a packet without a delay is sent on by the same call that took it in, which is the
//! least that a relay can add. The relay of the daemon's own tests knows more faults and needs two threads a direction
//! for them; they would cost a wake-up more a packet, and here that is what is measured.
//!
//! ```text
//! node a --> door of (a, b) ==(delay)==> sent from the door of (b, a) --> node b
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

use crate::failure::Failure;
use crate::sample::sorted_ms;

/// Largest UDP payload.
const PACKET_BYTES_MAX: usize = 65_536;
/// Packets on their way; what comes on top is dropped, as in a router.
const PACKETS_MAX: usize = 100_000;
/// Packets that are taken from one socket before the next one has its turn.
const PACKETS_A_TURN: usize = 64;
/// Asked of the kernel for each socket, so that a burst waits instead of being lost.
const BUFFER_BYTES: usize = 4 << 20;
/// How often the thread looks whether the relay is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What IPv4 and UDP put before each payload.
pub(crate) const HEADER_BYTES: u64 = 20 + 8;

/// What went through, of UDP payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Passed {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
}

impl Passed {
    /// Bytes with the headers of IPv4 and UDP.
    pub(crate) fn on_wire(self) -> u64 {
        self.bytes + HEADER_BYTES * self.packets
    }

    /// What came since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { bytes: self.bytes - before.bytes, packets: self.packets - before.packets }
    }
}

/// One direction between two nodes.
struct Direction {
    from: usize,
    to: usize,
    source: SocketAddr,
    target: SocketAddr,
    /// Where `to` answers to: the place of the opposite direction.
    back: usize,
    socket: UdpSocket,
    is_cut: AtomicBool,
    bytes: AtomicU64,
    packets: AtomicU64,
    dropped: AtomicU64,
}

/// Relays between all nodes; they end with this value.
pub(crate) struct Relay {
    directions: Arc<Vec<Direction>>,
    doors: BTreeMap<(usize, usize), SocketAddr>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays between nodes with these addresses.
    pub(crate) fn start(nodes: &[SocketAddr], delay: Duration) -> Result<Self, Failure> {
        let count = nodes.len();
        let pairs: Vec<(usize, usize)> =
            (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(from, to)| from != to).collect();
        let (mut directions, mut doors) = (Vec::new(), BTreeMap::new());
        for &(from, to) in &pairs {
            let socket = bind().map_err(Failure::io("bind a socket of the relay"))?;
            let address = socket.local_addr().map_err(Failure::io("read an address of the relay"))?;
            doors.insert((from, to), address);
            let back = pairs.iter().position(|pair| *pair == (to, from)).expect("both directions are listed");
            directions.push(Direction {
                from,
                to,
                source: nodes[from],
                target: nodes[to],
                back,
                socket,
                is_cut: AtomicBool::new(false),
                bytes: AtomicU64::new(0),
                packets: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
            });
        }
        let (directions, is_over) = (Arc::new(directions), Arc::new(AtomicBool::new(false)));
        let (shared, end) = (Arc::clone(&directions), Arc::clone(&is_over));
        let thread = thread::Builder::new().name("relay".to_owned()).spawn(move || carry(&shared, &end, delay));
        let thread = Some(thread.map_err(Failure::io("start the relay"))?);
        Ok(Self { directions, doors, is_over, thread })
    }

    /// Where `from` finds `to`.
    pub(crate) fn door(&self, from: usize, to: usize) -> SocketAddr {
        self.doors[&(from, to)]
    }

    /// Cuts a node off from all others, or ends that.
    pub(crate) fn cut(&self, node: usize, is_cut: bool) {
        for direction in self.of(node) {
            direction.is_cut.store(is_cut, Ordering::Relaxed);
        }
    }

    /// What reached and left a node, so far.
    pub(crate) fn passed(&self, node: usize) -> Passed {
        sum(self.of(node))
    }

    /// What passed between two nodes, both ways, so far.
    pub(crate) fn between(&self, a: usize, b: usize) -> Passed {
        sum(self.of(a).filter(|direction| direction.from == b || direction.to == b))
    }

    /// Packets that were dropped for want of room or by a cut.
    pub(crate) fn dropped(&self) -> u64 {
        self.directions.iter().map(|direction| direction.dropped.load(Ordering::Relaxed)).sum()
    }

    fn of(&self, node: usize) -> impl Iterator<Item = &Direction> {
        self.directions.iter().filter(move |direction| direction.from == node || direction.to == node)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic but by a bug, which its own message tells.
            let _ = thread.join();
        }
    }
}

fn bind() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
    set_socket_send_buffer_size(&socket, BUFFER_BYTES)?;
    Ok(socket)
}

fn sum<'a>(directions: impl Iterator<Item = &'a Direction>) -> Passed {
    directions.fold(Passed::default(), |sum, direction| Passed {
        bytes: sum.bytes + direction.bytes.load(Ordering::Relaxed),
        packets: sum.packets + direction.packets.load(Ordering::Relaxed),
    })
}

/// A packet with its turn.
struct Waiting {
    due: Instant,
    direction: usize,
    packet: Vec<u8>,
}

/// Carries packets until the relay is over. The delay is one for all, so that what came first is due first.
fn carry(directions: &[Direction], is_over: &AtomicBool, delay: Duration) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut handles: Vec<PollFd<'_>> =
        directions.iter().map(|direction| PollFd::new(&direction.socket, PollFlags::IN)).collect();
    while !is_over.load(Ordering::Relaxed) {
        let left = waiting.front().map(|first| first.due.saturating_duration_since(Instant::now()));
        let patience = Timespec::try_from(left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY)));
        // An interrupted wait is one that ended early.
        let _ = poll(&mut handles, patience.ok().as_ref());
        for (place, direction) in directions.iter().enumerate() {
            if !handles[place].revents().is_empty() {
                take(place, direction, directions, delay, &mut buffer, &mut waiting);
            }
        }
        let now = Instant::now();
        while let Some(first) = waiting.pop_front_if(|first| first.due <= now) {
            directions[first.direction].send(&directions[directions[first.direction].back].socket, &first.packet);
        }
    }
}

fn take(
    place: usize,
    direction: &Direction,
    directions: &[Direction],
    delay: Duration,
    buffer: &mut [u8],
    waiting: &mut VecDeque<Waiting>,
) {
    for _ in 0..PACKETS_A_TURN {
        let (length, from) = match direction.socket.recv_from(buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // A refused packet of before: the node that it was for was not there.
            Err(_) => continue,
        };
        // Only the node that this socket stands for: a stray packet of another process is not ours to carry.
        if from != direction.source {
            continue;
        }
        let packet = &buffer[..length];
        if delay.is_zero() {
            direction.send(&directions[direction.back].socket, packet);
        } else if waiting.len() < PACKETS_MAX {
            waiting.push_back(Waiting { due: Instant::now() + delay, direction: place, packet: packet.to_vec() });
        } else {
            direction.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Direction {
    fn send(&self, socket: &UdpSocket, packet: &[u8]) {
        // A refusal tells of an earlier packet, and the second call sends this one.
        let is_sent = || socket.send_to(packet, self.target).or_else(|_| socket.send_to(packet, self.target)).is_ok();
        if self.is_cut.load(Ordering::Relaxed) || !is_sent() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.bytes.fetch_add(packet.len() as u64, Ordering::Relaxed);
            self.packets.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a relay with this delay adds on top of it to one packet, on a machine that does nothing else: milliseconds,
/// sorted. The receiver's waking is within.
pub(crate) fn own_delay_ms(delay: Duration, probes: usize) -> Result<Vec<f64>, Failure> {
    let failed = || Failure::io("measure the relay");
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed());
    let (a, b) = (bind()?, bind()?);
    b.set_read_timeout(Some(delay + Duration::from_secs(5))).map_err(failed())?;
    let ends = [a.local_addr().map_err(failed())?, b.local_addr().map_err(failed())?];
    let relay = Relay::start(&ends, delay)?;
    let mut added = Vec::with_capacity(probes);
    for _ in 0..probes {
        let sent = Instant::now();
        a.send_to(&[0; 200], relay.door(0, 1)).map_err(failed())?;
        b.recv_from(&mut [0; 256]).map_err(failed())?;
        added.push(sent.elapsed().saturating_sub(delay));
    }
    Ok(sorted_ms(added))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

    use super::*;

    fn ends() -> (UdpSocket, UdpSocket, [SocketAddr; 2]) {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (a, b) = (bind(), bind());
        for socket in [&a, &b] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let ends = [a.local_addr().unwrap(), b.local_addr().unwrap()];
        (a, b, ends)
    }

    #[test]
    fn packets_go_both_ways_and_are_counted() {
        let (a, b, ends) = ends();
        let relay = Relay::start(&ends, Duration::ZERO).unwrap();
        a.send_to(b"there", relay.door(0, 1)).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = b.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (b"there".as_slice(), relay.door(1, 0)));
        b.send_to(b"back!!", from).unwrap();
        let (length, from) = a.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (b"back!!".as_slice(), relay.door(0, 1)));
        // Counted behind the sending.
        let until = Instant::now() + Duration::from_secs(10);
        let expected = Passed { bytes: 11, packets: 2 };
        while relay.between(0, 1) != expected {
            assert!(Instant::now() < until, "{:?}", relay.between(0, 1));
            thread::yield_now();
        }
        assert_eq!((relay.passed(1), expected.on_wire(), relay.dropped()), (expected, 11 + 56, 0));
    }

    #[test]
    fn a_delay_is_kept_and_a_cut_drops() {
        let (a, b, ends) = ends();
        let relay = Relay::start(&ends, Duration::from_millis(30)).unwrap();
        let sent = Instant::now();
        a.send_to(b"late", relay.door(0, 1)).unwrap();
        assert_eq!(b.recv_from(&mut [0; 16]).unwrap().0, 4);
        assert!(sent.elapsed() >= Duration::from_millis(30), "{:?}", sent.elapsed());
        relay.cut(1, true);
        a.send_to(b"lost", relay.door(0, 1)).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while relay.dropped() == 0 {
            assert!(Instant::now() < until, "it was not dropped");
            thread::yield_now();
        }
        relay.cut(1, false);
        a.send_to(b"kept!", relay.door(0, 1)).unwrap();
        assert_eq!(b.recv_from(&mut [0; 16]).unwrap().0, 5);
    }
}
