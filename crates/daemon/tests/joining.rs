//! `init`, `invite` and `join` on real folders, over real sockets of the loopback.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use daemon::folder::{Folder, FolderError};
use daemon::init::{InitError, InitOptions, Initialised, OwnFiles, init};
use daemon::invite::{Invitation, InviteError, InviteOptions, VALIDITY_DEFAULT_S, invite};
use daemon::join::{JoinCommandError, JoinOptions, NewMember, join};
use daemon::join_host::{FolderHost, JoinWatch, NodeJoined};
use tempfile::TempDir;
use transport::identity::{Authority, KeyKind, write_public, write_secret};
use transport::join::{JoinError, JoinRefusal};
use transport::{Events, NodeId, Quic, QuicConfig, bind};

fn now_s() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// What the host told, and its clock.
#[derive(Clone, Default)]
struct Watch {
    ahead_s: Arc<AtomicI64>,
    joined: Arc<Mutex<Vec<NodeJoined>>>,
    refused: Arc<Mutex<Vec<JoinRefusal>>>,
}

impl JoinWatch for Watch {
    fn now_s(&self) -> i64 {
        now_s() + self.ahead_s.load(Ordering::Relaxed)
    }

    fn joined(&self, joined: NodeJoined) {
        self.joined.lock().unwrap().push(joined);
    }

    fn refused(&self, _node: &NodeId, refusal: &JoinRefusal) {
        self.refused.lock().unwrap().push(refusal.clone());
    }

    fn failed(&self, from: SocketAddr, reason: &str) {
        panic!("{from} was not answered: {reason}");
    }
}

/// A member that lets others in.
struct Inviter {
    root: TempDir,
    folder: Folder,
    address: String,
    watch: Watch,
    _quic: Quic,
    _events: Events,
}

fn init_options(name: &str) -> InitOptions {
    InitOptions {
        node: node(name),
        key_kind: KeyKind::Ed25519,
        own: None,
        addresses: Vec::new(),
        config_text: "# configuration\n".into(),
        now_s: now_s(),
    }
}

fn inviter(own: impl FnOnce(&Path) -> Option<OwnFiles>) -> Inviter {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("node_01"));
    let own = own(root.path());
    init(&folder, &InitOptions { own, ..init_options("node_01") }).unwrap();
    let identity = folder.load().unwrap();
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (quic, events) = Quic::start(&identity.node, socket, QuicConfig::default()).unwrap();
    let watch = Watch::default();
    let host = FolderHost::new(folder.clone(), Box::new(watch.clone()));
    quic.offer_joins(&identity.node, Some(Arc::new(host))).unwrap();
    let address = quic.local_address().unwrap().to_string();
    Inviter { root, folder, address, watch, _quic: quic, _events: events }
}

impl Inviter {
    fn options(&self, name: &str) -> InviteOptions {
        InviteOptions {
            node: node(name),
            address: Some(self.address.clone()),
            port: 8_888,
            valid_s: VALIDITY_DEFAULT_S,
            renew: false,
            now_s: now_s(),
        }
    }

    fn invite(&self, name: &str) -> Invitation {
        invite(&self.folder, &self.options(name)).unwrap()
    }

    fn folder_of(&self, name: &str) -> Folder {
        Folder::new(self.root.path().join(name))
    }

    fn invites(&self, extension: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("invites")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }
}

fn join_options(token: &str) -> JoinOptions {
    JoinOptions {
        token: token.to_owned(),
        addresses: Vec::new(),
        port: 4_444,
        key_kind: KeyKind::Ed25519,
        own: None,
        config_text: "# configuration\n".into(),
        now_s: now_s(),
    }
}

async fn enter(folder: &Folder, token: &str) -> Result<NewMember, JoinCommandError> {
    join(folder, &join_options(token)).await
}

fn refusal(result: Result<NewMember, JoinCommandError>) -> JoinRefusal {
    match result {
        Err(JoinCommandError::Join(JoinError::Refused(refusal))) => refusal,
        other => panic!("not refused by the member: {other:?}"),
    }
}

