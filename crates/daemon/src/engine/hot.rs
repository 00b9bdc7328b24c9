//! The hot thread: one loop that owns node, store and door.
//!
//! ```text
//!              +--> what became durable: acknowledgements into replies, batches to peers
//! poll -->  turn    requests of other threads, messages of peers, timers
//!   ^          |    clients: one read each, all commands in it, one write each
//!   |          +--> everything that the turn made goes to the store as one group
//!   +--------------------+
//! ```
//! It waits in the poll and nowhere else. `mio` is used directly, without a runtime: a runtime would watch every socket for
//! writing too, and a Unix socket is newly writable after every reply that its client takes; so each command would wake
//! the thread twice. Besides, the order within a turn is what makes one group out of all commands that came together.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crdt::ReplicaId;
use mio::{Events, Poll, Token};
use replica::epoch::SignedEpoch;
use replica::{Node, Setup, Start};
use store::{Doubt, Store, StoreError, Wake};
use tokio::sync::mpsc;
use transport::Transport;
use transport::identity::{ClusterSigner, random_bytes};
use transport::membership::{Membership, MembershipTiming};

use super::clock::{Clock, Moment};
use super::copier::Copier;
use super::core::{About, Core};
use super::error::EngineError;
use super::figures::Figures;
use super::handle::{EngineHandle, REQUESTS_MAX, Request};
use super::keeper::{Keeper, generations};
use super::keyring::Keyring;
use super::network::Network;
use super::storage::Storage;
use super::wakeup::Wakeup;
use crate::directory::Directory;
use crate::door::{self, Door, DoorParts};
use crate::log::Log;
use crate::notify;

/// The token of [`Wakeup`]; the door has those from [`door::TOKEN_FIRST`] on.
const WAKE: Token = Token(0);
const _: () = assert!(door::TOKEN_FIRST > 0);
/// Events of the poll that are taken at once; further ones come with the next poll.
const EVENTS_MAX: usize = 1_024;
/// Messages of peers that are taken before clients have their turn again. A message takes some microseconds, one with
/// many batches a millisecond.
const MESSAGES_A_TURN: usize = 64;
/// Bytes of them, for the same reason.
const MESSAGE_BYTES_A_TURN: usize = 1 << 20;
/// Between two looks at what nobody tells: a store that stands still, clients that take nothing.
const TICK_MS: u64 = 1_000;

/// Opens a store that calls this when it has news.
pub(crate) type OpenStore = Box<dyn FnOnce(Wake) -> Result<Box<dyn Store>, StoreError> + Send>;

/// What the hot thread is made of.
pub(crate) struct HotParts {
    pub(crate) clock: Clock,
    pub(crate) setup: Setup,
    pub(crate) signer: ClusterSigner,
    /// The chain of membership records.
    pub(crate) epochs: Vec<SignedEpoch>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) events: transport::Events,
    pub(crate) membership: MembershipTiming,
    /// A link over which nothing was heard for so long is down.
    pub(crate) idle_timeout_ms: u32,
    pub(crate) directory: Directory,
    pub(crate) keeper: Option<Keeper>,
    /// The node folder.
    pub(crate) folder: PathBuf,
    pub(crate) store: OpenStore,
    pub(crate) door: DoorParts,
    pub(crate) version: String,
    pub(crate) settings: Vec<(String, String, String)>,
    /// Whether times are gathered.
    pub(crate) counts: bool,
    /// How long an orderly end waits for clients and store, in milliseconds.
    pub(crate) stop_ms_max: u64,
    pub(crate) log: Log,
}

/// The hot thread.
pub(crate) struct Hot {
    clock: Clock,
    poll: Poll,
    wakeup: Arc<Wakeup>,
    waker: Waker,
    core: Core,
    door: Door,
    requests: mpsc::Receiver<Request>,
    stop: Arc<AtomicBool>,
    stop_ms_max: u64,
    /// An orderly end is under way, at most until then.
    stops_at_ms: Option<u64>,
    /// There may be more messages of peers than were taken.
    has_messages: bool,
    tick_at_ms: u64,
    congested_since_us: Option<u64>,
    counts: bool,
    log: Log,
}

