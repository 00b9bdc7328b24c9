//! What happens next: events in the order of (time, when they were planned).

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Events that wait for their time. Two events of one microsecond come in the order in which they were planned,
/// so that a seed has one order only.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Planned<E>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at_us: u64,
    number: u64,
    event: E,
}

impl<E> Planned<E> {
    fn rank(&self) -> (u64, u64) {
        (self.at_us, self.number)
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives its greatest element first, and the earliest event is wanted.
        other.rank().cmp(&self.rank())
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }
}

impl<E> Queue<E> {
    /// Plans an event.
    pub fn plan(&mut self, at_us: u64, event: E) {
        self.planned += 1;
        self.heap.push(Planned { at_us, number: self.planned, event });
    }

    /// Takes the next event with its time.
    pub fn take_next(&mut self) -> Option<(u64, E)> {
        self.heap.pop().map(|planned| (planned.at_us, planned.event))
    }

    /// When the next event happens.
    pub fn next_at_us(&self) -> Option<u64> {
        self.heap.peek().map(|planned| planned.at_us)
    }

    /// Number of events that wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_planning() {
        let mut queue = Queue::default();
        for (at, event) in [(5, "c"), (1, "a"), (5, "d"), (3, "b")] {
            queue.plan(at, event);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.take_next()).map(|(_, event)| event).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
