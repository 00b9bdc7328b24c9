//! What a seed draws: which faults are on and how strong, how small the limits are, how clients behave.
//!
//! Not every seed has every fault (Groce et al., "Swarm testing", 2012): a fault that is always on hides what only
//! happens without it.

use std::sync::OnceLock;

use replica::{Intervals, Limits};

use crate::network::LinkFaults;
use crate::random::Random;
use crate::workload::Request;

/// One second of virtual time in microseconds.
pub const SECOND_US: u64 = 1_000_000;

/// A fault that is planned for some moment, as opposed to those that links and databases draw by the message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Disturbance {
    /// A cut of any shape.
    Partition,
    /// A machine with little bandwidth.
    SlowPeer,
    /// A process is killed.
    Kill,
    /// A process dies between two effects, or between two steps of its database work.
    Crash,
    /// A machine loses power.
    PowerCut,
    /// A disk begins to lie, and later the machine loses power.
    LyingFsync,
    /// A disk fills up.
    DiskFull,
    /// Records rot while the process is down.
    BitRot,
    /// A clock jumps by seconds or minutes, either way.
    ClockJump,
    /// A clock jumps ahead by more than a day.
    ClockDay,
    /// A clock stands still for a while.
    ClockFrozen,
    /// A clock begins to drift.
    ClockDrift,
    /// A store comes back from a backup.
    RestoreStore,
    /// A database comes back from a backup.
    RestoreDatabase,
    /// Both come back from one backup.
    RestoreBoth,
    /// A node is restarted with a version that its peers do not speak.
    VersionSkew,
    /// A writer floods its node.
    Runaway,
    /// A database server restarts.
    DatabaseRestart,
    /// A row appears that one database cannot take.
    Poison,
    /// The cluster's key is rotated.
    KeyRotation,
}

impl Disturbance {
    /// All of them, each with the chance in 1,000 that a seed has it and the mean number of seconds between two.
    pub const TABLE: &[(Self, u32, u64)] = &[
        (Self::Partition, 700, 70),
        (Self::SlowPeer, 250, 150),
        (Self::Kill, 450, 90),
        (Self::Crash, 500, 60),
        (Self::PowerCut, 350, 130),
        (Self::LyingFsync, 200, 200),
        (Self::DiskFull, 250, 180),
        (Self::BitRot, 250, 180),
        (Self::ClockJump, 350, 120),
        (Self::ClockDay, 120, 300),
        (Self::ClockFrozen, 200, 200),
        (Self::ClockDrift, 250, 200),
        (Self::RestoreStore, 150, 280),
        (Self::RestoreDatabase, 150, 280),
        (Self::RestoreBoth, 150, 280),
        (Self::VersionSkew, 150, 240),
        (Self::Runaway, 200, 240),
        (Self::DatabaseRestart, 250, 150),
        (Self::Poison, 120, 300),
        (Self::KeyRotation, 150, 250),
    ];
}

static LEFT_OUT: OnceLock<Vec<Disturbance>> = OnceLock::new();

/// Leaves planned faults out of every seed of this process, once, before the first: to look behind one that is
/// known. The rest of each seed is drawn as with them.
///
/// # Errors
/// The name that is no planned fault.
pub fn leave_out(names: &[String]) -> Result<(), String> {
    let mut left_out = Vec::new();
    for name in names {
        let found = Disturbance::TABLE.iter().find(|(disturbance, ..)| format!("{disturbance:?}") == *name);
        let (disturbance, ..) = found.ok_or_else(|| format!("no planned fault is called {name:?}"))?;
        left_out.push(*disturbance);
    }
    LEFT_OUT.set(left_out).map_err(|_| "planned faults were left out already".to_owned())
}

/// What [`leave_out`] was given, as the command line has it.
pub fn left_out() -> Option<String> {
    let names = LEFT_OUT.get()?.iter().map(|disturbance| format!("{disturbance:?}"));
    let names: Vec<String> = names.collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// How often a database refuses a request of the engine on its own, per 1,000 requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SqlFaults {
    /// 1213.
    pub deadlock: u32,
    /// 1205.
    pub lock_timeout: u32,
    /// 1020.
    pub record_changed: u32,
    /// The connection breaks before the request is carried out.
    pub connection_lost: u32,
    /// The connection breaks after it was carried out.
    pub answer_lost: u32,
}

/// Everything that a seed draws before its world begins.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Number of members at the start.
    pub nodes: usize,
    /// Length of the safety phase.
    pub safety_us: u64,
    /// Operations that the safety phase must reach; it is prolonged until then.
    pub operations_min: u64,
    /// Links.
    pub link: LinkFaults,
    /// Limits of every node.
    pub limits: Limits,
    /// Intervals of every node.
    pub intervals: Intervals,
    /// Planned faults with the mean time between two.
    pub disturbances: Vec<(Disturbance, u64)>,
    /// The database's own refusals.
    pub sql: SqlFaults,
    /// True when sites' transactions can fail with 1020.
    pub snapshot_isolation: bool,
    /// How long a session waits for a lock.
    pub lock_wait_us: u64,
    /// Mean time of one statement.
    pub statement_us: u64,
    /// Mean time of one sync.
    pub sync_us: u64,
    /// Mean time between two requests of one client.
    pub pause_us: u64,
    /// Clients of each database.
    pub clients: usize,
    /// Clients of each door.
    pub door_clients: usize,
    /// What clients come with.
    pub requests: Vec<(Request, u32)>,
    /// Longest time that a client thinks.
    pub think_us: u64,
    /// A member that has no database.
    pub without_database: Option<usize>,
}

