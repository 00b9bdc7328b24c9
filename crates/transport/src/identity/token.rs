//! The join token: one line that says which cluster, where, and until when, with a secret that is used once.
//!
//! ```text
//! "crdt1_" base64url of:
//!   version(u8) cluster(16) CA fingerprint(32) secret(32) expires_s(u64) node id (u8 length, text)
//!   address (u16 length, text) checksum (first 4 bytes of SHA-256 over all before)
//! ```

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::TokenError;
use super::sha256;
use crate::node_id::NodeId;

/// Bytes of the secret.
pub const TOKEN_SECRET_BYTES: usize = 32;
const TOKEN_VERSION: u8 = 0;
const PREFIX: &str = "crdt1_";
const CHECKSUM_BYTES: usize = 4;
const ADDRESS_BYTES_MAX: usize = 259;
/// Longest text that is decoded: every field at its longest, in base64.
const TEXT_BYTES_MAX: usize = 640;

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
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        if encoded.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Length);
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Encoding)?;
        let body = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(TokenError::Length)?;
        let (body, checksum) = bytes.split_at_checked(body).ok_or(TokenError::Length)?;
        if sha256(body).get(..CHECKSUM_BYTES) != Some(checksum) {
            return Err(TokenError::Checksum);
        }
        let mut fields = Fields(body);
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
        let checksum = sha256(&bytes);
        bytes.extend(checksum.iter().take(CHECKSUM_BYTES));
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
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
