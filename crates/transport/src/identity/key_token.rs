//! A key behind MACs as one line, on its way from the member that made it to the others.
//!
//! ```text
//! "crdtkey1_" base64url of:
//!   version(u8) cluster(16) key id(u32) secret(32) checksum (first 4 bytes of SHA-256 over all before)
//! ```

use std::fmt;

use super::error::KeyTokenError;
use super::line::{self, LineError};
use super::signer::{MAC_KEY_BYTES, MacKey};

const VERSION: u8 = 0;
const PREFIX: &str = "crdtkey1_";
const BODY_BYTES: usize = 1 + 16 + 4 + MAC_KEY_BYTES;

/// A key and the cluster that it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyToken {
    /// The cluster.
    pub cluster: u128,
    /// The key.
    pub key: MacKey,
}

impl KeyToken {
    /// Reads a key; white space around it is ignored.
    ///
    /// # Errors
    /// [`KeyTokenError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyTokenError> {
        let body = line::read(PREFIX, text, BODY_BYTES)?;
        let (version, body) = body.split_first().ok_or(KeyTokenError::Damaged)?;
        if *version != VERSION {
            return Err(KeyTokenError::Version { found: *version, known: VERSION });
        }
        let (cluster, body) = body.split_first_chunk().ok_or(KeyTokenError::Damaged)?;
        let (id, secret) = body.split_first_chunk().ok_or(KeyTokenError::Damaged)?;
        let secret = secret.try_into().map_err(|_| KeyTokenError::Damaged)?;
        let key = MacKey { id: u32::from_be_bytes(*id), secret };
        Ok(Self { cluster: u128::from_be_bytes(*cluster), key })
    }

    /// The line.
    pub fn to_text(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.cluster.to_be_bytes());
        bytes.extend_from_slice(&self.key.id.to_be_bytes());
        bytes.extend_from_slice(&self.key.secret);
        line::write(PREFIX, bytes)
    }
}

impl From<LineError> for KeyTokenError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Prefix => Self::NotAKey,
            LineError::Length | LineError::Encoding | LineError::Checksum => Self::Damaged,
        }
    }
}

/// Without the secret.
impl fmt::Debug for KeyToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyToken").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> KeyToken {
        KeyToken { cluster: 7 << 99, key: MacKey { id: 9, secret: [0xa5; MAC_KEY_BYTES] } }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let text = token().to_text();
        assert_eq!(KeyToken::parse(&format!(" {text}\n")), Ok(token()));
        assert!(!format!("{:?}", token()).contains("165"), "a secret must not reach a log");
    }

    #[test]
    fn no_damaged_line_is_taken_for_a_key() {
        let text = token().to_text();
        for at in 0..text.len() {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(KeyToken::parse(&changed).is_err(), "{changed}");
            assert!(KeyToken::parse(&text[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(KeyToken::parse(&format!("{text}A")), Err(KeyTokenError::Damaged));
        assert_eq!(KeyToken::parse("crdt1_AAAA"), Err(KeyTokenError::NotAKey));
    }

    #[test]
    fn a_later_version_says_what_to_do() {
        let text = line::write(PREFIX, vec![1; BODY_BYTES]);
        let error = KeyToken::parse(&text).unwrap_err();
        assert_eq!((error, error.code()), (KeyTokenError::Version { found: 1, known: 0 }, "ERR_VERSION_SKEW"));
    }
}
