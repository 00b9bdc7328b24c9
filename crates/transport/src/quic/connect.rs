//! How two nodes come to a link: dialling, accepting, and the checks of both.
//!
//! The dialler opens the one stream and writes the preface; the other end answers with its own only after it has
//! checked the certificate and admitted the link. So a dialler knows by the answer that it was not refused: TLS 1.3
//! alone lets it finish before its certificate was looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Incoming};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::link::{Link, Streams};
use super::registry::Admission;
use super::tls::{self, CloseCode};
use crate::error::{Refusal, Side};
use crate::frame::PREFACE;
use crate::join::JOIN_PATIENCE_MS;
use crate::limits::Timing;
use crate::node_id::NodeId;
use crate::peer::Peer;

/// Addresses of one name that are tried.
const RESOLVED_MAX: usize = 4;
/// How long somebody who is not let in for now is listened to before it hears so.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);

/// A failure before a link was up.
struct Failure {
    by: Side,
    refusal: Refusal,
}

impl Failure {
    fn ours(refusal: Refusal) -> Self {
        Self { by: Side::Us, refusal }
    }
}

/// Dials one member for as long as it is one: whenever there is no link to it.
pub(super) async fn dial(shared: Arc<Shared>, peer: Peer) {
    let mut failures: u32 = 0;
    let Timing { dial_first_ms, dial_second_ms, .. } = shared.timing;
    let mut second_ms = if shared.is_new { dial_first_ms.min(dial_second_ms) } else { dial_second_ms };
    loop {
        shared.registry.wait_without(&peer.node).await;
        if peer.node < shared.node && failures == 0 {
            sleep(Duration::from_millis(second_ms.into())).await;
            second_ms = shared.timing.dial_second_ms;
            if shared.registry.find(&peer.node).is_some() {
                continue;
            }
        }
        if dial_once(&shared, &peer).await {
            failures = 0;
            shared.registry.wait_without(&peer.node).await;
        } else {
            failures = failures.saturating_add(1);
        }
        // Also after a link that was up: one that always ends at once must not be dialled in a circle.
        sleep(wait_ms(&shared, failures)).await;
    }
}

/// The wait doubles with each failure up to the longest; half of it is random, so that nodes that lost each other at
/// one moment do not dial at one moment.
fn wait_ms(shared: &Shared, failures: u32) -> Duration {
    let most = u64::from(shared.timing.dial_max_ms);
    let whole = u64::from(shared.timing.dial_first_ms).saturating_mul(1 << failures.min(20)).min(most).max(2);
    Duration::from_millis(whole / 2 + crate::identity::random_u64() % (whole / 2))
}

/// True when a link came up, over whichever address.
async fn dial_once(shared: &Arc<Shared>, peer: &Peer) -> bool {
    for name in &peer.addresses {
        let addresses: Vec<SocketAddr> = match tokio::net::lookup_host(name.as_str()).await {
            Ok(addresses) => addresses.take(RESOLVED_MAX).collect(),
            Err(error) => {
                let refusal = Refusal::Unreachable { reason: format!("{name}: {error}") };
                shared.sink.tell_refused(Some(peer.node.clone()), None, Side::Us, refusal);
                continue;
            }
        };
        for address in addresses {
            match connect(shared, peer, address).await {
                Ok(()) => return true,
                Err(failure) => {
                    let is_duplicate = failure.refusal == Refusal::Duplicate;
                    shared.sink.tell_refused(Some(peer.node.clone()), Some(address), failure.by, failure.refusal);
                    if is_duplicate {
                        return false;
                    }
                }
            }
        }
    }
    false
}

async fn connect(shared: &Arc<Shared>, peer: &Peer, address: SocketAddr) -> Result<(), Failure> {
    let unreachable = |reason: String| Failure::ours(Refusal::Unreachable { reason });
    let config = shared.client_config();
    let connecting = shared.endpoint.connect_with(config, address, tls::SERVER_NAME);
    let connecting = connecting.map_err(|error| unreachable(error.to_string()))?;
    let patience = Duration::from_millis(shared.timing.handshake_timeout_ms.into());
    let connection = match timeout(patience, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            let (by, refusal) = tls::refusal_of(&error);
            return Err(Failure { by, refusal });
        }
        Err(_) => return Err(Failure::ours(Refusal::TimedOut)),
    };
    let greeted = timeout(patience, greet_as_dialler(shared, peer, &connection)).await;
    refuse_or_pass(&connection, greeted.unwrap_or_else(|_| Err(Failure::ours(Refusal::TimedOut))))
}

async fn greet_as_dialler(shared: &Arc<Shared>, peer: &Peer, connection: &Connection) -> Result<(), Failure> {
    check_peer(shared, connection, Some(&peer.node))?;
    // The other end came first, while this dial waited for it to start: its link is as good, and stays.
    if shared.registry.find(&peer.node).is_some() {
        return Err(Failure::ours(Refusal::Duplicate));
    }
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| failure_of(&error))?;
    if send.write_all(&PREFACE).await.is_err() {
        return Err(lost(connection));
    }
    let mut preface = [0; PREFACE.len()];
    if receive.read_exact(&mut preface).await.is_err() {
        return Err(lost(connection));
    }
    check_preface(preface)?;
    let is_preferred = shared.node < peer.node;
    admit(shared, peer.node.clone(), is_preferred, connection, Streams { send, receive, owes_preface: false })
}

