//! What a group costs an embedded store: CPU, time, bytes written and memory, under a load like a node's.
//!
//! `cargo run --release -p store --example groups -- write FOLDER everysec 1000000 100` writes a million groups, each
//! one with a batch record of 200 bytes that is removed 10,000 groups later, an object of 80 bytes out of 100,000, and
//! a meta record of 60 bytes under one key; a hundred of them make one group for the store, as one turn of a node does.
//! `... -- fill FOLDER 1000000` writes as many objects, and `... -- load FOLDER` opens the store and reads them all.
//! It is no test: it asserts no time.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use crdt::{BatchId, ReplicaId};
use replica::{Meta, Record, RecordKey, Ticket, WriteGroup};
use store::{Completion, Durability, Embedded, EmbeddedOptions, Store, Surroundings};

// What the daemon runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// Groups of a node that are not durable yet, at most: 50 clients with 16 commands in a pipeline.
const WINDOW: u64 = 800;
/// Groups until all members have a batch.
const BATCH_LIFE: u64 = 10_000;
const OBJECTS: u64 = 100_000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", folder, durability, groups, merged] => {
            write(Path::new(folder), durability.parse()?, groups.parse()?, merged.parse()?)
        }
        ["fill", folder, objects] => fill(Path::new(folder), objects.parse()?),
        ["load", folder] => load(Path::new(folder)),
        _ => Err("write FOLDER always|everysec GROUPS MERGED, fill FOLDER OBJECTS, or load FOLDER".into()),
    }
}

fn open(folder: &Path, durability: Durability) -> Result<Embedded, Failure> {
    let (folder, surroundings) = (folder.to_owned(), Surroundings::here());
    Ok(Embedded::open(EmbeddedOptions { folder, durability, surroundings, fresh: 7, wake: Arc::new(|| ()) })?)
}

fn write(folder: &Path, durability: Durability, groups: u64, merged: u64) -> Result<(), Failure> {
    let mut store = open(folder, durability)?;
    let before = Usage::now()?;
    let start = Instant::now();
    let (mut next, mut durable, mut longest) = (0, 0, Duration::ZERO);
    let mut under_way: VecDeque<(u64, Instant)> = VecDeque::new();
    while durable < groups {
        while next < groups && next < durable + WINDOW {
            let records = (next..groups.min(next + merged)).flat_map(records).collect();
            next = groups.min(next + merged);
            store.write(WriteGroup { ticket: Ticket(next), records })?;
            under_way.push_back((next, Instant::now()));
        }
        match store.wait(Duration::from_secs(60)) {
            Some(Completion::Durable(ticket)) => durable = ticket.0,
            other => return Err(format!("{other:?} instead of a durable group").into()),
        }
        while let Some((_, since)) = under_way.pop_front_if(|(ticket, _)| *ticket <= durable) {
            longest = longest.max(since.elapsed());
        }
    }
    let wall = start.elapsed();
    let used = Usage::now()?;
    let commits = store.sizes().commits;
    Box::new(store).close()?;
    let closed = Usage::now()?;
    let each = |total: u64| total as f64 / groups as f64;
    println!(
        "{durability} merged {merged}: CPU {:.2} us a group (with close {:.2}), wall {:.2} s, longest wait {:.0} ms, \
         {commits} commits, written {:.0} MB to files, {:.0} MB to the disk, peak RSS {:.0} MiB",
        each(used.cpu_us - before.cpu_us),
        each(closed.cpu_us - before.cpu_us),
        wall.as_secs_f64(),
        longest.as_secs_f64() * 1e3,
        (closed.written - before.written) as f64 / 1e6,
        (closed.disk - before.disk) as f64 / 1e6,
        closed.peak_kib as f64 / 1024.0,
    );
    Ok(())
}

/// The records of one group of a node.
fn records(number: u64) -> Vec<Record> {
    let batch = |seq| RecordKey::Batch(BatchId { replica: ReplicaId(7), seq });
    let mut records = vec![
        Record { key: batch(number), value: Some(noise(number, 200)) },
        // Spread over all objects without an order.
        Record { key: object(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % OBJECTS), value: Some(noise(number, 80)) },
        Record { key: RecordKey::Meta(Meta::Applied), value: Some(noise(number, 60)) },
    ];
    if let Some(old) = number.checked_sub(BATCH_LIFE) {
        records.push(Record { key: batch(old), value: None });
    }
    records
}

fn object(number: u64) -> RecordKey {
    RecordKey::Object(format!("key:{number:012}").into_bytes())
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn fill(folder: &Path, objects: u64) -> Result<(), Failure> {
    let mut store = open(folder, Durability::Everysec)?;
    let merged = 100;
    for (ticket, first) in (1..).zip((0..objects).step_by(merged)) {
        let numbers = first..objects.min(first + merged as u64);
        let records = numbers.map(|number| Record { key: object(number), value: Some(noise(number, 80)) }).collect();
        store.write(WriteGroup { ticket: Ticket(ticket), records })?;
    }
    Box::new(store).close()?;
    Ok(())
}

fn load(folder: &Path) -> Result<(), Failure> {
    let before = Usage::now()?;
    let start = Instant::now();
    let mut store = open(folder, Durability::Everysec)?;
    let opened = start.elapsed();
    let (mut count, mut bytes) = (0_u64, 0);
    for record in store.load()? {
        if let (_, replica::Found::Intact(value)) = record? {
            count += 1;
            bytes += value.len();
        }
    }
    let used = Usage::now()?;
    println!(
        "opened in {:.2} s, {count} records with {bytes} bytes read after {:.2} s, CPU {:.2} s, peak RSS {:.0} MiB",
        opened.as_secs_f64(),
        start.elapsed().as_secs_f64(),
        (used.cpu_us - before.cpu_us) as f64 / 1e6,
        used.peak_kib as f64 / 1024.0,
    );
    Ok(())
}

/// What the system says of this process.
struct Usage {
    cpu_us: u64,
    /// Bytes given to `write`.
    written: u64,
    /// Bytes that went, or are to go, to a disk.
    disk: u64,
    peak_kib: u64,
}

impl Usage {
    fn now() -> Result<Self, Failure> {
        let field = |file: &str, name: &str| -> Result<u64, Failure> {
            let text = fs::read_to_string(file)?;
            let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("a field is missing")?;
            Ok(line.split_whitespace().next().ok_or("a figure is missing")?.parse()?)
        };
        // Its second field may hold blanks, and ends in the last bracket.
        let stat = fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).ok_or("a field is missing")?.parse::<u64>().map_err(Failure::from);
        Ok(Self {
            // User and system time in ticks of 10 ms.
            cpu_us: (ticks(11)? + ticks(12)?) * 10_000,
            written: field("/proc/self/io", "wchar:")?,
            disk: field("/proc/self/io", "write_bytes:")?,
            peak_kib: field("/proc/self/status", "VmHWM:")?,
        })
    }
}
