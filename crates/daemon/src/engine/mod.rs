//! A running node: the hot thread with node, store and door; links, joins and HTTP beside it.
//!
//! | module | what lives there |
//! |---|---|
//! | `hot` | the loop of the hot thread, and the order of things in a turn |
//! | `core` | node, store and peers, and what goes between them |
//! | `storage` | groups on their way to the store |
//! | `network` | links, who is alive, where everybody is |
//! | `waits` | questions whose answer is with other members |
//! | `handle`, `operate` | how other threads ask, and what is answered |
//! | `copier` | a copy of all records into a file |
//! | `figures`, `lags`, `report` | what is counted and what is logged |
//! | `clock`, `wakeup`, `keeper` | the only clock; waking the hot thread; writing into the node folder |
//!
//! Nothing is decided here that `replica` decides: the engine carries effects out and brings events back.

mod clock;
mod copier;
pub(crate) mod core;
mod error;
mod figures;
mod handle;
mod hot;
mod keeper;
mod keyring;
mod lags;
mod network;
mod operate;
mod outbox;
mod report;
mod storage;
mod waits;
mod wakeup;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use replica::{Epoch, Intervals, Limits, Setup};
use store::{
    Durability, Embedded, EmbeddedOptions, Memory, MemoryDisk, Redis, RedisOptions, RedisTls, Surroundings, Wake,
};
use tokio::runtime::{Builder, Runtime};
use transport::join::JoinHost;
use transport::membership::MembershipTiming;
use transport::{NodeId, Quic, QuicConfig, Timing, Transport};

pub use self::clock::OFFSET_VARIABLE;
pub use self::core::Unready;
pub use self::error::{EngineError, RequestError};
pub use self::handle::{Collected, EngineHandle, Held, PeerStatus, Status};
pub use self::network::PeerState;
pub use self::waits::Verdict;

pub(crate) use self::copier::CopyState;
pub(crate) use self::figures::lag_of;
pub(crate) use self::waits::Asker;

use self::clock::Clock;
use self::hot::{HotParts, OpenStore, random};
use self::keeper::Keeper;
use crate::directory::Directory;
use crate::door::DoorParts;
use crate::folder::{Folder, FolderLock, Identity, PROTOCOL_VERSIONS};
use crate::join_host::FolderHost;
use crate::log::Log;
use crate::{http, notify};

/// How long an orderly end waits for clients to take their replies and for the store to write, in milliseconds. Within
/// the 90 seconds that systemd gives, and longer than a slow disk takes for what may be queued.
const STOP_MS_MAX: u64 = 20_000;
/// How long tasks of the network have after the links were closed.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);

/// Everything that an engine is made of.
pub struct Parts {
    /// The node folder.
    pub folder: Folder,
    /// Its lock; held until the engine has ended.
    pub lock: FolderLock,
    /// What makes the node a member, as [`Folder::load`] gives it.
    pub identity: Identity,
    /// UDP address for the other members.
    pub listen: SocketAddr,
    /// Where that one cannot be had for want of IPv6: this one.
    pub listen_fallback: Option<SocketAddr>,
    /// `host:port` under which others reach this node; empty: as the directory has it.
    pub advertise: Vec<String>,
    /// Addresses of members that take the place of those that the members tell.
    pub peers: BTreeMap<NodeId, Vec<String>>,
    /// Threads for packets, cryptography and HTTP, at least 1.
    pub network_threads: usize,
    /// Bounds of links.
    pub transport_limits: transport::Limits,
    /// Times of links.
    pub transport_timing: Timing,
    /// Times of SWIM.
    pub membership_timing: MembershipTiming,
    /// The store.
    pub store: StoreParts,
    /// The local door.
    pub door: DoorParts,
    /// TCP address of health and metrics; `None`: off.
    pub http: Option<SocketAddr>,
    /// Bounds of the node.
    pub limits: Limits,
    /// Intervals of the node.
    pub intervals: Intervals,
    /// Whether figures are collected that cost time on the hot path.
    pub stats_enabled: bool,
    /// Key, value and origin of each setting, as they may be shown: for CRDT.CONFIG.
    pub settings: Vec<(String, String, String)>,
    /// Version of the engine, as clients are told.
    pub version: String,
    /// The log.
    pub log: Log,
}

