//! Whole clusters from a seed: machines with network, disks, clocks and databases on virtual time, hostile writers,
//! and checkers for every invariant of the protocol.
//!
//! | module | what |
//! |---|---|
//! | [`world`] | machines, connections, faults and clients on one queue of events |
//! | [`network`], [`disk`], [`clock`], [`database`] | what a real machine would have |
//! | [`workload`] | what clients do |
//! | [`swarm`] | what a seed draws |
//! | [`history`], [`oracle`], [`checkers`] | what clients did, what must follow, and whether it does |
//! | [`run`], [`runner`] | one seed: a safety phase, a liveness phase, rest; and many seeds |
//! | [`scenarios`] | what random schedules do not find |

pub mod checkers;
pub mod clock;
pub mod coverage;
pub mod database;
pub mod demo;
pub mod disk;
pub mod hash;
pub mod history;
pub mod network;
pub mod oracle;
pub mod queue;
pub mod random;
pub mod report;
pub mod run;
pub mod runner;
pub mod scenarios;
pub mod signer;
pub mod swarm;
pub mod trace;
pub mod workload;
pub mod world;

/// A seed is mostly small vectors and tree nodes that come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
