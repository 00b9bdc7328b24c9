//! What a transport tells, and the bounded way there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::error::{LinkEnd, Refusal, Side};
use crate::lane::Lane;
use crate::limits::Limits;
use crate::node_id::NodeId;

/// Ups and downs that wait. Over it links wait to be told.
const LINK_EVENTS_MAX: usize = 1_024;
/// Refusals that wait. Over it further ones are only counted, because strangers can make any number of them.
const REFUSALS_MAX: usize = 256;

/// Something that happened on the network side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A link is up: [`crate::Transport::send`] reaches this member.
    LinkUp {
        /// The member, as its certificate proves it.
        peer: NodeId,
    },
    /// A message came in.
    Received {
        /// The member that sent it, as its certificate proves it.
        from: NodeId,
        /// Whom it is for.
        lane: Lane,
        /// The message.
        bytes: Bytes,
    },
    /// A link is down.
    LinkDown {
        /// The member.
        peer: NodeId,
        /// Why.
        end: LinkEnd,
    },
    /// An attempt to come to a link failed. Told again at each attempt.
    Refused {
        /// Who was dialled, or whom an authentic certificate names; `None` for a stranger that dialled us.
        peer: Option<NodeId>,
        /// The other end; `None` where its name did not resolve.
        address: Option<SocketAddr>,
        /// Who refused.
        by: Side,
        /// Why.
        refusal: Refusal,
    },
}

/// The receiving end of a transport's events.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::UnboundedReceiver<Slot>,
    dropped_refusals: Arc<AtomicU64>,
}

impl Events {
    /// The next event; `None` when the transport is closed and everything was told.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await.map(|slot| slot.event)
    }

    /// The next event, if one is there.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok().map(|slot| slot.event)
    }

    /// Refusals that were not told, for want of room.
    pub fn dropped_refusals(&self) -> u64 {
        self.dropped_refusals.load(Ordering::Relaxed)
    }
}

/// An event with the room that it takes, which is free again when the event is taken out.
#[derive(Debug)]
struct Slot {
    event: Event,
    _room: Option<OwnedSemaphorePermit>,
}

/// The sending end. The channel itself has no bound; everything that is put into it holds room of a bounded store.
#[derive(Clone, Debug)]
pub(crate) struct EventSink {
    sender: mpsc::UnboundedSender<Slot>,
    link_room: Arc<Semaphore>,
    refusal_room: Arc<Semaphore>,
    dropped_refusals: Arc<AtomicU64>,
}

/// Room for the bytes of one link's messages.
#[derive(Clone, Debug)]
pub(crate) struct ReceiveRoom(Arc<Semaphore>);

pub(crate) fn channel() -> (EventSink, Events) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let dropped_refusals = Arc::new(AtomicU64::new(0));
    let sink = EventSink {
        sender,
        link_room: Arc::new(Semaphore::new(LINK_EVENTS_MAX)),
        refusal_room: Arc::new(Semaphore::new(REFUSALS_MAX)),
        dropped_refusals: dropped_refusals.clone(),
    };
    (sink, Events { receiver, dropped_refusals })
}

impl EventSink {
    /// Tells that a link is up or down, when there is room.
    pub(crate) async fn tell_link(&self, event: Event) {
        let room = self.link_room.clone().acquire_owned().await.ok();
        self.put(event, room);
    }

    /// Tells that a link is up or down at once: for links inside one process, which no stranger can make flap.
    pub(crate) fn tell_local_link(&self, event: Event) {
        self.put(event, None);
    }

    /// Tells a message, for which room was taken.
    pub(crate) fn tell_received(&self, from: NodeId, lane: Lane, bytes: Bytes, room: OwnedSemaphorePermit) {
        self.put(Event::Received { from, lane, bytes }, Some(room));
    }

    /// Tells a refusal, if there is room.
    pub(crate) fn tell_refused(&self, peer: Option<NodeId>, address: Option<SocketAddr>, by: Side, refusal: Refusal) {
        match self.refusal_room.clone().try_acquire_owned() {
            Ok(room) => self.put(Event::Refused { peer, address, by, refusal }, Some(room)),
            Err(_) => {
                self.dropped_refusals.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A consumer that has gone wants no events: nothing is to be done about that here.
    fn put(&self, event: Event, room: Option<OwnedSemaphorePermit>) {
        let _ = self.sender.send(Slot { event, _room: room });
    }
}

impl ReceiveRoom {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Semaphore::new(limits.receive_queue_bytes_max.min(Semaphore::MAX_PERMITS))))
    }

    /// Waits for room for a message; `None` when the room is closed, which nobody does.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.0.clone().acquire_many_owned(permits(bytes)).await.ok()
    }

    /// Takes room if there is some.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_many_owned(permits(bytes)).ok()
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(Limits::cost(bytes)).unwrap_or(u32::MAX)
}
