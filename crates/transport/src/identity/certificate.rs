//! What is read out of a certificate.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::error::IdentityError;
use crate::node_id::NodeId;

/// Object identifier of Ed25519 keys (RFC 8410).
const ED25519: &str = "1.3.101.112";

/// From when to when a certificate is valid, in seconds since 1970, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// Its first second.
    pub not_before_s: i64,
    /// Its last second.
    pub not_after_s: i64,
}

impl Validity {
    /// Checks a moment.
    ///
    /// # Errors
    /// [`IdentityError::Expired`] or [`IdentityError::NotYetValid`]; `whose` names the certificate in them.
    pub fn check(&self, whose: &str, now_s: i64) -> Result<(), IdentityError> {
        if now_s > self.not_after_s {
            return Err(IdentityError::Expired { whose: whose.into(), not_after_s: self.not_after_s, now_s });
        }
        if now_s < self.not_before_s {
            return Err(IdentityError::NotYetValid { whose: whose.into(), not_before_s: self.not_before_s, now_s });
        }
        Ok(())
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    let parsed = x509_parser::parse_x509_certificate(certificate.as_ref());
    let (rest, parsed) = parsed.map_err(|error| IdentityError::Certificate { reason: error.to_string() })?;
    if !rest.is_empty() {
        return Err(IdentityError::Certificate { reason: format!("{} bytes follow it", rest.len()) });
    }
    Ok(parsed)
}

/// The node that a certificate names: its only subject alternative name, a DNS name.
///
/// # Errors
/// [`IdentityError`] for a certificate that does not decode, that has no name or several, or one that is no node id.
/// A certificate with more names than one is refused as a whole: which of them is meant would be a guess.
pub fn node_id_of(certificate: &CertificateDer<'_>) -> Result<NodeId, IdentityError> {
    let parsed = parse(certificate)?;
    let names = parsed.subject_alternative_name();
    let names = names.map_err(|error| IdentityError::Certificate { reason: error.to_string() })?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    match names {
        [GeneralName::DNSName(name)] => NodeId::new(name).map_err(IdentityError::NodeId),
        names => Err(IdentityError::Names { names: names.len() }),
    }
}

/// From when to when a certificate is valid.
///
/// # Errors
/// [`IdentityError::Certificate`] for one that does not decode.
pub fn validity_of(certificate: &CertificateDer<'_>) -> Result<Validity, IdentityError> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    Ok(Validity { not_before_s: validity.not_before.timestamp(), not_after_s: validity.not_after.timestamp() })
}

/// The Ed25519 key in a certificate; `None` when its key is of another kind.
pub(super) fn ed25519_key_of(certificate: &CertificateDer<'_>) -> Result<Option<[u8; 32]>, IdentityError> {
    let parsed = parse(certificate)?;
    let key = parsed.public_key();
    if key.algorithm.algorithm.to_id_string() != ED25519 {
        return Ok(None);
    }
    Ok(<[u8; 32]>::try_from(&*key.subject_public_key.data).ok())
}
