//! Certificates, keys and tokens as files and texts.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use replica::Signer;
use replica::epoch::{Epoch, Member};
use transport::identity::{
    Authority, ClusterKeys, ClusterSigner, IdentityError, JoinToken, KeyKind, MacKey, NodeIdentity, RotationError,
    TokenError, read_secret, write_secret,
};
use transport::{NodeId, Peer};

const CLUSTER: u128 = 0x0123_4567_89ab_cdef;
const NOW_S: i64 = 1_800_000_000;
const DAY_S: i64 = 86_400;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

#[test]
fn an_identity_survives_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(CLUSTER, NOW_S).unwrap();
    let path = folder.path().join("ca.key");
    write_secret(&path, &authority.key_pem()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let read = Authority::from_pem(CLUSTER, authority.certificate_pem(), &read_secret(&path).unwrap()).unwrap();
    assert_eq!(read.fingerprint(), authority.fingerprint());
    for kind in [KeyKind::Ed25519, KeyKind::EcdsaP256] {
        let issued = read.issue(&node("node_01"), kind, NOW_S, 30).unwrap();
        let again =
            NodeIdentity::from_pem(CLUSTER, issued.authority_pem(), issued.chain_pem(), issued.key_pem()).unwrap();
        assert_eq!(again.node(), &node("node_01"));
        assert_eq!(again.certificate_sha256(), issued.certificate_sha256());
        assert_eq!(again.authority_fingerprint(), authority.fingerprint());
    }
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.key");
    write_secret(&path, "secret").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = read_secret(&path).unwrap_err();
    assert!(matches!(refused, IdentityError::Readable { mode: 0o640, .. }), "{refused}");
    assert!(refused.to_string().contains("chmod 600"), "{refused}");
}

#[test]
fn expiry_is_told_with_what_to_do() {
    let authority = Authority::create(CLUSTER, NOW_S).unwrap();
    let identity = authority.issue(&node("a"), KeyKind::Ed25519, NOW_S, 30).unwrap();
    identity.check_validity(NOW_S).unwrap();
    identity.check_validity(NOW_S + 30 * DAY_S).unwrap();
    let expired = identity.check_validity(NOW_S + 30 * DAY_S + 1).unwrap_err();
    assert_eq!(expired.code(), "ERR_CERT_EXPIRED");
    assert!(expired.to_string().contains("crdt-engine join"), "{expired}");
    let early = identity.check_validity(NOW_S - DAY_S).unwrap_err();
    assert!(matches!(early, IdentityError::NotYetValid { .. }), "{early}");
    let late = authority.issue(&node("a"), KeyKind::Ed25519, NOW_S + 4_000 * DAY_S, 30).unwrap_err();
    assert!(matches!(late, IdentityError::Expired { .. }), "the CA has expired: {late}");
}

#[test]
fn a_certificate_without_a_node_id_is_no_identity() {
    let authority = Authority::create(CLUSTER, NOW_S).unwrap();
    let identity = authority.issue(&node("a"), KeyKind::Ed25519, NOW_S, 30).unwrap();
    let own_pem = authority.certificate_pem();
    let unnamed = NodeIdentity::from_pem(CLUSTER, own_pem, own_pem, identity.key_pem()).unwrap_err();
    assert!(matches!(unnamed, IdentityError::Names { names: 0 }), "{unnamed}");
    let empty = NodeIdentity::from_pem(CLUSTER, own_pem, "", identity.key_pem()).unwrap_err();
    assert!(matches!(empty, IdentityError::Pem { .. }), "{empty}");
    let other = Authority::create(CLUSTER, NOW_S).unwrap();
    assert!(Authority::from_pem(CLUSTER, own_pem, &other.key_pem()).is_err(), "the key of another CA");
}

#[test]
fn epoch_records_are_signed_for_one_cluster() {
    let authority = Authority::create(CLUSTER, NOW_S).unwrap();
    let identity = authority.issue(&node("a"), KeyKind::Ed25519, NOW_S, 30).unwrap();
    let epoch_key = identity.epoch_key().unwrap().unwrap();
    let keys = || ClusterKeys::new(MacKey::generate(1).unwrap());
    let epoch = Epoch { number: 1, members: [("a".into(), Member { slot: 1 })].into(), ..Epoch::default() };
    let signed = authority.sign_epoch(&epoch);
    let signer = ClusterSigner::new(CLUSTER, keys(), epoch_key);
    assert!(signer.verify_epoch(&signed.bytes, &signed.signature));
    assert!(!signer.verify_epoch(&signed.bytes, &signed.signature[1..]));
    let mut changed = signed.bytes.clone();
    changed[0] ^= 1;
    assert!(!signer.verify_epoch(&changed, &signed.signature));
    let other = ClusterSigner::new(CLUSTER + 1, keys(), epoch_key);
    assert!(!other.verify_epoch(&signed.bytes, &signed.signature), "a record of another cluster");
}

