//! A real Redis over TLS: with its own CA, with certificates of clients, and with everything that may be wrong there.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use store::{Redis, RedisOptions, RedisTls, StoreError};

use crate::ground::{RedisGround, whole_groups, write};
use crate::redis_server::RedisServer;

type Ca = CertifiedIssuer<'static, KeyPair>;

/// A CA, with its certificate in `FOLDER/NAME.pem`.
fn authority(folder: &Path, name: &str) -> (Ca, PathBuf) {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let path = folder.join(format!("{name}.pem"));
    fs::write(&path, ca.pem()).unwrap();
    (ca, path)
}

/// A certificate and its key as files.
fn certificate(ca: &Ca, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let signed = parameters.signed_by(&key, ca).unwrap();
    let (certificate, private) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    fs::write(&certificate, signed.pem()).unwrap();
    fs::write(&private, key.serialize_pem()).unwrap();
    (certificate, private)
}

struct TlsServer {
    ground: RedisGround,
    files: tempfile::TempDir,
    ca: Ca,
    ca_file: PathBuf,
    port: u16,
}

impl TlsServer {
    /// One for `localhost` on a free port; `clients`: whether it asks for certificates of clients.
    fn start(clients: bool) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (ca, ca_file) = authority(files.path(), "ca");
        let (certificate, key) = certificate(&ca, files.path(), "localhost");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (port_text, certificate, key, ca_text) = (port.to_string(), text(&certificate), text(&key), text(&ca_file));
        let clients = if clients { "yes" } else { "no" };
        let server = RedisServer::start(&[
            "--tls-port",
            &port_text,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca_text,
            "--tls-auth-clients",
            clients,
        ]);
        let ground = RedisGround { server, folder: tempfile::tempdir().unwrap() };
        Self { ground, files, ca, ca_file, port }
    }

    fn options(&self, tls: RedisTls) -> RedisOptions {
        let url = format!("rediss://localhost:{}/0", self.port);
        RedisOptions { url, tls, ..self.ground.options(9) }
    }

    fn open(&self, tls: RedisTls) -> Result<Redis, StoreError> {
        Redis::open(self.options(tls))
    }

    fn trusted(&self) -> RedisTls {
        RedisTls { ca: Some(self.ca_file.clone()), client: None }
    }
}

fn code<T>(result: Result<T, StoreError>) -> Option<&'static str> {
    result.err().map(|error| error.code())
}

#[test]
fn groups_over_tls_are_there_at_the_next_start_and_after_a_break() {
    let server = TlsServer::start(false);
    let mut store: Box<dyn store::Store> = Box::new(server.open(server.trusted()).unwrap());
    write(&mut *store, 1..=3);
    server.ground.server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    write(&mut *store, 4..=5);
    store.close().unwrap();
    let mut store = server.open(server.trusted()).unwrap();
    assert_eq!(store::Store::proof(&store).doubts, []);
    assert_eq!(whole_groups(&mut store), 5);
}

#[test]
fn a_server_that_is_not_trusted_is_refused() {
    let server = TlsServer::start(false);
    let (_, other) = authority(server.files.path(), "other");
    let wrong = server.open(RedisTls { ca: Some(other), client: None }).err().unwrap();
    assert_eq!(wrong.code(), "ERR_STORE_TLS");
    assert!(wrong.to_string().contains("UnknownIssuer"), "{wrong}");
    assert_eq!(code(server.open(RedisTls::default())), Some("ERR_STORE_TLS"), "a CA that the machine does not know");
    let url = format!("rediss://127.0.0.1:{}/0", server.port);
    let other_name = Redis::open(RedisOptions { url, ..server.options(server.trusted()) }).err().unwrap();
    assert_eq!(other_name.code(), "ERR_STORE_TLS", "{other_name}");
    let url = format!("rediss://localhost:{}/0#insecure", server.port);
    let insecure = Redis::open(RedisOptions { url, ..server.options(RedisTls::default()) });
    assert_eq!(code(insecure), Some("ERR_STORE_ADDRESS"));
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it() {
    let server = TlsServer::start(true);
    // Whether the alert or the end of the connection is seen first is a race of the server's.
    let without = server.open(server.trusted()).err().unwrap();
    assert!(matches!(without, StoreError::Tls { .. } | StoreError::Unreachable { .. }), "{without:?}");
    let (strange, _) = authority(server.files.path(), "strange");
    let client = Some(certificate(&strange, server.files.path(), "stranger"));
    let stranger = server.open(RedisTls { client, ..server.trusted() }).err().unwrap();
    assert!(matches!(stranger, StoreError::Tls { .. } | StoreError::Unreachable { .. }), "{stranger:?}");
    let client = Some(certificate(&server.ca, server.files.path(), "node_01"));
    let mut store = server.open(RedisTls { client, ..server.trusted() }).unwrap();
    write(&mut store, 1..=2);
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let server = TlsServer::start(false);
    let text = server.files.path().join("text.pem");
    fs::write(&text, "no certificate").unwrap();
    let empty = server.open(RedisTls { ca: Some(text.clone()), client: None }).err().unwrap();
    assert_eq!(empty.code(), "ERR_STORE_ADDRESS");
    assert!(empty.to_string().contains("text.pem holds no certificate"), "{empty}");
    let key = Some((server.ca_file.clone(), text));
    assert_eq!(code(server.open(RedisTls { client: key, ..server.trusted() })), Some("ERR_STORE_ADDRESS"));
    let missing = RedisTls { ca: Some("/no/such/file".into()), client: None };
    assert_eq!(code(server.open(missing)), Some("ERR_STORE_IO"));
    let url = server.ground.server.url();
    let plain = Redis::open(RedisOptions { url, ..server.options(server.trusted()) });
    assert_eq!(code(plain), Some("ERR_STORE_ADDRESS"), "certificates, and an address without TLS");
}
