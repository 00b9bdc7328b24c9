//! Who a node is: the cluster's CA, a node's certificate and key, the keys behind MACs and epoch records, join tokens.
//!
//! Everything stands in PEM files of mode 0600. Times are seconds since 1970 and come in as arguments.

mod authority;
mod certificate;
mod error;
mod files;
mod key_token;
mod line;
mod node;
mod signer;
mod token;

pub use authority::{Authority, CA_VALIDITY_DAYS, KeyKind, NODE_VALIDITY_DAYS};
pub use certificate::{Validity, node_id_of, validity_of};
pub use error::{IdentityError, KeyTokenError, TokenError};
pub use files::{read_public, read_secret, write_public, write_secret};
pub use key_token::KeyToken;
pub use node::NodeIdentity;
pub use signer::{ClusterKeys, ClusterSigner, EPOCH_KEY_BYTES, MAC_KEY_BYTES, MacKey, RotationError};
pub use token::{JoinToken, TOKEN_SECRET_BYTES};

use aws_lc_rs::{digest, rand};

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Random bytes from the operating system's generator.
///
/// # Errors
/// [`IdentityError::Unusable`] when the system has none to give.
pub fn random_bytes<const BYTES: usize>() -> Result<[u8; BYTES], IdentityError> {
    let mut bytes = [0; BYTES];
    let failed = |_| IdentityError::Unusable { reason: "the system gives no random bytes".into() };
    rand::fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// A number for jitter. Without random bytes it is 0, which costs only the jitter.
pub(crate) fn random_u64() -> u64 {
    random_bytes().map_or(0, u64::from_be_bytes)
}
