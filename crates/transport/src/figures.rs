//! Figures of a link.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::lane::Kind;
use crate::node_id::NodeId;

/// Messages and their bytes, without framing and encryption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is known about one member's link. Counters run on over links, and start with the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkFigures {
    /// The member.
    pub peer: NodeId,
    /// Sent, by [`Kind::index`].
    pub sent: [Traffic; Kind::ALL.len()],
    /// Received, by [`Kind::index`].
    pub received: [Traffic; Kind::ALL.len()],
    /// Of those sent, the ones that went as datagrams.
    pub datagrams_sent: u64,
    /// Datagrams that came in and were dropped, because what came before waits to be taken.
    pub datagrams_dropped: u64,
    /// Times that a link came up.
    pub links_up: u64,
    /// Times that a link was reset because its queue was full.
    pub overflows: u64,
    /// Bytes that wait in our queue.
    pub queued_bytes: u64,
    /// The path, while a link is up.
    pub path: Option<PathFigures>,
}

/// The path of a link that is up. Counters start with the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathFigures {
    /// Smoothed round trip in microseconds; `None` where the carrier does not know it.
    pub rtt_us: Option<u64>,
    /// Congestion window in bytes; `None` where the carrier does not know it.
    pub congestion_window_bytes: Option<u64>,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets that were lost.
    pub packets_lost: u64,
    /// Bytes that were lost.
    pub bytes_lost: u64,
    /// Times that the congestion window was cut.
    pub congestion_events: u64,
    /// All bytes sent on the wire, with framing and encryption, without UDP and IP headers.
    pub wire_bytes_sent: u64,
    /// All bytes received, likewise.
    pub wire_bytes_received: u64,
    /// Largest packet that the path is known to take, in bytes of UDP payload; 0 where the carrier does not know.
    pub mtu_bytes: u16,
}

/// The counters behind [`LinkFigures`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: [Counter; Kind::ALL.len()],
    received: [Counter; Kind::ALL.len()],
    datagrams_sent: AtomicU64,
    datagrams_dropped: AtomicU64,
    links_up: AtomicU64,
    overflows: AtomicU64,
}

#[derive(Debug, Default)]
struct Counter {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Traffic {
        Traffic { messages: self.messages.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

impl Counters {
    pub(crate) fn count_sent(&self, kind: Kind, bytes: usize, as_datagram: bool) {
        self.sent[kind.index()].add(bytes);
        if as_datagram {
            self.datagrams_sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_received(&self, kind: Kind, bytes: usize) {
        self.received[kind.index()].add(bytes);
    }

    pub(crate) fn count_dropped_datagram(&self) {
        self.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_up(&self) {
        self.links_up.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_overflow(&self) {
        self.overflows.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, peer: NodeId, queued_bytes: u64, path: Option<PathFigures>) -> LinkFigures {
        LinkFigures {
            peer,
            sent: std::array::from_fn(|place| self.sent[place].read()),
            received: std::array::from_fn(|place| self.received[place].read()),
            datagrams_sent: self.datagrams_sent.load(Ordering::Relaxed),
            datagrams_dropped: self.datagrams_dropped.load(Ordering::Relaxed),
            links_up: self.links_up.load(Ordering::Relaxed),
            overflows: self.overflows.load(Ordering::Relaxed),
            queued_bytes,
            path,
        }
    }
}