#[test]
fn init_makes_a_node_once_and_keeps_its_secrets() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("node"));
    assert!(matches!(folder.load(), Err(FolderError::NotInitialised { .. })));
    let made: Initialised = init(&folder, &init_options("node_01")).unwrap();
    assert!(made.config_written);
    let identity = folder.load().unwrap();
    assert_eq!((identity.node.cluster(), identity.node.node()), (made.cluster, &node("node_01")));
    assert_eq!((identity.epoch.number, identity.epoch.members["node_01"].slot), (1, 1));
    assert!(folder.issuer().unwrap().is_some_and(|issuer| issuer.certifies));
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o7777;
    for secret in ["identity/ca.key", "identity/node.key", "identity/mac.keys", "config.toml"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    assert_eq!((mode("identity"), mode("invites"), mode("state")), (0o700, 0o700, 0o700));
    let again = init(&folder, &init_options("node_02"));
    assert!(matches!(again, Err(InitError::Folder(FolderError::AlreadyInitialised { .. }))), "{again:?}");
    assert_eq!(folder.load().unwrap().node.node(), &node("node_01"));

    let running = folder.lock_for_running().unwrap();
    assert!(matches!(folder.lock_for_running(), Err(FolderError::InUse { .. })));
    drop(running);
    drop(folder.lock_for_running().unwrap());
    fs::set_permissions(folder.path().join("identity"), fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(folder.load().unwrap_err().code(), "ERR_KEY_READABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_in_one_after_another() {
    let inviter = inviter(|_| None);
    for (name, slot) in [("node_02", 2), ("node_03", 3)] {
        let folder = inviter.folder_of(name);
        let entered = enter(&folder, &inviter.invite(name).token).await.unwrap();
        assert_eq!((entered.slot, entered.members), (slot, usize::from(slot)));
        assert!(entered.config_written && !entered.renewed);
        let (ours, theirs) = (folder.load().unwrap(), inviter.folder.load().unwrap());
        assert_eq!(ours.epoch, theirs.epoch);
        assert_eq!(ours.keys, theirs.keys);
        assert_eq!(ours.epochs, theirs.epochs);
        assert!(folder.issuer().unwrap().is_none(), "the CA's key stays where it is");
        let directory = folder.directory().unwrap();
        let address = |name: &str| directory.iter().find(|entry| entry.node == node(name)).unwrap().addresses.clone();
        assert_eq!(address("node_01"), std::slice::from_ref(&inviter.address));
        assert_eq!(address(name), ["127.0.0.1:4444"]);
        let joined = inviter.watch.joined.lock().unwrap().last().cloned().unwrap();
        assert_eq!((joined.node, Some(&joined.epoch)), (node(name), theirs.epochs.last()));
    }
    let not_inviter = invite(&inviter.folder_of("node_02"), &inviter.options("node_04"));
    assert!(matches!(not_inviter, Err(InviteError::NotInviter { .. })), "{not_inviter:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_one_machine() {
    let inviter = inviter(|_| None);
    let (first, second) = (inviter.invite("node_02"), inviter.invite("node_02"));
    let folder = inviter.folder_of("one");
    enter(&folder, &first.token).await.unwrap();
    let other = inviter.folder_of("other");
    assert_eq!(refusal(enter(&other, &first.token).await), JoinRefusal::TokenUsed);
    assert_eq!(refusal(enter(&other, &second.token).await), JoinRefusal::TokenUsed, "it was revoked");
    assert!(!other.is_initialised());
    assert_eq!(inviter.watch.refused.lock().unwrap().len(), 2);
    let taken = invite(&inviter.folder, &inviter.options("node_02"));
    assert!(matches!(taken, Err(InviteError::NodeIdTaken { .. })), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_given_again() {
    let inviter = inviter(|_| None);
    let token = inviter.invite("node_02").token;
    let folder = inviter.folder_of("node_02");
    enter(&folder, &token).await.unwrap();
    let before = folder.load().unwrap();
    // As if the process had died before the last step, and long ago.
    fs::remove_file(folder.path().join("identity/cluster.toml")).unwrap();
    inviter.watch.ahead_s.store(2 * VALIDITY_DEFAULT_S as i64, Ordering::Relaxed);
    let again = enter(&folder, &token).await.unwrap();
    assert_eq!(again.members, 2, "no second epoch record was made");
    let after = folder.load().unwrap();
    assert_eq!(after.node.certificate_sha256(), before.node.certificate_sha256());
    assert_eq!(after.epoch, before.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_member_between_claim_and_epoch_burns_nothing() {
    let inviter = inviter(|_| None);
    let token = inviter.invite("node_02").token;
    let chain = inviter.folder.path().join("identity/epochs");
    let before = fs::read(&chain).unwrap();
    let folder = inviter.folder_of("node_02");
    enter(&folder, &token).await.unwrap();
    // The claim was written, and nothing after it.
    fs::write(&chain, before).unwrap();
    let used = inviter.invites("used").pop().unwrap();
    fs::rename(&used, used.with_extension("open")).unwrap();
    let other = inviter.folder_of("other");
    assert_eq!(refusal(enter(&other, &token).await), JoinRefusal::TokenUsed, "the claim is another's");
    fs::remove_file(folder.path().join("identity/cluster.toml")).unwrap();
    assert_eq!(enter(&folder, &token).await.unwrap().epoch, 2);
    assert_eq!((inviter.invites("open").len(), inviter.invites("used").len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_its_reason() {
    let inviter = inviter(|_| None);
    let folder = inviter.folder_of("node_02");
    let damaged = enter(&folder, "crdt1_AAAA").await.unwrap_err();
    assert_eq!(damaged.code(), "ERR_TOKEN_INVALID");
    assert!(!folder.path().exists(), "nothing is made for a token that is none");

    let token = inviter.invite("node_02").token;
    let mut open = inviter.invites("open");
    let hidden = open.pop().unwrap();
    fs::rename(&hidden, hidden.with_extension("away")).unwrap();
    assert_eq!(refusal(enter(&folder, &token).await), JoinRefusal::TokenUnknown);
    fs::rename(hidden.with_extension("away"), &hidden).unwrap();

    inviter.watch.ahead_s.store(2 * VALIDITY_DEFAULT_S as i64, Ordering::Relaxed);
    assert!(matches!(refusal(enter(&folder, &token).await), JoinRefusal::TokenExpired { .. }));
    inviter.watch.ahead_s.store(0, Ordering::Relaxed);

    let elsewhere = enter(&inviter.folder, &token).await.unwrap_err();
    assert!(matches!(elsewhere, JoinCommandError::OtherNode { .. }), "{elsewhere:?}");
    for valid_s in [0, 31 * 86_400] {
        let refused = invite(&inviter.folder, &InviteOptions { valid_s, ..inviter.options("node_02") });
        assert!(matches!(refused, Err(InviteError::Validity { .. })), "{refused:?}");
    }
    let address = Some("no port".to_owned());
    let refused = invite(&inviter.folder, &InviteOptions { address, ..inviter.options("node_02") });
    assert!(matches!(refused, Err(InviteError::Address { .. })), "{refused:?}");
    enter(&folder, &token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_gets_a_new_certificate_and_keeps_its_slot() {
    let inviter = inviter(|_| None);
    let folder = inviter.folder_of("node_02");
    enter(&folder, &inviter.invite("node_02").token).await.unwrap();
    let before = folder.load().unwrap();
    let renewal = InviteOptions { renew: true, ..inviter.options("node_02") };
    let token = invite(&inviter.folder, &renewal).unwrap().token;
    let renewed = enter(&folder, &token).await.unwrap();
    assert!(renewed.renewed && !renewed.config_written);
    let after = folder.load().unwrap();
    assert_ne!(after.node.certificate_sha256(), before.node.certificate_sha256());
    assert_eq!((renewed.slot, &after.epoch), (2, &before.epoch));
    let stranger = InviteOptions { renew: true, ..inviter.options("node_09") };
    assert!(matches!(invite(&inviter.folder, &stranger), Err(InviteError::NotMember { .. })));
}

/// Certificates of a CA that is not the cluster's own work.
fn own_files(root: &Path, authority: &Authority, name: &str) -> OwnFiles {
    let issued = authority.issue(&node(name), KeyKind::EcdsaP256, now_s(), 30).unwrap();
    let path = |suffix: &str| root.join(format!("{name}.{suffix}"));
    let files = OwnFiles { certificate: path("pem"), key: path("key"), ca: root.join("company-ca.pem") };
    write_public(&files.certificate, issued.chain_pem()).unwrap();
    write_secret(&files.key, issued.key_pem()).unwrap();
    write_public(&files.ca, authority.certificate_pem()).unwrap();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_lives_with_certificates_of_somebody_elses_ca() {
    // What the CA's Common Name says does not matter to anybody.
    let company = Authority::create(0, now_s()).unwrap();
    let inviter = inviter(|root| Some(own_files(root, &company, "node_01")));
    let issuer = inviter.folder.issuer().unwrap().unwrap();
    assert!(!issuer.certifies);
    assert_ne!(issuer.authority.fingerprint(), company.fingerprint());

    let folder = inviter.folder_of("node_02");
    let token = inviter.invite("node_02").token;
    assert_eq!(refusal(enter(&folder, &token).await), JoinRefusal::CertificateNeeded);
    let with = |name: &str| {
        let own = Some(own_files(inviter.root.path(), &company, name));
        JoinOptions { own, ..join_options(&token) }
    };
    let other = join(&folder, &with("node_03")).await.unwrap_err();
    assert!(matches!(other, JoinCommandError::OtherCertificate { .. }), "{other:?}");
    let entered = join(&folder, &with("node_02")).await.unwrap();
    assert_eq!((entered.slot, entered.members), (2, 2));
    let identity = folder.load().unwrap();
    assert_eq!(identity.node.authority_fingerprint(), company.fingerprint());
    assert_eq!(identity.epoch_key, issuer.authority.epoch_key());

    let stranger = Authority::create(0, now_s()).unwrap();
    let root = tempfile::tempdir().unwrap();
    let token = inviter.invite("node_04").token;
    let own = Some(own_files(root.path(), &stranger, "node_04"));
    let refused = join(&inviter.folder_of("node_04"), &JoinOptions { own, ..join_options(&token) }).await;
    assert!(matches!(refused, Err(JoinCommandError::OtherAuthority { .. })), "{refused:?}");
}

#[test]
fn certificates_that_do_not_fit_make_no_cluster() {
    let root = tempfile::tempdir().unwrap();
    let company = Authority::create(0, now_s()).unwrap();
    let files = own_files(root.path(), &company, "node_01");
    let folder = Folder::new(root.path().join("node"));
    let with = |own: OwnFiles, name: &str| init(&folder, &InitOptions { own: Some(own), ..init_options(name) });
    let other = with(files.clone(), "node_02").unwrap_err();
    assert_eq!(other.code(), "ERR_CERT_OTHER_NODE");
    let key = own_files(root.path(), &company, "node_09").key;
    let unfit = with(OwnFiles { key, ..files.clone() }, "node_01").unwrap_err();
    assert_eq!(unfit.code(), "ERR_IDENTITY_UNUSABLE", "{unfit}");
    let stranger = Authority::create(1, now_s()).unwrap();
    let ca = root.path().join("stranger.pem");
    write_public(&ca, stranger.certificate_pem()).unwrap();
    let unfit = with(OwnFiles { ca, ..files.clone() }, "node_01").unwrap_err();
    assert_eq!(unfit.code(), "ERR_IDENTITY_UNUSABLE", "{unfit}");
    assert!(!folder.is_initialised());
    with(files, "node_01").unwrap();
}
