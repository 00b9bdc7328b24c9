//! The node folder: everything that a node is, on disk.
//!
//! ```text
//! config.toml          the configuration (belongs to `config`)
//! identity/            0700
//!   cluster.toml       cluster, node, hash of the CA, key of the epoch records; written last: with it the node is there
//!   ca.pem             the CA's certificate
//!   ca.key             its private key, only where invitations are made
//!   signer.pem, .key   signs epoch records where the CA is somebody else's, only where invitations are made
//!   node.pem, node.key this node's certificate and private key
//!   mac.keys           the keys behind MACs
//!   epochs             the chain of signed epoch records, one a line
//!   joining.pem, .key  what a join that is under way will put in the place of node.pem and node.key
//! invites/             one file a token, named by the SHA-256 of its secret
//! directory.toml       where the members are, as last heard
//! state/               the store
//! door.sock            the local door
//! run.lock             held by the daemon that runs
//! change.lock          held while identity, invites or directory change
//! ```
//!
//! Every file is written beside and renamed, with fsync, so a crash leaves the old one or the new one. Secrets have mode
//! 0600 from their first byte on. The private key of a CA is as good as the cluster: keep a copy of it offline, and the
//! file on one machine only.

mod chain;
mod directory;
mod error;
pub(crate) mod hex;
mod invites;
mod records;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use replica::epoch::{Epoch, SignedEpoch};
use transport::NodeId;
use transport::identity::{
    Authority, ClusterKeys, ClusterSigner, EPOCH_KEY_BYTES, NodeIdentity, read_public, read_secret, write_public,
    write_secret,
};
use transport::join::JoinKey;

pub use error::FolderError;
pub use invites::{Claim, INVITES_MAX, Invite, InviteState};

use self::records::ClusterRecord;

/// Where a node lives unless another folder is named.
pub const DEFAULT_FOLDER: &str = "/var/lib/crdt-engine";
/// Least and greatest protocol version that this build speaks.
pub const PROTOCOL_VERSIONS: (u16, u16) = (0, 0);

/// The folder may be looked into by the group, so that its members reach the door.
const FOLDER_MODE: u32 = 0o750;
/// Folders with secrets: nobody else.
const PRIVATE_MODE: u32 = 0o700;
const LOCK_MODE: u32 = 0o600;

/// A node folder. Cheap to clone: it holds the path only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    root: PathBuf,
}

/// A lock on a node folder; free again when it is dropped, also by a crash.
#[derive(Debug)]
#[must_use = "dropping it frees the lock"]
pub struct FolderLock {
    _file: File,
}

/// Everything that makes a node a member, as read from its folder.
#[derive(Debug)]
pub struct Identity {
    /// Certificate, key and CA.
    pub node: NodeIdentity,
    /// Public key of the epoch records.
    pub epoch_key: [u8; EPOCH_KEY_BYTES],
    /// The keys behind MACs.
    pub keys: ClusterKeys,
    /// The chain, ascending by number, every signature good; at least one.
    pub epochs: Vec<SignedEpoch>,
    /// The newest record of the chain, read.
    pub epoch: Epoch,
}

/// Who signs epoch records, and issues certificates if the CA is the cluster's own.
#[derive(Debug)]
pub struct Issuer {
    /// Signs epoch records.
    pub authority: Authority,
    /// True when `authority` is the cluster's CA and issues certificates; false when certificates come from elsewhere.
    pub certifies: bool,
}

impl Identity {
    /// The keys as `replica` asks for them.
    pub fn signer(&self) -> ClusterSigner {
        ClusterSigner::new(self.node.cluster(), self.keys.clone(), self.epoch_key)
    }
}

impl Folder {
    /// A folder, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `config.toml`.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The folder of the store.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The socket of the local door.
    pub fn door(&self) -> PathBuf {
        self.root.join("door.sock")
    }

    fn identity(&self, name: &str) -> PathBuf {
        self.root.join("identity").join(name)
    }

    fn invites(&self) -> PathBuf {
        self.root.join("invites")
    }

    /// True when a node lives here.
    pub fn is_initialised(&self) -> bool {
        self.identity("cluster.toml").exists()
    }

