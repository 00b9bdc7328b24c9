//! The plan of a run: who is measured when, and what comes out.

use crate::failure::Failure;
use crate::libraries::Library;
use crate::receiver::{self, Measure};
use crate::replica::BATCH_SIZES;
use crate::workload::Workload;
use crate::writer::Sent;

/// How much a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Clocked runs of each library and batch size; the median counts.
    pub(crate) rounds: usize,
    /// Divides every library's own count of updates.
    pub(crate) divisor: usize,
}

impl Effort {
    /// The run whose figures may be claimed.
    pub(crate) const FULL: Self = Self { rounds: 3, divisor: 1 };
    /// A run that only shows that everything still works.
    pub(crate) const QUICK: Self = Self { rounds: 1, divisor: 20 };
}

/// One library's figures at one batch size.
pub(crate) struct AtBatchSize {
    pub(crate) batch_size: usize,
    pub(crate) update_count: usize,
    /// Remote updates applied in a second, decode included: the median of the rounds.
    pub(crate) applied_per_second: f64,
    /// The slowest and the fastest round.
    pub(crate) spread_per_second: [f64; 2],
    /// Bytes on the wire for one update beside key and value, all from one writer.
    pub(crate) one_writer_metadata_bytes: f64,
    /// The same with three writers in turn, and over how many updates.
    pub(crate) three_writers_metadata_bytes: f64,
    pub(crate) three_writers_update_count: usize,
}

/// One library's figures.
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    pub(crate) conditions: &'static str,
    /// In the order of `BATCH_SIZES`.
    pub(crate) at: [AtBatchSize; BATCH_SIZES.len()],
    /// Resident bytes for each live key beside key and value, each key written once.
    pub(crate) loaded_cell_bytes: f64,
    /// The same after the updates in batches of 100.
    pub(crate) updated_cell_bytes: f64,
}

/// A library and what its writer sent, by batch size.
struct Prepared {
    library: Library,
    sent: [Sent; BATCH_SIZES.len()],
}

/// Measures all libraries. Clocked runs are interleaved, each library once a round, so that a change
/// of the machine's mood meets all of them.
pub(crate) fn measure(libraries: &[Library], effort: Effort) -> Result<Vec<Figures>, Failure> {
    let workload = Workload::new();
    let mut prepared = Vec::new();
    for library in libraries {
        eprintln!("encoding: {}", library.name);
        prepared.push(prepare(*library, &workload, effort)?);
    }
    let mut seconds = vec![[const { Vec::new() }; BATCH_SIZES.len()]; libraries.len()];
    for round in 1..=effort.rounds {
        for (place, batch_size) in BATCH_SIZES.into_iter().enumerate() {
            eprintln!("clocked round {round} of {}, batches of {batch_size}", effort.rounds);
            for (prepared, seconds) in prepared.iter().zip(&mut seconds) {
                let sent = &prepared.sent[place];
                let received = receiver::run(prepared.library.name, Measure::Time, sent)?;
                seconds[place].push(received.seconds);
            }
        }
    }
    let mut all_figures = Vec::new();
    for (prepared, seconds) in prepared.iter().zip(seconds) {
        eprintln!("memory and three writers: {}", prepared.library.name);
        all_figures.push(figures(prepared, seconds, &workload)?);
    }
    Ok(all_figures)
}

fn prepare(library: Library, workload: &Workload, effort: Effort) -> Result<Prepared, Failure> {
    let send = |batch_size: usize| {
        let update_count = (library.update_count)(batch_size) / effort.divisor;
        (library.send)(workload, batch_size, update_count.max(batch_size))
    };
    let [single, hundred] = BATCH_SIZES.map(send);
    Ok(Prepared { library, sent: [single?, hundred?] })
}

fn figures(
    prepared: &Prepared,
    seconds: [Vec<f64>; BATCH_SIZES.len()],
    workload: &Workload,
) -> Result<Figures, Failure> {
    let Prepared { library, sent } = prepared;
    let [single, hundred] = sent;
    let [single_seconds, hundred_seconds] = seconds;
    let memory = receiver::run(library.name, Measure::Memory, hundred)?;
    let beside = |bytes: f64| bytes - crate::workload::CELL_BYTES as f64;
    Ok(Figures {
        name: library.name,
        conditions: library.conditions,
        at: [
            at_batch_size(*library, BATCH_SIZES[0], single, single_seconds, workload)?,
            at_batch_size(*library, BATCH_SIZES[1], hundred, hundred_seconds, workload)?,
        ],
        loaded_cell_bytes: beside(memory.loaded_bytes_per_key),
        updated_cell_bytes: beside(memory.updated_bytes_per_key),
    })
}

fn at_batch_size(
    library: Library,
    batch_size: usize,
    sent: &Sent,
    mut seconds: Vec<f64>,
    workload: &Workload,
) -> Result<AtBatchSize, Failure> {
    seconds.sort_by(f64::total_cmp);
    let per_second = |place: usize| sent.update_count as f64 / seconds[place];
    let three_writers = (library.three_writers)(workload, batch_size, sent.update_count)?;
    Ok(AtBatchSize {
        batch_size,
        update_count: sent.update_count,
        applied_per_second: per_second(seconds.len() / 2),
        spread_per_second: [per_second(seconds.len() - 1), per_second(0)],
        one_writer_metadata_bytes: sent.metadata_bytes(),
        three_writers_metadata_bytes: three_writers.metadata_bytes,
        three_writers_update_count: three_writers.update_count,
    })
}
