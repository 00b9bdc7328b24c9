//! The command line: seeds in, violations and coverage out.

use std::process::ExitCode;

use sim::runner::{self, Plan};
use sim::scenarios::Scenario;
use sim::{checkers, demo, report};

const USAGE: &str = "\
sim --seeds N [--nodes N] [--first-seed S] [--jobs N]   run N seeds
sim --seed S [--nodes N] [--scenario NAME] [--trace]    run one seed again; with --trace, tell everything
sim --demo [--seed S]                                   one cluster, told so that a person can follow it
sim --scenarios                                         names of the scripted scenarios
    --mutant NAME      switch a deliberate bug on (built with --features mutants)
    --ignore N         go on where invariant N is broken, to look behind a known violation
    --without A[,B]    leave planned faults out: LyingFsync, RestoreDatabase, ...
    --stop             stop at the first violation
    --coverage         show how often each fault and path happened";

#[derive(Debug, Default)]
struct Arguments {
    seeds: Option<u64>,
    first_seed: Option<u64>,
    seed: Option<u64>,
    nodes: Option<usize>,
    jobs: Option<usize>,
    scenario: Option<String>,
    mutant: Option<String>,
    ignored: Vec<u8>,
    demo: bool,
    trace: bool,
    stop: bool,
    coverage: bool,
    scenarios: bool,
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{name} wants a number, not {text:?}"));
        match name.as_str() {
            "--seeds" => parsed.seeds = Some(number(value()?)?),
            "--first-seed" => parsed.first_seed = Some(number(value()?)?),
            "--seed" => parsed.seed = Some(number(value()?)?),
            "--nodes" => parsed.nodes = Some(number(value()?)? as usize),
            "--jobs" => parsed.jobs = Some(number(value()?)? as usize),
            "--scenario" => parsed.scenario = Some(value()?),
            "--mutant" => parsed.mutant = Some(value()?),
            "--ignore" => parsed.ignored.push(number(value()?)? as u8),
            "--without" => sim::swarm::leave_out(&value()?.split(',').map(str::to_owned).collect::<Vec<_>>())?,
            "--demo" => parsed.demo = true,
            "--trace" => parsed.trace = true,
            "--stop" => parsed.stop = true,
            "--coverage" => parsed.coverage = true,
            "--scenarios" => parsed.scenarios = true,
            _ => return Err(format!("unknown argument {name:?}\n{USAGE}")),
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    let result = parse(std::env::args().skip(1)).and_then(carry_out);
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn carry_out(arguments: Arguments) -> Result<bool, String> {
    let plan = Plan {
        first_seed: arguments.seed.or(arguments.first_seed).unwrap_or(1),
        seeds: arguments.seeds.unwrap_or(1),
        nodes: arguments.nodes.unwrap_or(5),
        jobs: arguments.jobs.unwrap_or(2),
        mutant: arguments.mutant,
        ignored: arguments.ignored,
        stops_early: arguments.stop,
    };
    if !(2..=16).contains(&plan.nodes) {
        return Err(format!("--nodes is {}, and must be from 2 to 16", plan.nodes));
    }
    if let Some(name) = &plan.mutant
        && (cfg!(not(feature = "mutants")) || !crdt::Mutant::ALL.iter().any(|mutant| mutant.name() == name))
    {
        return Err(format!("no deliberate bug {name:?} in this build; is it built with --features mutants?"));
    }
    if arguments.scenarios {
        Scenario::ALL.iter().for_each(|scenario| println!("{}", scenario.name()));
        return Ok(true);
    }
    if arguments.demo {
        println!("{}", demo::tell(plan.first_seed));
        return Ok(true);
    }
    let scenario = match &arguments.scenario {
        None => None,
        Some(name) => Some(Scenario::named(name).ok_or(format!("no scenario {name:?}; --scenarios lists them"))?),
    };
    if arguments.seed.is_some() {
        return Ok(replay(&plan, scenario, arguments.trace, arguments.coverage));
    }
    if scenario.is_some() {
        return Err("a scenario is played with --seed S; --seeds N plays one of them with each seed".into());
    }
    Ok(run_all(&plan, arguments.coverage))
}

/// Runs one seed again and tells what came of it.
fn replay(plan: &Plan, scenario: Option<Scenario>, trace: bool, coverage: bool) -> bool {
    runner::switch_on(plan.mutant.as_deref());
    let mut finished = runner::run_one(plan, plan.first_seed, scenario);
    if trace {
        finished.outcome = match scenario {
            None => sim::run::seed(plan.first_seed, plan.nodes, &plan.ignored, true),
            Some(scenario) => sim::scenarios::run(scenario, plan.first_seed, &plan.ignored, true),
        };
        finished.outcome.lines.iter().for_each(|line| println!("{line}"));
    }
    if coverage {
        print!("{}", report::coverage(&finished.outcome.coverage));
    }
    let violated = finished.outcome.violation.is_some();
    if violated {
        print!("{}", report::violation(&finished.outcome, &finished.replay(plan)));
    } else {
        println!("{}", finished.outcome);
    }
    println!("{}", report::summary(1, violated.into(), &finished.outcome.coverage));
    !violated
}

fn run_all(plan: &Plan, show_coverage: bool) -> bool {
    let (mut finished_seeds, mut violations) = (0, 0);
    let coverage = runner::run(plan, |finished| {
        finished_seeds += u64::from(finished.scenario.is_none());
        if finished.outcome.violation.is_some() {
            violations += 1;
            print!("{}", report::violation(&finished.outcome, &finished.replay(plan)));
        }
        if finished.scenario.is_none() && (finished_seeds % 10 == 0 || plan.seeds <= 10) {
            eprintln!("{finished_seeds}/{} {}", plan.seeds, finished.outcome);
        }
    });
    if show_coverage {
        print!("{}", report::coverage(&coverage));
    } else if !coverage.missing().is_empty() {
        eprintln!("never happened: {}", coverage.missing().join(", "));
    }
    // A shorter run may miss a kind by chance; a long one may not. Mutants stop early, and prove nothing here.
    if plan.mutant.is_none()
        && let Err(violation) = checkers::coverage::check(finished_seeds, &coverage)
    {
        violations += 1;
        println!("VIOLATION of {violation}");
    }
    println!("{}", report::summary(finished_seeds, violations, &coverage));
    violations == 0
}