    /// Makes the folder and those in it, as far as they are missing.
    ///
    /// # Errors
    /// [`FolderError::File`]; [`FolderError::Open`] when others may look into one with secrets.
    pub fn create(&self) -> Result<(), FolderError> {
        make_folder(&self.root, FOLDER_MODE)?;
        for name in ["identity", "invites", "state"] {
            let path = self.root.join(name);
            make_folder(&path, PRIVATE_MODE)?;
            check_private(&path)?;
        }
        Ok(())
    }

    /// Takes the place of the one daemon on this folder.
    ///
    /// # Errors
    /// [`FolderError::InUse`], [`FolderError::File`].
    pub fn lock_for_running(&self) -> Result<FolderLock, FolderError> {
        let path = self.root.join("run.lock");
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse { folder: self.root.clone() }),
            Err(TryLockError::Error(error)) => Err(FolderError::File { path, error }),
        }
    }

    /// Waits for the right to change identity, invites or directory; held for a few writes at most, also by the commands
    /// that work beside a running daemon. SUBTLE: it is not reentrant; functions that take it say so.
    ///
    /// # Errors
    /// [`FolderError::File`].
    pub fn lock_for_change(&self) -> Result<FolderLock, FolderError> {
        let path = self.root.join("change.lock");
        let file = open_lock(&path)?;
        file.lock().map_err(|error| FolderError::File { path, error })?;
        Ok(FolderLock { _file: file })
    }

    /// Reads the identity, and checks that its parts belong together. Expiry is not looked at: see
    /// [`NodeIdentity::check_validity`].
    ///
    /// # Errors
    /// [`FolderError::NotInitialised`] where no node lives; else what does not read, or does not fit.
    pub fn load(&self) -> Result<Identity, FolderError> {
        let record = self.cluster_record()?;
        check_private(&self.root.join("identity"))?;
        self.settle_join()?;
        let authority_pem = read_public(&self.identity("ca.pem"))?;
        let chain_pem = read_public(&self.identity("node.pem"))?;
        let key_pem = read_secret(&self.identity("node.key"))?;
        let node = NodeIdentity::from_pem(record.cluster, &authority_pem, &chain_pem, &key_pem)?;
        if node.authority_fingerprint() != record.authority_sha256 {
            return Err(FolderError::damaged(self.identity("ca.pem"), "it is not the CA that cluster.toml names"));
        }
        if *node.node() != record.node {
            let reason = format!("it names {}, and cluster.toml {}", node.node(), record.node);
            return Err(FolderError::damaged(self.identity("node.pem"), reason));
        }
        let keys = self.mac_keys()?;
        let signer = ClusterSigner::new(record.cluster, keys.clone(), record.epoch_key);
        let (epochs, epoch) = self.epochs(&signer)?;
        Ok(Identity { node, epoch_key: record.epoch_key, keys, epochs, epoch })
    }

    /// The node that lives here, without reading keys.
    ///
    /// # Errors
    /// As [`Folder::load`].
    pub fn node(&self) -> Result<NodeId, FolderError> {
        Ok(self.cluster_record()?.node)
    }

    /// The cluster that the node belongs to, without reading keys.
    ///
    /// # Errors
    /// As [`Folder::load`].
    pub fn cluster(&self) -> Result<u128, FolderError> {
        Ok(self.cluster_record()?.cluster)
    }

    /// Who signs epoch records, where invitations are made; `None` elsewhere.
    ///
    /// # Errors
    /// [`FolderError::NotInitialised`]; [`FolderError::Identity`] for keys that do not read or do not fit.
    pub fn issuer(&self) -> Result<Option<Issuer>, FolderError> {
        let cluster = self.cluster_record()?.cluster;
        for (certificate, key, certifies) in [("ca.pem", "ca.key", true), ("signer.pem", "signer.key", false)] {
            let key = self.identity(key);
            if key.exists() {
                let certificate = read_public(&self.identity(certificate))?;
                let authority = Authority::from_pem(cluster, &certificate, &read_secret(&key)?)?;
                return Ok(Some(Issuer { authority, certifies }));
            }
        }
        Ok(None)
    }

    /// Writes who signs epoch records; gives the file of the private key.
    pub(crate) fn save_issuer(&self, issuer: &Issuer) -> Result<PathBuf, FolderError> {
        let (certificate, key) = if issuer.certifies { ("ca.pem", "ca.key") } else { ("signer.pem", "signer.key") };
        let key = self.identity(key);
        write_secret(&key, &issuer.authority.key_pem())?;
        write_public(&self.identity(certificate), issuer.authority.certificate_pem())?;
        Ok(key)
    }

    /// Writes a whole identity; `cluster.toml` last, which makes the node. The right to change is held by the caller.
    pub(crate) fn save(&self, identity: &Identity) -> Result<(), FolderError> {
        let node = &identity.node;
        write_public(&self.identity("ca.pem"), node.authority_pem())?;
        self.save_mac_keys(&identity.keys)?;
        self.save_epochs(&identity.epochs)?;
        // SUBTLE: certificate and key are two files, and one without the other is no identity. The key takes its place
        // first; if a crash comes between, the certificate is found waiting (`settle_join`).
        write_secret(&self.identity("joining.key"), node.key_pem())?;
        write_public(&self.identity("joining.pem"), node.chain_pem())?;
        self.rename("joining.key", "node.key")?;
        self.settle_join()?;
        let record = ClusterRecord {
            cluster: node.cluster(),
            node: node.node().clone(),
            authority_sha256: node.authority_fingerprint(),
            epoch_key: identity.epoch_key,
        };
        Ok(write_public(&self.identity("cluster.toml"), &record.to_text())?)
    }

    /// The key of a join that is under way: the one of an attempt before, else a fresh one, which is kept before it is
    /// used: only with the same key is an answer that was lost given again.
    pub(crate) fn joining_key(
        &self,
        make: impl FnOnce() -> Result<JoinKey, FolderError>,
    ) -> Result<JoinKey, FolderError> {
        let path = self.identity("joining.key");
        if path.exists() {
            return Ok(JoinKey::from_pem(&read_secret(&path)?)?);
        }
        let placed = self.identity("node.key");
        if !self.is_initialised() && placed.exists() {
            return Ok(JoinKey::from_pem(&read_secret(&placed)?)?);
        }
        let key = make()?;
        write_secret(&path, &key.to_pem())?;
        Ok(key)
    }

    /// Takes away the keys of a CA that never came to be: what an `init` leaves that did not finish would not fit the
    /// cluster that is joined now.
    pub(crate) fn forget_unfinished_issuer(&self) -> Result<(), FolderError> {
        if self.is_initialised() {
            return Ok(());
        }
        for name in ["ca.key", "signer.key", "signer.pem"] {
            let path = self.identity(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(FolderError::File { path, error }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a configuration where there is none; true when it was written. With mode 0600: passwords may come to stand
    /// in it.
    pub(crate) fn save_new_config(&self, text: &str) -> Result<bool, FolderError> {
        let path = self.config();
        if path.exists() {
            return Ok(false);
        }
        write_secret(&path, text)?;
        Ok(true)
    }

    /// The second rename of [`Folder::save`], also after a crash came between the two.
    fn settle_join(&self) -> Result<(), FolderError> {
        if !self.identity("joining.pem").exists() || self.identity("joining.key").exists() {
            return Ok(());
        }
        match self.rename("joining.pem", "node.pem") {
            // Somebody who loads the folder at this very moment was faster.
            Err(FolderError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), FolderError> {
        rename(&self.identity(from), &self.identity(to))
    }
}

/// Renames, durably.
fn rename(from: &Path, to: &Path) -> Result<(), FolderError> {
    let failed = |error| FolderError::File { path: from.into(), error };
    fs::rename(from, to).map_err(failed)?;
    match to.parent() {
        Some(parent) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed),
        None => Ok(()),
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), FolderError> {
    let failed = |error| FolderError::File { path: path.into(), error };
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed),
        None => Ok(()),
    }
}

fn check_private(path: &Path) -> Result<(), FolderError> {
    let data = fs::metadata(path).map_err(|error| FolderError::File { path: path.into(), error })?;
    let mode = data.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FolderError::Open { path: path.into(), mode });
    }
    Ok(())
}

fn open_lock(path: &Path) -> Result<File, FolderError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(LOCK_MODE).open(path);
    file.map_err(|error| FolderError::File { path: path.into(), error })
}
