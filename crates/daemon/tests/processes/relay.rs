//! UDP relays between every two nodes: delay, jitter, loss, duplication, reordering, bandwidth and cuts, each direction
//! for itself, with counts of what went through. What the wire carried is known here without asking the engine.
//!
//! A node reaches another only by the relay's socket that stands in its configuration. Both nodes have fixed addresses,
//! so the relay needs to remember nobody:
//!
//! ```text
//! node a --> door of (a, b) ==(conditions of a to b)==> sent from the door of (b, a) --> node b
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Largest UDP payload.
const PACKET_BYTES_MAX: usize = 65_536;
/// Packets on their way in one direction; what comes on top is dropped, as in a router.
const PACKETS_MAX: usize = 20_000;
/// How long a packet may wait for bandwidth before it is dropped: the depth of a router's queue.
const QUEUE_DEPTH: Duration = Duration::from_millis(400);
/// How much later than its turn a packet comes that is reordered.
const REORDER_BY: Duration = Duration::from_millis(20);
/// How often a thread without work looks whether the relay is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a direction does to packets. By default, nothing.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) delay: Duration,
    /// Up to so much on top, evenly drawn for each packet: also reorders.
    pub(crate) jitter: Duration,
    /// Share of packets that are lost, 0 to 1.
    pub(crate) loss: f64,
    /// Share of packets that come twice, 0 to 1.
    pub(crate) duplication: f64,
    /// Share of packets that come 20 ms late, 0 to 1.
    pub(crate) reordering: f64,
    pub(crate) bytes_per_second: Option<u64>,
    /// Nothing goes through.
    pub(crate) is_cut: bool,
}

/// What went through one direction.
#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    packets: AtomicU64,
    dropped: AtomicU64,
}

/// A packet with its turn.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    number: u64,
    packet: Vec<u8>,
}

/// One direction between two nodes.
struct Direction {
    conditions: Mutex<Conditions>,
    counts: Counts,
    queue: Mutex<BinaryHeap<Reverse<Waiting>>>,
    arrived: Condvar,
    is_over: AtomicBool,
}

/// Relays between all nodes; they end with this value.
pub(crate) struct Mesh {
    directions: BTreeMap<(usize, usize), Arc<Direction>>,
    /// The socket of (a, b): a sends to it, and hears b from it.
    doors: BTreeMap<(usize, usize), SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

impl Mesh {
    /// Relays at `own` between nodes with these addresses. The seed decides which packets are hit.
    pub(crate) fn start(own: Ipv4Addr, nodes: &[SocketAddr], seed: u64) -> Self {
        let pairs: Vec<(usize, usize)> = (0..nodes.len())
            .flat_map(|from| (0..nodes.len()).map(move |to| (from, to)))
            .filter(|(a, b)| a != b)
            .collect();
        let bind = |&pair: &(usize, usize)| (pair, Arc::new(UdpSocket::bind((own, 0)).unwrap()));
        let sockets: BTreeMap<_, _> = pairs.iter().map(bind).collect();
        let mut mesh = Self { directions: BTreeMap::new(), doors: BTreeMap::new(), threads: Vec::new() };
        for &(from, to) in &pairs {
            let (incoming, outgoing) = (Arc::clone(&sockets[&(from, to)]), Arc::clone(&sockets[&(to, from)]));
            incoming.set_read_timeout(Some(LOOK_EVERY)).unwrap();
            mesh.doors.insert((from, to), incoming.local_addr().unwrap());
            let direction = Arc::new(Direction::new());
            mesh.directions.insert((from, to), Arc::clone(&direction));
            let (source, target) = (nodes[from], nodes[to]);
            let dice = Dice(seed ^ ((from as u64) << 32) ^ ((to as u64) << 40));
            let receiver = Arc::clone(&direction);
            mesh.threads.push(thread::spawn(move || receiver.receive(&incoming, source, dice)));
            mesh.threads.push(thread::spawn(move || direction.send(&outgoing, target)));
        }
        mesh
    }

