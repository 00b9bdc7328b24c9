//! Bounds and times of links.

use std::fmt;

/// Counted on top of each message, for what the queue itself costs.
pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// Bounds of one link, each with what breaks outside its range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest message, in bytes. Must be above the largest batch (8 MiB) with its framing; what is larger is
    /// refused by the sender, and resets the link when a peer announces it.
    pub message_bytes_max: usize,
    /// Bytes that wait for one peer in our queue. Less than one message: nothing large could ever be sent. Over it
    /// the link is reset; too much lets a slow peer cost memory.
    pub send_queue_bytes_max: usize,
    /// Bytes from one peer that wait in [`crate::Events`]. Less than one message: nothing large could be received.
    /// At it the stream stops being read, so the peer is slowed; datagrams are dropped.
    pub receive_queue_bytes_max: usize,
    /// Handshakes of strangers at a time. Over it further ones are ignored without an answer, and above half of it
    /// an address has to prove itself first (QUIC Retry).
    pub handshakes_max: usize,
    /// Bytes that QUIC keeps of a stream until they are acknowledged or read: a link's throughput is at most this
    /// per round trip.
    pub window_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 9 << 20,
            send_queue_bytes_max: 32 << 20,
            receive_queue_bytes_max: 16 << 20,
            handshakes_max: 64,
            window_bytes: 4 << 20,
        }
    }
}

/// Times of links, in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timing {
    /// A silent link sends something after this, so that NAT entries live and death is noticed. Below a third of
    /// `idle_timeout_ms`, else two lost packets end a link.
    pub keep_alive_ms: u32,
    /// A link over which nothing was heard for this long is down.
    pub idle_timeout_ms: u32,
    /// A handshake must be done in this time.
    pub handshake_timeout_ms: u32,
    /// Wait before the second attempt to dial; it doubles with each further one. Half of each wait is random.
    pub dial_first_ms: u32,
    /// Longest wait between two attempts.
    pub dial_max_ms: u32,
    /// Of two members the one with the smaller node id dials. The other one dials too when it has been without a link
    /// for this long: it has moved to an address that nobody knows yet, or cannot be dialled at all. A node that was
    /// never started before waits for [`Self::dial_first_ms`] only.
    pub dial_second_ms: u32,
    /// How long closing waits for queues to be sent.
    pub drain_ms: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            keep_alive_ms: 4_000,
            idle_timeout_ms: 15_000,
            handshake_timeout_ms: 10_000,
            dial_first_ms: 250,
            dial_max_ms: 15_000,
            dial_second_ms: 3_000,
            drain_ms: 2_000,
        }
    }
}

/// Most bytes that any bound of bytes may have: lengths stand in 32 bits on the wire, and room is counted in 32 bits.
const BYTES_MAX: usize = 1 << 30;
/// Most handshakes at a time: each may hold 64 KiB.
const HANDSHAKES_MAX: usize = 4_096;

/// A bound outside its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitsError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: usize,
    /// What it must be at least.
    pub least: usize,
    /// What it may be at most.
    pub most: usize,
}

impl Limits {
    /// Checks the bounds against each other.
    ///
    /// # Errors
    /// [`LimitsError`] names the first field that is out of its range.
    pub fn check(&self) -> Result<(), LimitsError> {
        let queue = self.message_bytes_max.saturating_add(MESSAGE_OVERHEAD_BYTES);
        let fields = [
            ("message_bytes_max", self.message_bytes_max, 1_024, BYTES_MAX / 2),
            ("send_queue_bytes_max", self.send_queue_bytes_max, queue, BYTES_MAX),
            ("receive_queue_bytes_max", self.receive_queue_bytes_max, queue, BYTES_MAX),
            ("handshakes_max", self.handshakes_max, 1, HANDSHAKES_MAX),
            ("window_bytes", self.window_bytes as usize, 64 << 10, BYTES_MAX),
        ];
        match fields.into_iter().find(|(_, value, least, most)| value < least || value > most) {
            Some((field, value, least, most)) => Err(LimitsError { field, value, least, most }),
            None => Ok(()),
        }
    }

    /// Bytes that a message counts in a queue.
    pub(crate) fn cost(bytes: usize) -> usize {
        bytes.saturating_add(MESSAGE_OVERHEAD_BYTES)
    }
}

impl LimitsError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        "ERR_CONFIG_INVALID"
    }
}

impl fmt::Display for LimitsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, least, most } = self;
        write!(formatter, "{field} is {value}; it must be {least} to {most}")
    }
}

impl std::error::Error for LimitsError {}
