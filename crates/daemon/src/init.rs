//! `crdt-engine init`: a new cluster with one node.

use std::fmt;
use std::path::PathBuf;

use replica::epoch::{Epoch, Member};
use transport::identity::{
    Authority, ClusterKeys, KeyKind, MacKey, NODE_VALIDITY_DAYS, NodeIdentity, random_bytes, read_public, read_secret,
};
use transport::join::DirectoryEntry;
use transport::{NodeId, check_identity};

use crate::folder::{Folder, FolderError, Identity, Issuer, PROTOCOL_VERSIONS};

/// Slot of the node that begins a cluster.
const FIRST_SLOT: u8 = 1;
/// Id of a cluster's first key for MACs.
const FIRST_KEY: u32 = 1;

/// Certificate, key and CA that somebody else made, as PEM files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnFiles {
    /// The node's certificate, then those between it and the CA, if any. Its only subject alternative name is the node
    /// id, as DNS name.
    pub certificate: PathBuf,
    /// Its private key, mode 0600.
    pub key: PathBuf,
    /// The CA's certificate.
    pub ca: PathBuf,
}

/// What [`init`] is told.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The name of the node.
    pub node: NodeId,
    /// Kind of the node's key; not used with `own`.
    pub key_kind: KeyKind,
    /// Certificates that somebody else made; `None`: the cluster gets a CA of its own.
    pub own: Option<OwnFiles>,
    /// `host:port` under which other members reach this node; may be empty, and is said again by the configuration.
    pub addresses: Vec<String>,
    /// The text of `config.toml`, which is written where there is none.
    pub config_text: String,
    /// Seconds since 1970.
    pub now_s: i64,
}

/// What [`init`] made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Initialised {
    /// The node folder.
    pub folder: PathBuf,
    /// The cluster.
    pub cluster: u128,
    /// The node.
    pub node: NodeId,
    /// SHA-256 of the CA's certificate.
    pub authority_sha256: [u8; 32],
    /// Where the CA's key is, of which a copy is to be kept offline; `None` when the CA is somebody else's.
    pub authority_key: Option<PathBuf>,
    /// True when `config.toml` was written; false when one was there.
    pub config_written: bool,
}

/// Why no cluster was made. The folder holds no node then.
#[derive(Debug)]
pub enum InitError {
    /// The folder, or the keys.
    Folder(FolderError),
    /// The certificate names another node.
    OtherNode {
        /// Whom it was to name.
        wanted: NodeId,
        /// Whom it names.
        named: NodeId,
    },
}

impl OwnFiles {
    /// Reads the files, and checks that they fit each other and this moment (seconds since 1970).
    ///
    /// # Errors
    /// [`FolderError::Identity`] says which does not read, or what does not fit.
    pub fn read(&self, cluster: u128, now_s: i64) -> Result<NodeIdentity, FolderError> {
        let (authority, chain) = (read_public(&self.ca)?, read_public(&self.certificate)?);
        let identity = NodeIdentity::from_pem(cluster, &authority, &chain, &read_secret(&self.key)?)?;
        identity.check_validity(now_s)?;
        check_identity(&identity, now_s)?;
        Ok(identity)
    }
}

/// Makes a cluster with one node in `folder`. A folder that an earlier `init` left unfinished is begun anew.
///
/// # Errors
/// [`InitError`]; above all [`FolderError::AlreadyInitialised`].
pub fn init(folder: &Folder, options: &InitOptions) -> Result<Initialised, InitError> {
    folder.create()?;
    let _running = folder.lock_for_running()?;
    let _change = folder.lock_for_change()?;
    if folder.is_initialised() {
        let node = folder.node()?.to_string();
        return Err(FolderError::AlreadyInitialised { folder: folder.path().into(), node }.into());
    }
    let cluster = u128::from_be_bytes(random_bytes().map_err(FolderError::from)?);
    let authority = Authority::create(cluster, options.now_s).map_err(FolderError::from)?;
    let issuer = Issuer { authority, certifies: options.own.is_none() };
    let node = match &options.own {
        Some(own) => own.read(cluster, options.now_s)?,
        None => {
            let days = NODE_VALIDITY_DAYS;
            issuer.authority.issue(&options.node, options.key_kind, options.now_s, days).map_err(FolderError::from)?
        }
    };
    if *node.node() != options.node {
        return Err(InitError::OtherNode { wanted: options.node.clone(), named: node.node().clone() });
    }
    let members = [(options.node.to_string(), Member { slot: FIRST_SLOT })].into();
    let epoch = Epoch { number: 1, members, version_min: PROTOCOL_VERSIONS.0, ..Epoch::default() };
    let identity = Identity {
        epoch_key: issuer.authority.epoch_key(),
        keys: ClusterKeys::new(MacKey::generate(FIRST_KEY).map_err(FolderError::from)?),
        epochs: vec![issuer.authority.sign_epoch(&epoch)],
        epoch,
        node,
    };
    let config_written = folder.save_new_config(&options.config_text)?;
    let entry = DirectoryEntry { node: options.node.clone(), counter: 1, addresses: options.addresses.clone() };
    let entries = if entry.addresses.is_empty() { Vec::new() } else { vec![entry] };
    folder.save_directory(&entries)?;
    folder.forget_unfinished_issuer()?;
    let authority_key = folder.save_issuer(&issuer)?;
    folder.save(&identity)?;
    Ok(Initialised {
        folder: folder.path().into(),
        cluster,
        node: options.node.clone(),
        authority_sha256: identity.node.authority_fingerprint(),
        authority_key: issuer.certifies.then_some(authority_key),
        config_written,
    })
}

impl InitError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.code(),
            Self::OtherNode { .. } => "ERR_CERT_OTHER_NODE",
        }
    }
}

impl From<FolderError> for InitError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => error.fmt(formatter),
            Self::OtherNode { wanted, named } => write!(
                formatter,
                "the certificate names {named}, and this node is to be {wanted}; give the certificate of {wanted}, or \
                 --node-id {named}"
            ),
        }
    }
}

impl std::error::Error for InitError {}
