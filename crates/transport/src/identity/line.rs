//! Bytes as one line that a person copies: a prefix that tells its kind, then base64url with a checksum at the end, which
//! is the first 4 bytes of SHA-256 over all before.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::sha256;

const CHECKSUM_BYTES: usize = 4;

/// What is wrong with a line.
pub(super) enum LineError {
    /// It does not begin as one of its kind does.
    Prefix,
    /// It is longer than any of its kind, or too short for a checksum.
    Length,
    /// It is not base64url.
    Encoding,
    /// Its checksum does not fit.
    Checksum,
}

/// The line of some bytes.
pub(super) fn write(prefix: &str, mut bytes: Vec<u8>) -> String {
    let checksum = sha256(&bytes);
    bytes.extend(checksum.iter().take(CHECKSUM_BYTES));
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The bytes of a line whose bytes were at most `bytes_max`; white space around it is ignored.
pub(super) fn read(prefix: &str, text: &str, bytes_max: usize) -> Result<Vec<u8>, LineError> {
    let encoded = text.trim().strip_prefix(prefix).ok_or(LineError::Prefix)?;
    if encoded.len() > ((bytes_max + CHECKSUM_BYTES) * 4).div_ceil(3) {
        return Err(LineError::Length);
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| LineError::Encoding)?;
    let body = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(LineError::Length)?;
    let checksum = bytes.split_off(body);
    if sha256(&bytes).get(..CHECKSUM_BYTES) != Some(checksum.as_slice()) {
        return Err(LineError::Checksum);
    }
    Ok(bytes)
}
