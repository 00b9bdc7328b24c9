//! The key of a node that joins: it is made where it is used, and never travels.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SignatureAlgorithm, SigningKey};

use super::codec::{Fields, Malformed};
use crate::identity::{IdentityError, KeyKind};

/// Bytes of a raw Ed25519 key (RFC 8032).
const ED25519_BYTES: usize = 32;
/// Bytes of an uncompressed point of P-256 (SEC 1).
const P256_BYTES: usize = 65;
/// Longest signature of either kind: P-256's in DER has at most 72 bytes.
pub(super) const SIGNATURE_BYTES_MAX: usize = 80;
/// Goes before what is signed: the key also signs TLS handshakes, and a signature of one must not pass as the other's.
const PROOF_DOMAIN: &[u8] = b"crdt-engine join proof 0\0";

/// The private key of a node that joins.
pub struct JoinKey {
    pair: KeyPair,
    public: PublicKey,
}

/// The public half, as it travels and as the CA certifies it.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    bytes: Vec<u8>,
}

fn unusable(error: impl fmt::Display) -> IdentityError {
    IdentityError::Unusable { reason: error.to_string() }
}

fn algorithm_of(kind: KeyKind) -> &'static SignatureAlgorithm {
    match kind {
        KeyKind::Ed25519 => &PKCS_ED25519,
        KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
    }
}

impl JoinKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`IdentityError::Unusable`] when the system has no randomness.
    pub fn generate(kind: KeyKind) -> Result<Self, IdentityError> {
        Self::new(KeyPair::generate_for(algorithm_of(kind)).map_err(unusable)?)
    }

    /// Reads a key that [`JoinKey::to_pem`] wrote.
    ///
    /// # Errors
    /// [`IdentityError::Pem`]; [`IdentityError::Unusable`] for a key of another kind.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let failed = |error: rcgen::Error| IdentityError::Pem { what: "the node's key", reason: error.to_string() };
        Self::new(KeyPair::from_pem(text).map_err(failed)?)
    }

    fn new(pair: KeyPair) -> Result<Self, IdentityError> {
        let kinds = [KeyKind::Ed25519, KeyKind::EcdsaP256];
        let kind = kinds.into_iter().find(|kind| pair.algorithm() == algorithm_of(*kind));
        let kind = kind.ok_or_else(|| unusable("a node's key is Ed25519 or ECDSA over P-256"))?;
        let public = PublicKey { kind, bytes: pair.der_bytes().to_vec() };
        Ok(Self { pair, public })
    }

    /// The private key, as PEM (PKCS #8). For [`crate::identity::write_secret`].
    pub fn to_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Proves over one connection that the private key is here. `exported` is keying material of that connection, so
    /// the proof is worth nothing on another one.
    pub(super) fn prove(&self, exported: &[u8]) -> Result<Vec<u8>, IdentityError> {
        self.pair.sign(&[PROOF_DOMAIN, exported].concat()).map_err(unusable)
    }
}

impl PublicKey {
    /// The kind of the key.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// SHA-256 over kind and key: names the key in files.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(1 + self.bytes.len());
        self.put(&mut bytes);
        crate::identity::sha256(&bytes)
    }

    /// True when the holder of the private half made `proof` over `exported`.
    pub(super) fn proves(&self, exported: &[u8], proof: &[u8]) -> bool {
        let message = [PROOF_DOMAIN, exported].concat();
        match self.kind {
            KeyKind::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.bytes).verify(&message, proof).is_ok(),
            KeyKind::EcdsaP256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes).verify(&message, proof).is_ok()
            }
        }
    }

    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(match self.kind {
            KeyKind::Ed25519 => 1,
            KeyKind::EcdsaP256 => 2,
        });
        bytes.extend_from_slice(&self.bytes);
    }

    /// Reads what stands behind the kind.
    pub(super) fn take(kind: u8, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let (kind, length) = match kind {
            1 => (KeyKind::Ed25519, ED25519_BYTES),
            2 => (KeyKind::EcdsaP256, P256_BYTES),
            _ => return Err(Malformed("kind of a key")),
        };
        Ok(Self { kind, bytes: fields.raw(length, "public key")?.to_vec() })
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        algorithm_of(self.kind)
    }
}

/// Without the private half.
impl fmt::Debug for JoinKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JoinKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        formatter.debug_struct("PublicKey").field("kind", &self.kind).field("key", &shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_one_key_and_one_connection() {
        for kind in [KeyKind::Ed25519, KeyKind::EcdsaP256] {
            let key = JoinKey::generate(kind).unwrap();
            let again = JoinKey::from_pem(&key.to_pem()).unwrap();
            assert_eq!(again.public(), key.public());
            let proof = again.prove(b"connection").unwrap();
            assert!(proof.len() <= SIGNATURE_BYTES_MAX);
            assert!(key.public().proves(b"connection", &proof));
            assert!(!key.public().proves(b"another", &proof));
            assert!(!JoinKey::generate(kind).unwrap().public().proves(b"connection", &proof));
            let mut bytes = Vec::new();
            key.public().put(&mut bytes);
            let read = PublicKey::take(bytes[0], &mut Fields::new(&bytes[1..])).unwrap();
            assert_eq!(&read, key.public());
        }
    }
}
