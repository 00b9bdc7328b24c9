//! The join token: one line that says which cluster, where, and until when, with a secret that is used once.
//!
//! ```text
//! "crdt1_" base64url of:
//!   version(u8) cluster(16) CA fingerprint(32) secret(32) expires_s(u64) node id (u8 length, text)
//!   address (u16 length, text) checksum (first 4 bytes of SHA-256 over all before)
//! ```

use std::fmt;

use super::error::TokenError;
use super::line::{self, LineError};
use crate::node_id::{NODE_ID_BYTES_MAX, NodeId};

/// Bytes of the secret.
pub const TOKEN_SECRET_BYTES: usize = 32;
const TOKEN_VERSION: u8 = 0;
const PREFIX: &str = "crdt1_";
const ADDRESS_BYTES_MAX: usize = 259;
/// Most bytes that are decoded: every field at its longest.
const BYTES_MAX: usize = 1 + 16 + 32 + TOKEN_SECRET_BYTES + 8 + 1 + NODE_ID_BYTES_MAX + 2 + ADDRESS_BYTES_MAX;

/// An invitation of one node into a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster.
    pub cluster: u128,
    /// SHA-256 of the CA's certificate: who joins accepts no other cluster's answer.
    pub authority_fingerprint: [u8; 32],
    /// The node that is invited.
    pub node: NodeId,
    /// `host:port` of the member that invites.
    pub address: String,
    /// Proves the invitation, once.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// When it expires, in seconds since 1970.
    pub expires_s: u64,
}

impl JoinToken {
    /// Reads a token; white space around it is ignored. Expiry is not looked at: see [`JoinToken::check_expiry`].
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let bytes = line::read(PREFIX, text, BYTES_MAX)?;
        let mut fields = Fields(&bytes);
        let [version] = fields.array()?;
        if version != TOKEN_VERSION {
            return Err(TokenError::Version { found: version, known: TOKEN_VERSION });
        }
        let cluster = u128::from_be_bytes(fields.array()?);
        let authority_fingerprint = fields.array()?;
        let secret = fields.array()?;
        let expires_s = u64::from_be_bytes(fields.array()?);
        let [length] = fields.array()?;
        let node = fields.text(length.into(), "node id")?;
        let node = NodeId::new(node).map_err(|_| TokenError::Field { what: "node id" })?;
        let length = usize::from(u16::from_be_bytes(fields.array()?));
        if length > ADDRESS_BYTES_MAX {
            return Err(TokenError::Field { what: "address" });
        }
        let address = fields.text(length, "address")?.to_owned();
        if !fields.0.is_empty() {
            return Err(TokenError::Length);
        }
        Ok(Self { cluster, authority_fingerprint, node, address, secret, expires_s })
    }

    /// The text of the token.
    ///
    /// # Errors
    /// [`TokenError::Field`] for an address that is too long.
    pub fn to_text(&self) -> Result<String, TokenError> {
        if self.address.is_empty() || self.address.len() > ADDRESS_BYTES_MAX {
            return Err(TokenError::Field { what: "address" });
        }
        let node = self.node.as_str().as_bytes();
        let node_length = u8::try_from(node.len()).map_err(|_| TokenError::Field { what: "node id" })?;
        let address_length = u16::try_from(self.address.len()).map_err(|_| TokenError::Field { what: "address" })?;
        let mut bytes = vec![TOKEN_VERSION];
        bytes.extend_from_slice(&self.cluster.to_be_bytes());
        bytes.extend_from_slice(&self.authority_fingerprint);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.expires_s.to_be_bytes());
        bytes.push(node_length);
        bytes.extend_from_slice(node);
        bytes.extend_from_slice(&address_length.to_be_bytes());
        bytes.extend_from_slice(self.address.as_bytes());
        Ok(line::write(PREFIX, bytes))
    }

    /// Checks a moment, in seconds since 1970.
    ///
    /// # Errors
    /// [`TokenError::Expired`].
    pub fn check_expiry(&self, now_s: u64) -> Result<(), TokenError> {
        if now_s > self.expires_s {
            return Err(TokenError::Expired { expires_s: self.expires_s, now_s });
        }
        Ok(())
    }
}

impl From<LineError> for TokenError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Prefix => Self::NotAToken,
            LineError::Length => Self::Length,
            LineError::Encoding => Self::Encoding,
            LineError::Checksum => Self::Checksum,
        }
    }
}

/// Without the secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("JoinToken");
        shown.field("node", &self.node).field("address", &self.address).finish_non_exhaustive()
    }
}

/// What is left to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn raw(&mut self, bytes: usize) -> Result<&'a [u8], TokenError> {
        let (field, rest) = self.0.split_at_checked(bytes).ok_or(TokenError::Length)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], TokenError> {
        self.raw(BYTES)?.try_into().map_err(|_| TokenError::Length)
    }

    fn text(&mut self, bytes: usize, what: &'static str) -> Result<&'a str, TokenError> {
        std::str::from_utf8(self.raw(bytes)?).map_err(|_| TokenError::Field { what })
    }
}
