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
    /// Two values with one stamp are ordered by arrival.
    AsymmetricTieBreak,
    /// A write drops every value with a lower stamp, named or not.
    JournalEntryLost,
    /// A batch applies before what its context asks for.
    DependencySkipped,
    /// A node that lost its last writes goes on with its old replica id.
    SequenceReused,
    /// Rows are written without looking into the outbox again.
    NoSecondLook,
    /// After a restart the outbox is drained before the pending apply is settled.
    DrainBeforeSettle,
    /// Drained outbox entries are forgotten with a crash.
    DrainedIdsForgotten,
    /// An update names one life instead of all that its shadow shows.
    OneLifeNamed,
    /// A REPLACE resets a counter by a negative amount.
    CounterResetByNegative,
    /// The journal drops values that the newer write's context covers.
    JournalByContext,
    /// Collection drops the greatest value of a life that still lives.
    LastValueOfLifeCollected,
    /// A member behind the log floor replaces its state instead of joining.
    SnapshotReplacesMember,
    /// A snapshot brings back sums that the other side has collected.
    CollectedSumReturns,
    /// Batches are applied while a snapshot is being joined.
    ApplyDuringJoin,
    /// Repairs are compared with the raw state instead of the repaired view.
    ShadowIsRaw,
    /// Only rows of the batch are compared with their repaired view.
    RepairOnlyBatchRows,
    /// The clock follows write stamps.
    ClockFollowsStamps,
    /// A skewed batch is held for ever.
    SkewHeldForEver,
    /// A member's row counts although its earlier writes are still on their way.
    RowCountsTooEarly,
    /// Members without a row do not hold collection back.
    NewcomerIgnored,
    /// Parts of a split group share one dot.
    PartsShareDot,
    /// A forced drain leaves the batch in progress out of its context.
    ContextWithoutProgress,
    /// The audit joins what differs.
    AuditJoins,
    /// Relays encode batches anew.
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