/// Starts the hot thread and waits until the node is open. `after` runs on it at its very end, however it ended.
///
/// # Errors
/// [`EngineError`]; the thread has ended then.
pub(crate) fn spawn(
    parts: HotParts,
    after: impl FnOnce() + Send + 'static,
) -> Result<(EngineHandle, JoinHandle<Result<(), EngineError>>), EngineError> {
    let refused = |what| move |error| EngineError::System { what, error };
    let poll = Poll::new().map_err(refused("a poll"))?;
    let wakeup = Arc::new(Wakeup::new(poll.registry(), WAKE).map_err(refused("an event for wakes"))?);
    let (sender, requests) = mpsc::channel(REQUESTS_MAX);
    let stop = Arc::new(AtomicBool::new(false));
    let handle = EngineHandle { sender, wakeup: Arc::clone(&wakeup), stop: Arc::clone(&stop), clock: parts.clock };
    let (opened, is_open) = sync_channel(1);
    let work = move || {
        let result = match Hot::open(parts, poll, wakeup, requests, stop) {
            Ok(hot) => {
                // The one who waits for this waits without end.
                let _ = opened.send(Ok(()));
                hot.run()
            }
            Err(error) => {
                let _ = opened.send(Err(error));
                Ok(())
            }
        };
        after();
        result
    };
    let thread = thread::Builder::new().name("hot".to_owned()).spawn(work).map_err(refused("a thread"))?;
    match is_open.recv() {
        Ok(Ok(())) => Ok((handle, thread)),
        Ok(Err(error)) => {
            // It says nothing more than what it has said.
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(EngineError::Panicked),
    }
}

impl Hot {
    fn open(
        parts: HotParts,
        poll: Poll,
        wakeup: Arc<Wakeup>,
        requests: mpsc::Receiver<Request>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, EngineError> {
        let (clock, log) = (parts.clock, parts.log);
        let registry = poll.registry().try_clone();
        let registry = registry.map_err(|error| EngineError::System { what: "a poll", error })?;
        // Before the records are read, which may take long: a socket that is taken is told at once.
        let door = Door::open(parts.door, &parts.version, registry, log.clone())?;
        let started = clock.read();
        let about = About {
            cluster: parts.setup.cluster,
            version: parts.version,
            started,
            listen_ms: parts.setup.intervals.listen_ms,
            keyring: Keyring::new(&parts.folder, parts.signer.clone()),
            settings: parts.settings,
        };
        let woken = Arc::clone(&wakeup);
        let mut store = (parts.store)(Arc::new(move || woken.wake()))?;
        let mut node = open_node(parts.setup, parts.signer, started, store.as_mut(), &log)?;
        for epoch in parts.epochs {
            node.handle_epoch(started.now, epoch);
        }
        let (generation, keep) = generations(&parts.folder, started.now.wall_ms);
        let own = parts.transport.node().clone();
        let membership = Membership::new(own, generation, &parts.membership, random()?, keep);
        let membership = membership.map_err(EngineError::Membership)?;
        let network = Network::new(
            parts.transport,
            parts.events,
            membership,
            parts.directory,
            parts.keeper,
            parts.idle_timeout_ms,
            log.clone(),
        );
        let storage = Storage::new(store, parts.counts);
        let figures = Figures::new(parts.counts);
        let copier = Copier::new(parts.folder, log.clone());
        let mut core = Core::new(node, storage, network, figures, copier, about, log.clone());
        core.hand_over();
        Ok(Self {
            clock,
            poll,
            waker: Waker::from(Arc::clone(&wakeup)),
            wakeup,
            core,
            door,
            requests,
            stop,
            stop_ms_max: parts.stop_ms_max,
            stops_at_ms: None,
            has_messages: true,
            tick_at_ms: 0,
            congested_since_us: None,
            counts: parts.counts,
            log,
        })
    }

    fn run(mut self) -> Result<(), EngineError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.is_over() {
            let timeout = self.patience();
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(EngineError::System { what: "to wait for events", error });
                }
                _ => {}
            }
            let has_news = self.wakeup.has_woken();
            self.core.at = self.clock.read();
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.door.take_event(event);
            }
            self.turn(has_news);
        }
        self.finish()
    }

    /// How long to wait for the next event: not at all while there is something to do without one.
    fn patience(&mut self) -> Duration {
        let has_messages = self.has_messages && !self.core.storage.is_congested();
        let has_answers = !self.core.acknowledged.is_empty() || !self.core.answers.is_empty();
        if has_messages || has_answers || self.core.has_just_failed || self.door.has_work() || !self.wakeup.may_sleep()
        {
            return Duration::ZERO;
        }
        let now_ms = self.core.at.now.mono_ms;
        let next = self.core.poll_timeout().into_iter().chain([self.tick_at_ms]).chain(self.stops_at_ms).min();
        // SUBTLE: at least a millisecond, so that a timer that is due again at once cannot make this loop spin.
        let wait_ms = next.map_or(TICK_MS, |at| at.saturating_sub(now_ms)).clamp(1, TICK_MS);
        Duration::from_millis(wait_ms)
    }

    fn turn(&mut self, has_news: bool) {
        let moment = self.core.at;
        let is_tick = self.tick_at_ms <= moment.now.mono_ms;
        if has_news || is_tick {
            self.core.take_completions();
            self.take_requests();
        }
        if has_news || is_tick || self.has_messages {
            self.take_messages();
        }
        self.core.handle_timeout();
        if is_tick {
            self.tick_at_ms = moment.now.mono_ms + TICK_MS;
            self.core.tick();
            self.door.tick(moment.now.mono_ms);
        }
        self.deliver();
        self.door.turn(&mut self.core, moment.now.mono_ms);
        self.core.seal();
        for client in self.door.take_gone() {
            self.core.waits.forget(client);
        }
        self.core.settle_waits();
        self.core.look_at_lags();
        self.core.follow_epoch();
        self.core.hand_over();
        self.core.network.send_due(moment.mono_us);
        self.account(moment);
    }

    /// Tells the door what has become durable and what was answered.
    fn deliver(&mut self) {
        for (client, batch) in self.core.acknowledged.drain(..) {
            self.door.acknowledge(client, batch);
        }
        for (client, ticket, result) in self.core.answers.drain(..) {
            self.door.reply(client, ticket, result);
        }
        if std::mem::take(&mut self.core.has_just_failed) {
            self.door.fail_writes();
        }
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            self.core.take_request(request, &self.door.figures(), self.door.tcp_address());
        }
        if self.stop.load(Ordering::Acquire) && self.stops_at_ms.is_none() {
            self.log.info("the engine stops: clients are answered, then the store is closed", &[]);
            notify::stopping(&self.log);
            self.stops_at_ms = Some(self.core.at.now.mono_ms + self.stop_ms_max);
            self.core.waits.end();
            self.door.close();
        }
    }

    /// Takes messages of peers, as many as clients can wait for. While the store is behind none is taken, which in the
    /// end slows the peers.
    fn take_messages(&mut self) {
        let mut bytes = 0;
        self.has_messages = true;
        for _ in 0..MESSAGES_A_TURN {
            if self.core.storage.is_congested() || bytes > MESSAGE_BYTES_A_TURN {
                return;
            }
            let Some(event) = self.core.network.next(&self.waker) else {
                self.has_messages = false;
                return;
            };
            if let transport::Event::Received { bytes: message, .. } = &event {
                bytes += message.len();
            }
            self.core.take_event(event);
        }
    }

    /// Counts the turn.
    fn account(&mut self, begun: Moment) {
        self.core.figures.turns += 1;
        if self.counts {
            let ended_us = self.clock.read().mono_us;
            let turn_us = ended_us.saturating_sub(begun.mono_us);
            self.core.figures.busy_us += turn_us;
            if let Some(seconds) = &mut self.core.figures.turn_seconds {
                seconds.record(turn_us as f64 / 1e6);
            }
        }
        match (self.core.storage.is_congested(), self.congested_since_us) {
            (true, None) => self.congested_since_us = Some(begun.mono_us),
            (true, Some(since_us)) => {
                self.core.figures.congested_us += begun.mono_us.saturating_sub(since_us);
                self.congested_since_us = Some(begun.mono_us);
            }
            (false, Some(since_us)) => {
                self.core.figures.congested_us += begun.mono_us.saturating_sub(since_us);
                self.congested_since_us = None;
            }
            (false, None) => {}
        }
    }

    /// True when an orderly end has come to its end.
    fn is_over(&self) -> bool {
        let Some(stops_at_ms) = self.stops_at_ms else { return false };
        let is_done = self.door.is_empty() && (self.core.storage.is_idle() || self.core.storage.failure().is_some());
        is_done || stops_at_ms <= self.core.at.now.mono_ms
    }

    fn finish(self) -> Result<(), EngineError> {
        let Self { core, door, log, .. } = self;
        if !door.is_empty() {
            let clients = door.figures().clients;
            log.warn("ERR_STOP_CUT", "clients were cut off because they took too long", &[("clients", &clients)]);
        }
        drop(door);
        let Core { storage, mut network, copier, .. } = core;
        network.send_all();
        drop(network);
        // Its end may need the store.
        drop(copier);
        match storage.close() {
            Ok(()) => {
                log.info("the store is closed", &[]);
                Ok(())
            }
            Err(error) => {
                log.error(error.code(), "the store was not closed in order", &[("error", &error)]);
                Err(error.into())
            }
        }
    }
}

