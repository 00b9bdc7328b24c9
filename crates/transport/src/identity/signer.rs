//! The keys behind MACs of batches and signatures of epoch records, as `replica` asks for them.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use hmac::{Hmac, KeyInit, Mac};
use replica::Signer;
use sha2::Sha256;

use super::error::IdentityError;
use super::random_bytes;

/// Bytes of a MAC key.
pub const MAC_KEY_BYTES: usize = 32;
/// Bytes of a public key for epoch records.
pub const EPOCH_KEY_BYTES: usize = 32;
/// Bytes of a MAC in a batch.
const MAC_BYTES: usize = 16;
/// Goes before an epoch record: the CA's key also signs certificates, and a signature of one must not pass as the
/// other's.
const EPOCH_DOMAIN: &[u8] = b"crdt-engine epoch record 0\0";
/// Goes before a batch.
const BATCH_DOMAIN: &[u8] = b"crdt-engine batch 0\0";

/// What the CA signs for an epoch record.
pub(super) fn epoch_message(cluster: u128, bytes: &[u8]) -> Vec<u8> {
    [EPOCH_DOMAIN, &cluster.to_be_bytes(), bytes].concat()
}

/// A key for MACs. All members hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct MacKey {
    /// Stands in each batch.
    pub id: u32,
    /// The secret.
    pub secret: [u8; MAC_KEY_BYTES],
}

impl MacKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`IdentityError::Unusable`] when the system has no randomness.
    pub fn generate(id: u32) -> Result<Self, IdentityError> {
        Ok(Self { id, secret: random_bytes()? })
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MacKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The valid keys: one that signs and, during a rotation, one more that is only checked.
///
/// A rotation has three steps, each done on all members before the next: [`ClusterKeys::add`] the new key,
/// [`ClusterKeys::promote`] it, [`ClusterKeys::retire`] the old one, which must wait until every member has every batch
/// with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterKeys {
    /// Signs and is checked.
    pub current: MacKey,
    /// Is checked only.
    pub other: Option<MacKey>,
}

/// Why a step of a rotation was refused. The keys are as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RotationError {
    /// Two keys are valid already: retire one first.
    UnderWay,
    /// No second key is there.
    NotUnderWay,
    /// Both keys would have this id.
    SameId(u32),
    /// The newer key, with this id, signs nothing yet.
    NotPromoted(u32),
}

impl ClusterKeys {
    /// One key and no rotation.
    pub fn new(current: MacKey) -> Self {
        Self { current, other: None }
    }

    /// First step: a second key is valid, and the current one goes on signing.
    ///
    /// # Errors
    /// [`RotationError::UnderWay`], [`RotationError::SameId`].
    pub fn add(&mut self, next: MacKey) -> Result<(), RotationError> {
        if self.other.is_some() {
            return Err(RotationError::UnderWay);
        }
        if next.id == self.current.id {
            return Err(RotationError::SameId(next.id));
        }
        self.other = Some(next);
        Ok(())
    }

    /// Second step: the keys change their places.
    ///
    /// # Errors
    /// [`RotationError::NotUnderWay`].
    pub fn promote(&mut self) -> Result<(), RotationError> {
        let other = self.other.as_mut().ok_or(RotationError::NotUnderWay)?;
        std::mem::swap(&mut self.current, other);
        Ok(())
    }

    /// Third step: only the current key is valid.
    ///
    /// # Errors
    /// [`RotationError::NotUnderWay`].
    pub fn retire(&mut self) -> Result<MacKey, RotationError> {
        self.other.take().ok_or(RotationError::NotUnderWay)
    }
}

/// [`Signer`] over the cluster's keys. Clones share the keys, so that a rotation reaches the node that owns one.
#[derive(Clone)]
pub struct ClusterSigner {
    cluster: u128,
    keys: Arc<RwLock<Prepared>>,
    epoch_key: [u8; EPOCH_KEY_BYTES],
}

/// Keys with the first half of their HMAC done.
struct Prepared {
    keys: ClusterKeys,
    current: Hmac<Sha256>,
    other: Option<Hmac<Sha256>>,
}

impl Prepared {
    fn new(cluster: u128, keys: ClusterKeys) -> Self {
        let begin = |key: &MacKey| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key.secret).expect("HMAC takes keys of any length");
            mac.update(BATCH_DOMAIN);
            mac.update(&cluster.to_be_bytes());
            mac
        };
        Self { current: begin(&keys.current), other: keys.other.as_ref().map(begin), keys }
    }
}

impl ClusterSigner {
    /// A signer of a cluster; `epoch_key` is the public Ed25519 key of its epoch records.
    pub fn new(cluster: u128, keys: ClusterKeys, epoch_key: [u8; EPOCH_KEY_BYTES]) -> Self {
        Self { cluster, keys: Arc::new(RwLock::new(Prepared::new(cluster, keys))), epoch_key }
    }

    /// Uses other keys from now on, in all clones.
    pub fn set_keys(&self, keys: ClusterKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Prepared::new(self.cluster, keys);
    }

    /// The id of the key that signs, and that of the other one that is valid.
    pub fn key_ids(&self) -> (u32, Option<u32>) {
        self.with(|prepared| (prepared.keys.current.id, prepared.keys.other.as_ref().map(|other| other.id)))
    }

    fn with<R>(&self, read: impl FnOnce(&Prepared) -> R) -> R {
        read(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Signer for ClusterSigner {
    fn key_id(&self) -> u32 {
        self.with(|prepared| prepared.keys.current.id)
    }

    fn sign(&self, bytes: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = self.with(|prepared| prepared.current.clone());
        mac.update(bytes);
        let whole = mac.finalize().into_bytes();
        std::array::from_fn(|place| whole[place])
    }

    fn verify(&self, key_id: u32, bytes: &[u8], mac: &[u8; MAC_BYTES]) -> bool {
        let begun = self.with(|prepared| match &prepared.keys.other {
            _ if prepared.keys.current.id == key_id => Some(prepared.current.clone()),
            Some(other) if other.id == key_id => prepared.other.clone(),
            _ => None,
        });
        let Some(mut begun) = begun else { return false };
        begun.update(bytes);
        begun.verify_truncated_left(mac).is_ok()
    }

    fn verify_epoch(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let message = epoch_message(self.cluster, bytes);
        UnparsedPublicKey::new(&ED25519, self.epoch_key).verify(&message, signature).is_ok()
    }
}

impl fmt::Debug for ClusterSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClusterSigner").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl RotationError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        "ERR_KEY_ROTATION"
    }
}

impl fmt::Display for RotationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnderWay => formatter.write_str("two keys are valid already; retire the old one first"),
            Self::NotUnderWay => formatter.write_str("no second key is there; add one first"),
            Self::SameId(id) => write!(formatter, "both keys would have the id {id}; give the new one another"),
            Self::NotPromoted(id) => {
                write!(formatter, "key {id} is the newer one and does not sign yet; promote it on every member first")
            }
        }
    }
}

impl std::error::Error for RotationError {}
