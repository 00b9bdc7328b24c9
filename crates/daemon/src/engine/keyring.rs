//! The keys behind MACs, as the node folder holds them and as the node uses them.

use std::path::Path;

use transport::identity::ClusterSigner;

use crate::folder::{Folder, FolderError};

/// Both at once; a rotation changes the folder first.
pub(crate) struct Keyring {
    folder: Folder,
    signer: ClusterSigner,
}

impl Keyring {
    pub(crate) fn new(folder: &Path, signer: ClusterSigner) -> Self {
        Self { folder: Folder::new(folder), signer }
    }

    /// Uses from now on what the folder holds. Without success the node goes on with the keys that it has.
    pub(crate) fn reload(&self) -> Result<(), FolderError> {
        self.signer.set_keys(self.folder.mac_keys()?);
        Ok(())
    }

    /// The key that signs, and the other one that is valid.
    pub(crate) fn ids(&self) -> (u32, Option<u32>) {
        self.signer.key_ids()
    }
}
