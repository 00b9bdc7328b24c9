//! Invariant 3: one hash per dot, over all bytes that any node wrote to its disk or sent.

use super::{Checker, Verdict, WorldRead, refuse};
use crate::history::NodeIndex;
use crate::oracle::Oracle;
use replica::Report;

/// See the module's documentation.
#[derive(Default)]
pub struct OneHash {
    forks: usize,
    reports: usize,
}

impl Checker for OneHash {
    fn check_step(&mut self, world: &dyn WorldRead, _oracle: &Oracle, _node: NodeIndex) -> Verdict {
        let history = world.history();
        let forks = &history.forks()[self.forks..];
        self.forks += forks.len();
        if let Some(fork) = forks.iter().find(|fork| !history.is_forged(fork.batch)) {
            let what = "two contents were seen under this dot; the second one here".to_owned();
            return refuse(3, Some(fork.node), fork.batch, what);
        }
        let reports = world.history().reports();
        let new = &reports[self.reports.min(reports.len())..];
        self.reports = reports.len();
        for report in new {
            if let Report::IdempotencyViolation { batch, from } = &report.report
                && !history.is_forged(*batch)
            {
                return refuse(
                    3,
                    Some(report.node),
                    batch,
                    format!("reports ERR_IDEMPOTENCY_VIOLATION against {from}"),
                );
            }
        }
        Ok(())
    }

    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        self.check_step(world, oracle, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::Stand;
    use crdt::BatchId;

    #[test]
    fn the_same_bytes_pass_and_others_are_refused() {
        let mut stand = Stand::new(2);
        let batch = BatchId { replica: stand.replica(0), seq: 1 };
        let oracle = stand.oracle();
        stand.history.batch_bytes(0, batch, b"one");
        stand.history.batch_bytes(1, batch, b"one");
        assert_eq!(OneHash::default().check_step(&stand, &oracle, 0), Ok(()));
        stand.history.batch_bytes(1, batch, b"two");
        assert_eq!(OneHash::default().check_step(&stand, &oracle, 0).map_err(|found| found.node), Err(Some(1)));
    }

    #[test]
    fn a_reported_fork_is_refused() {
        let mut stand = Stand::new(2);
        let batch = BatchId { replica: stand.replica(0), seq: 1 };
        stand.history.reported(1, Report::IdempotencyViolation { batch, from: "node_00".into() });
        assert!(OneHash::default().check_rest(&stand, &stand.oracle()).is_err());
    }
}
