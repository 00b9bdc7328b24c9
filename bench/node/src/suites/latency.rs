//! `node.write.p99.*`: one connection that waits for each answer, with peers connected.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use bench_results::{Better, Claim};

use crate::failure::Failure;
use crate::load::{KEYS, VALUE_BYTES};
use crate::place::Folder;
use crate::run::{Figure, Run};
use crate::sample::{quantile, sorted_ms, told_ms};
use crate::wire::{Wire, command};

const EVERYSEC: &str = "node.write.p99.everysec";
const ALWAYS: &str = "node.write.p99.always";
/// What a write may take beside the disk.
const GOAL_MS: f64 = 1.0;
/// Bare writes and writes through the door in turn, so many of each, so that the disk's mood meets both.
const BLOCK: usize = 50;
/// Writes before the first one that counts.
const WARM_UP: usize = 500;
/// Spreads the keys of consecutive writes; prime to [`KEYS`].
const STRIDE: usize = 61_803;

pub(super) fn ids() -> Vec<String> {
    vec![EVERYSEC.to_owned(), ALWAYS.to_owned()]
}

pub(super) fn measure(run: &Run) -> Result<Vec<Claim>, Failure> {
    let mut claims = Vec::new();
    if run.wants(EVERYSEC) {
        claims.push(everysec(run)?);
    }
    if run.wants(ALWAYS) {
        claims.push(always(run)?);
    }
    Ok(claims)
}

fn everysec(run: &Run) -> Result<Claim, Failure> {
    let folder = run.folder.within("everysec")?;
    let mut cluster = run.plan(&folder, 3)?;
    cluster.found()?;
    let mut wire = cluster.nodes[0].wire()?;
    let count = run.effort.everysec_writes;
    run.say(&format!("single writes, everysec: {count}"));
    writes(&mut wire, 0..WARM_UP)?;
    let sorted = sorted_ms(writes(&mut wire, WARM_UP..WARM_UP + count)?);
    let (_, until_applied) = cluster.converged()?;
    cluster.verified()?;
    Ok(run.claim(Figure {
        id: EVERYSEC.to_owned(),
        what: "one SET at a time through the door, two peers replicating, durability everysec, p99".to_owned(),
        ours: quantile(&sorted, 0.99),
        peer: GOAL_MS,
        peer_name: "goal".to_owned(),
        unit: "ms",
        better: Better::Lower,
        conditions: format!(
            "one connection over the Unix socket, keys out of {KEYS}, values of {VALUE_BYTES} B; {}; applied by all \
             {:.3} s after the last, digests equal",
            told_ms(&sorted),
            until_applied.as_secs_f64()
        ),
    }))
}

fn always(run: &Run) -> Result<Claim, Failure> {
    let folder = run.folder.within("always")?;
    let mut cluster = run.plan(&folder, 3)?;
    cluster.nodes[0].set("store.durability", "\"always\"");
    cluster.found()?;
    let mut wire = cluster.nodes[0].wire()?;
    let count = run.effort.always_writes;
    run.say(&format!("single writes, always: {count}, and as many bare writes with fsync"));
    writes(&mut wire, 0..BLOCK)?;
    let bytes = request(0).len();
    let mut bare = Bare::new(&folder, bytes)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for block in 0..count.div_ceil(BLOCK) {
        theirs.extend(bare.writes(BLOCK)?);
        ours.extend(writes(&mut wire, (block + 1) * BLOCK..(block + 2) * BLOCK)?);
    }
    let (ours, theirs) = (sorted_ms(ours), sorted_ms(theirs));
    cluster.verified()?;
    Ok(run.claim(Figure {
        id: ALWAYS.to_owned(),
        what: "one SET at a time through the door, two peers replicating, durability always, p99".to_owned(),
        ours: quantile(&ours, 0.99),
        peer: quantile(&theirs, 0.99) + GOAL_MS,
        peer_name: "bare write and fsync, and 1 ms".to_owned(),
        unit: "ms",
        better: Better::Lower,
        conditions: format!(
            "one connection over the Unix socket, values of {VALUE_BYTES} B; the written node alone has durability \
             always, since its peers share its disk here and would not elsewhere; ours: {}; bare: {bytes} B appended \
             to a file on the same disk with fdatasync, {BLOCK} of each in turn: {}",
            told_ms(&ours),
            told_ms(&theirs)
        ),
    }))
}

fn request(number: usize) -> Vec<u8> {
    let key = format!("key:{:012}", number * STRIDE % KEYS as usize);
    let value = format!("{number:0width$}", width = VALUE_BYTES as usize);
    command(&[b"SET", key.as_bytes(), value.as_bytes()])
}

/// Writes one after the other, and how long each took.
fn writes(wire: &mut Wire, numbers: std::ops::Range<usize>) -> Result<Vec<Duration>, Failure> {
    let requests: Vec<Vec<u8>> = numbers.map(request).collect();
    let mut took = Vec::with_capacity(requests.len());
    for request in &requests {
        let begun = Instant::now();
        wire.send(request)?;
        wire.expect_ok()?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

/// A file to which the same bytes are appended and synced.
struct Bare {
    file: File,
    bytes: Vec<u8>,
}

impl Bare {
    fn new(folder: &Folder, bytes: usize) -> Result<Self, Failure> {
        let file = File::create(folder.path().join("bare")).map_err(Failure::io("make a file for bare writes"))?;
        Ok(Self { file, bytes: vec![b'x'; bytes] })
    }

    fn writes(&mut self, count: usize) -> Result<Vec<Duration>, Failure> {
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = Instant::now();
            let written = self.file.write_all(&self.bytes).and_then(|()| self.file.sync_data());
            written.map_err(Failure::io("write and sync a file"))?;
            took.push(begun.elapsed());
        }
        Ok(took)
    }
}
