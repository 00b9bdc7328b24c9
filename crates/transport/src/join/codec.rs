//! How requests and answers stand on the wire. Numbers are big-endian.
//!
//! ```text
//! request:    version least(u16) version most(u16) cluster(16) secret(32) node id (u8 length, text) port(u16)
//!             addresses (u8 count, each u16 length, text) key kind(u8: 0 shown in TLS, 1 Ed25519, 2 P-256) [key]
//!             proof (u16 length, bytes)
//! answer:     0 welcome | 1 refusal
//! welcome:    CA PEM (u32 length, text) chain PEM (u32 length, text; empty when a certificate was shown)
//!             epoch key(32) MAC keys (u8 count 1-2, each id(u32) secret(32))
//!             epochs (u32 count, each u32 length, bytes, u16 length, signature) directory (u8 count, entries)
//! entry:      node id (u8 length, text) counter(u64) addresses (u8 count, each u16 length, text)
//! refusal:    kind(u8), its fields
//! ```

use replica::epoch::{MEMBERS_MAX, NODE_ID_BYTES_MAX, SignedEpoch};

use super::key::{PublicKey, SIGNATURE_BYTES_MAX};
use super::refusal::JoinRefusal;
use super::{ANSWER_BYTES_MAX, DirectoryEntry, Welcome};
use crate::identity::{ClusterKeys, EPOCH_KEY_BYTES, MAC_KEY_BYTES, MacKey, TOKEN_SECRET_BYTES};
use crate::node_id::NodeId;
use crate::peer::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};

/// Longest PEM text in an answer: as long as a chain of several RSA certificates.
const PEM_BYTES_MAX: usize = 64 << 10;
/// Largest epoch record: what `replica` reads at most.
const EPOCH_BYTES_MAX: usize = 1 << 20;
/// Longest signature of an epoch record; Ed25519's has 64 bytes.
const EPOCH_SIGNATURE_BYTES_MAX: usize = 1 << 10;
/// Most epoch records in an answer.
const EPOCHS_MAX: usize = 4_096;

/// A field that is cut or out of its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed(pub(super) &'static str);

/// What is left to be read.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn raw(&mut self, bytes: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (field, rest) = self.0.split_at_checked(bytes).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(field)
    }

    pub(super) fn array<const BYTES: usize>(&mut self, what: &'static str) -> Result<[u8; BYTES], Malformed> {
        self.raw(BYTES, what)?.try_into().map_err(|_| Malformed(what))
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array(what).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Bytes of a length that was read before; a length above the bound is refused before anything is taken.
    fn bounded(&mut self, bytes: usize, bytes_max: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        if bytes > bytes_max {
            return Err(Malformed(what));
        }
        self.raw(bytes, what)
    }

    pub(super) fn text(&mut self, bytes: usize, bytes_max: usize, what: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bounded(bytes, bytes_max, what)?).map_err(|_| Malformed(what))
    }

    fn node(&mut self) -> Result<NodeId, Malformed> {
        let length = self.byte("node id")?;
        let text = self.text(length.into(), NODE_ID_BYTES_MAX, "node id")?;
        NodeId::new(text).map_err(|_| Malformed("node id"))
    }

    fn addresses(&mut self) -> Result<Vec<String>, Malformed> {
        let count = usize::from(self.byte("number of addresses")?);
        if count > ADDRESSES_MAX {
            return Err(Malformed("number of addresses"));
        }
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let length = self.u16("length of an address")?;
            addresses.push(self.text(length.into(), ADDRESS_BYTES_MAX, "address")?.to_owned());
        }
        Ok(addresses)
    }

    fn pem(&mut self) -> Result<String, Malformed> {
        let length = self.u32("length of a PEM text")?;
        Ok(self.text(length as usize, PEM_BYTES_MAX, "PEM text")?.to_owned())
    }

    fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("something follows the last field")) }
    }
}

fn put_node(bytes: &mut Vec<u8>, node: &NodeId) {
    let text = node.as_str().as_bytes();
    bytes.push(u8::try_from(text.len()).expect("a node id has at most 63 bytes"));
    bytes.extend_from_slice(text);
}

/// At most [`ADDRESSES_MAX`] addresses of at most [`ADDRESS_BYTES_MAX`] bytes: what is above is left out.
fn put_addresses(bytes: &mut Vec<u8>, addresses: &[String]) {
    let kept = addresses.iter().filter(|address| address.len() <= ADDRESS_BYTES_MAX).take(ADDRESSES_MAX);
    bytes.push(u8::try_from(kept.clone().count()).expect("there are at most 8 addresses"));
    for address in kept {
        let length = u16::try_from(address.len()).expect("an address has at most 259 bytes");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(address.as_bytes());
    }
}

