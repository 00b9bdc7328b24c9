//! How a node that has nothing but a token comes to be a member.
//!
//! The node dials the member of the token over QUIC, with the protocol `crdt-join/0` beside the one of links, on the
//! same socket. It shows no certificate (or one of the cluster's own CA, if that is how the cluster works), and takes
//! any answer only from somebody whose chain ends in the CA that the token names by its hash. Then one stream: a request
//! of at most [`REQUEST_BYTES_MAX`], an answer of at most [`ANSWER_BYTES_MAX`].
//!
//! The private key never travels: the request holds the public half, and a signature over keying material of this very
//! connection (RFC 8446, 7.5) and the request, so nobody can have somebody else's key certified, or pass a request on.
//!
//! Joining is offered only by nodes that were told to ([`crate::Quic::offer_joins`]). Only there may a stranger finish
//! a handshake without a certificate; as a link it is refused right after, and at most [`JOINS_MAX`] may ask at a time.

mod client;
mod codec;
mod key;
mod refusal;
mod server;

use std::fmt;
use std::net::SocketAddr;

use replica::epoch::{Epoch, SignedEpoch};

use crate::identity::{ClusterKeys, EPOCH_KEY_BYTES, TOKEN_SECRET_BYTES};
use crate::node_id::NodeId;

pub use client::{JoinAttempt, JoinCredential, Joined, join};
pub use key::{JoinKey, PublicKey};
pub use refusal::{JoinError, JoinRefusal};

pub(crate) use server::JoinDesk;

/// Joins at a time. A stranger holds such a place for [`JOIN_PATIENCE_MS`] at most; more places would let strangers
/// hold more memory (one stream window each), fewer would make a cluster that is set up by a script wait.
pub const JOINS_MAX: usize = 4;
/// How long one join may take, from the handshake's end to the answer's arrival, in milliseconds. The member writes a
/// few small files with fsync in between; a slow disk needs a second.
pub const JOIN_PATIENCE_MS: u64 = 10_000;
/// Longest request: every field at its longest is below 3 KiB.
pub const REQUEST_BYTES_MAX: usize = 4 << 10;
/// Longest answer. The chain of epochs is what grows; a record of 64 members has 4 KiB, and the newest ones are sent.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The protocol of joining, as TLS negotiates it. The cluster is not in it: a node that asks in the wrong cluster is
/// to hear so.
pub(crate) const JOIN_PROTOCOL: &[u8] = b"crdt-join/0";

/// Addresses of a member, as it tells them itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryEntry {
    /// The member.
    pub node: NodeId,
    /// Grows with each change that the member makes; of two entries the one with the greater counter counts.
    pub counter: u64,
    /// `host:port`, at most [`crate::ADDRESSES_MAX`].
    pub addresses: Vec<String>,
}

/// How a node that joins wants to prove itself later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    /// By a certificate that the cluster's CA is to issue for this key. That it has the private half is proven.
    Key(PublicKey),
    /// By the certificate that it showed, which the cluster's CA issued and which names it.
    Shown {
        /// SHA-256 of the certificate (DER).
        certificate_sha256: [u8; 32],
    },
}

/// A request that is well-formed and whose credential is proven; whether the token is good is for the host to say.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The cluster that the token names.
    pub cluster: u128,
    /// The token's secret.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// Who joins.
    pub node: NodeId,
    /// How it proves itself later.
    pub credential: Credential,
    /// Where it can be reached, `host:port`. Where it named nothing: the address that it asks from, with the port that
    /// it said it will listen on.
    pub addresses: Vec<String>,
    /// Least and greatest protocol version that it speaks.
    pub versions: (u16, u16),
}

/// What a new member needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The CA's certificate.
    pub authority_pem: String,
    /// The node's certificate and those between it and the CA; empty for [`Credential::Shown`].
    pub chain_pem: String,
    /// Public key (Ed25519) of the epoch records.
    pub epoch_key: [u8; EPOCH_KEY_BYTES],
    /// The keys behind MACs.
    pub keys: ClusterKeys,
    /// The chain of epoch records, ascending, with the one that lets the node in. Where all of them do not fit into
    /// [`ANSWER_BYTES_MAX`], the newest are sent.
    pub epochs: Vec<SignedEpoch>,
    /// Where the members are, the new one among them; at most 64.
    pub directory: Vec<DirectoryEntry>,
}

/// Whoever decides about joins: the daemon.
pub trait JoinHost: Send + Sync {
    /// Lets a node in, or says why not. What the answer says must be durable before this returns: the token burnt, the
    /// epoch record in the chain. The same token with the same credential is to be answered again, since the answer
    /// may have been lost on its way.
    ///
    /// Called on a thread that may block, by at most [`JOINS_MAX`] at a time.
    ///
    /// # Errors
    /// [`JoinRefusal`]; nothing has changed then.
    fn join(&self, request: &JoinRequest) -> Result<Welcome, JoinRefusal>;

    /// Somebody asked and was not answered: it sent nothing, or did not wait. For the log, since nobody else hears it;
    /// must not block.
    fn failed(&self, from: SocketAddr, reason: &str);
}

impl JoinRequest {
    /// SHA-256 of the token's secret: names the token in files, where the secret itself has no place.
    pub fn token_sha256(&self) -> [u8; 32] {
        token_sha256(&self.secret)
    }
}

/// SHA-256 of a token's secret; see [`JoinRequest::token_sha256`].
pub fn token_sha256(secret: &[u8; TOKEN_SECRET_BYTES]) -> [u8; 32] {
    crate::identity::sha256(secret)
}

impl Welcome {
    /// The epoch record with the greatest number; `None` when there is none that reads.
    pub fn newest_epoch(&self) -> Option<Epoch> {
        let read = self.epochs.iter().filter_map(|signed| Epoch::from_bytes(&signed.bytes).ok());
        read.max_by_key(|epoch| epoch.number)
    }
}

/// Without the secret.
impl fmt::Debug for JoinRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("JoinRequest");
        shown.field("node", &self.node).field("credential", &self.credential).field("addresses", &self.addresses);
        shown.finish_non_exhaustive()
    }
}
