//! The side that lets in: one stream, one request, one answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::{Connection, ReadToEndError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::codec::{Asked, Malformed, answer_to_bytes};
use super::{Credential, JOINS_MAX, JoinHost, JoinRefusal, JoinRequest, REQUEST_BYTES_MAX};
use crate::quic::tls;

/// Label under which keying material of a connection is exported for the proof (RFC 8446, 7.5).
pub(super) const EXPORTER_LABEL: &[u8] = b"EXPORTER-crdt-engine-join-0";
/// Bytes of it.
pub(super) const EXPORTED_BYTES: usize = 32;

/// Who decides about joins, if anybody, and the places of those who ask.
pub(crate) struct JoinDesk {
    host: Mutex<Option<Arc<dyn JoinHost>>>,
    places: Arc<Semaphore>,
}

impl Default for JoinDesk {
    fn default() -> Self {
        Self { host: Mutex::new(None), places: Arc::new(Semaphore::new(JOINS_MAX)) }
    }
}

impl JoinDesk {
    /// True when joins are offered.
    pub(crate) fn is_open(&self) -> bool {
        self.host().is_some()
    }

    pub(crate) fn set_host(&self, host: Option<Arc<dyn JoinHost>>) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = host;
    }

    /// A place for one that asks, if there is one.
    pub(crate) fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Tells whoever decides that somebody got no answer.
    pub(crate) fn tell_failed(&self, from: SocketAddr, reason: &str) {
        if let Some(host) = self.host() {
            host.failed(from, reason);
        }
    }

    fn host(&self) -> Option<Arc<dyn JoinHost>> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers one that asks, and waits until it has hung up. The caller sets the deadline, and keeps the place.
    ///
    /// # Errors
    /// What went wrong, in words: what is told to the node itself is no error here.
    pub(crate) async fn serve(&self, connection: &Connection) -> Result<(), String> {
        let (mut send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
        let request = match receive.read_to_end(REQUEST_BYTES_MAX).await {
            Ok(bytes) => read_request(connection, &bytes),
            Err(ReadToEndError::TooLong) => {
                let reason = format!("it has more than {REQUEST_BYTES_MAX} bytes");
                Err(JoinRefusal::Malformed { reason })
            }
            Err(ReadToEndError::Read(error)) => return Err(error.to_string()),
        };
        let answer = match (request, self.host()) {
            (Ok(request), Some(host)) => {
                let decided = spawn_blocking(move || host.join(&request)).await;
                decided.unwrap_or_else(|error| Err(JoinRefusal::Unable { reason: error.to_string() }))
            }
            (Ok(_), None) => Err(JoinRefusal::Unable { reason: "this node takes no joins any more".into() }),
            (Err(refusal), _) => Err(refusal),
        };
        send.write_all(&answer_to_bytes(&answer)).await.map_err(|error| error.to_string())?;
        // Nothing else is written: a stream that is closed already has lost its reader, which shows below.
        let _ = send.finish();
        // Who asked closes when it has read the answer; before that, closing here could throw the answer away.
        connection.closed().await;
        Ok(())
    }
}

fn malformed(Malformed(what): Malformed) -> JoinRefusal {
    JoinRefusal::Malformed { reason: what.to_owned() }
}

/// Reads a request, and checks what it says about itself.
fn read_request(connection: &Connection, bytes: &[u8]) -> Result<JoinRequest, JoinRefusal> {
    let (asked, body, proof) = Asked::from_bytes(bytes).map_err(malformed)?;
    let credential = match asked.key {
        Some(key) => {
            let exported = export(connection, bytes.get(..body).unwrap_or(bytes)).ok_or(JoinRefusal::BadProof)?;
            if !key.proves(&exported, proof) {
                return Err(JoinRefusal::BadProof);
            }
            Credential::Key(key)
        }
        None => match tls::peer_node(connection) {
            Ok((node, certificate_sha256)) if node == asked.node => Credential::Shown { certificate_sha256 },
            _ => return Err(JoinRefusal::CertificateNeeded),
        },
    };
    let mut addresses = asked.addresses;
    if let Some(address) = addresses.iter().find(|address| !crate::peer::is_host_and_port(address)) {
        let shown: String = address.chars().take(80).collect();
        return Err(JoinRefusal::Malformed { reason: format!("address {shown:?} is not host:port") });
    }
    if addresses.is_empty() && asked.port != 0 {
        // A socket for both families shows IPv4 as a part of IPv6.
        let from = connection.remote_address().ip().to_canonical();
        addresses.push(SocketAddr::new(from, asked.port).to_string());
    }
    let (cluster, secret, node, versions) = (asked.cluster, asked.secret, asked.node, asked.versions);
    Ok(JoinRequest { cluster, secret, node, credential, addresses, versions })
}

/// Keying material of a connection for one request: both ends come to the same, and no other connection does.
pub(super) fn export(connection: &Connection, request: &[u8]) -> Option<[u8; EXPORTED_BYTES]> {
    let mut exported = [0; EXPORTED_BYTES];
    connection.export_keying_material(&mut exported, EXPORTER_LABEL, request).ok()?;
    Some(exported)
}
