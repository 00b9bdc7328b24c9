//! Keys of a simulated cluster: MACs are keyed hashes, which is enough where nobody forges.

use std::cell::Cell;
use std::rc::Rc;

use replica::Signer;
use replica::epoch::{Epoch, SignedEpoch};

use crate::hash::hash;

/// Key of the simulated CA, which signs epoch records.
const CA_KEY: u64 = 0x6361;
/// First key of the cluster; later ones follow it.
const CLUSTER_KEY: u64 = 0x6b65_7900;

/// The keys that a node holds. In a rotation two are valid: the current one and the one before it.
#[derive(Clone, Debug)]
pub struct Keys {
    current: Rc<Cell<u32>>,
}

impl Keys {
    /// Keys whose current one can be changed from outside while the node runs.
    pub fn new(current: Rc<Cell<u32>>) -> Self {
        Self { current }
    }
}

fn mac(key_id: u32, bytes: &[u8]) -> [u8; 16] {
    hash(CLUSTER_KEY + u64::from(key_id), bytes).to_be_bytes()
}

impl Signer for Keys {
    fn key_id(&self) -> u32 {
        self.current.get()
    }

    fn sign(&self, bytes: &[u8]) -> [u8; 16] {
        mac(self.current.get(), bytes)
    }

    fn verify(&self, key_id: u32, bytes: &[u8], given: &[u8; 16]) -> bool {
        // Old batches keep their MAC for as long as they stand in a log, so a key once valid stays valid here; a key
        // that was never given out does not verify.
        key_id <= self.current.get() + 1 && mac(key_id, bytes) == *given
    }

    fn verify_epoch(&self, bytes: &[u8], signature: &[u8]) -> bool {
        hash(CA_KEY, bytes).to_be_bytes() == signature
    }
}

/// An epoch record signed by the CA.
pub fn sign_epoch(epoch: &Epoch) -> SignedEpoch {
    let bytes = epoch.to_bytes();
    let signature = hash(CA_KEY, &bytes).to_be_bytes().to_vec();
    SignedEpoch { bytes, signature }
}
