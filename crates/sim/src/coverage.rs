//! What really happened: faults that changed something, and recovery paths that were walked.
//!
//! The denominator of the summary comes from these enums. A fault counts only when it changed a message, a disk, a
//! clock, a database or a membership; that it was drawn is not enough. A path counts when a node reported it, or
//! when the world saw it.

macro_rules! kinds {
    ($(#[$outer:meta])* $enum:ident { $($(#[$doc:meta])* $name:ident,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $enum {
            $($(#[$doc])* $name,)*
        }

        impl $enum {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name, as reports show it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

kinds! {
    /// A fault that the simulator injects.
    Fault {
        /// A message was lost on its own.
        Loss,
        /// A message was lost in a burst.
        LossBurst,
        /// A message arrived twice.
        Duplication,
        /// A message overtook an earlier one.
        Reordering,
        /// A message took minutes to hours.
        LongDelay,
        /// A byte of a message changed.
        Corruption,
        /// A message met a cut that no side can cross.
        PartitionSymmetric,
        /// A message met a cut that only the other direction can cross.
        PartitionOneWay,
        /// A message met a cut that leaves one node connected to both sides.
        PartitionBridge,
        /// A message met a cut that moves from node to node.
        PartitionRolling,
        /// A message waited for a slow peer's bandwidth.
        SlowPeer,
        /// A process was killed; what it had written survived.
        Kill,
        /// A process died between two of its effects.
        CrashBetweenEffects,
        /// A process died between two steps of a drain.
        CrashInDrain,
        /// A process died between two steps of an apply.
        CrashInApply,
        /// Power went; groups that were not synced are lost.
        PowerCut,
        /// Power went in the middle of a write; the torn group was cut off.
        TornWrite,
        /// Groups that the disk had called durable were lost with the power.
        LyingFsync,
        /// A durable write failed for want of space.
        DiskFull,
        /// A stored record came back damaged.
        BitRot,
        /// A clock jumped ahead by seconds or minutes.
        ClockForward,
        /// A clock jumped back.
        ClockBack,
        /// A clock stood still.
        ClockFrozen,
        /// A clock ran too fast or too slow.
        ClockDrift,
        /// A clock jumped ahead by more than a day.
        ClockDay,
        /// Two processes ran under one node id.
        DuplicateNodeId,
        /// The engine's store came back from a backup.
        RestoredStore,
        /// The database came back from a backup.
        RestoredDatabase,
        /// Store and database came back from one backup.
        RestoredBoth,
        /// A node spoke another version than its peers.
        VersionSkew,
        /// A writer flooded its node.
        RunawayWriter,
        /// Buffers were drawn so small that one overflowed.
        MemoryPressure,
        /// A collection ran while a partition was open.
        GcDuringPartition,
        /// A snapshot was cut off by its link.
        SnapshotInterrupted,
        /// A snapshot's donor died.
        DonorDied,
        /// Writes came in while a snapshot was on its way.
        WritesDuringSnapshot,
        /// A batch arrived that no database could take.
        PoisonOperation,
        /// A write bypassed capture.
        BypassedCapture,
        /// A writer saved over a newer value what it had loaded before.
        StaleSave,
        /// The database broke a deadlock (1213).
        SqlDeadlock,
        /// A lock wait took too long (1205).
        SqlLockTimeout,
        /// A row had changed since the snapshot (1020).
        SqlRecordChanged,
        /// A connection broke before the commit.
        SqlConnectionLost,
        /// A connection broke after the commit, before the answer.
        SqlAnswerLost,
        /// The database server restarted.
        DatabaseRestart,
    }
}

kinds! {
    /// A way in which a node recovers.
    Path {
        /// A node caught up over log ranges after a link came back.
        LogCatchUp,
        /// A snapshot was joined.
        SnapshotJoined,
        /// A blank node joined a snapshot as it came.
        SnapshotAsItCame,
        /// A snapshot replaced a state.
        SnapshotReplaced,
        /// A snapshot ended early and went on or started over.
        SnapshotResumed,
        /// Batches beyond a gap were dropped and pulled again.
        BufferOverflow,
        /// The log was cut although a member lacked it.
        LogCut,
        /// A collection cycle collected something.
        Collected,
        /// A second look into the outbox found an entry, and a drain was forced.
        SecondLook,
        /// An apply failed in the database and was repeated.
        ApplyRetried,
        /// A pending step was found done after a restart.
        StepFoundDone,
        /// A pending step was repeated after a restart.
        StepRepeated,
        /// A write that bypassed capture was adopted.
        Adopted,
        /// A concurrent value went into the journal.
        Journaled,
        /// A repaired unique name was made into an operation.
        Repaired,
        /// A first replica id was minted.
        MintedFirst,
        /// A replica id was minted because continuity was not proven.
        MintedUnproven,
        /// A replica id was minted because a peer knew more.
        MintedBehind,
        /// A database was found older or newer than its store.
        DatabaseRestored,
        /// Content that no rule could place went to a person.
        Rescued,
        /// A batch ahead of our clock was delayed, then applied.
        SkewDelayed,
        /// An origin far ahead was fenced, then released by the operator.
        SkewFenced,
        /// A clock offset was measured and reported.
        OffsetWarned,
        /// A node ahead of the median stamped with the median.
        StampedWithMedian,
        /// A changed batch or message was refused by its MAC or its form.
        CorruptionRefused,
        /// Two contents under one dot were noticed.
        ForkNoticed,
        /// Two processes of one node id noticed each other.
        CollisionNoticed,
        /// Damaged records were set aside and fetched from peers.
        StoreHealed,
        /// A node refused further writes after a failed one, and was reopened.
        StoreReopened,
        /// A version skew was noticed.
        SkewedVersionRefused,
        /// A batch that does not decode was quarantined.
        Quarantined,
        /// A change of an unknown kind was stored and forwarded.
        UnknownForwarded,
        /// A member was evicted and its replicas were sealed.
        Sealed,
        /// A newcomer joined by an epoch record.
        Joined,
        /// A second key was used in a rotation.
        KeyRotated,
        /// A commit that changed much of a table was kept from being sent.
        BlastHeld,
        /// An operator released it.
        BlastReleased,
        /// Nobody decided in time.
        BlastExpired,
    }
}

/// Counts per kind of fault and path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage {
    faults: Vec<u64>,
    paths: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { faults: vec![0; Fault::ALL.len()], paths: vec![0; Path::ALL.len()] }
    }
}

impl Coverage {
    /// Kinds that can be covered.
    pub const KINDS: usize = Fault::ALL.len() + Path::ALL.len();

    /// Counts a fault that changed something.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// Counts a path that was walked.
    pub fn path(&mut self, path: Path) {
        self.paths[path as usize] += 1;
    }

    /// How often a fault changed something.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// How often a path was walked.
    pub fn paths(&self, path: Path) -> u64 {
        self.paths[path as usize]
    }

    /// Adds what another seed covered.
    pub fn add(&mut self, other: &Self) {
        self.faults.iter_mut().zip(&other.faults).for_each(|(own, other)| *own += other);
        self.paths.iter_mut().zip(&other.paths).for_each(|(own, other)| *own += other);
    }

    /// Kinds that happened at least once.
    pub fn covered(&self) -> usize {
        self.faults.iter().chain(&self.paths).filter(|count| **count > 0).count()
    }

    /// Names of the kinds that never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let faults = Fault::ALL.iter().filter(|fault| self.faults(**fault) == 0).map(|fault| fault.name());
        let paths = Path::ALL.iter().filter(|path| self.paths(**path) == 0).map(|path| path.name());
        faults.chain(paths).collect()
    }

    /// Every kind with its count, faults first.
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let faults = Fault::ALL.iter().map(|fault| (fault.name(), self.faults(*fault)));
        let paths = Path::ALL.iter().map(|path| (path.name(), self.paths(*path)));
        faults.chain(paths).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_adds_up() {
        let mut one = Coverage::default();
        one.fault(Fault::Loss);
        let mut other = Coverage::default();
        other.path(Path::LogCatchUp);
        other.add(&one);
        assert_eq!(other.covered(), 2);
        assert_eq!(other.missing().len(), Coverage::KINDS - 2);
    }
}
