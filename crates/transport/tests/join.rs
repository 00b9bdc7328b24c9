//! Joining over QUIC on real sockets of the loopback.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[expect(dead_code, reason = "the tests of links use the rest")]
mod suite;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::QuicClientConfig;
use replica::epoch::{Epoch, Member};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use suite::{End, connect, exchange, node};
use transport::identity::{Authority, ClusterKeys, JoinToken, KeyKind, MacKey, NodeIdentity};
use transport::join::{
    Credential, DirectoryEntry, JOINS_MAX, JoinAttempt, JoinCredential, JoinError, JoinHost, JoinKey, JoinRefusal,
    JoinRequest, Joined, Welcome, join,
};
use transport::{Event, Quic, QuicConfig, Refusal, Side, bind};

const CLUSTER: u128 = 0xc1;
const SECRET: [u8; 32] = [7; 32];

fn now_s() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Lets everybody in who has the secret, and remembers what was asked.
struct Doorman {
    authority: Authority,
    asked: Mutex<Vec<JoinRequest>>,
    failed: Mutex<Vec<String>>,
    /// How long a decision takes.
    thinks: Duration,
}

impl JoinHost for Doorman {
    fn join(&self, request: &JoinRequest) -> Result<Welcome, JoinRefusal> {
        std::thread::sleep(self.thinks);
        self.asked.lock().unwrap().push(request.clone());
        if request.secret != SECRET {
            return Err(JoinRefusal::TokenUnknown);
        }
        let chain_pem = match &request.credential {
            Credential::Key(key) => self.authority.certify(&request.node, key, now_s(), 30).unwrap(),
            Credential::Shown { .. } => String::new(),
        };
        let member = |slot| Member { slot };
        let members = BTreeMap::from([("node_01".to_owned(), member(1)), (request.node.to_string(), member(2))]);
        let epoch = Epoch { number: 2, members, ..Epoch::default() };
        let entry = DirectoryEntry { node: request.node.clone(), counter: 1, addresses: request.addresses.clone() };
        Ok(Welcome {
            authority_pem: self.authority.certificate_pem().to_owned(),
            chain_pem,
            epoch_key: self.authority.epoch_key(),
            keys: ClusterKeys::new(MacKey { id: 1, secret: [1; 32] }),
            epochs: vec![self.authority.sign_epoch(&epoch)],
            directory: vec![entry],
        })
    }

    fn failed(&self, _from: SocketAddr, reason: &str) {
        self.failed.lock().unwrap().push(reason.to_owned());
    }
}

struct Cluster {
    quic: Quic,
    events: transport::Events,
    address: String,
    doorman: Arc<Doorman>,
    identity: NodeIdentity,
}

fn cluster(thinks: Duration) -> Cluster {
    let authority = Authority::create(CLUSTER, now_s()).unwrap();
    let identity = authority.issue(&node("node_01"), KeyKind::Ed25519, now_s(), 30).unwrap();
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (quic, events) = Quic::start(&identity, socket, QuicConfig::default()).unwrap();
    let address = quic.local_address().unwrap().to_string();
    let doorman = Doorman { authority, asked: Mutex::default(), failed: Mutex::default(), thinks };
    let doorman = Arc::new(doorman);
    quic.offer_joins(&identity, Some(doorman.clone())).unwrap();
    Cluster { quic, events, address, doorman, identity }
}

impl Cluster {
    fn token(&self) -> JoinToken {
        JoinToken {
            cluster: CLUSTER,
            authority_fingerprint: self.doorman.authority.fingerprint(),
            node: node("node_02"),
            address: self.address.clone(),
            secret: SECRET,
            expires_s: u64::MAX >> 1,
        }
    }
}