fn put_long(bytes: &mut Vec<u8>, field: &[u8]) {
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(field);
}

/// A request without its proof. It holds a secret, so it is shown in tests only.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Asked {
    pub(super) versions: (u16, u16),
    pub(super) cluster: u128,
    pub(super) secret: [u8; TOKEN_SECRET_BYTES],
    pub(super) node: NodeId,
    /// UDP port on which the node will listen.
    pub(super) port: u16,
    pub(super) addresses: Vec<String>,
    /// `None`: the certificate that TLS showed.
    pub(super) key: Option<PublicKey>,
}

impl Asked {
    /// What the proof is made over, and what goes before it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&self.versions.0.to_be_bytes());
        bytes.extend_from_slice(&self.versions.1.to_be_bytes());
        bytes.extend_from_slice(&self.cluster.to_be_bytes());
        bytes.extend_from_slice(&self.secret);
        put_node(&mut bytes, &self.node);
        bytes.extend_from_slice(&self.port.to_be_bytes());
        put_addresses(&mut bytes, &self.addresses);
        match &self.key {
            Some(key) => key.put(&mut bytes),
            None => bytes.push(0),
        }
        bytes
    }

    /// A request: what was asked, how many bytes that are, and the proof.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<(Self, usize, &[u8]), Malformed> {
        let mut fields = Fields::new(bytes);
        let versions = (fields.u16("version")?, fields.u16("version")?);
        let cluster = u128::from_be_bytes(fields.array("cluster")?);
        let secret = fields.array("secret")?;
        let node = fields.node()?;
        let port = fields.u16("port")?;
        let addresses = fields.addresses()?;
        let key = match fields.byte("kind of a key")? {
            0 => None,
            kind => Some(PublicKey::take(kind, &mut fields)?),
        };
        let body = bytes.len().saturating_sub(fields.0.len());
        let length = usize::from(fields.u16("length of a proof")?);
        let proof = fields.bounded(length, SIGNATURE_BYTES_MAX, "proof")?;
        fields.finish()?;
        Ok((Self { versions, cluster, secret, node, port, addresses, key }, body, proof))
    }
}

/// The proof behind what was asked.
pub(super) fn put_proof(bytes: &mut Vec<u8>, proof: &[u8]) {
    let length = u16::try_from(proof.len()).expect("a signature has at most 80 bytes");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(proof);
}

/// The bytes of an answer.
pub(super) fn answer_to_bytes(answer: &Result<Welcome, JoinRefusal>) -> Vec<u8> {
    match answer {
        Ok(welcome) => {
            let mut bytes = vec![0];
            put_welcome(&mut bytes, welcome);
            bytes
        }
        Err(refusal) => {
            let mut bytes = vec![1];
            refusal.put(&mut bytes);
            bytes
        }
    }
}

fn put_welcome(bytes: &mut Vec<u8>, welcome: &Welcome) {
    put_long(bytes, welcome.authority_pem.as_bytes());
    put_long(bytes, welcome.chain_pem.as_bytes());
    bytes.extend_from_slice(&welcome.epoch_key);
    bytes.push(if welcome.keys.other.is_some() { 2 } else { 1 });
    for key in std::iter::once(&welcome.keys.current).chain(&welcome.keys.other) {
        bytes.extend_from_slice(&key.id.to_be_bytes());
        bytes.extend_from_slice(&key.secret);
    }
    let mut directory = Vec::new();
    let entries = welcome.directory.get(..MEMBERS_MAX).unwrap_or(&welcome.directory);
    directory.push(u8::try_from(entries.len()).expect("there are at most 64 members"));
    entries.iter().for_each(|entry| entry.put(&mut directory));
    // The newest record alone says who is in; older ones are left out where they do not fit.
    let mut room = ANSWER_BYTES_MAX.saturating_sub(bytes.len() + directory.len() + 4);
    let mut first = welcome.epochs.len();
    for epoch in welcome.epochs.iter().rev().take(EPOCHS_MAX) {
        let cost = epoch.bytes.len() + epoch.signature.len() + 6;
        if cost > room {
            break;
        }
        room -= cost;
        first -= 1;
    }
    let epochs = welcome.epochs.get(first..).unwrap_or_default();
    bytes.extend_from_slice(&u32::try_from(epochs.len()).expect("there are at most 4,096 records").to_be_bytes());
    for epoch in epochs {
        put_long(bytes, &epoch.bytes);
        let length = u16::try_from(epoch.signature.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&epoch.signature);
    }
    bytes.extend_from_slice(&directory);
}

