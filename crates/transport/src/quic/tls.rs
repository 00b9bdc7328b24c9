//! TLS of the links: the chain is checked in the handshake, the name right after it and before anything is said.

use std::fmt;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Refusal, Side};
use crate::identity::{IdentityError, NodeIdentity, node_id_of};
use crate::node_id::NodeId;

/// Sent nowhere, because the name of the server is not sent: QUIC wants one to begin with. Whom a certificate names
/// is compared as a node id, since not every node id is a DNS name.
pub(super) const SERVER_NAME: &str = "node.crdt-engine.invalid";

/// Alerts of TLS (RFC 8446, 6) stand in QUIC's error codes from here on (RFC 9001, 4.8).
const QUIC_CRYPTO_ERROR: u64 = 0x100;
/// Stands for one of our close codes in a packet that everybody on the way can read (RFC 9000, 10.2.3). The code itself
/// follows in a packet that only the peer can read, and is seen unless packets are lost.
const QUIC_APPLICATION_ERROR: u64 = 0xc;

/// The codes with which one end closes a connection. They are part of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum CloseCode {
    Closing = 0,
    NotMember = 1,
    OtherNode = 2,
    NoNodeId = 3,
    NotPinned = 4,
    OwnNodeId = 5,
    Duplicate = 6,
    Replaced = 7,
    Overflow = 8,
    MessageTooLarge = 9,
    Malformed = 10,
    Removed = 11,
}

impl CloseCode {
    pub(super) fn to_var_int(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// What we close with when we refuse.
    pub(super) fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotMember { .. } => Self::NotMember,
            Refusal::OtherNode { .. } => Self::OtherNode,
            Refusal::NotPinned => Self::NotPinned,
            Refusal::OwnNodeId => Self::OwnNodeId,
            Refusal::Duplicate => Self::Duplicate,
            Refusal::Closing => Self::Closing,
            Refusal::NoNodeId | Refusal::NoCertificate | Refusal::BadCertificate => Self::NoNodeId,
            _ => Self::Malformed,
        }
    }
}

/// The configurations of both roles.
pub(super) struct Tls {
    pub(super) client: Arc<QuicClientConfig>,
    pub(super) server: Arc<QuicServerConfig>,
}

/// What each end offers as protocol: two clusters never come to a handshake.
fn protocol(cluster: u128) -> Vec<u8> {
    format!("crdt-engine/0/{cluster:032x}").into_bytes()
}

/// Makes the configurations out of an identity.
pub(super) fn configure(identity: &NodeIdentity) -> Result<Tls, IdentityError> {
    let failed = |error: &dyn fmt::Display| IdentityError::Unusable { reason: error.to_string() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority_certificate().clone()).map_err(|error| failed(&error))?;
    let roots = Arc::new(roots);
    let protocols = vec![protocol(identity.cluster())];

    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let clients = clients.build().map_err(|error| failed(&error))?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(clients)
        .with_single_cert(identity.chain().to_vec(), identity.key())
        .map_err(|error| failed(&error))?;
    server.alpn_protocols = protocols.clone();
    // SUBTLE: a resumed session skips the certificate. A link lives long, so resuming would gain nothing.
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;

    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainVerifier::new(roots, &provider)))
        .with_client_auth_cert(identity.chain().to_vec(), identity.key())
        .map_err(|error| failed(&error))?;
    client.alpn_protocols = protocols;
    client.resumption = Resumption::disabled();
    client.enable_sni = false;

    Ok(Tls {
        client: Arc::new(QuicClientConfig::try_from(client).map_err(|error| failed(&error))?),
        server: Arc::new(QuicServerConfig::try_from(server).map_err(|error| failed(&error))?),
    })
}

/// Checks a server's chain, validity and purpose, and leaves its name to [`peer_node`].
#[derive(Debug)]
struct ChainVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ChainVerifier {
    fn new(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        Self { roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whom the peer's certificate names, and the hash of that certificate. Its chain was checked in the handshake.
pub(super) fn peer_node(connection: &quinn::Connection) -> Result<(NodeId, [u8; 32]), Refusal> {
    let identity = connection.peer_identity().ok_or(Refusal::NoCertificate)?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| Refusal::NoCertificate)?;
    let certificate = chain.first().ok_or(Refusal::NoCertificate)?;
    let node = node_id_of(certificate).map_err(|_| Refusal::NoNodeId)?;
    Ok((node, crate::identity::sha256(certificate)))
}

/// Who refused, and why, when a connection did not come to be.
pub(super) fn refusal_of(error: &ConnectionError) -> (Side, Refusal) {
    match error {
        ConnectionError::TransportError(error) => (Side::Us, refusal_of_code(error.code.into(), &error.reason)),
        ConnectionError::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason);
            (Side::Peer, refusal_of_code(close.error_code.into(), &reason))
        }
        ConnectionError::ApplicationClosed(close) => (Side::Peer, refusal_of_close(close.error_code.into())),
        ConnectionError::TimedOut => (Side::Us, Refusal::TimedOut),
        ConnectionError::LocallyClosed => (Side::Us, Refusal::Closing),
        ConnectionError::Reset => (Side::Peer, Refusal::Unreachable { reason: "reset by the peer".into() }),
        ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
            (Side::Us, Refusal::Malformed { reason: error.to_string() })
        }
    }
}

fn refusal_of_code(code: u64, reason: &str) -> Refusal {
    if code == QUIC_APPLICATION_ERROR {
        return Refusal::Malformed { reason: "the peer refused this node before the handshake was confirmed".into() };
    }
    match code.checked_sub(QUIC_CRYPTO_ERROR) {
        // unknown_ca; decrypt_error: another CA of the same name.
        Some(48 | 51) => Refusal::WrongAuthority,
        Some(45) => Refusal::Expired,
        Some(116) => Refusal::NoCertificate,
        Some(120) => Refusal::WrongCluster,
        Some(42 | 43 | 44 | 46 | 49) => Refusal::BadCertificate,
        _ => Refusal::Malformed { reason: format!("code {code:#x} {}", reason.chars().take(120).collect::<String>()) },
    }
}

/// What the peer's close code says about us.
pub(super) fn refusal_of_close(code: u64) -> Refusal {
    match code {
        0 => Refusal::Closing,
        1 | 11 => Refusal::NotMember { node: None },
        2 => Refusal::OtherNode { dialled: None, found: None },
        3 => Refusal::NoNodeId,
        4 => Refusal::NotPinned,
        5 => Refusal::OwnNodeId,
        6 => Refusal::Duplicate,
        code => Refusal::Malformed { reason: format!("closed with code {code}") },
    }
}
