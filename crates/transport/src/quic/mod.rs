//! Links over QUIC: UDP, TLS 1.3 with certificates on both sides.
//!
//! One connection a member, one stream in it that lives as long as the link, and datagrams beside it. The smaller node id
//! dials, and after a while without a link the other one too. Nothing is resumed and nothing is sent before the handshake
//! is done, so every link begins with both certificates.

mod connect;
mod link;
mod registry;
pub(crate) mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::congestion::CubicConfig;
use quinn::{
    AckFrequencyConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, TokioRuntime, TransportConfig,
    VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::registry::Registry;
use self::tls::{CloseCode, Tls};
use crate::error::{LinkEnd, PeersError, SendError};
use crate::event::{self, EventSink, Events};
use crate::figures::{Counters, LinkFigures};
use crate::identity::{IdentityError, NodeIdentity};
use crate::join::{JoinDesk, JoinHost};
use crate::lane::{Delivery, Lane};
use crate::limits::{Limits, LimitsError, Timing};
use crate::node_id::NodeId;
use crate::peer::{self, Peer};
use crate::{Closing, Transport};

pub use self::tls::check_identity;

/// The UDP port of a node unless it is configured otherwise.
pub const DEFAULT_PORT: u16 = 8888;

/// Asked of the system for the socket's buffers: a burst of one round trip at 100 Mbit/s and 150 ms. The system may
/// give less (`rmem_max`).
const SOCKET_BUFFER_BYTES: usize = 2 << 20;
/// Bytes that QUIC keeps of a connection that is not accepted yet. A handshake of ours fits.
const INCOMING_BYTES_MAX: u64 = 64 << 10;

/// Bytes that may be on their way before the first acknowledgement. QUIC's usual 14,720 hold up a thousand writes a second
/// for several round trips between regions; these are such writes of one round trip of 300 ms, twice.
const FIRST_WINDOW_BYTES: u64 = 96 << 10;
/// Packets that a peer may leave unacknowledged for up to 25 ms; QUIC's usual one packet makes every third packet on the
/// wire an acknowledgement. Losses are told at once all the same.
const PACKETS_UNACKNOWLEDGED_MAX: u32 = 10;

/// Round trip that is assumed until one was measured. QUIC's usual 333 ms make a first packet that was lost, because the
/// other node had not quite started, be sent again after a second; a slower link pays by one packet too many.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Names of connections in packets: half as long as QUIC's usual eight bytes, which each packet carries. A node has some
/// dozens of connections, and four bytes tell them apart.
#[derive(Debug)]
struct ShortIds;

impl ConnectionIdGenerator for ShortIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&(crate::identity::random_u64() as u32).to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u32>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// What [`Quic::start`] is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QuicConfig {
    /// Bounds.
    pub limits: Limits,
    /// Times.
    pub timing: Timing,
    /// The node was never started before: members with a smaller id do not know of it by themselves and may just wait for
    /// long, so it dials them too, after [`Timing::dial_first_ms`] the first time.
    pub is_new: bool,
}

/// Why a QUIC transport did not start.
#[derive(Debug)]
pub enum StartError {
    /// Bounds do not fit each other.
    Limits(LimitsError),
    /// The identity cannot be used.
    Identity(IdentityError),
    /// The socket cannot be used.
    Socket(io::Error),
    /// Not called from within a tokio runtime.
    NoRuntime,
}

/// Links over QUIC.
#[derive(Debug)]
pub struct Quic {
    shared: Arc<Shared>,
    runtime: Handle,
    accepting: AbortHandle,
}

/// What all tasks of one transport share.
pub(crate) struct Shared {
    node: NodeId,
    limits: Limits,
    timing: Timing,
    is_new: bool,
    endpoint: Endpoint,
    client: Mutex<quinn::ClientConfig>,
    transport: Arc<TransportConfig>,
    peers: Mutex<BTreeMap<NodeId, Entry>>,
    registry: Registry,
    sink: EventSink,
    joins: JoinDesk,
    closing: AtomicBool,
}

/// A member.
#[derive(Debug)]
struct Entry {
    peer: Peer,
    counters: Arc<Counters>,
    dialling: Option<AbortHandle>,
}

