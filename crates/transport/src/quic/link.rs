//! One connection that is a link: its queue, its stream, its datagrams, and how it ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, ConnectionError, ReadExactError, RecvStream, SendStream};
use tokio::sync::{mpsc, watch};

use super::Shared;
use super::tls::{CloseCode, refusal_of_close};
use crate::error::{LinkEnd, SendError};
use crate::event::{Event, ReceiveRoom};
use crate::figures::{Counters, PathFigures};
use crate::frame::{self, DATAGRAM_HEADER_BYTES, FrameError, HEADER_BYTES};
use crate::lane::{Delivery, Kind, Lane};
use crate::limits::Limits;
use crate::node_id::NodeId;

/// A link that is up, or about to be told as up.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: NodeId,
    /// True when the smaller node id dialled: such a link is kept when both dialled.
    pub(super) is_preferred: bool,
    connection: Connection,
    counters: Arc<Counters>,
    queue: mpsc::UnboundedSender<Queued>,
    queued_bytes: AtomicUsize,
    /// Why this end ended it, if it did.
    decided: OnceLock<LinkEnd>,
    ended: watch::Sender<bool>,
}

/// What waits for the stream.
#[derive(Debug)]
pub(super) enum Queued {
    Message(Lane, Bytes),
    /// Nothing follows: wait until everything is acknowledged, and close.
    Finish,
}

/// The two halves of a link's stream, and the queue behind it.
pub(super) struct Streams {
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
    /// The other end dialled, and waits for our preface as the word that it was let in.
    pub(super) owes_preface: bool,
}

impl Link {
    pub(super) fn new(
        peer: NodeId,
        is_preferred: bool,
        connection: Connection,
        counters: Arc<Counters>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Queued>) {
        let (queue, queued) = mpsc::unbounded_channel();
        let link = Self {
            peer,
            is_preferred,
            connection,
            counters,
            queue,
            queued_bytes: AtomicUsize::new(0),
            decided: OnceLock::new(),
            ended: watch::channel(false).0,
        };
        (Arc::new(link), queued)
    }

    /// Sends a message, as a datagram if that is good enough and it fits, else over the stream.
    pub(super) fn send(&self, limits: &Limits, lane: Lane, delivery: Delivery, bytes: Bytes) -> Result<(), SendError> {
        let bytes_max = limits.message_bytes_max;
        if bytes.len() > bytes_max {
            return Err(SendError::TooLarge { bytes: bytes.len(), bytes_max });
        }
        if self.decided.get().is_some() {
            return Err(SendError::NoLink);
        }
        let kind = Kind::of(lane, &bytes);
        if delivery == Delivery::Auto && kind.survives_loss() && self.send_datagram(lane, &bytes) {
            self.counters.count_sent(kind, bytes.len(), true);
            return Ok(());
        }
        let (length, cost) = (bytes.len(), Limits::cost(bytes.len()));
        let queued = self.queued_bytes.fetch_add(cost, Ordering::Relaxed).saturating_add(cost);
        if queued > limits.send_queue_bytes_max {
            self.counters.count_overflow();
            self.end(LinkEnd::SendOverflow, CloseCode::Overflow);
            return Err(SendError::Overflow { bytes: queued, bytes_max: limits.send_queue_bytes_max });
        }
        self.queue.send(Queued::Message(lane, bytes)).map_err(|_| SendError::NoLink)?;
        self.counters.count_sent(kind, length, false);
        Ok(())
    }

    /// True when the message is on its way as a datagram.
    fn send_datagram(&self, lane: Lane, bytes: &Bytes) -> bool {
        let length = DATAGRAM_HEADER_BYTES + bytes.len();
        // SUBTLE: without room, QUIC would throw away older datagrams for this one; the stream takes it then.
        let fits = self.connection.max_datagram_size().is_some_and(|most| length <= most);
        if !fits || self.connection.datagram_send_buffer_space() < length {
            return false;
        }
        let mut datagram = BytesMut::with_capacity(length);
        datagram.put_u8(lane.to_byte());
        datagram.put_slice(bytes);
        self.connection.send_datagram(datagram.freeze()).is_ok()
    }

    /// Ends the link from this side. The first reason counts.
    pub(super) fn end(&self, end: LinkEnd, code: CloseCode) {
        if self.decided.set(end).is_ok() {
            self.connection.close(code.to_var_int(), b"");
        }
    }

    /// Lets the queue run empty, then ends the link.
    pub(super) fn finish(&self) {
        // Only the task of a link that has ended closes the queue; there is nothing left to finish then.
        let _ = self.queue.send(Queued::Finish);
    }

    /// Waits until the link has been told as down.
    pub(super) async fn wait_ended(&self) {
        // The sender lives as long as this link: waiting cannot fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Ordering::Relaxed) as u64
    }

    pub(super) fn path(&self) -> PathFigures {
        let stats = self.connection.stats();
        PathFigures {
            rtt_us: Some(u64::try_from(stats.path.rtt.as_micros()).unwrap_or(u64::MAX)),
            congestion_window_bytes: Some(stats.path.cwnd),
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            bytes_lost: stats.path.lost_bytes,
            congestion_events: stats.path.congestion_events,
            wire_bytes_sent: stats.udp_tx.bytes,
            wire_bytes_received: stats.udp_rx.bytes,
            mtu_bytes: stats.path.current_mtu,
        }
    }

