//! `make bench`: every claimed figure of the core beside its peers', measured in the same run.
//!
//! The program writes the same updates with each library, then starts itself once for each library
//! and run as a receiving process: the receiver decodes and applies under a clock, or under the eye
//! of the kernel's count of resident memory, and must end with the values of a plain map.
//!
//! `bench` runs everything and writes `results.json`. `bench [--quick] [LIBRARY...]` is for work on
//! the bench: a twentieth of the updates, or only the named libraries, and no claims.
//! `bench receive ...` is the receiving process and not for people.

mod batches;
mod failure;
mod libraries;
mod measure;
mod memory;
mod receiver;
mod replica;
mod report;
mod results;
mod workload;
mod writer;

use std::env;
use std::process::ExitCode;

use failure::Failure;
use libraries::{LIBRARIES, Library};
use measure::Effort;
use receiver::Measure;

/// The allocator of the shipped engine, for all libraries alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        [receiver::COMMAND, library, measure, updates] => receive(library, measure, updates),
        ["--quick", libraries @ ..] => run(Effort::QUICK, libraries),
        libraries => run(Effort::FULL, libraries),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(effort: Effort, names: &[&str]) -> Result<(), Failure> {
    let chosen: Vec<Library> = if names.is_empty() {
        LIBRARIES.to_vec()
    } else {
        names.iter().map(|name| libraries::named(name)).collect::<Result<_, _>>()?
    };
    let figures = measure::measure(&chosen, effort)?;
    print!("{}", report::table(&figures));
    let claims = results::claims(&figures);
    print!("{}", report::claims(&claims));
    if effort != Effort::FULL || !names.is_empty() {
        println!("Only a full run of all libraries may claim: results.json was not written.");
        return Ok(());
    }
    results::write(&claims)
}

fn receive(library: &str, measure: &str, updates: &str) -> Result<(), Failure> {
    let measure =
        Measure::from_word(measure).ok_or_else(|| Failure::Arguments(format!("no measure is called {measure}")))?;
    let update_count = updates.parse().map_err(|_| Failure::Arguments(format!("{updates} is no number of updates")))?;
    (libraries::named(library)?.receive)(measure, update_count)
}
