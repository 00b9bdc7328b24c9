//! Scripted scenarios: what random schedules do not find, above all membership against collection.
//!
//! Each is written for a handful of machines and varied by its seed: delays, clients and the moment of the step in
//! question are drawn. All end like every run: the faults end, and everything is checked at rest.

mod arrivals;
mod blast;
mod catch_up;
mod identity;
mod lives;
mod membership;
mod moments;
mod refusal;
mod resets;

use crate::checkers::Violation;
use crate::random::Random;
use crate::run::{Outcome, Run};
use crate::swarm::{SECOND_US, Swarm};
use crate::world::World;

macro_rules! scenarios {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $nodes:literal, $play:path;)*) => {
        /// One scripted scenario.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Scenario {
            $($(#[$doc])* $variant,)*
        }

        impl Scenario {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name, as the command line takes it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            const fn nodes(self) -> usize {
                match self {
                    $(Self::$variant => $nodes,)*
                }
            }

            fn play(self, stage: &mut Stage) -> Result<(), Violation> {
                match self {
                    $(Self::$variant => $play(stage),)*
                }
            }
        }
    };
}

scenarios! {
    /// A newcomer joins while a collection is in flight.
    Newcomer = "newcomer", 3, membership::newcomer;
    /// A member is evicted, its replicas are sealed, and a collection is in flight.
    Evicted = "evicted", 4, membership::evicted;
    /// A member comes back with a fresh replica id while a collection is in flight.
    FreshReplica = "fresh-replica", 3, membership::fresh_replica;
    /// A snapshot's link breaks again and again.
    SnapshotInterrupted = "snapshot-interrupted", 3, catch_up::interrupted;
    /// A snapshot's donor dies.
    DonorDies = "donor-dies", 3, catch_up::donor_dies;
    /// A snapshot's receiver dies between two chunks.
    ReceiverDies = "receiver-dies", 3, catch_up::receiver_dies;
    /// Clients write on both sides while a snapshot is on its way.
    WritesDuringSnapshot = "writes-during-snapshot", 3, catch_up::writes_during;
    /// A second process runs under one node id.
    DuplicateNode = "duplicate-node", 3, identity::duplicate_node;
    /// A member lost its writes and goes on with its old replica id, although it was told that all is well.
    Amnesia = "amnesia", 3, identity::amnesia;
    /// A member is restarted with a version that nobody speaks.
    VersionSkew = "version-skew", 3, refusal::version_skew;
    /// One database cannot take a row.
    Poison = "poison", 3, refusal::poison;
    /// A batch of a later version holds a change of an unknown kind.
    UnknownChange = "unknown-change", 3, refusal::unknown_change;
    /// A batch with a MAC that fits does not decode.
    UnreadableChange = "unreadable-change", 3, refusal::unreadable_change;
    /// Two batches stand under one dot.
    Fork = "fork", 3, refusal::fork;
    /// A clock is a day ahead.
    Fenced = "fenced", 3, refusal::fenced;
    /// All doors write at one moment.
    SameMoment = "same-moment", 3, moments::same_moment;
    /// Write stamps are hours ahead.
    StampsAhead = "stamps-ahead", 3, moments::stamps_ahead;
    /// One of two lives of a row ends, and an update hangs on both.
    OneLifeEnds = "one-life-ends", 3, lives::one_ends;
    /// One of two lives of a row ends after the journal was collected.
    OneLifeEndsLate = "one-life-ends-late", 3, lives::one_ends_late;
    /// A node dies between a drain and the removal of the drained entries.
    DrainedTwice = "drained-twice", 3, resets::drained_twice;
    /// Both sides of a cut reset the same counters.
    ConcurrentResets = "concurrent-resets", 3, resets::concurrent_resets;
    /// A store comes back from before removals that everybody has collected.
    ForgottenRemovals = "forgotten-removals", 3, resets::forgotten_removals;
    /// A newcomer starts long after its epoch.
    LateNewcomer = "late-newcomer", 3, arrivals::late_newcomer;
    /// A member writes while it joins a snapshot.
    WritesDuringJoin = "writes-during-join", 3, arrivals::writes_during_join;
    /// A mass update is braked, its node crashes, and it is released or its time runs out.
    Braked = "braked", 3, blast::braked;
}

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|scenario| scenario.name() == name).copied()
    }
}

/// Runs one scenario, varied by a seed.
pub fn run(scenario: Scenario, seed: u64, ignored: &[u8], keeps_lines: bool) -> Outcome {
    let mut random = Random::new(seed ^ 0x7363_656e);
    let mut swarm = Swarm::draw(scenario.nodes(), &mut random);
    swarm.disturbances.clear();
    swarm.without_database = None;
    swarm.link.late = 0;
    swarm.link.loss = swarm.link.loss.min(50);
    swarm.limits.gc_threshold = 3;
    swarm.intervals.gc_ms = random.range(1_000, 4_000);
    swarm.intervals.journal_retention_ms = random.range(2_000, 20_000);
    swarm.pause_us = random.range(200, 1_500) * 1_000;
    let script_random = random.fork(9);
    let mut run = Run::with(seed, swarm, random, keeps_lines);
    run.ignore(ignored);
    let mut stage = Stage { run, random: script_random };
    stage.run.world.begin();
    let result = scenario.play(&mut stage).and_then(|()| stage.run.come_to_rest());
    stage.run.finish(result)
}

/// What a scenario acts on.
struct Stage {
    run: Run,
    random: Random,
}

impl Stage {
    fn world(&mut self) -> &mut World {
        &mut self.run.world
    }

    /// Lets some seconds pass, drawn between both.
    fn pass(&mut self, low_s: u64, high_s: u64) -> Result<(), Violation> {
        let until_us = self.run.world.now_us() + self.random.range(low_s * SECOND_US, high_s * SECOND_US);
        self.run.until(until_us)
    }

    /// Lets time pass until something holds, at most so many seconds. Says whether it came to hold.
    fn pass_until(&mut self, longest_s: u64, holds: impl Fn(&World) -> bool) -> Result<bool, Violation> {
        let latest_us = self.run.world.now_us() + longest_s * SECOND_US;
        while !holds(&self.run.world) {
            if self.run.world.now_us() >= latest_us {
                return Ok(false);
            }
            let until_us = self.run.world.now_us() + 5_000;
            self.run.until(until_us)?;
        }
        Ok(true)
    }
}