/// Opens the node from everything that its store holds.
fn open_node(
    setup: Setup,
    signer: ClusterSigner,
    started: Moment,
    store: &mut dyn Store,
    log: &Log,
) -> Result<Node, EngineError> {
    let proof = store.proof().clone();
    for doubt in &proof.doubts {
        match doubt {
            Doubt::FirstStart => log.info("the store is new", &[]),
            _ => log.info("the store is not known to be as it was left", &[("because", doubt)]),
        }
    }
    let fresh_replica = ReplicaId(u128::from_be_bytes(random()?));
    let start = Start { now: started.now, fresh_replica, continuity: proof.continuity() };
    let mut failure = None;
    let mut count: u64 = 0;
    let records = store.load()?.map_while(|record| match record {
        Ok(record) => {
            count += 1;
            Some(record)
        }
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let node = Node::open(setup, Box::new(signer), start, records);
    // What was read before it broke off is no state that ever was.
    if let Some(error) = failure {
        return Err(error.into());
    }
    let node = node.map_err(EngineError::Open)?;
    log.info(
        "the node is open",
        &[("node", &node.id()), ("replica", &node.replica()), ("records", &count), ("sequence", &proof.sequence)],
    );
    Ok(node)
}

/// Random bytes of the system.
pub(super) fn random<const BYTES: usize>() -> Result<[u8; BYTES], EngineError> {
    random_bytes().map_err(|error| EngineError::System { what: "random bytes", error: io::Error::other(error) })
}
