//! Many seeds on several threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::checkers::determinism;
use crate::coverage::Coverage;
use crate::run::{self, Outcome};
use crate::scenarios::{self, Scenario};

/// Every so many seeds one is run twice, and both must give one trace.
const TWICE_EVERY: u64 = 16;

/// Which seeds, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The first seed.
    pub first_seed: u64,
    /// How many.
    pub seeds: u64,
    /// Members of each cluster.
    pub nodes: usize,
    /// Threads.
    pub jobs: usize,
    /// Name of a deliberate bug to switch on.
    pub mutant: Option<String>,
    /// Invariants whose violations do not end a run: to look behind one that is known.
    pub ignored: Vec<u8>,
    /// Stop at the first violation.
    pub stops_early: bool,
}

/// What a seed came to, with the name of the scripted scenario if it was one.
#[derive(Clone, Debug)]
pub struct Finished {
    /// `None` for the random world of the seed.
    pub scenario: Option<Scenario>,
    /// What it came to.
    pub outcome: Outcome,
}

impl Finished {
    /// The command that runs exactly this again.
    pub fn replay(&self, plan: &Plan) -> String {
        let mut command = "cargo run --release -p sim".to_owned();
        if plan.mutant.is_some() {
            command.push_str(" --features mutants");
        }
        command.push_str(&format!(" -- --seed {} --nodes {}", self.outcome.seed, plan.nodes));
        if let Some(scenario) = self.scenario {
            command.push_str(&format!(" --scenario {}", scenario.name()));
        }
        for invariant in &plan.ignored {
            command.push_str(&format!(" --ignore {invariant}"));
        }
        if let Some(mutant) = &plan.mutant {
            command.push_str(&format!(" --mutant {mutant}"));
        }
        if let Some(names) = crate::swarm::left_out() {
            command.push_str(&format!(" --without {names}"));
        }
        command
    }
}

/// Runs all seeds of a plan: the random world of each, and one scripted scenario with it. `each` is called in the
/// order in which they finish. Returns what all of them covered.
pub fn run(plan: &Plan, mut each: impl FnMut(Finished)) -> Coverage {
    let next = AtomicU64::new(0);
    let (sender, receiver) = mpsc::channel::<Finished>();
    let mut coverage = Coverage::default();
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                switch_on(plan.mutant.as_deref());
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= plan.seeds {
                        return;
                    }
                    for finished in run_seed(plan, plan.first_seed + index) {
                        if plan.stops_early && finished.outcome.violation.is_some() {
                            next.store(plan.seeds, Ordering::Relaxed);
                        }
                        // The receiver only goes away with everything else.
                        if sender.send(finished).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        for finished in receiver {
            coverage.add(&finished.outcome.coverage);
            each(finished);
        }
    });
    coverage
}

fn run_seed(plan: &Plan, seed: u64) -> Vec<Finished> {
    let scenario = Scenario::ALL.get((seed % Scenario::ALL.len() as u64) as usize).copied();
    let mut finished = vec![run_one(plan, seed, None)];
    if finished[0].outcome.violation.is_none() || !plan.stops_early {
        finished.extend(scenario.map(|scenario| run_one(plan, seed, Some(scenario))));
    }
    finished
}

/// Runs the random world of a seed, or one scenario with it; a second time where it has to be told or compared.
pub fn run_one(plan: &Plan, seed: u64, scenario: Option<Scenario>) -> Finished {
    let once = |keeps_lines| match scenario {
        None => run::seed(seed, plan.nodes, &plan.ignored, keeps_lines),
        Some(scenario) => scenarios::run(scenario, seed, &plan.ignored, keeps_lines),
    };
    let mut outcome = once(false);
    if outcome.violation.is_some() || seed.is_multiple_of(TWICE_EVERY) {
        let again = once(outcome.violation.is_some());
        if let Err(violation) = determinism::check(outcome.trace, again.trace) {
            outcome.violation = Some(violation);
        } else {
            outcome = again;
        }
    }
    Finished { scenario, outcome }
}

/// Switches a deliberate bug on for this thread.
#[cfg(feature = "mutants")]
pub fn switch_on(mutant: Option<&str>) {
    let named = |name: &str| crdt::Mutant::ALL.iter().find(|mutant| mutant.name() == name).copied();
    crdt::mutant::activate(mutant.and_then(named));
}

/// This build has no deliberate bugs.
#[cfg(not(feature = "mutants"))]
pub fn switch_on(_mutant: Option<&str>) {}
