//! `make bench`: every claimed figure of the core beside its peers', measured in the same run.
//!
//! The program writes the same updates with each library, then starts itself once for each library
//! and run as a receiving process: the receiver decodes and applies under a clock, or under the eye
//! of the kernel's count of resident memory, and must end with the values of a plain map.
//!
//! How the cost of a write grows with the state has no peer but its goal: `growth` drives whole nodes.
//!
//! `bench` runs everything and writes its claims into `results.json`, beside those of other programs. `bench [--quick] [LIBRARY|growth...]` is for work
//! on the bench: a twentieth of the updates, or only what is named, and no claims.
//! `bench receive ...` and `bench grow ...` are processes that are measured and not for people.

mod batches;
mod failure;
mod growth;
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
use growth::Shape;
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
        [growth::COMMAND, keys, replicas, writes] => grow(keys, replicas, writes),
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
    let everything = names.is_empty();
    let chosen: Vec<Library> = if everything {
        LIBRARIES.to_vec()
    } else {
        let named = names.iter().filter(|name| **name != growth::NAME);
        named.map(|name| libraries::named(name)).collect::<Result<_, _>>()?
    };
    let mut claims = Vec::new();
    if !chosen.is_empty() {
        let figures = measure::measure(&chosen, effort)?;
        print!("{}", report::table(&figures));
        claims.extend(results::claims(&figures));
    }
    if everything || names.contains(&growth::NAME) {
        let growth = growth::measure(effort)?;
        print!("{}", report::growth(&growth));
        claims.extend(results::growth_claims(&growth));
    }
    print!("{}", bench_results::table(&claims));
    if effort != Effort::FULL || !everything {
        println!("Only a full run of everything may claim: results.json was not written.");
        return Ok(());
    }
    results::write(&claims)
}

fn receive(library: &str, measure: &str, updates: &str) -> Result<(), Failure> {
    let measure =
        Measure::from_word(measure).ok_or_else(|| Failure::Arguments(format!("no measure is called {measure}")))?;
    (libraries::named(library)?.receive)(measure, number(updates)?)
}

fn grow(keys: &str, replicas: &str, writes: &str) -> Result<(), Failure> {
    growth::grow(Shape { key_count: number(keys)?, replica_count: number(replicas)? }, number(writes)?)
}

fn number(word: &str) -> Result<usize, Failure> {
    word.parse().map_err(|_| Failure::Arguments(format!("{word} is no number")))
}
