//! One seed from beginning to end: a safety phase with faults, a liveness phase without, and rest.

use std::fmt;

use crate::checkers::{Checkers, Violation, determinism};
use crate::coverage::Coverage;
use crate::random::Random;
use crate::swarm::{SECOND_US, Swarm};
use crate::trace::{Line, Trace};
use crate::world::World;

/// Longest time from the end of the faults until everything is at rest, the wait for the rolling scan aside.
const REST_US_MAX: u64 = 1_200 * SECOND_US;
/// How long the cluster must have nothing to do before it counts as being at rest.
const QUIET_US: u64 = 20 * SECOND_US;
/// Every so many seconds the operator looks after what is held.
const OPERATOR_S: u64 = 10;
/// Length of the idle phase, over which the byte rate is taken: thirty of the longest first digest intervals.
const IDLE_US: u64 = 60 * SECOND_US;
/// Longest prolongation of the safety phase for want of operations.
const SAFETY_US_MAX: u64 = 3 * 600 * SECOND_US;
/// Events of one microsecond after which the world is taken to go in circles.
const EVENTS_AT_ONCE_MAX: u64 = 1_000_000;
/// Events of a run after which the nodes are taken to keep each other busy for nothing: four times those of the busiest
/// seeds.
const EVENTS_MAX: u64 = 1_000_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The broken invariant, if one was found.
    pub violation: Option<Violation>,
    /// What really happened.
    pub coverage: Coverage,
    /// Hash and number of events.
    pub trace: determinism::Trace,
    /// Rows and leaves written by clients.
    pub operations: u64,
    /// Virtual time at the end.
    pub virtual_us: u64,
    /// What happened, if it was kept.
    pub lines: Vec<Line>,
    /// What the oracle knows of the row of a violation.
    pub story: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} operations, {} events, {} virtual seconds, trace {:032x}",
            self.seed,
            self.operations,
            self.trace.events,
            self.virtual_us / SECOND_US,
            self.trace.hash
        )
    }
}

/// A world with its checkers.
pub struct Run {
    /// The world.
    pub world: World,
    checkers: Checkers,
    seed: u64,
    /// Invariants whose violations do not end the run: to look behind one that is known.
    ignored: Vec<u8>,
}

impl Run {
    /// The run of a seed, not begun yet.
    pub fn new(seed: u64, nodes: usize, keeps_lines: bool) -> Self {
        let mut random = Random::new(seed);
        let swarm = Swarm::draw(nodes, &mut random);
        Self::with(seed, swarm, random, keeps_lines)
    }

    /// A run with what a scenario has drawn itself.
    pub fn with(seed: u64, swarm: Swarm, mut random: Random, keeps_lines: bool) -> Self {
        let world = World::new(swarm, &mut random, keeps_lines);
        Self { world, checkers: Checkers::default(), seed, ignored: Vec::new() }
    }

    /// Goes on where one of these invariants is broken.
    pub fn ignore(&mut self, invariants: &[u8]) {
        self.ignored.extend(invariants);
    }

    fn judge(&self, verdict: Result<(), Violation>) -> Result<(), Violation> {
        match verdict {
            Err(violation) if self.ignored.contains(&violation.invariant) => Ok(()),
            verdict => verdict,
        }
    }

    /// Lets everything happen until a moment of virtual time.
    ///
    /// # Errors
    /// The first violation.
    pub fn until(&mut self, until_us: u64) -> Result<(), Violation> {
        let (mut last_us, mut at_once) = (0, 0);
        while self.world.next_at_us().is_some_and(|at_us| at_us <= until_us) {
            let Some(touched) = self.world.step()? else { return Ok(()) };
            for node in touched {
                let verdict = self.checkers.check_step(&self.world, node);
                self.judge(verdict)?;
            }
            at_once = if self.world.now_us() == last_us { at_once + 1 } else { 0 };
            last_us = self.world.now_us();
            if self.world.trace.events() > EVENTS_MAX {
                return Err(liveness(format!("{EVENTS_MAX} events, and no end")));
            }
            if at_once > EVENTS_AT_ONCE_MAX {
                return Err(liveness("time stands still: one moment has a million events".into()));
            }
        }
        self.world.advance_to(until_us);
        Ok(())
    }

    /// Ends the faults and waits until everything is at rest, then until late messages have come, then checks.
    ///
    /// # Errors
    /// The first violation; invariant 10 when rest does not come.
    pub fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.world.calm();
        self.rest()?;
        self.check_rest()?;
        self.until(self.world.now_us() + IDLE_US)?;
        self.rest()?;
        self.check_rest()?;
        if self.world.has_late_messages() {
            while self.world.has_late_messages() {
                self.until(self.world.now_us() + 60 * SECOND_US)?;
            }
            self.rest()?;
            self.check_rest()?;
        }
        Ok(())
    }

    fn check_rest(&mut self) -> Result<(), Violation> {
        let verdict = self.checkers.check_rest(&self.world);
        self.judge(verdict)
    }

    fn rest(&mut self) -> Result<(), Violation> {
        let began_us = self.world.now_us();
        let mut quiet_since_us = None;
        loop {
            if (self.world.now_us() / SECOND_US).is_multiple_of(OPERATOR_S) {
                self.world.operate();
            }
            self.until(self.world.now_us() + SECOND_US)?;
            let unrest = self.world.unrest();
            if unrest.is_empty() {
                let since_us = *quiet_since_us.get_or_insert(self.world.now_us());
                if self.world.now_us() - since_us >= QUIET_US {
                    return Ok(());
                }
            } else {
                quiet_since_us = None;
                if self.world.now_us() > began_us + REST_US_MAX + self.world.scan_wait_us() {
                    return Err(liveness(unrest.join("; ")));
                }
            }
        }
    }

    /// Ends the run.
    pub fn finish(self, result: Result<(), Violation>) -> Outcome {
        let violation = result.err();
        let explain = |violation: &Violation| self.checkers.explain(&self.world.history, violation);
        let story = violation.as_ref().map_or_else(Vec::new, explain);
        let World { trace, coverage, .. } = &self.world;
        Outcome {
            seed: self.seed,
            violation,
            coverage: coverage.clone(),
            trace: determinism::Trace { seed: self.seed, hash: trace.hash(), events: trace.events() },
            operations: self.world.operations(),
            virtual_us: self.world.now_us(),
            lines: Trace::lines(trace).to_vec(),
            story,
        }
    }
}

fn liveness(what: String) -> Violation {
    Violation {
        invariant: 10,
        node: None,
        key: "rest".into(),
        what: format!("the cluster does not come to rest: {what}"),
    }
}

/// Runs one seed.
pub fn seed(seed: u64, nodes: usize, ignored: &[u8], keeps_lines: bool) -> Outcome {
    let mut run = Run::new(seed, nodes, keeps_lines);
    run.ignore(ignored);
    run.world.begin();
    let result = safety(&mut run).and_then(|()| run.come_to_rest());
    run.finish(result)
}

fn safety(run: &mut Run) -> Result<(), Violation> {
    let (safety_us, operations_min) = (run.world.swarm.safety_us, run.world.swarm.operations_min);
    run.until(safety_us)?;
    while run.world.operations() < operations_min && run.world.now_us() < SAFETY_US_MAX {
        run.until(run.world.now_us() + 10 * SECOND_US)?;
    }
    Ok(())
}
