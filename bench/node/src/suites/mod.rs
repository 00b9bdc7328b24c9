//! The figures, by what has to be set up for them.

mod catchup;
mod convergence;
mod door;
mod idle;
mod joining;
mod latency;
mod redis_store;
mod throughput;

use bench_results::Claim;

use crate::failure::Failure;
use crate::run::Run;

/// Figures that are measured on one set of processes.
pub(crate) struct Suite {
    pub(crate) ids: fn() -> Vec<String>,
    /// Measures those of its ids that are wanted.
    pub(crate) measure: fn(&Run) -> Result<Vec<Claim>, Failure>,
}

/// In the order of a run.
pub(crate) const SUITES: [Suite; 8] = [
    Suite { ids: door::ids, measure: door::measure },
    Suite { ids: latency::ids, measure: latency::measure },
    Suite { ids: throughput::ids, measure: throughput::measure },
    Suite { ids: convergence::ids, measure: convergence::measure },
    Suite { ids: catchup::ids, measure: catchup::measure },
    Suite { ids: joining::ids, measure: joining::measure },
    Suite { ids: idle::ids, measure: idle::measure },
    Suite { ids: redis_store::ids, measure: redis_store::measure },
];