/// Binds a UDP socket for [`Quic::start`], with larger buffers where the system allows them; `[::]` takes IPv4 too.
///
/// # Errors
/// What the system says, above all that the port is taken.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Less than asked for costs speed and nothing else; the daemon reports `rmem_max` at start.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl Quic {
    /// Starts to listen on a socket. Nobody is a member until [`Transport::set_peers`].
    ///
    /// Must be called from within a tokio runtime with its network and its clock, on which all tasks will run.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(identity: &NodeIdentity, socket: UdpSocket, config: QuicConfig) -> Result<(Self, Events), StartError> {
        config.limits.check().map_err(StartError::Limits)?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let tls = tls::configure(identity, false).map_err(StartError::Identity)?;
        let transport = Arc::new(transport_config(&config));
        let (client, server) = endpoint_configs(tls, &transport, &config.limits);
        let mut ids = EndpointConfig::default();
        ids.cid_generator(|| Box::new(ShortIds));
        let endpoint = Endpoint::new(ids, Some(server), socket, Arc::new(TokioRuntime));
        let (sink, events) = event::channel();
        let shared = Arc::new(Shared {
            node: identity.node().clone(),
            limits: config.limits,
            timing: config.timing,
            is_new: config.is_new,
            endpoint: endpoint.map_err(StartError::Socket)?,
            client: Mutex::new(client),
            transport,
            peers: Mutex::default(),
            registry: Registry::default(),
            sink,
            joins: JoinDesk::default(),
            closing: AtomicBool::new(false),
        });
        let accepting = runtime.spawn(accept_all(shared.clone())).abort_handle();
        Ok((Self { shared, runtime, accepting }, events))
    }

    /// The address of the socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.shared.endpoint.local_addr()
    }

    /// Uses a renewed certificate for links from now on; links that are up stay.
    ///
    /// # Errors
    /// [`IdentityError::Unusable`], also for an identity of another node; the old one stays in use then.
    pub fn set_identity(&self, identity: &NodeIdentity) -> Result<(), IdentityError> {
        if *identity.node() != self.shared.node {
            let reason = format!("it names {}, and this node is {}", identity.node(), self.shared.node);
            return Err(IdentityError::Unusable { reason });
        }
        let tls = tls::configure(identity, self.shared.joins.is_open())?;
        let (client, server) = endpoint_configs(tls, &self.shared.transport, &self.shared.limits);
        self.shared.endpoint.set_server_config(Some(server));
        *lock(&self.shared.client) = client;
        Ok(())
    }

    /// Offers joining beside links from now on, or with `None` no longer; see [`crate::join`]. `identity` is the one in
    /// use. Links are not touched.
    ///
    /// # Errors
    /// As [`Quic::set_identity`]; joining is not offered then.
    pub fn offer_joins(&self, identity: &NodeIdentity, host: Option<Arc<dyn JoinHost>>) -> Result<(), IdentityError> {
        self.shared.joins.set_host(host);
        self.set_identity(identity).inspect_err(|_| self.shared.joins.set_host(None))
    }
}

fn endpoint_configs(
    tls: Tls,
    transport: &Arc<TransportConfig>,
    limits: &Limits,
) -> (quinn::ClientConfig, quinn::ServerConfig) {
    let mut client = quinn::ClientConfig::new(tls.client);
    client.transport_config(transport.clone());
    let mut server = quinn::ServerConfig::with_crypto(tls.server);
    server.transport_config(transport.clone());
    server.max_incoming(limits.handshakes_max);
    server.incoming_buffer_size(INCOMING_BYTES_MAX);
    server.incoming_buffer_size_total(INCOMING_BYTES_MAX.saturating_mul(limits.handshakes_max as u64));
    (client, server)
}

fn transport_config(config: &QuicConfig) -> TransportConfig {
    let window = VarInt::from_u32(config.limits.window_bytes);
    let mut congestion = CubicConfig::default();
    congestion.initial_window(FIRST_WINDOW_BYTES);
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(PACKETS_UNACKNOWLEDGED_MAX));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(config.limits.window_bytes.into())
        .datagram_receive_buffer_size(Some(1 << 20))
        .datagram_send_buffer_size(1 << 20)
        .congestion_controller_factory(Arc::new(congestion))
        .ack_frequency_config(Some(acknowledgements))
        .initial_rtt(FIRST_ROUND_TRIP)
        .keep_alive_interval(Some(Duration::from_millis(config.timing.keep_alive_ms.into())))
        .max_idle_timeout(Some(VarInt::from_u32(config.timing.idle_timeout_ms).into()));
    transport
}

