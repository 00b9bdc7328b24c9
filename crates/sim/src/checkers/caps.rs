//! Invariant 8: buffers stay under their caps.
//!
//! The buffer of batches beyond a gap has a hard cap. Old object states may overshoot by one object a snapshot. The
//! log may stand above its cap only as long as something in it is not applied here, or a batch is held: what is applied
//! is cut, and that is given until the next look.

use std::collections::BTreeMap;

use super::{Checker, NodeRead, Verdict, WorldRead, refuse};
use crate::history::NodeIndex;
use crate::oracle::Oracle;

/// What one object's old state may add to a snapshot's cap: the largest row that the simulator's writers make.
const OBJECT_BYTES_MAX: usize = 64 << 10;
/// How long a log may stand above its cap although all of it is applied, in collection intervals.
const LOG_GRACE_INTERVALS: u64 = 2;

/// See the module's documentation.
#[derive(Default)]
pub struct Caps {
    /// Since when a node's log has been above its cap without a reason.
    log_over_since_us: BTreeMap<NodeIndex, u64>,
}

impl Checker for Caps {
    fn check_step(&mut self, world: &dyn WorldRead, _oracle: &Oracle, node: NodeIndex) -> Verdict {
        let Some(state) = world.node(node) else {
            self.log_over_since_us.remove(&node);
            return Ok(());
        };
        let (figures, limits) = (state.figures(), world.limits(node));
        // One snapshot for each of the others at most.
        let snapshots = world.history().nodes().len().saturating_sub(1).max(1);
        let caps = [
            ("batches beyond a gap", figures.beyond_gap_batches, limits.beyond_gap_batches_max),
            (
                "bytes of old states for a snapshot",
                figures.snapshot_preimage_bytes,
                snapshots * (limits.snapshot_preimage_bytes_max + OBJECT_BYTES_MAX),
            ),
        ];
        for (what, value, cap) in caps {
            if value > cap {
                return refuse(8, Some(node), what, format!("{value} stand there, the cap is {cap}"));
            }
        }
        self.check_log(world, node, state)
    }

    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        world.core().into_iter().try_for_each(|node| self.check_step(world, oracle, node))
    }
}

impl Caps {
    fn check_log(&mut self, world: &dyn WorldRead, node: NodeIndex, state: &dyn NodeRead) -> Verdict {
        let (figures, limits, now_us) = (state.figures(), world.limits(node), world.history().time_us());
        let cap = limits.log_bytes_max + limits.message_bytes_max;
        let excused = figures.held > 0 || state.is_installing() || state.applied() != state.received();
        if figures.log_bytes <= cap || excused {
            self.log_over_since_us.remove(&node);
            return Ok(());
        }
        let since_us = *self.log_over_since_us.entry(node).or_insert(now_us);
        let grace_us = LOG_GRACE_INTERVALS * world.intervals().gc_ms * 1_000;
        if now_us - since_us <= grace_us {
            return Ok(());
        }
        let what =
            format!("{} bytes stand there since {since_us} us, all applied; the cap is {cap}", figures.log_bytes);
        refuse(8, Some(node), "log", what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Figures;
    use crate::checkers::stand::Stand;

    fn check(stand: &Stand, caps: &mut Caps) -> Result<(), u8> {
        caps.check_step(stand, &stand.oracle(), 0).map_err(|violation| violation.invariant)
    }

    #[test]
    fn a_full_buffer_passes_and_an_overfull_one_is_refused() {
        let mut stand = Stand::new(1);
        let cap = stand.limits.beyond_gap_batches_max;
        stand.edit(0).figures = Figures { beyond_gap_batches: cap, ..Figures::default() };
        assert_eq!(check(&stand, &mut Caps::default()), Ok(()));
        stand.edit(0).figures.beyond_gap_batches = cap + 1;
        assert_eq!(check(&stand, &mut Caps::default()), Err(8));
        let cap = stand.limits.snapshot_preimage_bytes_max;
        let snapshot_preimage_bytes = cap + OBJECT_BYTES_MAX + 1;
        stand.edit(0).figures = Figures { snapshot_preimage_bytes, ..Figures::default() };
        assert_eq!(check(&stand, &mut Caps::default()), Err(8));
    }

    #[test]
    fn a_log_above_its_cap_must_be_cut_in_time() {
        let mut stand = Stand::new(1);
        let log_bytes = stand.limits.log_bytes_max + stand.limits.message_bytes_max + 1;
        stand.edit(0).figures = Figures { log_bytes, ..Figures::default() };
        let mut caps = Caps::default();
        assert_eq!(check(&stand, &mut caps), Ok(()));
        stand.history.at(stand.intervals.gc_ms * 3_000);
        stand.edit(0).figures.held = 1;
        assert_eq!(check(&stand, &mut caps), Ok(()), "a held batch keeps the log");
        stand.edit(0).figures.held = 0;
        assert_eq!(check(&stand, &mut caps), Ok(()));
        stand.history.at(stand.intervals.gc_ms * 6_000);
        assert_eq!(check(&stand, &mut caps), Err(8));
    }
}
