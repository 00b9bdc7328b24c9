//! A member, as the transport needs to know it.

use crate::error::PeersError;
use crate::node_id::NodeId;

/// Most addresses of one member.
pub const ADDRESSES_MAX: usize = 8;
/// Longest address: a DNS name (253), a colon, a port.
pub(crate) const ADDRESS_BYTES_MAX: usize = 259;

/// A member and where it may be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its node id: a certificate that names anybody else is refused.
    pub node: NodeId,
    /// `host:port`, tried in turn; names are resolved at every attempt. Empty: it is never dialled from here.
    pub addresses: Vec<String>,
    /// SHA-256 of its certificate (DER), if only this one is accepted.
    pub certificate_sha256: Option<[u8; 32]>,
}

impl Peer {
    /// A member with these addresses, not pinned to one certificate.
    pub fn new(node: NodeId, addresses: Vec<String>) -> Self {
        Self { node, addresses, certificate_sha256: None }
    }
}

/// Checks the bounds of a list of members.
pub(crate) fn check(peers: &[Peer]) -> Result<(), PeersError> {
    if peers.len() > replica::epoch::MEMBERS_MAX {
        return Err(PeersError::TooMany { peers: peers.len() });
    }
    for (place, peer) in peers.iter().enumerate() {
        let node = || peer.node.clone();
        if peers.iter().take(place).any(|other| other.node == peer.node) {
            return Err(PeersError::Twice { node: node() });
        }
        if peer.addresses.len() > ADDRESSES_MAX {
            return Err(PeersError::TooManyAddresses { node: node(), addresses: peer.addresses.len() });
        }
        if let Some(address) = peer.addresses.iter().find(|address| !is_host_and_port(address)) {
            let shown = address.chars().take(80).collect();
            return Err(PeersError::Address { node: node(), address: shown });
        }
    }
    Ok(())
}

/// True for `host:port` within the bounds.
pub(crate) fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    address.len() <= ADDRESS_BYTES_MAX && !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
}