    /// Where `from` finds `to`.
    pub(crate) fn door(&self, from: usize, to: usize) -> SocketAddr {
        self.doors[&(from, to)]
    }

    /// Sets one direction.
    pub(crate) fn set(&self, from: usize, to: usize, conditions: Conditions) {
        *self.directions[&(from, to)].conditions.lock().unwrap() = conditions;
    }

    /// Sets all directions.
    pub(crate) fn set_all(&self, conditions: Conditions) {
        self.change(|_, now| *now = conditions);
    }

    /// Cuts every direction between these nodes and the others; inside of both parts nothing changes.
    pub(crate) fn part(&self, side: &[usize]) {
        self.change(|(from, to), now| now.is_cut |= side.contains(&from) != side.contains(&to));
    }

    /// Cuts one direction alone.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.directions[&(from, to)].conditions.lock().unwrap().is_cut = true;
    }

    /// Ends all cuts.
    pub(crate) fn heal(&self) {
        self.change(|_, now| now.is_cut = false);
    }

    /// Bytes of UDP payload that reached `to` from `from` so far.
    pub(crate) fn bytes(&self, from: usize, to: usize) -> u64 {
        self.directions[&(from, to)].counts.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of UDP payload that reached `to` so far.
    pub(crate) fn bytes_to(&self, to: usize) -> u64 {
        self.directions.keys().filter(|pair| pair.1 == to).map(|&(from, to)| self.bytes(from, to)).sum()
    }

    /// Packets delivered and packets dropped so far, over all directions.
    pub(crate) fn packets(&self) -> (u64, u64) {
        let sum = |read: fn(&Counts) -> &AtomicU64| {
            self.directions.values().map(|direction| read(&direction.counts).load(Ordering::Relaxed)).sum()
        };
        (sum(|counts| &counts.packets), sum(|counts| &counts.dropped))
    }

    fn change(&self, mut change: impl FnMut((usize, usize), &mut Conditions)) {
        for (&pair, direction) in &self.directions {
            change(pair, &mut direction.conditions.lock().unwrap());
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for direction in self.directions.values() {
            direction.is_over.store(true, Ordering::Relaxed);
            direction.arrived.notify_all();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Direction {
    fn new() -> Self {
        Self {
            conditions: Mutex::default(),
            counts: Counts::default(),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Takes packets in and gives them their turns.
    fn receive(&self, socket: &UdpSocket, source: SocketAddr, mut dice: Dice) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let (mut number, mut is_free_at) = (0, Instant::now());
        while !self.is_over.load(Ordering::Relaxed) {
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                // A refused packet of before, or nothing to read.
                Err(_) => continue,
            };
            // Only the node that this socket stands for: a stray packet of another process is not ours to carry.
            if from != source {
                continue;
            }
            let conditions = *self.conditions.lock().unwrap();
            let now = Instant::now();
            let is_too_much = is_free_at.saturating_duration_since(now) > QUEUE_DEPTH;
            if conditions.is_cut || dice.hits(conditions.loss) || (conditions.bytes_per_second.is_some() && is_too_much)
            {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let mut due = now;
            if let Some(rate) = conditions.bytes_per_second {
                is_free_at = is_free_at.max(now) + Duration::from_secs_f64(length as f64 / rate.max(1) as f64);
                due = is_free_at;
            }
            due += conditions.delay + conditions.jitter.mul_f64(dice.share());
            if dice.hits(conditions.reordering) {
                due += REORDER_BY;
            }
            let copies = if dice.hits(conditions.duplication) { 2 } else { 1 };
            for _ in 0..copies {
                number += 1;
                self.queue(Waiting { due, number, packet: buffer[..length].to_vec() });
            }
        }
    }

    fn queue(&self, waiting: Waiting) {
        let mut queue = self.queue.lock().unwrap();
        if queue.len() >= PACKETS_MAX {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.push(Reverse(waiting));
        self.arrived.notify_one();
    }

    /// Sends packets when their turn comes.
    fn send(&self, socket: &UdpSocket, target: SocketAddr) {
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(packet) = self.take() else { continue };
            // What was on its way when the cut came is lost with it.
            if self.conditions.lock().unwrap().is_cut {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            } else if transmit(socket, &packet, target).is_ok() {
                self.counts.bytes.fetch_add(packet.len() as u64, Ordering::Relaxed);
                self.counts.packets.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The first packet, if its turn came within a while.
    fn take(&self) -> Option<Vec<u8>> {
        let mut queue = self.queue.lock().unwrap();
        let left = queue.peek().map(|Reverse(first)| first.due.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return queue.pop().map(|Reverse(first)| first.packet);
        }
        drop(self.arrived.wait_timeout(queue, left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)).unwrap());
        None
    }
}

/// Sends, and once more behind the refusal of an earlier packet, which the system tells at the next call: it only says
/// that the node was not there.
fn transmit(socket: &UdpSocket, packet: &[u8], target: SocketAddr) -> io::Result<usize> {
    socket.send_to(packet, target).or_else(|_| socket.send_to(packet, target))
}

/// SplitMix64: a fault hits the same packets for the same seed, as far as the packets come in the same order.
struct Dice(u64);

impl Dice {
    /// 0 to 1, evenly.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn hits(&mut self, share: f64) -> bool {
        share > 0.0 && self.share() < share
    }
}

/// Two sockets in the places of nodes, and the relays between them.
fn pair() -> (UdpSocket, UdpSocket, Mesh) {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (a, b) = (bind(), bind());
    for socket in [&a, &b] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    let mesh = Mesh::start(Ipv4Addr::LOCALHOST, &[a.local_addr().unwrap(), b.local_addr().unwrap()], 1);
    (a, b, mesh)
}

#[test]
fn packets_go_both_ways_and_are_counted() {
    let (a, b, mesh) = pair();
    a.send_to(b"there", mesh.door(0, 1)).unwrap();
    let mut buffer = [0; 16];
    let (length, from) = b.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (b"there".as_slice(), mesh.door(1, 0)));
    b.send_to(b"back!!", from).unwrap();
    let (length, from) = a.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (b"back!!".as_slice(), mesh.door(0, 1)));
    // Counted behind the sending.
    crate::patience::wait_for("counted", crate::patience::SOON, || {
        crate::patience::yes((mesh.bytes(0, 1), mesh.bytes(1, 0), mesh.bytes_to(1)) == (5, 6, 5))
    });
}

#[test]
fn a_cut_is_one_way_and_a_delay_is_kept() {
    let (a, b, mesh) = pair();
    let mut buffer = [0; 16];
    mesh.cut(0, 1);
    a.send_to(b"lost", mesh.door(0, 1)).unwrap();
    b.send_to(b"kept", mesh.door(1, 0)).unwrap();
    assert_eq!(a.recv_from(&mut buffer).unwrap().0, 4);
    crate::patience::wait_for("dropped", crate::patience::SOON, || crate::patience::yes(mesh.packets().1 == 1));
    mesh.heal();
    mesh.set(0, 1, Conditions { delay: Duration::from_millis(60), duplication: 1.0, ..Conditions::default() });
    let sent = Instant::now();
    a.send_to(b"twice", mesh.door(0, 1)).unwrap();
    for _ in 0..2 {
        assert_eq!(b.recv_from(&mut buffer).unwrap().0, 5);
    }
    assert!(sent.elapsed() >= Duration::from_millis(60), "{:?}", sent.elapsed());
}

#[test]
fn bandwidth_spaces_packets_out() {
    let (a, b, mesh) = pair();
    mesh.set(0, 1, Conditions { bytes_per_second: Some(10_000), ..Conditions::default() });
    let begun = Instant::now();
    for _ in 0..3 {
        a.send_to(&[0; 1_000], mesh.door(0, 1)).unwrap();
    }
    let mut buffer = [0; 2_000];
    for _ in 0..3 {
        assert_eq!(b.recv_from(&mut buffer).unwrap().0, 1_000);
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
}
