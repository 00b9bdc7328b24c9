//! The receiving side, in a process of its own for each library and run: a heap without anyone
//! else's holes, and a resident size that belongs to one library.

use std::env;
use std::hint::black_box;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::batches::{Batches, receive_batch, receive_number};
use crate::failure::Failure;
use crate::memory::resident_bytes;
use crate::replica::Replica;
use crate::workload::{LIVE_KEYS, Workload};
use crate::writer::{Sent, compare};

/// The first argument of a receiving process.
pub(crate) const COMMAND: &str = "receive";

/// Bytes of the buffer for one batch, touched before the first look at memory so that it is not
/// counted as the library's. No library's batch of the load is larger.
const BATCH_BUFFER_BYTES: usize = 512 << 10;

/// What a receiving process measures; it never does both, for a list of all batches in its memory
/// would hide in its resident size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// The time to decode and apply all updates.
    Time,
    /// Resident memory after the load and after the updates.
    Memory,
}

impl Measure {
    /// The word on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "memory",
        }
    }

    /// Settings of mimalloc for the process. Under the clock they are its defaults. For memory it
    /// gives freed pages back at once and takes no huge ones: by default both blur the figure by up
    /// to 120 bytes a cell, which depend on when the last table was freed and not on what is kept.
    const fn allocator_settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Time => &[],
            Self::Memory => &[("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_ALLOW_THP", "0")],
        }
    }

    /// Reads the word again.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Time, Self::Memory].into_iter().find(|measure| measure.word() == word)
    }
}

/// The figures of one receiving process; only those of its measure are set.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Received {
    /// From the first batch of updates to the last.
    pub(crate) seconds: f64,
    /// For each live key, after the load, key and value included.
    pub(crate) loaded_bytes_per_key: f64,
    /// The same after all updates.
    pub(crate) updated_bytes_per_key: f64,
}

/// Starts a receiving process, sends it everything and waits for its figures.
pub(crate) fn run(library: &'static str, measure: Measure, sent: &Sent) -> Result<Received, Failure> {
    let program = env::current_exe().map_err(Failure::io("find the bench program"))?;
    let mut process = Command::new(program)
        .args([COMMAND, library, measure.word(), &sent.update_count.to_string()])
        .envs(measure.allocator_settings().iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Failure::io("start a receiver"))?;
    let delivered = match process.stdin.take() {
        Some(pipe) => deliver(pipe, sent),
        None => Err(io::Error::other("the receiver has no input")),
    };
    let output = process.wait_with_output().map_err(Failure::io("wait for a receiver"))?;
    if !output.status.success() {
        return Err(Failure::Receiver { library, status: output.status.to_string() });
    }
    delivered.map_err(Failure::io("send batches to a receiver"))?;
    serde_json::from_slice(&output.stdout).map_err(|_| Failure::Receiver { library, status: output.status.to_string() })
}

fn deliver(pipe: impl Write, sent: &Sent) -> io::Result<()> {
    let mut pipe = BufWriter::with_capacity(1 << 20, pipe);
    sent.load.send(&mut pipe)?;
    sent.updates.send(&mut pipe)?;
    pipe.flush()
}

/// The body of a receiving process: measures, compares the values, prints the figures.
pub(crate) fn receive<R: Replica>(measure: Measure, update_count: usize) -> Result<(), Failure> {
    let mut pipe = BufReader::new(io::stdin().lock());
    let (replica, received) = match measure {
        Measure::Time => receive_timed::<R>(&mut pipe)?,
        Measure::Memory => receive_resident::<R>(&mut pipe)?,
    };
    compare(&replica, &Workload::new().expected(update_count))?;
    serde_json::to_writer(io::stdout().lock(), &received)
        .map_err(|cause| Failure::Io { step: "report the figures", cause: cause.into() })
}

fn receive_timed<R: Replica>(pipe: &mut impl Read) -> Result<(R, Received), Failure> {
    let load = Batches::receive(pipe).map_err(Failure::io("take the load"))?;
    let updates = Batches::receive(pipe).map_err(Failure::io("take the updates"))?;
    let mut replica = open::<R>()?;
    for batch in load.iter() {
        apply(&mut replica, batch)?;
    }
    let start = Instant::now();
    for batch in updates.iter() {
        apply(&mut replica, black_box(batch))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok((replica, Received { seconds, ..Received::default() }))
}

fn receive_resident<R: Replica>(pipe: &mut impl Read) -> Result<(R, Received), Failure> {
    let mut batch = vec![1; BATCH_BUFFER_BYTES];
    let before = resident()?;
    let mut replica = open::<R>()?;
    apply_stream(&mut replica, pipe, &mut batch)?;
    let loaded = resident()?;
    apply_stream(&mut replica, pipe, &mut batch)?;
    let updated = resident()?;
    let per_key = |now: usize| now.saturating_sub(before) as f64 / LIVE_KEYS as f64;
    let received = Received {
        loaded_bytes_per_key: per_key(loaded),
        updated_bytes_per_key: per_key(updated),
        ..Received::default()
    };
    Ok((replica, received))
}

fn apply_stream<R: Replica>(replica: &mut R, pipe: &mut impl Read, batch: &mut Vec<u8>) -> Result<(), Failure> {
    let count = receive_number(pipe).map_err(Failure::io("take the number of batches"))?;
    for _ in 0..count {
        receive_batch(pipe, batch).map_err(Failure::io("take a batch"))?;
        apply(replica, batch)?;
    }
    Ok(())
}

fn resident() -> Result<usize, Failure> {
    resident_bytes().map_err(Failure::io("read the resident size"))
}

/// A receiver never writes, so any number that no writer has will do.
fn open<R: Replica>() -> Result<R, Failure> {
    R::open(4).map_err(Failure::library(R::NAME, "open a replica"))
}

fn apply<R: Replica>(replica: &mut R, batch: &[u8]) -> Result<(), Failure> {
    replica.apply(batch).map_err(Failure::library(R::NAME, "apply a batch"))
}
