//! Do the checkers notice? Each deliberate bug is switched on alone, and must break an invariant within a few seeds.
//!
//! `cargo nextest run -p sim --features mutants --test mutants`. The same runs without a mutant pass: they are part of
//! the usual seeds.
//!
//! | mutant | trap of the protocol | checker, with the invariant's number |
//! |---|---|---|
//! | AsymmetricTieBreak | equal stamps are ordered by replica id | convergence 1 |
//! | JournalEntryLost | a write takes away only what it names | lost update 9, acknowledged 2, convergence 1 |
//! | DependencySkipped | a batch waits for its context | causality 5 |
//! | SequenceReused | reusing a sequence number is silent loss | one hash per dot 3 |
//! | NoSecondLook | rows are written after a second look | acknowledged 2, resurrection 6, counters 7, lost update 9 |
//! | DrainBeforeSettle | settle, then drain, then apply | resurrection 6, counters 7 |
//! | DrainedIdsForgotten | ids of drained entries are stored with the batch | counters 7 |
//! | OneLifeNamed | an update names all lives that its shadow shows | resurrection 6, database 10 |
//! | CounterResetByNegative | a reset names increments | counters 7 |
//! | JournalByContext | entries are not withdrawn by context | lost update 9, acknowledged 2, convergence 1 |
//! | LastValueOfLifeCollected | each life keeps its greatest value | convergence 1, resurrection 6, database 10 |
//! | SnapshotReplacesMember | a member joins | monotone 4, convergence 1, acknowledged 2, lost update 9 |
//! | CollectedSumReturns | what a cut covers and a snapshot lacks was removed | convergence 1, counters 7 |
//! | JoinedRemainsForgotten | what a snapshot removed waits for its own stability | convergence 1, counters 7 |
//! | ApplyDuringJoin | a join is not disturbed | an assertion of the encoder, convergence 1, acknowledged 2 and 6, counters 7, lost update 9 |
//! | ShadowIsRaw | the shadow holds the repaired view | resurrection 6 |
//! | RepairOnlyBatchRows | repairs reach rows outside the batch | database 10, lost update 9 |
//! | ClockFollowsStamps | the clock never follows a write stamp | monotone 4 |
//! | SkewHeldForEver | a skewed batch is applied after its delay | rest 10 |
//! | RowCountsTooEarly | a row counts when its member's writes up to it are applied | resurrection 6 |
//! | NewcomerIgnored | a member without a row counts as zeros | resurrection 6 |
//! | PartsShareDot | a group is split before dots are given | convergence 1, resurrection 6, lost update 9 |
//! | ContextWithoutProgress | a forced drain's context includes the batch in progress | causality 5 |
//! | AuditJoins | the audit never joins | acknowledged 2, at a node that was not damaged |
//! | RelayReencodes | everyone forwards the origin's bytes | one hash per dot 3 |
//! | DrainerRemembersMaxId | ids become visible out of order | rest 10, acknowledged 2, resurrection 6, lost update 9 |

mod apart;
mod damage;

use crdt::Mutant;
use crdt::mutant::activate;
use sim::checkers::Violation;
use sim::run::{self, Outcome};
use sim::scenarios::{self, Scenario};

use Runs::{Apart, Damaged, Random, Scripted};

/// Members of a random world: few, because a seed costs by its members, and every trap needs at most three.
const NODES: usize = 3;

/// What is run with a mutant.
#[derive(Clone, Copy, Debug)]
enum Runs {
    /// The random world of each seed.
    Random,
    /// One scripted scenario, varied by each seed.
    Scripted(Scenario),
    /// A world in which one node silently loses rows.
    Damaged,
    /// A world in which one member learns removals by a snapshot, and another counts on.
    Apart,
}

/// One mutant, and how it is caught.
struct Row {
    mutant: Mutant,
    runs: Runs,
    /// It must be caught by one of the seeds from 1 to this one.
    seeds: u64,
    /// One of these must be the invariant that it breaks.
    invariants: &'static [u8],
}

/// In place of an invariant: an assertion of the code under test stopped the run before a checker saw anything.
const ASSERTION: u8 = 0;

macro_rules! table {
    ($($test:ident: $mutant:ident, $runs:expr, $seeds:literal, $invariants:expr;)*) => {
        const TABLE: &[Row] = &[
            $(Row { mutant: Mutant::$mutant, runs: $runs, seeds: $seeds, invariants: &$invariants },)*
        ];

        $(
            #[test]
            fn $test() {
                is_caught(Mutant::$mutant);
            }
        )*
    };
}

