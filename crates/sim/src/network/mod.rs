//! The network: per direction a link with its own delays and faults, and partitions on top.
//!
//! The network only says what becomes of a message and when. Which neighbours a node is told to have is decided by
//! the world (`world/links.rs`), after a detection delay.

mod link;
mod partition;

pub use link::{Delivery, LinkFaults};
pub use partition::{PartitionId, PartitionShape};

use crate::coverage::{Coverage, Fault};
use crate::random::Random;
use link::Link;
use partition::Partition;

/// All links of a world.
#[derive(Clone, Debug, Default)]
pub struct Network {
    links: Vec<Vec<Link>>,
    partitions: Vec<Partition>,
    last_partition: u32,
    /// While true, links lose, double, delay and change nothing.
    calm: bool,
}

impl Network {
    /// Links between so many machines, each direction drawn on its own.
    pub fn new(machines: usize, faults: &LinkFaults, random: &mut Random) -> Self {
        let mut network = Self::default();
        for _ in 0..machines {
            network.add_machine(faults, random);
        }
        network
    }

    /// Links to and from one more machine.
    pub fn add_machine(&mut self, faults: &LinkFaults, random: &mut Random) {
        for row in &mut self.links {
            row.push(Link::draw(faults, random));
        }
        let row = (0..=self.links.len()).map(|_| Link::draw(faults, random)).collect();
        self.links.push(row);
    }

    /// What becomes of a message: nothing, one arrival or two.
    pub fn carry(
        &mut self,
        now_us: u64,
        direction: (usize, usize),
        bytes: &[u8],
        random: &mut Random,
        coverage: &mut Coverage,
    ) -> Vec<Delivery> {
        let (from, to) = direction;
        if let Some(fault) = self.blocked_by(from, to) {
            coverage.fault(fault);
            return Vec::new();
        }
        self.links[from][to].carry(now_us, bytes, self.calm, random, coverage)
    }

    /// The kind of partition that a message from one machine to the other meets.
    pub fn blocked_by(&self, from: usize, to: usize) -> Option<Fault> {
        self.partitions.iter().find(|partition| partition.blocks(from, to)).map(|partition| partition.fault())
    }

    /// True when messages pass in both directions, so that a connection can stand.
    pub fn connects(&self, one: usize, other: usize) -> bool {
        self.blocked_by(one, other).is_none() && self.blocked_by(other, one).is_none()
    }

    /// Cuts the network.
    pub fn cut(&mut self, shape: PartitionShape) -> PartitionId {
        self.last_partition += 1;
        let id = PartitionId(self.last_partition);
        self.partitions.push(Partition { id, shape });
        id
    }

    /// Ends one cut; false when it was over already.
    pub fn heal(&mut self, id: PartitionId) -> bool {
        let before = self.partitions.len();
        self.partitions.retain(|partition| partition.id != id);
        self.partitions.len() < before
    }

    /// Ends every cut and every fault: from now on the network works.
    pub fn calm(&mut self) {
        self.partitions.clear();
        self.calm = true;
    }

    /// Two machines connect anew: what the connection before had queued is gone with it.
    pub fn renew(&mut self, one: usize, other: usize) {
        self.links[one][other].renew();
        self.links[other][one].renew();
    }

    /// How long what two machines sent each other is still on its way, in the direction that takes longer.
    pub fn backlog_us(&self, now_us: u64, one: usize, other: usize) -> u64 {
        self.links[one][other].backlog_us(now_us).max(self.links[other][one].backlog_us(now_us))
    }

    /// True while something is cut.
    pub fn is_cut(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Limits what all links to and from one machine carry, in bytes a second; `None` lifts the limit.
    pub fn limit(&mut self, machine: usize, bytes_per_second: Option<u64>) {
        for other in 0..self.links.len() {
            self.links[machine][other].bytes_per_second = bytes_per_second;
            self.links[other][machine].bytes_per_second = bytes_per_second;
        }
    }
}