impl Swarm {
    /// Draws a world of so many nodes.
    pub fn draw(nodes: usize, random: &mut Random) -> Self {
        let on = |random: &mut Random, chance: u32, strongest: u64| {
            if random.per_mille(chance) { random.range(1, strongest) as u32 } else { 0 }
        };
        let sql = SqlFaults {
            deadlock: on(random, 500, 40),
            lock_timeout: on(random, 400, 20),
            record_changed: on(random, 400, 20),
            connection_lost: on(random, 400, 20),
            answer_lost: on(random, 400, 20),
        };
        let bypass = random.one_in(2);
        let requests = Request::WEIGHTS.iter().filter(|(request, _)| bypass || *request != Request::Bypass);
        let requests = requests.map(|(request, weight)| (*request, random.range(0, 2 * u64::from(*weight)) as u32));
        let requests = requests.chain([(Request::NewPost, 4), (Request::Option, 4)]).collect();
        Self {
            nodes,
            safety_us: 600 * SECOND_US,
            operations_min: 2_000,
            link: Self::draw_links(random),
            limits: Self::draw_limits(random),
            intervals: Self::draw_intervals(random),
            disturbances: Self::draw_disturbances(random),
            sql,
            snapshot_isolation: random.one_in(2),
            lock_wait_us: random.range(1, 5) * SECOND_US,
            statement_us: random.range(100, 3_000),
            sync_us: random.range(200, 20_000),
            // Together the clients make some 2,000 writes in ten minutes, however many nodes there are.
            pause_us: nodes as u64 * random.range(1_600, 2_600) * 1_000,
            clients: 3,
            door_clients: 1,
            requests,
            think_us: random.range(1, 30) * SECOND_US,
            without_database: (nodes > 2 && random.one_in(6)).then(|| random.index(nodes)),
        }
    }

    fn draw_links(random: &mut Random) -> LinkFaults {
        let mut chance = |chance: u32, low: u64, high: u64| {
            if random.per_mille(chance) { random.range(low, high) as u32 } else { 0 }
        };
        LinkFaults {
            loss: chance(500, 5, 300),
            burst: chance(350, 1, 12),
            duplication: chance(400, 5, 150),
            reordering: chance(400, 10, 300),
            late: chance(250, 1, 15),
            corruption: chance(300, 1, 30),
            delay_us: random.range(2_000, 150_000),
            late_us_max: if random.one_in(8) { 2 * 3_600 * SECOND_US } else { 300 * SECOND_US },
        }
    }

    fn draw_limits(random: &mut Random) -> Limits {
        let usual = Limits::default();
        let small = |random: &mut Random, low: u64, high: u64, usual: usize| {
            if random.one_in(2) { random.range(low, high) as usize } else { usual }
        };
        Limits {
            beyond_gap_batches_max: small(random, 4, 40, usual.beyond_gap_batches_max),
            pull_bytes_max: small(random, 8 << 10, 64 << 10, usual.pull_bytes_max),
            message_bytes_max: small(random, 8 << 10, 32 << 10, usual.message_bytes_max),
            log_bytes_usual: small(random, 2_000, 20_000, usual.log_bytes_usual),
            log_bytes_max: small(random, 20_000, 120_000, usual.log_bytes_max),
            rows_per_step: random.range(1, 4) as usize,
            origin_turn_changes: small(random, 5, 50, usual.origin_turn_changes),
            chunk_bytes_max: small(random, 2 << 10, 16 << 10, usual.chunk_bytes_max),
            snapshot_preimage_bytes_max: small(random, 4 << 10, 64 << 10, usual.snapshot_preimage_bytes_max),
            gc_slice_keys: small(random, 2, 30, usual.gc_slice_keys),
            gc_threshold: random.range(5, 200),
            batch_changes_max: small(random, 3, 30, usual.batch_changes_max),
            ..usual
        }
    }

    fn draw_intervals(random: &mut Random) -> Intervals {
        let usual = Intervals::default();
        Intervals {
            digest_ms: random.range(300, 2_000),
            digest_min_ms: random.range(100, 300),
            digest_max_ms: random.range(3_000, 15_000),
            retry_ms: random.range(500, 3_000),
            outbox_poll_ms: random.range(250, 2_000),
            scan_ms: random.range(5_000, 40_000),
            gc_ms: random.range(5_000, 60_000),
            journal_retention_ms: if random.one_in(2) {
                random.range(5_000, 60_000)
            } else {
                usual.journal_retention_ms
            },
            skew_delay_ms: random.range(5_000, usual.skew_delay_ms),
            recovery_wait_ms: random.range(2_000, usual.recovery_wait_ms),
            ..usual
        }
    }

    fn draw_disturbances(random: &mut Random) -> Vec<(Disturbance, u64)> {
        let mut drawn = Vec::new();
        for (disturbance, chance, mean_s) in Disturbance::TABLE {
            if random.per_mille(*chance) {
                drawn.push((*disturbance, random.range(mean_s / 2, mean_s * 2) * SECOND_US));
            }
        }
        if let Some(left_out) = LEFT_OUT.get() {
            drawn.retain(|(disturbance, _)| !left_out.contains(disturbance));
        }
        drawn
    }
}
