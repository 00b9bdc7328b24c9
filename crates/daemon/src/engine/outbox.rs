//! Batches on their way to peers: what several turns made leaves together.
//!
//! Under load the hot thread turns thousands of times a second, with a handful of commands each. A message of every turn
//! would cost each peer a packet, a wake, a turn and a group of its store. A write that comes alone still leaves at once.

use transport::{Bytes, NodeId};

/// Pause between two departures, in microseconds: what a write under load may come later to peers. Some hundreds of
/// departures a second cost little, thousands a core.
const PAUSE_US: u64 = 1_000;
/// Bytes that leave without a pause: with so many a departure is no longer dear.
const BYTES_MAX: usize = 64 << 10;

/// What waits, in the order in which it is to leave.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: Vec<(NodeId, Bytes)>,
    bytes: usize,
    /// When something left last.
    left_us: Option<u64>,
}

impl Outbox {
    /// Puts in a message.
    pub(super) fn put(&mut self, to: NodeId, message: Bytes) {
        self.bytes += message.len();
        self.messages.push((to, message));
    }

    /// Everything in it, if it may leave now.
    pub(super) fn take_due(&mut self, mono_us: u64) -> Vec<(NodeId, Bytes)> {
        if self.messages.is_empty() || (self.due_us().is_some_and(|due_us| mono_us < due_us) && self.bytes < BYTES_MAX)
        {
            return Vec::new();
        }
        self.left_us = Some(mono_us);
        self.take()
    }

    /// Everything in it.
    pub(super) fn take(&mut self) -> Vec<(NodeId, Bytes)> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }

    /// Drops what is for a peer: it was meant for the link before.
    pub(super) fn forget(&mut self, peer: &NodeId) {
        self.messages.retain(|(to, _)| to != peer);
        self.bytes = self.messages.iter().map(|(_, message)| message.len()).sum();
    }

    /// When something in it is to leave, in milliseconds of the monotonic clock.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        if self.messages.is_empty() {
            return None;
        }
        Some(self.due_us().unwrap_or_default().div_ceil(1_000))
    }

    fn due_us(&self) -> Option<u64> {
        self.left_us.map(|left_us| left_us + PAUSE_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn bytes(messages: &[(NodeId, Bytes)]) -> Vec<&[u8]> {
        messages.iter().map(|(_, message)| message.as_ref()).collect()
    }

    #[test]
    fn a_message_alone_leaves_at_once_and_those_behind_it_together() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.poll_timeout(), None);
        outbox.put(node("a"), Bytes::from_static(b"1"));
        assert_eq!(outbox.poll_timeout(), Some(0));
        assert_eq!(bytes(&outbox.take_due(5_500)), [b"1"]);
        outbox.put(node("a"), Bytes::from_static(b"2"));
        outbox.put(node("b"), Bytes::from_static(b"2"));
        assert!(outbox.take_due(6_499).is_empty(), "within the pause");
        outbox.put(node("a"), Bytes::from_static(b"3"));
        assert_eq!(outbox.poll_timeout(), Some(7), "not before it may leave");
        assert_eq!(bytes(&outbox.take_due(6_500)), [b"2", b"2", b"3"]);
        assert_eq!(outbox.poll_timeout(), None);
        assert!(outbox.take_due(9_000).is_empty());
    }

    #[test]
    fn much_leaves_without_a_pause() {
        let mut outbox = Outbox::default();
        outbox.put(node("a"), Bytes::from_static(b"1"));
        assert_eq!(outbox.take_due(0).len(), 1);
        outbox.put(node("a"), Bytes::from(vec![0; BYTES_MAX - 1]));
        assert!(outbox.take_due(0).is_empty());
        outbox.put(node("a"), Bytes::from_static(b"2"));
        assert_eq!(outbox.take_due(0).len(), 2);
        outbox.put(node("a"), Bytes::from_static(b"3"));
        assert!(outbox.take_due(0).is_empty(), "what has left is not counted again");
        assert_eq!(outbox.take().len(), 1);
    }

    #[test]
    fn what_was_for_a_link_that_is_gone_does_not_leave() {
        let mut outbox = Outbox::default();
        for peer in ["a", "b", "a"] {
            outbox.put(node(peer), Bytes::from(peer.to_owned()));
        }
        outbox.forget(&node("a"));
        assert_eq!(bytes(&outbox.take_due(0)), [b"b"]);
    }
}
