//! Clients that write to all nodes at once, and remember what they were told.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Client, Outcome};
use crate::node::Daemon;
use crate::oracle::{Oracle, Write};
use crate::patience::{SOON, wait_for};

/// Pause after a refusal or a lost connection: the node is away, and comes back when it does.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Names that all writers share: few, so that writes meet.
const CONTESTED: u64 = 10;
/// Names of a kind that one writer has to itself.
const OWN: u64 = 50;

/// How writers write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    /// Clients of one node.
    pub(crate) clients: usize,
    /// Between two writes of one client.
    pub(crate) pause: Duration,
    /// Bytes that values are filled up to; not compressible.
    pub(crate) value_bytes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { clients: 2, pause: Duration::from_millis(2), value_bytes: 24 }
    }
}

/// Figures of the clients of one node.
#[derive(Default)]
struct Figures {
    acknowledged: AtomicU64,
    slowest_us: AtomicU64,
}

/// Running writers.
pub(crate) struct Writers {
    is_over: Arc<AtomicBool>,
    /// Node name -> figures.
    figures: Vec<(String, Arc<Figures>)>,
    threads: Vec<JoinHandle<Oracle>>,
}

impl Writers {
    /// Starts writing to these nodes.
    pub(crate) fn start<'a>(nodes: impl IntoIterator<Item = &'a Daemon>, pace: Pace) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        // Writers of one run share no name with those of another: the oracle knows each by its name.
        static RUNS: AtomicU64 = AtomicU64::new(1);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let (mut figures, mut threads) = (Vec::new(), Vec::new());
        for node in nodes {
            let of_node = Arc::new(Figures::default());
            for client in 0..pace.clients {
                let writer = Writer {
                    name: format!("{}.{run}.{client}", node.name),
                    socket: node.socket(),
                    pace,
                    is_over: Arc::clone(&is_over),
                    figures: Arc::clone(&of_node),
                    oracle: Oracle::default(),
                };
                threads.push(thread::spawn(move || writer.run()));
            }
            figures.push((node.name.clone(), of_node));
        }
        Self { is_over, figures, threads }
    }

    /// Writes that were acknowledged so far, by all nodes.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.figures.iter().map(|(_, figures)| figures.acknowledged.load(Ordering::Relaxed)).sum()
    }

    /// Waits until so many more writes were acknowledged, by all nodes together.
    pub(crate) fn wait_for_more(&self, count: u64) {
        let goal = self.acknowledged() + count;
        wait_for("written", SOON, || {
            let now = self.acknowledged();
            if now >= goal { Ok(()) } else { Err(format!("{now} of {goal} writes are acknowledged")) }
        });
    }

    /// Waits until every node has acknowledged so many more.
    pub(crate) fn wait_for_more_on_each(&self, count: u64) {
        let read = |figures: &Figures| figures.acknowledged.load(Ordering::Relaxed);
        let goals: Vec<u64> = self.figures.iter().map(|(_, figures)| read(figures) + count).collect();
        wait_for("written on each node", SOON, || {
            let behind = self.figures.iter().zip(&goals).find(|((_, figures), goal)| read(figures) < **goal);
            match behind {
                None => Ok(()),
                Some(((name, figures), goal)) => Err(format!("{name} acknowledged {} of {goal}", read(figures))),
            }
        });
    }

    /// The longest that an acknowledged write of this node took.
    pub(crate) fn slowest(&self, node: &str) -> Duration {
        let of_node = self.figures.iter().find(|(name, _)| name == node);
        Duration::from_micros(of_node.unwrap().1.slowest_us.load(Ordering::Relaxed))
    }

    /// Ends them, and gives what they know.
    pub(crate) fn finish(mut self) -> Oracle {
        self.is_over.store(true, Ordering::Relaxed);
        let mut oracle = Oracle::default();
        for thread in self.threads.drain(..) {
            oracle.absorb(thread.join().unwrap());
        }
        oracle
    }
}

impl Drop for Writers {
    /// Does not wait: in a test that fails, an answer may never come.
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    name: String,
    socket: PathBuf,
    pace: Pace,
    is_over: Arc<AtomicBool>,
    figures: Arc<Figures>,
    oracle: Oracle,
}

impl Writer {
    fn run(mut self) -> Oracle {
        let mut number = 0;
        while !self.is_over() {
            if let Ok(mut client) = Client::open(&self.socket) {
                self.write(&mut client, &mut number);
            }
            thread::sleep(AGAIN_AFTER);
        }
        self.oracle
    }

    /// Writes until the connection breaks or all is over.
    fn write(&mut self, client: &mut Client, number: &mut u64) {
        while !self.is_over() {
            *number += 1;
            let write = self.next(*number);
            let begun = Instant::now();
            let outcome = write.send(client);
            self.oracle.note(&self.name, &write, &outcome);
            match outcome {
                Outcome::Done => {
                    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
                    self.figures.acknowledged.fetch_add(1, Ordering::Relaxed);
                    self.figures.slowest_us.fetch_max(took_us, Ordering::Relaxed);
                    thread::sleep(self.pace.pause);
                }
                Outcome::Refused(_) => thread::sleep(AGAIN_AFTER),
                Outcome::Uncertain(_) => return,
            }
        }
    }

    /// Every kind of write in turn.
    fn next(&self, number: u64) -> Write {
        let (own, turn) = (format!("{}:{}", self.name, number % OWN), number / 8);
        let value = filled(&format!("{} {number}", self.name), self.pace.value_bytes);
        match number % 8 {
            0 => Write::Set { key: format!("own:{own}"), value },
            1 => Write::Set { key: format!("contested:{}", turn % CONTESTED), value },
            2 => Write::Field {
                key: format!("hash:{}", turn % CONTESTED),
                field: format!("{}:{}", self.name, turn % 5),
                value,
            },
            3 => Write::Add { key: "set".into(), member: format!("{} {number}", self.name) },
            4 => Write::Count { key: "count:all".into() },
            5 => Write::Both { keys: [format!("twin:{own}:a"), format!("twin:{own}:b")], value },
            6 => Write::Count { key: format!("count:{}", self.name) },
            // What the third write of eight added, every other turn.
            _ if turn.is_multiple_of(2) => {
                Write::Remove { key: "set".into(), member: format!("{} {}", self.name, number - 4) }
            }
            _ => Write::Field { key: "hash:shared".into(), field: format!("{}", turn % CONTESTED), value },
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// `head`, filled up to so many bytes with letters that do not repeat.
pub(crate) fn filled(head: &str, bytes: usize) -> String {
    let mut text = format!("{head} ");
    // FNV-1a of the head starts a linear congruence: noise that compression cannot shorten much.
    let mut state = head
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        text.push(char::from(letters[(state >> 58) as usize]));
    }
    text
}
