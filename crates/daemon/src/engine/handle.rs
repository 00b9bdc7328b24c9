//! How other threads speak to the hot thread: a bounded channel of requests, each with its own way back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use replica::epoch::SignedEpoch;
use stats::Snapshot;
use tokio::sync::{mpsc, oneshot};
use transport::NodeId;
use transport::join::{DirectoryEntry, JoinRefusal};

use super::clock::Clock;
use super::core::Unready;
use super::error::RequestError;
use super::network::PeerState;
use super::waits::Verdict;
use super::wakeup::Wakeup;
use crate::join_host::{JoinWatch, NodeJoined};
use crate::log::Log;

/// Requests that wait. Who asks above it waits for room: scrapes, joins and commands are few.
pub(crate) const REQUESTS_MAX: usize = 64;

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<T>;

/// What the hot thread is asked for.
pub(crate) enum Request {
    Status(Answer<Status>),
    Metrics(Answer<Snapshot>),
    Epoch(SignedEpoch),
    Learn(Vec<DirectoryEntry>),
    Held(Answer<Vec<Held>>),
    Release(String, Answer<Result<(), RequestError>>),
    Discard(String, Answer<Result<(), RequestError>>),
    Collect(Answer<Collected>),
    Verify(Option<String>, Answer<Result<Vec<Verdict>, RequestError>>),
    Exchange(Option<String>, Answer<Result<(), RequestError>>),
    SetPeers(BTreeMap<NodeId, Vec<String>>, Answer<()>),
}

/// How the node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// Its cluster.
    pub cluster: u128,
    /// Number of the membership record in use; 0: none.
    pub epoch: u64,
    /// Why it takes no writes; empty when it does.
    pub unready: Vec<Unready>,
    /// Own operations that no peer has.
    pub unreplicated_ops: u64,
    /// Streams that wait for a person.
    pub held: usize,
    /// Clients at the door.
    pub clients: u64,
    /// TCP address of the door, if it is open.
    pub door_tcp: Option<SocketAddr>,
    /// The other members.
    pub peers: Vec<PeerStatus>,
}

/// How a peer is, as far as this node knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Its name.
    pub node: String,
    /// What link and SWIM say together.
    pub state: PeerState,
    /// A link to it is up.
    pub is_up: bool,
    /// Operations of ours that it lacks.
    pub lag_ops: u64,
    /// Where it is dialled; empty when nobody knows.
    pub address: String,
}

/// A stream that waits for a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Names it to [`EngineHandle::release`].
    pub id: String,
    /// Why it waits.
    pub reason: replica::HeldReason,
}

/// What a slice of collection did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// Remains that waited.
    pub attempted: u64,
    /// Remains that went.
    pub collected: u64,
}

/// Speaks to a running engine. Cheap to clone; works from any thread, and needs no runtime of its own.
#[derive(Clone)]
pub struct EngineHandle {
    pub(crate) sender: mpsc::Sender<Request>,
    pub(crate) wakeup: Arc<Wakeup>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) clock: Clock,
}