table! {
    asymmetric_tie_break: AsymmetricTieBreak, Scripted(Scenario::SameMoment), 6, [1, 10];
    journal_entry_lost: JournalEntryLost, Random, 3, [1, 2, 9];
    dependency_skipped: DependencySkipped, Random, 5, [5];
    sequence_reused: SequenceReused, Scripted(Scenario::Amnesia), 12, [3];
    no_second_look: NoSecondLook, Random, 5, [2, 6, 7, 9];
    drain_before_settle: DrainBeforeSettle, Random, 6, [6, 7];
    drained_ids_forgotten: DrainedIdsForgotten, Scripted(Scenario::DrainedTwice), 10, [7];
    one_life_named: OneLifeNamed, Scripted(Scenario::OneLifeEnds), 12, [6, 10];
    counter_reset_by_negative: CounterResetByNegative, Scripted(Scenario::ConcurrentResets), 6, [7];
    journal_by_context: JournalByContext, Random, 4, [1, 2, 9];
    last_value_of_life_collected: LastValueOfLifeCollected, Scripted(Scenario::OneLifeEndsLate), 12, [1, 6, 10];
    snapshot_replaces_member: SnapshotReplacesMember, Scripted(Scenario::WritesDuringSnapshot), 6, [1, 2, 4, 9];
    collected_sum_returns: CollectedSumReturns, Scripted(Scenario::ForgottenRemovals), 10, [1, 7];
    joined_remains_forgotten: JoinedRemainsForgotten, Apart, 8, [1, 7];
    apply_during_join: ApplyDuringJoin, Scripted(Scenario::WritesDuringJoin), 8, [ASSERTION, 1, 2, 6, 7, 9];
    shadow_is_raw: ShadowIsRaw, Random, 3, [6];
    repair_only_batch_rows: RepairOnlyBatchRows, Random, 16, [9, 10];
    clock_follows_stamps: ClockFollowsStamps, Scripted(Scenario::StampsAhead), 4, [4];
    skew_held_for_ever: SkewHeldForEver, Scripted(Scenario::StampsAhead), 2, [10];
    row_counts_too_early: RowCountsTooEarly, Random, 4, [6];
    newcomer_ignored: NewcomerIgnored, Scripted(Scenario::LateNewcomer), 4, [6];
    parts_share_dot: PartsShareDot, Random, 8, [1, 6, 9];
    context_without_progress: ContextWithoutProgress, Random, 6, [5];
    audit_joins: AuditJoins, Damaged, 12, [2];
    relay_reencodes: RelayReencodes, Random, 3, [3];
    drainer_remembers_max_id: DrainerRemembersMaxId, Random, 3, [2, 6, 9, 10];
}

#[test]
fn every_mutant_has_a_test() {
    for mutant in Mutant::ALL {
        let rows = TABLE.iter().filter(|row| row.mutant == *mutant).count();
        assert_eq!(rows, 1, "{} stands in {rows} rows of the table", mutant.name());
    }
    assert_eq!(TABLE.len(), Mutant::ALL.len());
}

/// Switches a bug on in this thread for as long as it lives.
struct Switched;

impl Switched {
    fn on(mutant: Mutant) -> Self {
        activate(Some(mutant));
        Self
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        activate(None);
    }
}

fn is_caught(mutant: Mutant) {
    let row = TABLE.iter().find(|row| row.mutant == mutant).expect("each test has its row");
    let _switched = Switched::on(mutant);
    let mut others = Vec::new();
    for seed in 1..=row.seeds {
        let run = std::panic::catch_unwind(|| row.runs.run(seed).violation);
        let stopped =
            |_| Some(Violation { invariant: ASSERTION, node: None, key: "run".into(), what: "stopped".into() });
        let Some(violation) = run.unwrap_or_else(stopped) else { continue };
        if row.invariants.contains(&violation.invariant) {
            println!("{}: seed {seed}, {violation}", mutant.name());
            return;
        }
        others.push(format!("\n  seed {seed}: {violation}"));
    }
    panic!(
        "{} went unnoticed in {} runs ({:?}): none broke one of the invariants {:?}{}",
        mutant.name(),
        row.seeds,
        row.runs,
        row.invariants,
        others.concat()
    );
}

impl Runs {
    fn run(self, seed: u64) -> Outcome {
        match self {
            Random => run::seed(seed, NODES, &[], false),
            Scripted(scenario) => scenarios::run(scenario, seed, &[], false),
            Damaged => damage::run(seed),
            Apart => apart::run(seed),
        }
    }
}