/// Takes a connection that a stranger opened. `place` is its place among the handshakes.
pub(super) async fn accept(shared: Arc<Shared>, incoming: Incoming, place: OwnedSemaphorePermit) {
    let address = incoming.remote_address();
    let patience = Duration::from_millis(shared.timing.handshake_timeout_ms.into());
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => return tell(&shared, None, address, failure_of(&error)),
    };
    let connection = match timeout(patience, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tell(&shared, None, address, failure_of(&error)),
        Err(_) => return tell(&shared, None, address, Failure::ours(Refusal::TimedOut)),
    };
    if tls::is_join(&connection) {
        return let_in(&shared, &connection, address, place).await;
    }
    let node = tls::peer_node(&connection).ok().map(|(node, _)| node);
    let greeted = timeout(patience, greet_as_acceptor(&shared, &connection)).await;
    drop(place);
    let passed = refuse_or_pass(&connection, greeted.unwrap_or_else(|_| Err(Failure::ours(Refusal::TimedOut))));
    if let Err(failure) = passed {
        tell(&shared, node, address, failure);
    }
}

/// Answers somebody who wants to become a member. `place` is its place among the handshakes.
async fn let_in(shared: &Shared, connection: &Connection, address: SocketAddr, place: OwnedSemaphorePermit) {
    let Some(_own) = shared.joins.take_place() else {
        // SUBTLE: a close that overtakes the end of the handshake comes without its code, so the request is awaited.
        let _ = timeout(BUSY_PATIENCE, connection.accept_bi()).await;
        connection.close(CloseCode::Busy.to_var_int(), b"");
        return shared.joins.tell_failed(address, "others join at this moment");
    };
    // From here on it waits among those who join, and no longer in the way of members.
    drop(place);
    let patience = Duration::from_millis(JOIN_PATIENCE_MS);
    let served = timeout(patience, shared.joins.serve(connection)).await;
    connection.close(CloseCode::Closing.to_var_int(), b"");
    match served {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => shared.joins.tell_failed(address, &reason),
        Err(_) => shared.joins.tell_failed(address, "it did not ask, or did not read its answer, in time"),
    }
}

async fn greet_as_acceptor(shared: &Arc<Shared>, connection: &Connection) -> Result<(), Failure> {
    let node = check_peer(shared, connection, None)?;
    let (send, mut receive) = connection.accept_bi().await.map_err(|error| failure_of(&error))?;
    let mut preface = [0; PREFACE.len()];
    if receive.read_exact(&mut preface).await.is_err() {
        return Err(lost(connection));
    }
    check_preface(preface)?;
    let is_preferred = node < shared.node;
    admit(shared, node, is_preferred, connection, Streams { send, receive, owes_preface: true })
}

/// Checks whom the certificate names: a member, the one that was dialled, with the certificate it is pinned to.
fn check_peer(shared: &Shared, connection: &Connection, dialled: Option<&NodeId>) -> Result<NodeId, Failure> {
    let (node, certificate) = tls::peer_node(connection).map_err(Failure::ours)?;
    if node == shared.node {
        return Err(Failure::ours(Refusal::OwnNodeId));
    }
    if let Some(dialled) = dialled.filter(|dialled| **dialled != node) {
        let refusal = Refusal::OtherNode { dialled: Some(dialled.clone()), found: Some(node) };
        return Err(Failure::ours(refusal));
    }
    let Some(pin) = shared.pin_of(&node) else {
        return Err(Failure::ours(Refusal::NotMember { node: Some(node) }));
    };
    if pin.is_some_and(|pin| pin != certificate) {
        return Err(Failure::ours(Refusal::NotPinned));
    }
    Ok(node)
}

fn check_preface(preface: [u8; PREFACE.len()]) -> Result<(), Failure> {
    if preface == PREFACE {
        return Ok(());
    }
    Err(Failure::ours(Refusal::Malformed { reason: format!("preface {preface:02x?}") }))
}

fn admit(
    shared: &Arc<Shared>,
    peer: NodeId,
    is_preferred: bool,
    connection: &Connection,
    streams: Streams,
) -> Result<(), Failure> {
    // SUBTLE: membership is read under the same lock that `set_peers` writes it under, so no link of somebody who
    // was just removed is left behind.
    let peers = shared.peers();
    if shared.is_closing() {
        return Err(Failure::ours(Refusal::Closing));
    }
    let Some(entry) = peers.get(&peer) else {
        return Err(Failure::ours(Refusal::NotMember { node: Some(peer) }));
    };
    let (link, queued) = Link::new(peer, is_preferred, connection.clone(), entry.counters.clone());
    match shared.registry.admit(&link) {
        Admission::Duplicate => Err(Failure::ours(Refusal::Duplicate)),
        Admission::Admitted(replaced) => {
            tokio::spawn(link.run(shared.clone(), streams, queued, replaced));
            Ok(())
        }
    }
}

/// Closes a connection that was refused here, so that the other end learns why.
fn refuse_or_pass(connection: &Connection, greeted: Result<(), Failure>) -> Result<(), Failure> {
    if let Err(failure) = &greeted {
        let code = match failure.by {
            Side::Us => CloseCode::of(&failure.refusal),
            Side::Peer => CloseCode::Closing,
        };
        connection.close(code.to_var_int(), b"");
    }
    greeted
}

fn failure_of(error: &quinn::ConnectionError) -> Failure {
    let (by, refusal) = tls::refusal_of(error);
    Failure { by, refusal }
}

/// Why the connection under a stream that failed is gone.
fn lost(connection: &Connection) -> Failure {
    match connection.close_reason() {
        Some(error) => failure_of(&error),
        None => Failure { by: Side::Peer, refusal: Refusal::Malformed { reason: "the stream was reset".into() } },
    }
}

fn tell(shared: &Shared, node: Option<NodeId>, address: SocketAddr, failure: Failure) {
    shared.sink.tell_refused(node, Some(address), failure.by, failure.refusal);
}