/// Takes what strangers open, with a bound on handshakes under way.
async fn accept_all(shared: Arc<Shared>) {
    let most = shared.limits.handshakes_max;
    let places = Arc::new(Semaphore::new(most));
    while let Some(incoming) = shared.endpoint.accept().await {
        if places.available_permits() < most.div_ceil(2) && incoming.may_retry() {
            // An error hands the connection back because it may not be retried; that was asked just now.
            let _ = incoming.retry();
            continue;
        }
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(connect::accept(shared.clone(), incoming, place));
            }
            // Without an answer: a flood gets nothing out of this node.
            Err(_) => incoming.ignore(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves no half-made change: what these locks guard is changed in whole steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        lock(&self.peers)
    }

    /// The pin of a member; `None` for somebody who is none.
    fn pin_of(&self, node: &NodeId) -> Option<Option<[u8; 32]>> {
        self.peers().get(node).map(|entry| entry.peer.certificate_sha256)
    }

    fn client_config(&self) -> quinn::ClientConfig {
        lock(&self.client).clone()
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

impl Transport for Quic {
    fn node(&self) -> &NodeId {
        &self.shared.node
    }

    fn set_peers(&self, peers: Vec<Peer>) -> Result<(), PeersError> {
        peer::check(&peers)?;
        let shared = &self.shared;
        let mut entries = shared.peers();
        if shared.is_closing() {
            return Ok(());
        }
        let wanted: BTreeMap<NodeId, Peer> =
            peers.into_iter().filter(|peer| peer.node != shared.node).map(|peer| (peer.node.clone(), peer)).collect();
        let gone: BTreeSet<NodeId> = entries.keys().filter(|node| !wanted.contains_key(*node)).cloned().collect();
        for node in gone {
            if let Some(dialling) = entries.remove(&node).and_then(|entry| entry.dialling) {
                dialling.abort();
            }
            if let Some(link) = shared.registry.find(&node) {
                link.end(LinkEnd::Removed, CloseCode::Removed);
            }
        }
        for (node, peer) in wanted {
            if entries.get(&node).is_some_and(|entry| entry.peer == peer) {
                continue;
            }
            let older = entries.remove(&node);
            let counters = older.as_ref().map_or_else(Arc::default, |entry| entry.counters.clone());
            if let Some(dialling) = older.and_then(|entry| entry.dialling) {
                dialling.abort();
            }
            let dial = || self.runtime.spawn(connect::dial(shared.clone(), peer.clone())).abort_handle();
            let dialling = (!peer.addresses.is_empty()).then(dial);
            entries.insert(node, Entry { peer, counters, dialling });
        }
        Ok(())
    }

    fn send(&self, to: &NodeId, lane: Lane, delivery: Delivery, bytes: Bytes) -> Result<(), SendError> {
        let link = self.shared.registry.find(to).ok_or(SendError::NoLink)?;
        link.send(&self.shared.limits, lane, delivery, bytes)
    }

    fn figures(&self) -> Vec<LinkFigures> {
        let entries = self.shared.peers();
        let read = |(node, entry): (&NodeId, &Entry)| {
            let link = self.shared.registry.find(node);
            let queued_bytes = link.as_ref().map_or(0, |link| link.queued_bytes());
            entry.counters.read(node.clone(), queued_bytes, link.map(|link| link.path()))
        };
        entries.iter().map(read).collect()
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(async move {
            self.stop_connecting();
            let drained = async {
                let links = self.shared.registry.all();
                links.iter().for_each(|link| link.finish());
                for link in links {
                    link.wait_ended().await;
                }
            };
            let patience = Duration::from_millis(self.shared.timing.drain_ms.into());
            // Whoever was not drained in time is cut off; what it lacks it pulls later.
            let _ = timeout(patience, drained).await;
            self.shared.endpoint.close(CloseCode::Closing.to_var_int(), b"");
            let _ = timeout(patience, self.shared.endpoint.wait_idle()).await;
        })
    }
}

impl Quic {
    /// No link comes up after this.
    fn stop_connecting(&self) {
        let mut entries = self.shared.peers();
        self.shared.closing.store(true, Ordering::Release);
        self.accepting.abort();
        for entry in entries.values_mut() {
            if let Some(dialling) = entry.dialling.take() {
                dialling.abort();
            }
        }
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.stop_connecting();
        self.shared.endpoint.close(CloseCode::Closing.to_var_int(), b"");
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("node", &self.node).finish_non_exhaustive()
    }
}

impl StartError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Limits(error) => error.code(),
            Self::Identity(error) => error.code(),
            Self::Socket(_) => "ERR_BIND_FAILED",
            Self::NoRuntime => "ERR_INTERNAL",
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limits(error) => error.fmt(formatter),
            Self::Identity(error) => error.fmt(formatter),
            Self::Socket(error) => write!(formatter, "the UDP socket cannot be used: {error}"),
            Self::NoRuntime => formatter.write_str("the QUIC transport was started outside a tokio runtime"),
        }
    }
}

impl std::error::Error for StartError {}
