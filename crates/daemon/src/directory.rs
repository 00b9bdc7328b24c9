//! Where the members are. Each member owns its entry; of two entries for one member the one with the greater counter
//! counts, so it does not matter on which ways and in which order they come.
//!
//! Entries travel on [`transport::Lane::Membership`], behind one byte that tells them from packets of SWIM:
//!
//! ```text
//! 1  version(1 byte)  number of entries
//!    each: node id, counter, number of addresses, each address        (numbers and lengths as in crdt::pack)
//! ```
//! Who has a link up gives all entries; what is news is passed on to all other links. Members are trusted with this as
//! with the data: a wrong address costs attempts to dial, since whoever answers must prove its node id.

use std::collections::BTreeMap;
use std::fmt;

use crdt::error::DecodeError;
use crdt::pack::{Reader, Writer};
use transport::join::DirectoryEntry;
use transport::{ADDRESSES_MAX, NODE_ID_BYTES_MAX, NodeId, Peer};

/// First byte of a message with a packet of SWIM.
pub const SWIM: u8 = 0;
/// First byte of a message with entries.
pub const ENTRIES: u8 = 1;

/// Form of a message with entries.
const VERSION: u8 = 0;
/// Most entries that are kept or read: all members, and as many that came or went at this moment.
const ENTRIES_MAX: usize = 2 * replica::epoch::MEMBERS_MAX;
/// Longest address: a DNS name (253), a colon, a port.
const ADDRESS_BYTES_MAX: usize = 259;
/// Greatest counter: the file of the directory has no greater one.
const COUNTER_MAX: u64 = i64::MAX as u64;

/// Bytes that are no message of this lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryError {
    /// The message does not decode.
    Malformed(DecodeError),
    /// It is of a form that this build does not know.
    Version(u8),
}

/// The addresses of all members, as last heard.
#[derive(Clone, Debug)]
pub struct Directory {
    own: NodeId,
    entries: BTreeMap<NodeId, DirectoryEntry>,
    /// Addresses of the configuration, which take the place of what was heard.
    overrides: BTreeMap<NodeId, Vec<String>>,
}

impl Directory {
    /// A directory of what stands in the node folder and in the configuration.
    pub fn new(own: NodeId, entries: Vec<DirectoryEntry>, overrides: BTreeMap<NodeId, Vec<String>>) -> Self {
        let entries = entries.into_iter().map(|entry| (entry.node.clone(), entry)).collect();
        Self { own, entries, overrides }
    }

    /// Says where this node is reached; the new entry, if that is another place than before.
    pub fn set_own(&mut self, addresses: &[String]) -> Option<DirectoryEntry> {
        let known = self.entries.get(&self.own);
        if known.is_some_and(|known| known.addresses == addresses) {
            return None;
        }
        let counter = known.map_or(1, |known| known.counter.saturating_add(1));
        Some(self.put(DirectoryEntry { node: self.own.clone(), counter, addresses: addresses.to_vec() }))
    }

    /// Takes entries that somebody sent; returns those that are news, to be kept and passed on. An entry of our own
    /// that is newer than what we know is one that we forgot: it is overtaken by what we say now.
    pub fn learn(&mut self, heard: Vec<DirectoryEntry>) -> Vec<DirectoryEntry> {
        let mut news = Vec::new();
        for entry in heard {
            let known = self.entries.get(&entry.node);
            let is_newer = known.is_none_or(|known| known.counter < entry.counter);
            let has_room = known.is_some() || self.entries.len() < ENTRIES_MAX;
            if !is_newer || !has_room || entry.counter >= COUNTER_MAX {
                continue;
            }
            if let Some(known) = known.filter(|known| entry.node == self.own && known.addresses != entry.addresses) {
                let addresses = known.addresses.clone();
                news.push(self.put(DirectoryEntry { counter: entry.counter + 1, addresses, ..entry }));
            } else {
                news.push(self.put(entry));
            }
        }
        news
    }

