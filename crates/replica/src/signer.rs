//! MACs and signatures come from outside: the crate holds no key.

use crdt::change::MAC_BYTES;

/// Makes and checks MACs of batches with the cluster's keys, and checks signatures of epoch records.
pub trait Signer {
    /// Key id that new batches are signed with.
    fn key_id(&self) -> u32;

    /// MAC over `bytes` with the current key.
    fn sign(&self, bytes: &[u8]) -> [u8; MAC_BYTES];

    /// True when `mac` was made over `bytes` with the key `key_id`, and that key is still valid.
    fn verify(&self, key_id: u32, bytes: &[u8], mac: &[u8; MAC_BYTES]) -> bool;

    /// True when `signature` was made over `bytes` with the cluster's CA key.
    fn verify_epoch(&self, bytes: &[u8], signature: &[u8]) -> bool;
}
