//! The cluster's CA: issues certificates and signs epoch records.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SanType, SerialNumber,
};
use replica::epoch::{Epoch, SignedEpoch};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::certificate::{ed25519_key_of, validity_of};
use super::error::IdentityError;
use super::node::NodeIdentity;
use super::signer::epoch_message;
use super::{EPOCH_KEY_BYTES, random_bytes, sha256};
use crate::join::PublicKey;
use crate::node_id::NodeId;

/// Days that a CA is valid: it is what nodes are known by, and replacing it means to join all of them again.
pub const CA_VALIDITY_DAYS: u32 = 3_650;
/// Days that a node's certificate is valid.
pub const NODE_VALIDITY_DAYS: u32 = 825;
/// A certificate is valid from this long before it was made: clocks of two machines differ.
const BACKDATED_S: i64 = 3_600;

/// Kinds of keys for nodes. The CA's is always Ed25519.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyKind {
    /// Ed25519.
    #[default]
    Ed25519,
    /// ECDSA over P-256, for hardware that knows nothing else.
    EcdsaP256,
}

/// A cluster's CA with its private key.
#[derive(Debug)]
pub struct Authority {
    cluster: u128,
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
    issuer_name: DistinguishedName,
    epoch_key: Ed25519KeyPair,
}

fn unusable(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Unusable { reason: error.to_string() }
}

fn moment(seconds: i64) -> Result<OffsetDateTime, IdentityError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(unusable)
}

fn issuer_name(cluster: u128) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("crdt-engine {cluster:032x}"));
    name
}

impl Authority {
    /// Makes a CA for a new cluster, valid from an hour before `now_s` (seconds since 1970) for
    /// [`CA_VALIDITY_DAYS`].
    ///
    /// # Errors
    /// [`IdentityError::Unusable`] when the system has no randomness, or the clock is beyond all dates.
    pub fn create(cluster: u128, now_s: i64) -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(unusable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = issuer_name(cluster);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(serial()?);
        params.not_before = moment(now_s.saturating_sub(BACKDATED_S))?;
        params.not_after = moment(now_s.saturating_add(i64::from(CA_VALIDITY_DAYS) * 86_400))?;
        let certificate = params.self_signed(&key).map_err(unusable)?;
        Self::from_pem(cluster, &certificate.pem(), &key.serialize_pem())
    }

    /// Reads a CA that [`Authority::create`] made.
    ///
    /// # Errors
    /// [`IdentityError::Pem`], [`IdentityError::Certificate`], and [`IdentityError::Unusable`] for a key that is not
    /// the certificate's, or not Ed25519.
    pub fn from_pem(cluster: u128, certificate_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let pem = |error: rustls::pki_types::pem::Error| IdentityError::Pem {
            what: "the CA's certificate",
            reason: error.to_string(),
        };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(pem)?;
        let key = KeyPair::from_pem(key_pem)
            .map_err(|error| IdentityError::Pem { what: "the CA's key", reason: error.to_string() })?;
        let epoch_key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.serialized_der())
            .map_err(|_| unusable("the CA's key is not Ed25519"))?;
        if ed25519_key_of(&certificate)?.as_ref().map(<[u8; 32]>::as_slice) != Some(epoch_key.public_key().as_ref()) {
            return Err(unusable("the CA's key is not the one in its certificate"));
        }
        let certificate_pem = certificate_pem.to_owned();
        Ok(Self { cluster, certificate_pem, certificate, key, issuer_name: issuer_name(cluster), epoch_key })
    }

    /// Issues a certificate and a fresh key for a node, valid from an hour before `now_s` for `days`, and at most as
    /// long as the CA.
    ///
    /// # Errors
    /// [`IdentityError::Expired`] when the CA has expired, else [`IdentityError::Unusable`].
    pub fn issue(&self, node: &NodeId, kind: KeyKind, now_s: i64, days: u32) -> Result<NodeIdentity, IdentityError> {
        let until = now_s.saturating_add(i64::from(days) * 86_400);
        self.issue_between(node, kind, now_s.saturating_sub(BACKDATED_S), until, now_s)
    }

    /// Issues with the exact bounds of the validity: for tests of expiry, and for short-lived certificates.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_between(
        &self,
        node: &NodeId,
        kind: KeyKind,
        not_before_s: i64,
        not_after_s: i64,
        now_s: i64,
    ) -> Result<NodeIdentity, IdentityError> {
        let algorithm = match kind {
            KeyKind::Ed25519 => &PKCS_ED25519,
            KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
        };
        let key = KeyPair::generate_for(algorithm).map_err(unusable)?;
        let chain_pem = self.certify_between(node, &key, not_before_s, not_after_s, now_s)?;
        NodeIdentity::from_pem(self.cluster, &self.certificate_pem, &chain_pem, &key.serialize_pem())
    }

    /// Issues a certificate for a key whose private half stays at the node, valid as with [`Authority::issue`]; its
    /// PEM. That the node has the private half is for the caller to know.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn certify(&self, node: &NodeId, key: &PublicKey, now_s: i64, days: u32) -> Result<String, IdentityError> {
        let until = now_s.saturating_add(i64::from(days) * 86_400);
        self.certify_between(node, key, now_s.saturating_sub(BACKDATED_S), until, now_s)
    }

    fn certify_between(
        &self,
        node: &NodeId,
        key: &impl PublicKeyData,
        not_before_s: i64,
        not_after_s: i64,
        now_s: i64,
    ) -> Result<String, IdentityError> {
        let own = validity_of(&self.certificate)?;
        own.check("the cluster's CA", now_s)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        let name = Ia5String::try_from(node.as_str()).map_err(unusable)?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial()?);
        params.not_before = moment(not_before_s)?;
        params.not_after = moment(not_after_s.min(own.not_after_s))?;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer()).map_err(unusable)?;
        Ok(certificate.pem())
    }

    /// Signs an epoch record.
    pub fn sign_epoch(&self, epoch: &Epoch) -> SignedEpoch {
        let bytes = epoch.to_bytes();
        let signature = self.epoch_key.sign(&epoch_message(self.cluster, &bytes)).as_ref().to_vec();
        SignedEpoch { bytes, signature }
    }

    /// The public key that checks what [`Authority::sign_epoch`] signs.
    pub fn epoch_key(&self) -> [u8; EPOCH_KEY_BYTES] {
        self.epoch_key.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes")
    }

    /// The cluster.
    pub fn cluster(&self) -> u128 {
        self.cluster
    }

    /// The certificate, as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key, as PEM (PKCS #8). For [`super::write_secret`].
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// SHA-256 of the certificate: what a join token knows the cluster by.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    fn issuer(&self) -> Issuer<'static, &KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = self.issuer_name.clone();
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Issuer::new(params, &self.key)
    }
}

/// 16 random bytes, positive as DER integers are to be.
fn serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes = random_bytes::<16>()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
