//! Deliberate bugs, each switched on alone to prove that a checker notices it.
//!
//! Without the feature `mutants`, which nothing shipped enables, [`active`] is the constant `false` and
//! every bug is compiled out. `crates/sim/mutants/` says of each which checker must catch it.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One deliberate bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name, as `--mutant` takes it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

mutants! {
    /// Two values of a register with one stamp are ordered by arrival.
    AsymmetricTieBreak,
    /// A write drops every value with a lower or the same stamp, named or not.
    JournalEntryLost,
    /// A group of batches applies before what its context asks for.
    DependencySkipped,
    /// A node that lost its last writes goes on with its old replica id: it does not listen first, and no peer that
    /// knows more makes it mint another one.
    SequenceReused,
    /// Rows are written whatever the second look finds, in the outbox or in the rows themselves.
    NoSecondLook,
    /// Once a step was done, a pending one is never settled: after a restart or a lost connection draining and applying
    /// go on as if it had not been planned.
    DrainBeforeSettle,
    /// Which outbox entries were drained is forgotten with every restart.
    DrainedIdsForgotten,
    /// An update or a REPLACE names one life instead of all that its shadow shows.
    OneLifeNamed,
    /// A REPLACE resets a counter by adding the difference, which may be negative, instead of naming what it saw.
    CounterResetByNegative,
    /// A write takes out of the journal every hidden value of its cell that its batch's context covers.
    JournalByContext,
    /// The end of its retention drops a journal entry although it is the greatest value of a life that still lives.
    LastValueOfLifeCollected,
    /// A member behind the log floor replaces its state instead of joining, whatever the snapshot lacks.
    SnapshotReplacesMember,
    /// A join keeps sums of either side that the other one has collected.
    CollectedSumReturns,
    /// What removals left behind that came with a snapshot is not noted: it does not wait for their stability.
    JoinedRemainsForgotten,
    /// Batches are applied, drained and committed while a snapshot is being joined.
    ApplyDuringJoin,
    /// The shadow of a row that was written is its raw state, not the repaired view that the database shows.
    ShadowIsRaw,
    /// Only rows whose own state changed are compared with their repaired view, not those whose name that changed.
    RepairOnlyBatchRows,
    /// The clock follows the write stamp of every change that is applied, own ones included.
    ClockFollowsStamps,
    /// A skewed batch waits until our clock has come close enough, however long that takes.
    SkewHeldForEver,
    /// A member's row counts although its earlier writes are still on their way.
    RowCountsTooEarly,
    /// Members without a row do not hold collection back.
    NewcomerIgnored,
    /// A node knows the changes of a split group's later parts under the dots of the part before.
    PartsShareDot,
    /// The context of a local batch leaves out what is applied and not shown yet, where the batch does not name it.
    ContextWithoutProgress,
    /// The audit drops the first shard that differs, whoever has it right: what a join with a damaged side would do.
    AuditJoins,
    /// A node answers pulls with batches that it encodes anew; its own head is added to the context of those of others.
    RelayReencodes,
    /// The drainer remembers the greatest outbox id that it saw.
    DrainerRemembersMaxId,
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use core::cell::Cell;

    std::thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Switches one bug on, or all off, for this thread.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }

    /// True while `mutant` is switched on in this thread.
    pub fn active(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use switch::{activate, active};

/// Always false: this build has no deliberate bugs.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn active(_mutant: Mutant) -> bool {
    false
}