impl EngineHandle {
    /// Lets the engine end in good order: what clients asked for is answered, what is durable is sent, the store is
    /// closed. Returns at once; the join handle tells when it is done.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wakeup.wake();
    }

    /// How the node is.
    ///
    /// # Errors
    /// [`RequestError::Stopped`].
    pub async fn status(&self) -> Result<Status, RequestError> {
        self.ask(Request::Status).await
    }

    /// All metrics as of one moment.
    ///
    /// # Errors
    /// [`RequestError::Stopped`].
    pub async fn metrics(&self) -> Result<Snapshot, RequestError> {
        self.ask(Request::Metrics).await
    }

    /// Gives the node a membership record. One that does not verify is reported and dropped.
    ///
    /// # Errors
    /// [`RequestError::Stopped`].
    pub async fn submit_epoch(&self, epoch: SignedEpoch) -> Result<(), RequestError> {
        self.tell(Request::Epoch(epoch)).await
    }

    /// Takes addresses of members into the directory, as if a member had told them.
    ///
    /// # Errors
    /// [`RequestError::Stopped`].
    pub async fn learn_addresses(&self, entries: Vec<DirectoryEntry>) -> Result<(), RequestError> {
        self.tell(Request::Learn(entries)).await
    }

    /// Streams that wait for a person.
    ///
    /// # Errors
    /// [`RequestError::Stopped`].
    pub async fn held(&self) -> Result<Vec<Held>, RequestError> {
        self.ask(Request::Held).await
    }

    /// Lets a held stream go on.
    ///
    /// # Errors
    /// [`RequestError::NotHeld`], [`RequestError::Forked`], [`RequestError::Held`], [`RequestError::Stopped`].
    pub async fn release(&self, id: String) -> Result<(), RequestError> {
        self.ask(|answer| Request::Release(id, answer)).await?
    }

    /// Drops what is held.
    ///
    /// # Errors
    /// [`RequestError::NotHeld`], [`RequestError::NotBuilt`], [`RequestError::Held`], [`RequestError::Stopped`].
    pub async fn discard(&self, id: String) -> Result<(), RequestError> {
        self.ask(|answer| Request::Discard(id, answer)).await?
    }

    /// Runs a slice of collection.
    ///
    /// # Errors
    /// [`RequestError::Stopped`].
    pub async fn collect(&self) -> Result<Collected, RequestError> {
        self.ask(Request::Collect).await
    }

    /// Compares states with one member, or with all. Takes up to some seconds where a member does not answer.
    ///
    /// # Errors
    /// [`RequestError::NotMember`], [`RequestError::Stopped`].
    pub async fn verify(&self, node: Option<String>) -> Result<Vec<Verdict>, RequestError> {
        self.ask(|answer| Request::Verify(node, answer)).await?
    }

    /// Exchanges digests now with one member, or with all.
    ///
    /// # Errors
    /// [`RequestError::NotMember`], [`RequestError::Stopped`].
    pub async fn exchange(&self, node: Option<String>) -> Result<(), RequestError> {
        self.ask(|answer| Request::Exchange(node, answer)).await?
    }

    /// Takes other addresses from the configuration (`[peers]`).
    ///
    /// # Errors
    /// [`RequestError::Stopped`].
    pub async fn set_peers(&self, peers: BTreeMap<NodeId, Vec<String>>) -> Result<(), RequestError> {
        self.ask(|answer| Request::SetPeers(peers, answer)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, RequestError> {
        let (sender, receiver) = oneshot::channel();
        self.tell(request(sender)).await?;
        receiver.await.map_err(|_| RequestError::Stopped)
    }

    async fn tell(&self, request: Request) -> Result<(), RequestError> {
        self.sender.send(request).await.map_err(|_| RequestError::Stopped)?;
        self.wakeup.wake();
        Ok(())
    }

    /// From a thread that may wait.
    fn tell_blocking(&self, request: Request) -> Result<(), RequestError> {
        self.sender.blocking_send(request).map_err(|_| RequestError::Stopped)?;
        self.wakeup.wake();
        Ok(())
    }

    /// What the side that lets nodes in tells the engine.
    pub(crate) fn watch_joins(&self, log: Log) -> Box<dyn JoinWatch> {
        Box::new(Watch { handle: self.clone(), log })
    }
}

struct Watch {
    handle: EngineHandle,
    log: Log,
}

impl JoinWatch for Watch {
    fn now_s(&self) -> i64 {
        self.handle.clock.wall_s()
    }

    fn joined(&self, joined: NodeJoined) {
        self.log.info("a node was let in", &[("node", &joined.node)]);
        let told = self.handle.tell_blocking(Request::Epoch(joined.epoch));
        if let Err(error) = told.and_then(|()| self.handle.tell_blocking(Request::Learn(joined.directory))) {
            // It is durable, so the next start takes it from the node folder.
            self.log.warn(
                error.code(),
                "the engine stops before it has heard of a node that was let in",
                &[("node", &joined.node)],
            );
        }
    }

    fn refused(&self, node: &NodeId, refusal: &JoinRefusal) {
        self.log.warn(refusal.code(), "a node was not let in", &[("node", node), ("reason", refusal)]);
    }

    fn failed(&self, from: SocketAddr, reason: &str) {
        self.log.warn(
            "ERR_JOIN_FAILED",
            "somebody asked to be let in and got no answer",
            &[("address", &from), ("reason", &reason)],
        );
    }
}

impl fmt::Debug for EngineHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EngineHandle").finish_non_exhaustive()
    }
}
