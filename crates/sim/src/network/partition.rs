//! Cuts of the network.

use crate::coverage::Fault;

/// Names a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionId(pub u32);

/// Who cannot reach whom. Bit n of a set stands for machine n.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionShape {
    /// Nothing passes between the set and the others.
    Symmetric {
        /// One side.
        side: u64,
    },
    /// Nothing passes from the set to the others; the way back is open.
    OneWay {
        /// The side that is not heard.
        side: u64,
    },
    /// As symmetric, but one machine still reaches everybody.
    Bridge {
        /// One side.
        side: u64,
        /// The machine on both sides.
        bridge: usize,
    },
    /// One machine is cut off; the cut moves on to the next one.
    Rolling {
        /// The machine.
        machine: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    pub(super) id: PartitionId,
    pub(super) shape: PartitionShape,
}

impl Partition {
    pub(super) fn blocks(&self, from: usize, to: usize) -> bool {
        let inside = |side: u64, machine: usize| side >> machine & 1 == 1;
        match self.shape {
            PartitionShape::Symmetric { side } => inside(side, from) != inside(side, to),
            PartitionShape::OneWay { side } => inside(side, from) && !inside(side, to),
            PartitionShape::Bridge { side, bridge } => {
                from != bridge && to != bridge && inside(side, from) != inside(side, to)
            }
            PartitionShape::Rolling { machine } => (from == machine) != (to == machine),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        match self.shape {
            PartitionShape::Symmetric { .. } => Fault::PartitionSymmetric,
            PartitionShape::OneWay { .. } => Fault::PartitionOneWay,
            PartitionShape::Bridge { .. } => Fault::PartitionBridge,
            PartitionShape::Rolling { .. } => Fault::PartitionRolling,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_blocks_what_it_says() {
        let blocks = |shape, from, to| Partition { id: PartitionId(1), shape }.blocks(from, to);
        let side = 0b0011;
        assert!(blocks(PartitionShape::Symmetric { side }, 0, 2) && blocks(PartitionShape::Symmetric { side }, 2, 0));
        assert!(!blocks(PartitionShape::Symmetric { side }, 0, 1));
        assert!(blocks(PartitionShape::OneWay { side }, 0, 2) && !blocks(PartitionShape::OneWay { side }, 2, 0));
        let bridge = PartitionShape::Bridge { side, bridge: 1 };
        assert!(blocks(bridge, 0, 2) && !blocks(bridge, 1, 2) && !blocks(bridge, 2, 1));
        let rolling = PartitionShape::Rolling { machine: 3 };
        assert!(blocks(rolling, 3, 0) && blocks(rolling, 0, 3) && !blocks(rolling, 0, 1));
    }
}
