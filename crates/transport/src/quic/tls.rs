//! TLS of the links: the chain is checked in the handshake, the name right after it and before anything is said.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Refusal, Side};
use crate::identity::{IdentityError, NodeIdentity, node_id_of, sha256};
use crate::join::JOIN_PROTOCOL;
use crate::node_id::NodeId;

/// Sent nowhere, because the name of the server is not sent: QUIC wants one to begin with. Whom a certificate names
/// is compared as a node id, since not every node id is a DNS name.
pub(crate) const SERVER_NAME: &str = "node.crdt-engine.invalid";

/// Alerts of TLS (RFC 8446, 6) stand in QUIC's error codes from here on (RFC 9001, 4.8).
const QUIC_CRYPTO_ERROR: u64 = 0x100;
/// Stands for one of our close codes in a packet that everybody on the way can read (RFC 9000, 10.2.3). The code itself
/// follows in a packet that only the peer can read, and is seen unless packets are lost.
const QUIC_APPLICATION_ERROR: u64 = 0xc;

/// The codes with which one end closes a connection. They are part of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum CloseCode {
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
    Busy = 12,
}

impl CloseCode {
    pub(crate) fn to_var_int(self) -> VarInt {
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

fn failed(error: &dyn fmt::Display) -> IdentityError {
    IdentityError::Unusable { reason: error.to_string() }
}

fn roots_of(identity: &NodeIdentity) -> Result<Arc<RootCertStore>, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority_certificate().clone()).map_err(|error| failed(&error))?;
    Ok(Arc::new(roots))
}

/// Makes the configurations out of an identity. With `joins`, joining is offered beside links, and then only may a
/// stranger finish the handshake without a certificate: [`peer_node`] refuses it as a link.
pub(super) fn configure(identity: &NodeIdentity, joins: bool) -> Result<Tls, IdentityError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = roots_of(identity)?;
    let protocols = vec![protocol(identity.cluster())];

    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let clients = if joins { clients.allow_unauthenticated() } else { clients };
    let clients = clients.build().map_err(|error| failed(&error))?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(Chains::new(identity, &provider)?));
    server.alpn_protocols = protocols.clone();
    if joins {
        server.alpn_protocols.push(JOIN_PROTOCOL.to_vec());
    }
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

/// Makes the configuration of a node that joins: it takes whoever has the CA of this hash, and shows a certificate if
/// it has one already.
pub(crate) fn configure_join(
    fingerprint: [u8; 32],
    shown: Option<&NodeIdentity>,
) -> Result<Arc<QuicClientConfig>, IdentityError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainVerifier { trust: Trust::Hash(fingerprint), algorithms }));
    let mut client = match shown {
        Some(identity) => {
            client.with_client_auth_cert(identity.chain().to_vec(), identity.key()).map_err(|error| failed(&error))?
        }
        None => client.with_no_client_auth(),
    };
    client.alpn_protocols = vec![JOIN_PROTOCOL.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    Ok(Arc::new(QuicClientConfig::try_from(client).map_err(|error| failed(&error))?))
}

/// True when the other end asks to join.
pub(super) fn is_join(connection: &quinn::Connection) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(JOIN_PROTOCOL))
}

/// Checks that the parts of an identity fit each other, as other members will: the key is the certificate's, the chain
/// ends in the CA, the certificate is valid at `now_s` (seconds since 1970) and may be used on both sides of a link.
///
/// # Errors
/// [`IdentityError::Unusable`] says what does not fit.
pub fn check_identity(identity: &NodeIdentity, now_s: i64) -> Result<(), IdentityError> {
    configure(identity, false)?;
    let roots = roots_of(identity)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_s).unwrap_or_default()));
    let (certificate, rest) = identity.chain().split_first().ok_or_else(|| failed(&"there is no certificate"))?;
    let name = ServerName::try_from(SERVER_NAME).map_err(|error| failed(&error))?;
    let server = ChainVerifier::new(roots.clone(), &provider);
    let servers = server.verify_server_cert(certificate, rest, &name, &[], now);
    servers.map_err(|error| failed(&format_args!("as a server, the certificate does not pass: {error}")))?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    let clients = clients.map_err(|error| failed(&error))?.verify_client_cert(certificate, rest, now);
    clients.map_err(|error| failed(&format_args!("as a client, the certificate does not pass: {error}")))?;
    Ok(())
}

/// What this end shows: members have the CA's certificate, and who joins knows its hash alone.
#[derive(Debug)]
struct Chains {
    link: Arc<CertifiedKey>,
    join: Arc<CertifiedKey>,
}

impl Chains {
    fn new(identity: &NodeIdentity, provider: &CryptoProvider) -> Result<Self, IdentityError> {
        let link = CertifiedKey::from_der(identity.chain().to_vec(), identity.key(), provider);
        let link = link.map_err(|error| failed(&error))?;
        let chain = identity.chain().iter().chain([identity.authority_certificate()]).cloned().collect();
        let join = CertifiedKey::new(chain, link.key.clone());
        Ok(Self { link: Arc::new(link), join: Arc::new(join) })
    }
}

impl ResolvesServerCert for Chains {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let joins = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == JOIN_PROTOCOL));
        Some(if joins { self.join.clone() } else { self.link.clone() })
    }
}

/// What a server's chain must end in.
#[derive(Debug)]
enum Trust {
    /// One of these.
    Roots(Arc<RootCertStore>),
    /// A certificate of this SHA-256, which the server shows beside its own.
    Hash([u8; 32]),
}

/// Checks a server's chain, validity and purpose, and leaves its name to [`peer_node`].
#[derive(Debug)]
struct ChainVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ChainVerifier {
    fn new(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        Self { trust: Trust::Roots(roots), algorithms: provider.signature_verification_algorithms }
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
        let roots = match &self.trust {
            Trust::Roots(roots) => roots.clone(),
            Trust::Hash(hash) => {
                let root = intermediates.iter().find(|certificate| sha256(certificate) == *hash);
                let mut roots = RootCertStore::empty();
                roots.add(root.ok_or(CertificateError::UnknownIssuer)?.clone())?;
                Arc::new(roots)
            }
        };
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms)?;
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
pub(crate) fn peer_node(connection: &quinn::Connection) -> Result<(NodeId, [u8; 32]), Refusal> {
    let identity = connection.peer_identity().ok_or(Refusal::NoCertificate)?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| Refusal::NoCertificate)?;
    let certificate = chain.first().ok_or(Refusal::NoCertificate)?;
    let node = node_id_of(certificate).map_err(|_| Refusal::NoNodeId)?;
    Ok((node, sha256(certificate)))
}

/// Who refused, and why, when a connection did not come to be.
pub(crate) fn refusal_of(error: &ConnectionError) -> (Side, Refusal) {
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
