//! `crdt-engine invite`: one token for one node.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use replica::epoch::MEMBERS_MAX;
use transport::NodeId;
use transport::identity::{JoinToken, TokenError, random_bytes};
use transport::join::token_sha256;

use crate::folder::{Folder, FolderError, INVITES_MAX, Invite};

/// How long a token is valid unless it is said otherwise: a working day, in seconds.
pub const VALIDITY_DEFAULT_S: u64 = 86_400;
/// Shorter ones expire while they are being copied.
pub const VALIDITY_LEAST_S: u64 = 60;
/// Longer ones lie around: whoever finds one enters the cluster.
pub const VALIDITY_MOST_S: u64 = 30 * 86_400;

/// What [`invite`] is told.
#[derive(Clone, Debug)]
pub struct InviteOptions {
    /// Who is invited.
    pub node: NodeId,
    /// `host:port` under which the other machine reaches this node. `None`: the first address that this node tells
    /// others, else the address of this machine on the way to the internet, with `port`.
    pub address: Option<String>,
    /// UDP port of this node.
    pub port: u16,
    /// Seconds that the token is valid, [`VALIDITY_LEAST_S`] to [`VALIDITY_MOST_S`].
    pub valid_s: u64,
    /// A member gets a new certificate.
    pub renew: bool,
    /// Seconds since 1970.
    pub now_s: i64,
}

/// An invitation that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The token: one line, a secret.
    pub token: String,
    /// Who is invited.
    pub node: NodeId,
    /// `host:port` that the other node will dial.
    pub address: String,
    /// True when nobody named the address and this machine's was taken: worth a look by a person.
    pub address_guessed: bool,
    /// When the token expires, in seconds since 1970.
    pub expires_s: u64,
}

/// Why nobody was invited. Nothing has changed then.
#[derive(Debug)]
pub enum InviteError {
    /// The folder, or the keys.
    Folder(FolderError),
    /// The key that lets nodes in is on another machine.
    NotInviter {
        /// The folder.
        folder: PathBuf,
    },
    /// A member has this node id.
    NodeIdTaken {
        /// The node id.
        node: NodeId,
    },
    /// A certificate is to be renewed for somebody who is no member.
    NotMember {
        /// The node id.
        node: NodeId,
    },
    /// All slots are taken.
    Full,
    /// Too many invitations are open.
    TooMany,
    /// The token would be valid too short or too long.
    Validity {
        /// What was asked for, in seconds.
        valid_s: u64,
    },
    /// The address is not `host:port`.
    Address {
        /// It.
        address: String,
    },
    /// The token cannot be written.
    Token(TokenError),
}

/// Makes a token, and remembers it in the folder; a daemon that runs on it takes the token from then on.
///
/// # Errors
/// [`InviteError`] says what to do.
pub fn invite(folder: &Folder, options: &InviteOptions) -> Result<Invitation, InviteError> {
    if !(VALIDITY_LEAST_S..=VALIDITY_MOST_S).contains(&options.valid_s) {
        return Err(InviteError::Validity { valid_s: options.valid_s });
    }
    let identity = folder.load()?;
    let _change = folder.lock_for_change()?;
    if folder.issuer()?.is_none() {
        return Err(InviteError::NotInviter { folder: folder.path().into() });
    }
    let node = || options.node.clone();
    let members = &identity.epoch.members;
    match (members.contains_key(options.node.as_str()), options.renew) {
        (true, false) => return Err(InviteError::NodeIdTaken { node: node() }),
        (false, true) => return Err(InviteError::NotMember { node: node() }),
        (false, false) if members.len() >= MEMBERS_MAX => return Err(InviteError::Full),
        _ => {}
    }
    let now_s = u64::try_from(options.now_s).unwrap_or_default();
    if folder.prune_invites(now_s)? >= INVITES_MAX {
        return Err(InviteError::TooMany);
    }
    let (address, address_guessed) = address(folder, identity.node.node(), options)?;
    let token = JoinToken {
        cluster: identity.node.cluster(),
        authority_fingerprint: identity.node.authority_fingerprint(),
        node: node(),
        address,
        secret: random_bytes().map_err(FolderError::from)?,
        expires_s: now_s.saturating_add(options.valid_s),
    };
    let text = token.to_text().map_err(InviteError::Token)?;
    let JoinToken { node, address, expires_s, secret, .. } = token;
    let open = Invite { node, address, expires_s, renew: options.renew, claim: None };
    folder.save_invite(&token_sha256(&secret), &open)?;
    let Invite { node, address, .. } = open;
    Ok(Invitation { token: text, node, address, address_guessed, expires_s })
}

