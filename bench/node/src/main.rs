//! The other half of `make bench`: every claimed figure of a whole node beside its peer, measured in the same run.
//!
//! Everything is seen from outside: the shipped binary `crdt-engine` as child processes on real disks and sockets,
//! `redis-server` and `redis-benchmark` of Debian beside it. Nothing of ours is linked in.
//!
//! `bench-node` runs everything and writes its claims into `bench/results.json`, beside those of the core.
//! `bench-node [--quick] [--write] [ID...]` measures what is named, such as `node.door` or `node.door.set.p1`;
//! `--quick` does little and claims nothing, `--write` claims a full measurement of what is named, `--list` tells the
//! ids. `CRDT_ENGINE` names the binary, which else is looked for beside this program.

mod cluster;
mod door;
mod effort;
mod failure;
mod load;
mod node;
mod patience;
mod place;
mod process;
mod relay;
mod rival;
mod run;
mod sample;
mod suites;
mod wire;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use effort::Effort;
use failure::Failure;
use place::Folder;
use run::Run;
use suites::SUITES;

/// Names the binary that is measured.
const ENGINE_VARIABLE: &str = "CRDT_ENGINE";

fn main() -> ExitCode {
    let outcome = Arguments::read(env::args().skip(1)).and_then(|arguments| match arguments.lists {
        true => list(),
        false => measure(arguments),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench-node: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The command line.
struct Arguments {
    effort: Effort,
    writes: bool,
    lists: bool,
    wanted: Vec<String>,
}

impl Arguments {
    fn read(words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut arguments = Self { effort: Effort::FULL, writes: false, lists: false, wanted: Vec::new() };
        for word in words {
            match word.as_str() {
                "--quick" => arguments.effort = Effort::QUICK,
                "--write" => arguments.writes = true,
                "--list" => arguments.lists = true,
                name if ids().iter().any(|id| id == name || id.starts_with(&format!("{name}."))) => {
                    arguments.wanted.push(word);
                }
                _ => return Err(Failure::Arguments(format!("{word} is no flag and no id; --list tells the ids"))),
            }
        }
        if arguments.writes && arguments.effort != Effort::FULL {
            return Err(Failure::Arguments("--quick claims nothing, so there is nothing to --write".to_owned()));
        }
        arguments.writes |= arguments.wanted.is_empty() && arguments.effort == Effort::FULL;
        Ok(arguments)
    }
}

fn ids() -> Vec<String> {
    SUITES.iter().flat_map(|suite| (suite.ids)()).collect()
}

fn list() -> Result<(), Failure> {
    ids().iter().for_each(|id| println!("{id}"));
    Ok(())
}

fn measure(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { effort, writes, wanted, .. } = arguments;
    let engine = engine()?;
    let redis_version = redis_version()?;
    let folder = Folder::new()?;
    let place = place::told(&folder);
    let run = Run { engine, folder, effort, redis_version, wanted, place, begun: Instant::now() };
    run.say(&format!("{}, redis {}, {}", run.engine.display(), run.redis_version, run.place));
    let mut claims = Vec::new();
    for suite in SUITES.iter().filter(|suite| (suite.ids)().iter().any(|id| run.wants(id))) {
        claims.extend((suite.measure)(&run)?);
    }
    print!("{}", bench_results::table(&claims));
    if !writes {
        println!("Only a full run may claim: results.json was not written.");
        return Ok(());
    }
    let is_mine = |id: &str| id.starts_with("node.") && run.wants(id);
    let written = bench_results::write(&bench_results::path(), is_mine, &claims);
    written.map_err(Failure::io("write results.json"))
}

/// The binary that is measured.
fn engine() -> Result<PathBuf, Failure> {
    const REMEDY: &str = "build it with cargo build --release -p daemon, or name it in CRDT_ENGINE";
    let beside = || Some(env::current_exe().ok()?.with_file_name("crdt-engine"));
    let path = env::var_os(ENGINE_VARIABLE).map(PathBuf::from).or_else(beside);
    let path = path.unwrap_or_else(|| "crdt-engine".into());
    path.canonicalize().map_err(|_| Failure::Missing { program: path.display().to_string(), remedy: REMEDY })
}

/// What `redis-server` calls itself; the other programs that are needed are looked for too.
fn redis_version() -> Result<String, Failure> {
    const REMEDY: &str = "apt-get install redis-server redis-tools util-linux";
    let ask = |program: &str| {
        let missing = || Failure::Missing { program: program.to_owned(), remedy: REMEDY };
        let output = Command::new(program).arg("--version").output().map_err(|_| missing())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    ask("setpriv")?;
    ask("redis-benchmark")?;
    let told = ask("redis-server")?;
    let version = told.split_whitespace().find_map(|word| word.strip_prefix("v="));
    version.map(str::to_owned).ok_or(Failure::Answer {
        who: "redis-server".to_owned(),
        asked: "--version".to_owned(),
        answered: told,
    })
}