    fn put(&mut self, entry: DirectoryEntry) -> DirectoryEntry {
        self.entries.insert(entry.node.clone(), entry.clone());
        entry
    }

    /// Takes other addresses from the configuration.
    pub fn set_overrides(&mut self, overrides: BTreeMap<NodeId, Vec<String>>) {
        self.overrides = overrides;
    }

    /// All entries, by node id.
    pub fn entries(&self) -> Vec<DirectoryEntry> {
        self.entries.values().cloned().collect()
    }

    /// Where a member is dialled; empty when nobody knows.
    pub fn addresses_of(&self, node: &NodeId) -> &[String] {
        let heard = || self.entries.get(node).map(|entry| &entry.addresses);
        self.overrides.get(node).or_else(heard).map(Vec::as_slice).unwrap_or_default()
    }

    /// The members as the transport wants them, without this node.
    pub fn peers<'a>(&self, members: impl IntoIterator<Item = &'a NodeId>) -> Vec<Peer> {
        let others = members.into_iter().filter(|node| **node != self.own);
        others.map(|node| Peer::new(node.clone(), self.addresses_of(node).to_vec())).collect()
    }
}

/// The message with these entries, with its first byte.
pub fn encode<'a>(entries: impl ExactSizeIterator<Item = &'a DirectoryEntry>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.byte(ENTRIES);
    writer.byte(VERSION);
    writer.varint(entries.len() as u64);
    for entry in entries {
        writer.bytes(entry.node.as_str().as_bytes());
        writer.varint(entry.counter);
        writer.varint(entry.addresses.len() as u64);
        entry.addresses.iter().for_each(|address| writer.bytes(address.as_bytes()));
    }
    writer.into_bytes()
}

/// The entries of a message, behind its first byte. One with an address that is not `host:port` is left out: it would
/// be in the way of all others.
///
/// # Errors
/// [`DirectoryError`]; nothing of the message is to be taken then.
pub fn decode(bytes: &[u8]) -> Result<Vec<DirectoryEntry>, DirectoryError> {
    let mut reader = Reader::new(bytes);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(DirectoryError::Version(version));
    }
    let count = reader.bounded("number of entries", ENTRIES_MAX as u64)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let at = reader.at();
        let node = text(reader.bytes("node id length", NODE_ID_BYTES_MAX)?, at)?;
        let node = NodeId::new(node).map_err(|_| DecodeError::Invalid { what: "node id", at })?;
        let counter = reader.bounded("counter", COUNTER_MAX)?;
        let mut addresses = Vec::new();
        for _ in 0..reader.bounded("number of addresses", ADDRESSES_MAX as u64)? {
            let at = reader.at();
            addresses.push(text(reader.bytes("address length", ADDRESS_BYTES_MAX)?, at)?.to_owned());
        }
        if addresses.iter().all(|address| is_host_and_port(address)) {
            entries.push(DirectoryEntry { node, counter, addresses });
        }
    }
    reader.finish()?;
    Ok(entries)
}

fn text(bytes: &[u8], at: usize) -> Result<&str, DecodeError> {
    core::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid { what: "text", at })
}

/// True for what the transport takes as an address.
fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    address.len() <= ADDRESS_BYTES_MAX && !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
}

impl From<DecodeError> for DirectoryError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl DirectoryError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "ERR_PEER_MALFORMED",
            Self::Version(_) => "ERR_VERSION_SKEW",
        }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(formatter, "a message about addresses does not decode: {error}"),
            Self::Version(version) => write!(
                formatter,
                "a message about addresses has form {version}, and this build knows {VERSION}; install the same version \
                 on all members, or set [peers] meanwhile"
            ),
        }
    }
}

