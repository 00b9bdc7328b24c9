//! The side that is let in.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use replica::Signer;
use replica::epoch::SignedEpoch;
use tokio::time::timeout;

use super::codec::{Asked, answer_from_bytes, put_proof};
use super::server::export;
use super::{ANSWER_BYTES_MAX, DirectoryEntry, JOIN_PATIENCE_MS, JoinError, JoinKey, JoinRefusal, Welcome};
use crate::identity::{ClusterKeys, ClusterSigner, EPOCH_KEY_BYTES, IdentityError, JoinToken, NodeIdentity};
use crate::quic::tls::{self, CloseCode};

/// Addresses of one name that are tried.
const RESOLVED_MAX: usize = 4;
/// A handshake must be done in this time: nobody at home is the usual reason, and there may be several addresses.
const HANDSHAKE_PATIENCE_MS: u64 = 5_000;
/// Between two packets that keep the connection while the member writes its files.
const KEEP_ALIVE_MS: u64 = 2_000;

/// How the node proves itself.
#[derive(Clone, Copy, Debug)]
pub enum JoinCredential<'a> {
    /// The cluster's CA issues a certificate for this key. Keep the key before the attempt, and use it again with the
    /// same token after a failure: then an answer that was lost is given again.
    Key(&'a JoinKey),
    /// The node has a certificate of the cluster's own CA.
    Certificate(&'a NodeIdentity),
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct JoinAttempt<'a> {
    /// The token. Its expiry is for the caller to look at.
    pub token: &'a JoinToken,
    /// How the node proves itself.
    pub credential: JoinCredential<'a>,
    /// Where this node will be reached, `host:port`, at most [`crate::ADDRESSES_MAX`]. Empty: the member takes the
    /// address that it sees, with `port`.
    pub addresses: Vec<String>,
    /// UDP port on which this node will listen; 0 when it is never to be dialled.
    pub port: u16,
    /// Least and greatest protocol version of this build.
    pub versions: (u16, u16),
    /// Seconds since 1970.
    pub now_s: i64,
}

/// What came of it, checked against token and key.
#[derive(Debug)]
pub struct Joined {
    /// Certificate, key and CA.
    pub identity: NodeIdentity,
    /// Public key of the epoch records.
    pub epoch_key: [u8; EPOCH_KEY_BYTES],
    /// The keys behind MACs.
    pub keys: ClusterKeys,
    /// The chain, each record with a good signature; the newest lets this node in.
    pub epochs: Vec<SignedEpoch>,
    /// Where the members are.
    pub directory: Vec<DirectoryEntry>,
}

/// Joins. Must be called from within a tokio runtime with its network and its clock.
///
/// # Errors
/// [`JoinError`] says what to do. After [`JoinError::TimedOut`] and [`JoinError::Unreachable`] the member may have let
/// this node in and the answer was lost: the same token with the same key is answered again.
pub async fn join(attempt: &JoinAttempt<'_>) -> Result<Joined, JoinError> {
    let name = attempt.token.address.as_str();
    let unreachable = |reason: String| JoinError::Unreachable { address: name.to_owned(), reason };
    let found = tokio::net::lookup_host(name).await.map_err(|error| unreachable(error.to_string()))?;
    let found: Vec<SocketAddr> = found.take(RESOLVED_MAX).collect();
    let mut last = unreachable("the name has no address".into());
    for address in found {
        match connect(attempt, address).await {
            Ok((endpoint, connection)) => {
                let patience = Duration::from_millis(JOIN_PATIENCE_MS);
                let asked = timeout(patience, ask(attempt, &connection)).await;
                let code = if asked.is_ok() { CloseCode::Closing } else { CloseCode::Malformed };
                connection.close(code.to_var_int(), b"");
                // So that the member hears it and does not wait; it would only keep a place for some seconds.
                let _ = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
                let timed_out = JoinError::TimedOut { address: name.to_owned() };
                let welcome = asked.unwrap_or(Err(timed_out))?;
                return check(attempt, welcome);
            }
            // The next address of the name may lead to it.
            Err(error @ (JoinError::Unreachable { .. } | JoinError::TimedOut { .. })) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn connect(attempt: &JoinAttempt<'_>, address: SocketAddr) -> Result<(Endpoint, Connection), JoinError> {
    let name = attempt.token.address.as_str();
    let unreachable = |reason: String| JoinError::Unreachable { address: name.to_owned(), reason };
    let shown = match attempt.credential {
        JoinCredential::Key(_) => None,
        JoinCredential::Certificate(identity) => Some(identity),
    };
    let tls = tls::configure_join(attempt.token.authority_fingerprint, shown).map_err(JoinError::Identity)?;
    let own = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = crate::quic::bind(own).map_err(|error| unreachable(error.to_string()))?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime));
    let endpoint = endpoint.map_err(|error| unreachable(error.to_string()))?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .keep_alive_interval(Some(Duration::from_millis(KEEP_ALIVE_MS)));
    let mut config = quinn::ClientConfig::new(tls);
    config.transport_config(Arc::new(transport));
    let connecting = endpoint.connect_with(config, address, tls::SERVER_NAME);
    let connecting = connecting.map_err(|error| unreachable(error.to_string()))?;
    match timeout(Duration::from_millis(HANDSHAKE_PATIENCE_MS), connecting).await {
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        Ok(Err(error)) => Err(failure_of(name, &error)),
        Err(_) => Err(JoinError::TimedOut { address: name.to_owned() }),
    }
}

async fn ask(attempt: &JoinAttempt<'_>, connection: &Connection) -> Result<Welcome, JoinError> {
    let lost = |reason: &dyn std::fmt::Display| lost(attempt, connection, reason);
    let token = attempt.token;
    let key = match attempt.credential {
        JoinCredential::Key(key) => Some(key),
        JoinCredential::Certificate(_) => None,
    };
    let asked = Asked {
        versions: attempt.versions,
        cluster: token.cluster,
        secret: token.secret,
        node: token.node.clone(),
        port: attempt.port,
        addresses: attempt.addresses.clone(),
        key: key.map(|key| key.public().clone()),
    };
    let mut bytes = asked.to_bytes();
    let proof = match key {
        Some(key) => {
            let exported = export(connection, &bytes).ok_or_else(|| lost(&"TLS exports no keying material"))?;
            key.prove(&exported).map_err(JoinError::Identity)?
        }
        None => Vec::new(),
    };
    put_proof(&mut bytes, &proof);
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
    send.write_all(&bytes).await.map_err(|error| lost(&error))?;
    send.finish().map_err(|error| lost(&error))?;
    let answer = receive.read_to_end(ANSWER_BYTES_MAX).await.map_err(|error| lost(&error))?;
    let answer = answer_from_bytes(&answer);
    let answer =
        answer.map_err(|malformed| JoinError::BadAnswer { reason: format!("{} is malformed", malformed.0) })?;
    answer.map_err(JoinError::Refused)
}

/// Why a connection that was up is gone.
fn lost(attempt: &JoinAttempt<'_>, connection: &Connection, reason: &dyn std::fmt::Display) -> JoinError {
    let address = attempt.token.address.as_str();
    match connection.close_reason() {
        Some(error) => failure_of(address, &error),
        None => JoinError::Unreachable { address: address.to_owned(), reason: reason.to_string() },
    }
}

fn failure_of(address: &str, error: &ConnectionError) -> JoinError {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code == CloseCode::Busy.to_var_int() => {
            JoinError::Refused(JoinRefusal::Busy)
        }
        error => JoinError::of_handshake(address, tls::refusal_of(error).1),
    }
}

/// Takes an answer only if it makes a member of this very node.
fn check(attempt: &JoinAttempt<'_>, welcome: Welcome) -> Result<Joined, JoinError> {
    let bad = |reason: String| JoinError::BadAnswer { reason };
    let unfit = |error: IdentityError| bad(error.to_string());
    let token = attempt.token;
    let (chain_pem, key_pem) = match attempt.credential {
        JoinCredential::Key(key) => (welcome.chain_pem.clone(), key.to_pem()),
        JoinCredential::Certificate(identity) => (identity.chain_pem().to_owned(), identity.key_pem().to_owned()),
    };
    let identity = NodeIdentity::from_pem(token.cluster, &welcome.authority_pem, &chain_pem, &key_pem);
    let identity = identity.map_err(unfit)?;
    if identity.authority_fingerprint() != token.authority_fingerprint {
        return Err(bad("it holds another CA than the token names".into()));
    }
    if *identity.node() != token.node {
        return Err(bad(format!("the certificate names {}, and the token {}", identity.node(), token.node)));
    }
    tls::check_identity(&identity, attempt.now_s).map_err(unfit)?;
    let signer = ClusterSigner::new(token.cluster, welcome.keys.clone(), welcome.epoch_key);
    if !welcome.epochs.iter().all(|epoch| signer.verify_epoch(&epoch.bytes, &epoch.signature)) {
        return Err(bad("an epoch record has no good signature".into()));
    }
    let newest = welcome.newest_epoch().ok_or_else(|| bad("it holds no epoch record".into()))?;
    if !newest.members.contains_key(token.node.as_str()) {
        return Err(bad(format!("epoch {} does not let {} in", newest.number, token.node)));
    }
    let Welcome { epoch_key, keys, epochs, directory, .. } = welcome;
    Ok(Joined { identity, epoch_key, keys, epochs, directory })
}
