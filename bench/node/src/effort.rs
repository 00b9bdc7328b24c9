//! How much a run does.

use std::time::Duration;

/// Counts and times of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Ours and the peer in turn, so often; odd, so that one pair is the median.
    pub(crate) pairs: usize,
    /// Requests of one `redis-benchmark` without pipelining.
    pub(crate) single_requests: u64,
    /// The same with 16 requests in a pipeline.
    pub(crate) pipelined_requests: u64,
    /// Single writes whose latency is looked at, durability `everysec` and `always`.
    pub(crate) everysec_writes: usize,
    pub(crate) always_writes: usize,
    /// Requests through each door when all nodes are written at once.
    pub(crate) throughput_requests: u64,
    /// For how long convergence is watched.
    pub(crate) convergence: Duration,
    /// Writes that a node misses while it is cut off.
    pub(crate) missed_writes: u64,
    /// Keys of a cluster that a node joins, and how often one joins; odd.
    pub(crate) join_keys: usize,
    pub(crate) joins: usize,
    /// How long idle nodes settle, and are then watched.
    pub(crate) settling: Duration,
    pub(crate) idle: Duration,
}

impl Effort {
    /// The run whose figures may be claimed.
    pub(crate) const FULL: Self = Self {
        pairs: 5,
        single_requests: 300_000,
        pipelined_requests: 1_000_000,
        everysec_writes: 20_000,
        always_writes: 1_000,
        throughput_requests: 500_000,
        convergence: Duration::from_secs(20),
        missed_writes: 100_000,
        join_keys: 1_000_000,
        joins: 3,
        settling: Duration::from_secs(30),
        idle: Duration::from_secs(60),
    };
    /// A run that only shows that everything still works.
    pub(crate) const QUICK: Self = Self {
        pairs: 1,
        single_requests: 20_000,
        pipelined_requests: 50_000,
        everysec_writes: 2_000,
        always_writes: 100,
        throughput_requests: 50_000,
        convergence: Duration::from_secs(2),
        missed_writes: 10_000,
        join_keys: 50_000,
        joins: 1,
        settling: Duration::from_secs(3),
        idle: Duration::from_secs(5),
    };
}