#[test]
fn two_keys_are_valid_in_a_rotation_and_no_more() {
    let mut keys = ClusterKeys::new(MacKey { id: 1, secret: [1; 32] });
    let signer = ClusterSigner::new(CLUSTER, keys.clone(), [0; 32]);
    let shared = signer.clone();
    let old = signer.sign(b"batch");
    assert!(signer.verify(1, b"batch", &old) && !signer.verify(1, b"butch", &old) && !signer.verify(2, b"batch", &old));

    assert_eq!(keys.add(MacKey { id: 1, secret: [2; 32] }), Err(RotationError::SameId(1)));
    keys.add(MacKey { id: 2, secret: [2; 32] }).unwrap();
    assert_eq!(keys.add(MacKey { id: 3, secret: [3; 32] }), Err(RotationError::UnderWay));
    signer.set_keys(keys.clone());
    assert_eq!(shared.key_id(), 1);
    keys.promote().unwrap();
    signer.set_keys(keys.clone());
    assert_eq!(shared.key_id(), 2, "clones share the keys");
    let new = shared.sign(b"batch");
    assert!(new != old && shared.verify(2, b"batch", &new) && shared.verify(1, b"batch", &old));
    keys.retire().unwrap();
    signer.set_keys(keys.clone());
    assert!(shared.verify(2, b"batch", &new) && !shared.verify(1, b"batch", &old));
    assert_eq!(keys.promote(), Err(RotationError::NotUnderWay));
}

fn token() -> JoinToken {
    JoinToken {
        cluster: CLUSTER,
        authority_fingerprint: [3; 32],
        node: node("node_02"),
        address: "region-a.example.org:8888".into(),
        secret: [9; 32],
        expires_s: 1_000,
    }
}

#[test]
fn a_token_round_trips_and_expires() {
    let text = token().to_text().unwrap();
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{text}");
    assert_eq!(JoinToken::parse(&format!("  {text}\n")), Ok(token()));
    assert_eq!(token().check_expiry(1_000), Ok(()));
    assert_eq!(token().check_expiry(1_001), Err(TokenError::Expired { expires_s: 1_000, now_s: 1_001 }));
    assert!(!format!("{:?}", token()).contains('9'), "the secret is not shown");
    let long = JoinToken { address: "x".repeat(300), ..token() };
    assert_eq!(long.to_text(), Err(TokenError::Field { what: "address" }));
}

#[test]
fn a_damaged_token_says_how() {
    let text = token().to_text().unwrap();
    assert_eq!(JoinToken::parse("hello"), Err(TokenError::NotAToken));
    assert_eq!(JoinToken::parse("crdt1_"), Err(TokenError::Length));
    assert_eq!(JoinToken::parse("crdt1_%%%%"), Err(TokenError::Encoding));
    assert_eq!(JoinToken::parse(&format!("crdt1_{}", "A".repeat(10_000))), Err(TokenError::Length));
    for place in 6..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        // The last character has bits that no byte needs; a change of those alone is refused as not canonical.
        let refused = JoinToken::parse(&changed).expect_err("a changed token was taken");
        assert!(matches!(refused, TokenError::Checksum | TokenError::Encoding), "{place}: {refused:?}");
        let cut = JoinToken::parse(&text[..place]).expect_err("a cut token was taken");
        assert!(matches!(cut, TokenError::Checksum | TokenError::Encoding | TokenError::Length), "{place}: {cut:?}");
    }
}

#[test]
fn addresses_are_host_and_port() {
    use transport::{Hub, Limits, PeersError, Transport};
    let (transport, _events) = Hub::new().join(node("a"), Limits::default()).unwrap();
    let peer = |address: &str| Peer::new(node("b"), vec![address.to_owned()]);
    for address in ["host:8888", "[::1]:8888", "10.0.0.1:1"] {
        transport.set_peers(vec![peer(address)]).unwrap();
    }
    for address in ["host", ":1", "host:0", "host:99999", ""] {
        let refused = transport.set_peers(vec![peer(address)]);
        assert!(matches!(refused, Err(PeersError::Address { .. })), "{address}");
    }
    assert!(matches!(transport.set_peers(vec![peer("h:1"), peer("h:1")]), Err(PeersError::Twice { .. })));
}