/// The address for the token, and whether it is a guess.
fn address(folder: &Folder, own: &NodeId, options: &InviteOptions) -> Result<(String, bool), InviteError> {
    if let Some(address) = &options.address {
        let (host, port) = address.rsplit_once(':').unwrap_or_default();
        if host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(InviteError::Address { address: address.clone() });
        }
        return Ok((address.clone(), false));
    }
    let told = folder.directory()?.into_iter().find(|entry| entry.node == *own);
    match told.and_then(|entry| entry.addresses.into_iter().next()) {
        Some(address) => Ok((address, false)),
        None => Ok((guess_address(options.port), true)),
    }
}

/// The address of this machine on its way out, else the loopback, with a port. Nothing is sent: a UDP socket that is
/// connected only looks its route up.
pub fn guess_address(port: u16) -> String {
    // Documentation range (RFC 5737): it belongs to nobody, and is routed as the internet is.
    let outside = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let local = socket.and_then(|socket| socket.connect(outside).and_then(|()| socket.local_addr()));
    let ip = local.map_or(Ipv4Addr::LOCALHOST.into(), |local| local.ip());
    SocketAddr::new(ip, port).to_string()
}

impl InviteError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.code(),
            Self::NotInviter { .. } => "ERR_NOT_INVITER",
            Self::NodeIdTaken { .. } => "ERR_NODE_ID_TAKEN",
            Self::NotMember { .. } => "ERR_NOT_MEMBER",
            Self::Full => "ERR_CLUSTER_FULL",
            Self::TooMany => "ERR_TOO_MANY_INVITES",
            Self::Validity { .. } => "ERR_INVITE_VALIDITY",
            Self::Address { .. } => "ERR_ADDRESS_INVALID",
            Self::Token(error) => error.code(),
        }
    }
}

impl From<FolderError> for InviteError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl fmt::Display for InviteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => error.fmt(formatter),
            Self::NotInviter { folder } => write!(
                formatter,
                "{} holds no key that lets nodes in; invite on the machine where init was run (it has identity/ca.key \
                 or identity/signer.key)",
                folder.display()
            ),
            Self::NodeIdTaken { node } => write!(
                formatter,
                "a member has the node id {node} already; take another one, or, to give {node} a new certificate, add \
                 --renew"
            ),
            Self::NotMember { node } => {
                write!(formatter, "{node} is no member, so there is nothing to renew; leave --renew away to invite it")
            }
            Self::Full => {
                write!(formatter, "the cluster has {MEMBERS_MAX} members, which is the most")
            }
            Self::TooMany => write!(
                formatter,
                "{INVITES_MAX} invitations are open, which is the most; wait until some expire, or take files *.open \
                 out of the folder invites"
            ),
            Self::Validity { valid_s } => write!(
                formatter,
                "a token cannot be valid for {valid_s} seconds; give {VALIDITY_LEAST_S} to {VALIDITY_MOST_S}"
            ),
            Self::Address { address } => {
                let shown: String = address.chars().take(80).collect();
                write!(formatter, "the address {shown:?} is not HOST:PORT; give one that the other machine reaches")
            }
            Self::Token(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for InviteError {}

/// Without the token.
impl fmt::Debug for Invitation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Invitation");
        shown.field("node", &self.node).field("address", &self.address).field("expires_s", &self.expires_s);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guessed_address_has_the_port() {
        let address: SocketAddr = guess_address(8_888).parse().unwrap();
        assert_eq!(address.port(), 8_888);
        assert!(!address.ip().is_unspecified());
    }
}