/// Which store, and when a group of records counts as durable.
#[derive(Clone)]
pub enum StoreParts {
    /// In the folder `state`.
    Embedded {
        /// When a client is answered.
        durability: Durability,
    },
    /// In a Redis 7; the folder `state` holds what tells of the last run.
    Redis {
        /// With user and password.
        url: String,
        /// Certificates for TLS.
        tls: RedisTls,
        /// What all keys begin with; `None`: `crdt:` and the node id.
        prefix: Option<String>,
        /// When a client is answered.
        durability: Durability,
        /// Take a durability that the server does not tell on trust.
        trust_unknown_config: bool,
    },
    /// In memory, for tests and figures: a node that is started anew begins anew.
    Memory,
}

/// Starts a node. Returns when it serves: records read, sockets bound, the service manager told. Must not be called from
/// within a runtime (it makes its own), and may take as long as reading the store takes.
///
/// The engine ends by [`EngineHandle::stop`], or by an error; the join handle then gives the outcome. After a failed
/// durable write it does not end, but takes no more writes and says why, until it is stopped.
///
/// # Errors
/// [`EngineError`]; nothing is left running then.
pub fn start(parts: Parts) -> Result<(EngineHandle, JoinHandle<Result<(), EngineError>>), EngineError> {
    let clock = Clock::start()?;
    let log = parts.log.clone();
    let own = parts.identity.node.node().clone();
    let runtime = runtime(parts.network_threads)?;
    let (quic, events) = listen(&parts, &runtime)?;
    let quic = Arc::new(quic);
    let transport: Arc<dyn Transport> = quic.clone();
    let keeper = Keeper::start(parts.folder.clone(), log.clone())?;
    let directory = read_directory(&parts, &own, &keeper);
    admit_members(&transport, &directory, &parts.identity)?;
    let idle_timeout_ms = parts.transport_timing.idle_timeout_ms;
    let setup = Setup {
        cluster: parts.identity.node.cluster(),
        node: own.to_string(),
        schema: None,
        limits: parts.limits,
        intervals: parts.intervals,
        versions: PROTOCOL_VERSIONS,
    };
    let place = parts.door.socket.display().to_string();
    let hot = HotParts {
        clock,
        setup,
        signer: parts.identity.signer(),
        epochs: parts.identity.epochs.clone(),
        transport,
        events,
        membership: parts.membership_timing,
        idle_timeout_ms,
        directory,
        keeper: Some(keeper),
        folder: parts.folder.path().to_owned(),
        store: opener(parts.store, &parts.folder, &own)?,
        door: parts.door,
        version: parts.version,
        settings: parts.settings,
        counts: parts.stats_enabled,
        stop_ms_max: STOP_MS_MAX,
        log: log.clone(),
    };
    let network = runtime.handle().clone();
    let (links, lock) = (quic.clone(), parts.lock);
    let after = move || {
        runtime.block_on(links.close());
        drop(links);
        runtime.shutdown_timeout(RUNTIME_PATIENCE);
        drop(lock);
    };
    let (handle, thread) = hot::spawn(hot, after)?;
    if let Err(error) = offer_joins(&parts.folder, &parts.identity, &quic, &handle, &log) {
        handle.stop();
        // The error of before is the one that matters.
        let _ = thread.join();
        return Err(error);
    }
    if let Some(address) = parts.http {
        network.spawn(http::serve(address, handle.clone(), log.clone()));
    }
    network.spawn(notify::watch(handle.clone(), log.clone()));
    log.info("the node serves", &[("node", &own), ("door", &place), ("listen", &parts.listen)]);
    notify::ready(&log, own.as_str(), &place);
    Ok((handle, thread))
}

fn runtime(threads: usize) -> Result<Runtime, EngineError> {
    let built = Builder::new_multi_thread().worker_threads(threads.max(1)).thread_name("network").enable_all().build();
    built.map_err(|error| EngineError::System { what: "threads for the network", error })
}