/// Reads an answer.
pub(super) fn answer_from_bytes(bytes: &[u8]) -> Result<Result<Welcome, JoinRefusal>, Malformed> {
    let mut fields = Fields::new(bytes);
    let answer = match fields.byte("kind of an answer")? {
        0 => Ok(take_welcome(&mut fields)?),
        1 => Err(JoinRefusal::take(&mut fields)?),
        _ => return Err(Malformed("kind of an answer")),
    };
    fields.finish()?;
    Ok(answer)
}

fn take_welcome(fields: &mut Fields<'_>) -> Result<Welcome, Malformed> {
    let authority_pem = fields.pem()?;
    let chain_pem = fields.pem()?;
    let epoch_key: [u8; EPOCH_KEY_BYTES] = fields.array("epoch key")?;
    let count = fields.byte("number of MAC keys")?;
    let mut key = || -> Result<MacKey, Malformed> {
        let id = fields.u32("id of a MAC key")?;
        let secret: [u8; MAC_KEY_BYTES] = fields.array("MAC key")?;
        Ok(MacKey { id, secret })
    };
    let keys = match count {
        1 => ClusterKeys { current: key()?, other: None },
        2 => ClusterKeys { current: key()?, other: Some(key()?) },
        _ => return Err(Malformed("number of MAC keys")),
    };
    let count = fields.u32("number of epochs")? as usize;
    if count > EPOCHS_MAX {
        return Err(Malformed("number of epochs"));
    }
    // Grown as records are read: a count that lies costs nothing.
    let mut epochs = Vec::new();
    for _ in 0..count {
        let length = fields.u32("length of an epoch")? as usize;
        let bytes = fields.bounded(length, EPOCH_BYTES_MAX, "epoch")?.to_vec();
        let length = fields.u16("length of a signature")?.into();
        let signature = fields.bounded(length, EPOCH_SIGNATURE_BYTES_MAX, "signature of an epoch")?.to_vec();
        epochs.push(SignedEpoch { bytes, signature });
    }
    let count = usize::from(fields.byte("number of directory entries")?);
    if count > MEMBERS_MAX {
        return Err(Malformed("number of directory entries"));
    }
    let mut directory = Vec::with_capacity(count);
    for _ in 0..count {
        directory.push(DirectoryEntry::take(fields)?);
    }
    Ok(Welcome { authority_pem, chain_pem, epoch_key, keys, epochs, directory })
}