async fn attempt(token: &JoinToken, credential: JoinCredential<'_>) -> Result<Joined, JoinError> {
    let attempt =
        JoinAttempt { token, credential, addresses: Vec::new(), port: 4_444, versions: (0, 0), now_s: now_s() };
    join(&attempt).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_token_becomes_a_member_and_comes_to_a_link() {
    for kind in [KeyKind::Ed25519, KeyKind::EcdsaP256] {
        let cluster = cluster(Duration::ZERO);
        let key = JoinKey::generate(kind).unwrap();
        let joined = attempt(&cluster.token(), JoinCredential::Key(&key)).await.unwrap();
        assert_eq!(joined.identity.node(), &node("node_02"));
        assert_eq!(joined.identity.key_pem(), key.to_pem());
        assert_eq!(joined.keys.current.secret, [1; 32]);
        assert_eq!(joined.epoch_key, cluster.doorman.authority.epoch_key());
        assert_eq!(joined.directory[0].addresses, ["127.0.0.1:4444"], "the address that the member sees");
        assert_eq!(cluster.doorman.asked.lock().unwrap()[0].credential, Credential::Key(key.public().clone()));

        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (quic, events) = Quic::start(&joined.identity, socket, QuicConfig::default()).unwrap();
        let address = vec![quic.local_address().unwrap().to_string()];
        let first = End { transport: Box::new(cluster.quic), events: cluster.events, address: vec![cluster.address] };
        let mut ends = [first, End { transport: Box::new(quic), events, address }];
        connect(&mut ends).await;
        exchange(&mut ends, 100).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_of_the_cluster_brings_it() {
    let cluster = cluster(Duration::ZERO);
    let issue = |name| cluster.doorman.authority.issue(&node(name), KeyKind::Ed25519, now_s(), 30).unwrap();
    let own = issue("node_02");
    let joined = attempt(&cluster.token(), JoinCredential::Certificate(&own)).await.unwrap();
    assert_eq!(joined.identity.certificate_sha256(), own.certificate_sha256());
    let other = attempt(&cluster.token(), JoinCredential::Certificate(&issue("node_03"))).await;
    assert!(matches!(other, Err(JoinError::Refused(JoinRefusal::CertificateNeeded))), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_member_says_reaches_the_node() {
    let cluster = cluster(Duration::ZERO);
    let key = JoinKey::generate(KeyKind::Ed25519).unwrap();
    let token = JoinToken { secret: [8; 32], ..cluster.token() };
    let refused = attempt(&token, JoinCredential::Key(&key)).await;
    assert!(matches!(refused, Err(JoinError::Refused(JoinRefusal::TokenUnknown))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_cluster_hears_no_answer_of_this_one() {
    let cluster = cluster(Duration::ZERO);
    let key = JoinKey::generate(KeyKind::Ed25519).unwrap();
    let token = JoinToken { authority_fingerprint: [3; 32], ..cluster.token() };
    let refused = attempt(&token, JoinCredential::Key(&key)).await;
    assert!(matches!(refused, Err(JoinError::WrongAuthority { .. })), "{refused:?}");
    assert!(cluster.doorman.asked.lock().unwrap().is_empty(), "the secret went to a stranger");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_offers_no_joins_says_so() {
    let cluster = cluster(Duration::ZERO);
    cluster.quic.offer_joins(&cluster.identity, None).unwrap();
    let key = JoinKey::generate(KeyKind::Ed25519).unwrap();
    let refused = attempt(&cluster.token(), JoinCredential::Key(&key)).await;
    assert!(matches!(refused, Err(JoinError::NotInviting { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_home_is_told_as_such() {
    let cluster = cluster(Duration::ZERO);
    // A socket that is bound and never answers.
    let silent = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let token = JoinToken { address: silent.local_addr().unwrap().to_string(), ..cluster.token() };
    let key = JoinKey::generate(KeyKind::Ed25519).unwrap();
    let refused = attempt(&token, JoinCredential::Key(&key)).await;
    assert!(matches!(refused, Err(JoinError::TimedOut { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_join_at_a_time_are_told_to_come_again() {
    let cluster = cluster(Duration::from_secs(2));
    let token = cluster.token();
    let asking = (0..JOINS_MAX * 2).map(|_| {
        let token = token.clone();
        tokio::spawn(async move {
            let key = JoinKey::generate(KeyKind::Ed25519).unwrap();
            attempt(&token, JoinCredential::Key(&key)).await
        })
    });
    let asking: Vec<_> = asking.collect();
    let (mut joined, mut busy) = (0, 0);
    for asked in asking {
        match asked.await.unwrap() {
            Ok(_) => joined += 1,
            Err(JoinError::Refused(JoinRefusal::Busy)) => busy += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((joined, busy), (JOINS_MAX, JOINS_MAX));
    let failed = cluster.doorman.failed.lock().unwrap();
    assert_eq!(failed.len(), JOINS_MAX, "{failed:?}");
}

/// Takes any certificate of a server.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_joins_are_offered_a_link_still_needs_a_certificate() {
    let mut cluster = cluster(Duration::ZERO);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let anybody = Anybody(provider.signature_verification_algorithms);
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_no_client_auth();
    tls.alpn_protocols = vec![format!("crdt-engine/0/{CLUSTER:032x}").into_bytes()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, cluster.address.parse().unwrap(), "somebody.invalid").unwrap();
    // The handshake may be done, but nothing comes of it.
    if let Ok(connection) = connecting.await {
        connection.closed().await;
    }
    let wait = async {
        loop {
            match cluster.events.next().await {
                Some(Event::Refused { by, refusal, .. }) => return (by, refusal),
                Some(Event::LinkUp { peer }) => panic!("a link to {peer} came up"),
                _ => {}
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    assert_eq!(refused, (Side::Us, Refusal::NoCertificate));
    assert!(cluster.doorman.asked.lock().unwrap().is_empty());
}