/// Binds the UDP socket and starts the links, without any peer.
fn listen(parts: &Parts, runtime: &Runtime) -> Result<(Quic, transport::Events), EngineError> {
    let bound = match (transport::bind(parts.listen), parts.listen_fallback) {
        (Ok(socket), _) => Ok(socket),
        (Err(error), Some(fallback)) if error.kind() != std::io::ErrorKind::AddrInUse => {
            let fields: [(&str, &dyn std::fmt::Display); 3] =
                [("address", &parts.listen), ("error", &error), ("instead", &fallback)];
            parts.log.info("the default address cannot be had; is IPv6 off?", &fields);
            transport::bind(fallback).map_err(|error| EngineError::Bind { address: fallback, error })
        }
        (Err(error), _) => Err(EngineError::Bind { address: parts.listen, error }),
    };
    // Not a copy of a node, or a restored one, which would push the node that runs out of its links at once.
    let is_new = std::fs::read_dir(parts.folder.state()).map_or(true, |mut entries| entries.next().is_none());
    let config = QuicConfig { limits: parts.transport_limits.clone(), timing: parts.transport_timing.clone(), is_new };
    let _within = runtime.enter();
    Quic::start(&parts.identity.node, bound?, config).map_err(EngineError::Transport)
}

/// The directory of the node folder with our own entry as it is now. One that does not read is begun anew: members tell
/// it again, and `[peers]` reaches them meanwhile.
fn read_directory(parts: &Parts, own: &NodeId, keeper: &Keeper) -> Directory {
    let entries = parts.folder.directory().unwrap_or_else(|error| {
        let message = "the directory of members does not read and is begun anew; set [peers] if no member is reached";
        parts.log.warn(error.code(), message, &[("error", &error)]);
        Vec::new()
    });
    let mut directory = Directory::new(own.clone(), entries, parts.peers.clone());
    if !parts.advertise.is_empty()
        && let Some(entry) = directory.set_own(&parts.advertise)
        && !keeper.keep(vec![entry])
    {
        // A queue that was just made has room; the entry is told to members in any case.
        parts.log.warn("ERR_INTERNAL", "the own address was not kept", &[]);
    }
    directory
}

/// Lets in those who are members by the newest record of the folder. Reading the store may take long, and who dials
/// meanwhile must not be told that it is a stranger.
fn admit_members(
    transport: &Arc<dyn Transport>,
    directory: &Directory,
    identity: &Identity,
) -> Result<(), EngineError> {
    let newest = identity.epochs.last().and_then(|signed| Epoch::from_bytes(&signed.bytes).ok());
    let Some(epoch) = newest else { return Ok(()) };
    let members: Vec<NodeId> = epoch.members.keys().filter_map(|node| NodeId::new(node).ok()).collect();
    transport.set_peers(directory.peers(members.iter())).map_err(EngineError::Peers)
}

fn opener(store: StoreParts, folder: &Folder, own: &NodeId) -> Result<OpenStore, EngineError> {
    let (folder, fresh) = (folder.state(), u128::from_be_bytes(random()?));
    let surroundings = Surroundings::here();
    let own = own.to_string();
    let open: OpenStore = match store {
        StoreParts::Embedded { durability } => Box::new(move |wake: Wake| {
            let options = EmbeddedOptions { folder, durability, surroundings, fresh, wake };
            Ok(Box::new(Embedded::open(options)?))
        }),
        StoreParts::Redis { url, tls, prefix, durability, trust_unknown_config } => Box::new(move |wake: Wake| {
            let prefix = prefix.unwrap_or_else(|| format!("crdt:{own}"));
            let options =
                RedisOptions { url, tls, prefix, folder, durability, trust_unknown_config, surroundings, fresh, wake };
            Ok(Box::new(Redis::open(options)?))
        }),
        StoreParts::Memory => {
            Box::new(move |wake: Wake| Ok(Box::new(Memory::open(&MemoryDisk::default(), fresh, wake)?)))
        }
    };
    Ok(open)
}

/// Lets nodes in, where this one has the key for it.
fn offer_joins(
    folder: &Folder,
    identity: &Identity,
    quic: &Quic,
    handle: &EngineHandle,
    log: &Log,
) -> Result<(), EngineError> {
    if folder.issuer()?.is_some() {
        let host: Arc<dyn JoinHost> = Arc::new(FolderHost::new(folder.clone(), handle.watch_joins(log.clone())));
        let offered = quic.offer_joins(&identity.node, Some(host));
        offered.map_err(|error| EngineError::Folder(error.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