impl std::error::Error for DirectoryError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: &str) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn entry(node: &str, counter: u64, addresses: &[&str]) -> DirectoryEntry {
        DirectoryEntry { node: id(node), counter, addresses: addresses.iter().map(|text| (*text).to_owned()).collect() }
    }

    fn directory(entries: &[DirectoryEntry]) -> Directory {
        Directory::new(id("a"), entries.to_vec(), BTreeMap::new())
    }

    #[test]
    fn messages_round_trip() {
        let entries = [entry("a", 1, &["a.example:8888", "[::1]:1"]), entry("b", COUNTER_MAX - 1, &[])];
        let bytes = encode(entries.iter());
        assert_eq!(bytes[0], ENTRIES);
        assert_eq!(decode(&bytes[1..]).unwrap(), entries);
        for length in 1..bytes.len() {
            assert!(decode(&bytes[1..length]).is_err(), "cut at {length}");
        }
        assert_eq!(decode(&[9, 0]), Err(DirectoryError::Version(9)));
    }

    #[test]
    fn lengths_beyond_the_bounds_are_refused_and_useless_addresses_left_out() {
        let many: Vec<DirectoryEntry> = (0..=ENTRIES_MAX).map(|number| entry(&format!("n{number}"), 1, &[])).collect();
        assert!(decode(&encode(many.iter())[1..]).is_err());
        let nine = entry("b", 1, &["x:1"; 9]);
        assert!(decode(&encode([nine].iter())[1..]).is_err());
        let bad = [entry("b", 1, &["nowhere"]), entry("c", 1, &["c:0"]), entry("d", 1, &["d:1"])];
        assert_eq!(decode(&encode(bad.iter())[1..]).unwrap(), bad[2..]);
    }

    #[test]
    fn the_greater_counter_counts_whatever_the_order() {
        let (old, new) = (entry("b", 1, &["old:1"]), entry("b", 2, &["new:1"]));
        let mut one = directory(&[]);
        assert_eq!(one.learn(vec![old.clone(), new.clone()]), [old.clone(), new.clone()]);
        let mut other = directory(&[]);
        assert_eq!(other.learn(vec![new.clone(), old]), std::slice::from_ref(&new));
        assert_eq!(one.entries(), other.entries());
        assert_eq!(one.learn(vec![new]), [], "what is known is no news");
    }

    #[test]
    fn an_own_entry_that_was_forgotten_is_overtaken() {
        let mut directory = directory(&[entry("a", 3, &["a:1"])]);
        assert_eq!(directory.set_own(&["a:1".to_owned()]), None);
        assert_eq!(directory.learn(vec![entry("a", 9, &["elsewhere:1"])]), [entry("a", 10, &["a:1"])]);
        assert_eq!(directory.set_own(&["a:2".to_owned()]), Some(entry("a", 11, &["a:2"])));
    }

    #[test]
    fn the_configuration_takes_the_place_of_what_was_heard() {
        let overrides = BTreeMap::from([(id("b"), vec!["relay:1".to_owned()])]);
        let known = vec![entry("b", 1, &["b:1"]), entry("c", 1, &["c:1"])];
        let mut directory = Directory::new(id("a"), known, overrides);
        let members = [id("a"), id("b"), id("c"), id("d")];
        let addresses = |directory: &Directory| {
            let peers = directory.peers(&members);
            peers.into_iter().map(|peer| (peer.node.to_string(), peer.addresses)).collect::<Vec<_>>()
        };
        let all = |b: &str| {
            vec![("b".into(), vec![b.to_owned()]), ("c".into(), vec!["c:1".to_owned()]), ("d".into(), Vec::new())]
        };
        assert_eq!(addresses(&directory), all("relay:1"));
        directory.set_overrides(BTreeMap::new());
        assert_eq!(addresses(&directory), all("b:1"));
    }

    #[test]
    fn there_is_a_bound_on_entries() {
        let mut directory = directory(&[]);
        for number in 0..1_000 {
            directory.learn(vec![entry(&format!("n{number}"), 1, &[])]);
        }
        assert_eq!(directory.entries().len(), ENTRIES_MAX);
        assert_eq!(directory.learn(vec![entry("n1", 2, &[])]).len(), 1, "what is known may still change");
    }
}