    /// Carries the link to its end: tells it as up after the link whose place it takes was told as down, and as down
    /// when it ends.
    pub(super) async fn run(
        self: Arc<Self>,
        shared: Arc<Shared>,
        streams: Streams,
        queued: mpsc::UnboundedReceiver<Queued>,
        replaced: Option<Arc<Link>>,
    ) {
        if let Some(older) = replaced {
            older.wait_ended().await;
        }
        self.counters.count_up();
        shared.sink.tell_link(Event::LinkUp { peer: self.peer.clone() }).await;
        let room = ReceiveRoom::new(&shared.limits);
        let end = tokio::select! {
            end = self.write(streams.send, streams.owes_preface, queued) => end,
            end = self.read(&shared, streams.receive, &room) => end,
            end = self.read_datagrams(&shared, &room) => end,
            error = self.connection.closed() => end_of(&error),
        };
        self.end(end.clone(), code_of(&end));
        let end = self.decided.get().cloned().unwrap_or(end);
        shared.sink.tell_link(Event::LinkDown { peer: self.peer.clone(), end }).await;
        shared.registry.remove(&self);
        self.ended.send_replace(true);
    }

    async fn write(
        &self,
        mut stream: SendStream,
        owes_preface: bool,
        mut queued: mpsc::UnboundedReceiver<Queued>,
    ) -> LinkEnd {
        if owes_preface && stream.write_all(&frame::PREFACE).await.is_err() {
            return self.end_of_connection();
        }
        while let Some(next) = queued.recv().await {
            let Queued::Message(lane, bytes) = next else { break };
            let cost = Limits::cost(bytes.len());
            let header = frame::header(lane, bytes.len());
            let written = match stream.write_all(&header).await {
                Ok(()) => stream.write_chunk(bytes).await,
                Err(error) => Err(error),
            };
            if written.is_err() {
                return self.end_of_connection();
            }
            self.queued_bytes.fetch_sub(cost, Ordering::Relaxed);
        }
        // Whether the peer took everything or went away meanwhile: the link is at its end.
        let _ = stream.finish();
        let _ = stream.stopped().await;
        LinkEnd::Closed
    }

    async fn read(&self, shared: &Shared, mut stream: RecvStream, room: &ReceiveRoom) -> LinkEnd {
        let bytes_max = shared.limits.message_bytes_max;
        loop {
            let mut header = [0; HEADER_BYTES];
            match stream.read_exact(&mut header).await {
                Ok(()) => {}
                Err(ReadExactError::FinishedEarly(0)) => return LinkEnd::PeerLeft,
                Err(ReadExactError::FinishedEarly(_)) => return LinkEnd::Malformed,
                Err(ReadExactError::ReadError(_)) => return self.end_of_connection(),
            }
            let (lane, length) = match frame::read_header(header, bytes_max) {
                Ok(read) => read,
                Err(FrameError::Lane) => return LinkEnd::Malformed,
                Err(FrameError::TooLarge { bytes }) => return LinkEnd::MessageTooLarge { bytes, bytes_max },
            };
            // SUBTLE: room comes before the allocation; without it the stream is not read, and QUIC slows the peer.
            let Some(permit) = room.take(length).await else { return LinkEnd::Closed };
            let mut message = vec![0; length];
            match stream.read_exact(&mut message).await {
                Ok(()) => {}
                Err(ReadExactError::FinishedEarly(_)) => return LinkEnd::Malformed,
                Err(ReadExactError::ReadError(_)) => return self.end_of_connection(),
            }
            self.counters.count_received(Kind::of(lane, &message), length);
            shared.sink.tell_received(self.peer.clone(), lane, message.into(), permit);
        }
    }

    async fn read_datagrams(&self, shared: &Shared, room: &ReceiveRoom) -> LinkEnd {
        loop {
            let datagram = match self.connection.read_datagram().await {
                Ok(datagram) => datagram,
                Err(error) => return end_of(&error),
            };
            let Ok((lane, message)) = frame::read_datagram(&datagram) else { return LinkEnd::Malformed };
            let Some(permit) = room.try_take(message.len()) else {
                self.counters.count_dropped_datagram();
                continue;
            };
            self.counters.count_received(Kind::of(lane, message), message.len());
            // SUBTLE: a copy, because the datagram is a slice of the socket's large buffer and would keep all of it.
            let message = Bytes::copy_from_slice(message);
            shared.sink.tell_received(self.peer.clone(), lane, message, permit);
        }
    }

    /// Why the connection under a stream that failed is gone. A peer that only resets the stream is malformed.
    fn end_of_connection(&self) -> LinkEnd {
        match self.connection.close_reason() {
            Some(error) => end_of(&error),
            None => LinkEnd::Malformed,
        }
    }
}

fn end_of(error: &ConnectionError) -> LinkEnd {
    match error {
        ConnectionError::TimedOut => LinkEnd::TimedOut,
        ConnectionError::LocallyClosed => LinkEnd::Closed,
        ConnectionError::ApplicationClosed(close) => match u64::from(close.error_code) {
            0 => LinkEnd::PeerLeft,
            code @ (1..=5 | 11) => LinkEnd::Refused(refusal_of_close(code)),
            6 | 7 => LinkEnd::Replaced,
            code => LinkEnd::PeerReset { code },
        },
        ConnectionError::ConnectionClosed(close) => LinkEnd::PeerReset { code: close.error_code.into() },
        ConnectionError::Reset => LinkEnd::PeerReset { code: 0 },
        other => LinkEnd::Failed { reason: other.to_string() },
    }
}

/// What we close with when a link ended for this reason.
fn code_of(end: &LinkEnd) -> CloseCode {
    match end {
        LinkEnd::SendOverflow => CloseCode::Overflow,
        LinkEnd::MessageTooLarge { .. } => CloseCode::MessageTooLarge,
        LinkEnd::Malformed => CloseCode::Malformed,
        LinkEnd::Replaced => CloseCode::Replaced,
        LinkEnd::Removed => CloseCode::Removed,
        _ => CloseCode::Closing,
    }
}