impl DirectoryEntry {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_node(bytes, &self.node);
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        put_addresses(bytes, &self.addresses);
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { node: fields.node()?, counter: fields.u64("counter")?, addresses: fields.addresses()? })
    }

    /// The bytes of several entries, as they travel between members too.
    pub fn list_to_bytes(entries: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| entry.put(&mut bytes));
        bytes
    }

    /// The inverse of [`DirectoryEntry::list_to_bytes`]; at most 64 entries. `None` for bytes that are no such list.
    pub fn list_from_bytes(bytes: &[u8]) -> Option<Vec<Self>> {
        let mut fields = Fields::new(bytes);
        let mut entries = Vec::new();
        while !fields.0.is_empty() {
            if entries.len() == MEMBERS_MAX {
                return None;
            }
            entries.push(Self::take(&mut fields).ok()?);
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::JoinKey;
    use super::*;
    use crate::identity::KeyKind;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn welcome() -> Welcome {
        let entry = |name: &str| DirectoryEntry {
            node: node(name),
            counter: 7,
            addresses: vec!["10.0.0.1:8888".into(), "[::1]:1".into()],
        };
        Welcome {
            authority_pem: "ca".into(),
            chain_pem: String::new(),
            epoch_key: [4; 32],
            keys: ClusterKeys {
                current: MacKey { id: 2, secret: [2; 32] },
                other: Some(MacKey { id: 1, secret: [1; 32] }),
            },
            epochs: vec![SignedEpoch { bytes: vec![1; 30], signature: vec![2; 64] }; 3],
            directory: vec![entry("a"), entry("b")],
        }
    }

    #[test]
    fn requests_round_trip_and_none_that_is_cut_is_taken() {
        for key in [None, Some(JoinKey::generate(KeyKind::Ed25519).unwrap().public().clone())] {
            let asked = Asked {
                versions: (0, 3),
                cluster: 9,
                secret: [8; 32],
                node: node("node_02"),
                port: 8_888,
                addresses: vec!["host:8888".into()],
                key,
            };
            let mut bytes = asked.to_bytes();
            let body = bytes.len();
            put_proof(&mut bytes, &[5; 64]);
            assert_eq!(Asked::from_bytes(&bytes), Ok((asked, body, [5; 64].as_slice())));
            for length in 0..bytes.len() {
                assert!(Asked::from_bytes(&bytes[..length]).is_err(), "cut to {length}");
            }
            bytes.push(0);
            assert!(Asked::from_bytes(&bytes).is_err());
        }
    }

    #[test]
    fn answers_round_trip_and_none_that_is_cut_is_taken() {
        let refusals = [
            JoinRefusal::TokenUnknown,
            JoinRefusal::TokenUsed,
            JoinRefusal::TokenExpired { expires_s: 5 },
            JoinRefusal::OtherNode { invited: node("x") },
            JoinRefusal::NodeIdTaken { node: node("y") },
            JoinRefusal::WrongCluster,
            JoinRefusal::VersionSkew { least: 1, most: 2 },
            JoinRefusal::Full { members_max: 64 },
            JoinRefusal::Busy,
            JoinRefusal::CertificateNeeded,
            JoinRefusal::BadProof,
            JoinRefusal::Malformed { reason: "r".into() },
            JoinRefusal::Unable { reason: "ä".repeat(200) },
        ];
        let answers = refusals.into_iter().map(Err).chain([Ok(welcome())]);
        for answer in answers {
            let bytes = answer_to_bytes(&answer);
            assert_eq!(answer_from_bytes(&bytes).as_ref(), Ok(&answer));
            for length in 0..bytes.len() {
                assert!(answer_from_bytes(&bytes[..length]).is_err(), "cut to {length}: {answer:?}");
            }
        }
        let long = answer_to_bytes(&Err(JoinRefusal::Unable { reason: "ä".repeat(2_000) }));
        assert!(matches!(answer_from_bytes(&long), Ok(Err(JoinRefusal::Unable { reason })) if reason.len() == 512));
    }

    /// `bytes` with each byte in turn replaced by those that lengths, counts and tags go wrong with.
    fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
        let changes = [0, 1, 0x7F, 0x80, 0xFE, 0xFF];
        (0..bytes.len())
            .flat_map(move |at| changes.into_iter().map(move |byte| [&bytes[..at], &[byte], &bytes[at + 1..]].concat()))
    }

    #[test]
    fn what_is_read_of_damaged_bytes_is_what_was_written() {
        let key = Some(JoinKey::generate(KeyKind::Ed25519).unwrap().public().clone());
        let (versions, cluster, secret, port) = ((0, 3), 9, [8; 32], 8_888);
        let addresses = vec!["host:8888".into()];
        let mut asked = Asked { versions, cluster, secret, node: node("node_02"), port, addresses, key }.to_bytes();
        put_proof(&mut asked, &[5; 64]);
        for bytes in damaged(&asked) {
            if let Ok((read, body, proof)) = Asked::from_bytes(&bytes) {
                assert_eq!(read.to_bytes(), bytes[..body]);
                assert_eq!(proof.len(), 64);
            }
        }
        for bytes in damaged(&answer_to_bytes(&Ok(welcome()))) {
            if let Ok(read) = answer_from_bytes(&bytes) {
                assert_eq!(answer_from_bytes(&answer_to_bytes(&read)), Ok(read));
            }
        }
        for bytes in damaged(&DirectoryEntry::list_to_bytes(&welcome().directory)) {
            if let Some(read) = DirectoryEntry::list_from_bytes(&bytes) {
                assert_eq!(DirectoryEntry::list_to_bytes(&read), bytes);
            }
        }
    }

    #[test]
    fn of_a_chain_that_does_not_fit_the_newest_records_are_sent() {
        let record = |byte: u8| SignedEpoch { bytes: vec![byte; 900 << 10], signature: vec![byte; 64] };
        let long = Welcome { epochs: (0..9).map(record).collect(), ..welcome() };
        let bytes = answer_to_bytes(&Ok(long));
        assert!(bytes.len() <= ANSWER_BYTES_MAX);
        let read = answer_from_bytes(&bytes).unwrap().unwrap();
        assert_eq!(read.epochs, (5..9).map(record).collect::<Vec<_>>());
    }

    #[test]
    fn lists_of_entries_are_bounded() {
        let entries = welcome().directory;
        let bytes = DirectoryEntry::list_to_bytes(&entries);
        assert_eq!(DirectoryEntry::list_from_bytes(&bytes), Some(entries.clone()));
        assert_eq!(DirectoryEntry::list_from_bytes(&bytes[1..]), None);
        let many = vec![entries[0].clone(); MEMBERS_MAX + 1];
        assert_eq!(DirectoryEntry::list_from_bytes(&DirectoryEntry::list_to_bytes(&many)), None);
    }
}
