//! `crdt-engine join TOKEN`: this machine becomes a member. The other side is [`crate::join_host`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use replica::epoch::{Epoch, SignedEpoch};
use transport::NodeId;
use transport::identity::{JoinToken, KeyKind, TokenError};
use transport::join::{JoinAttempt, JoinCredential, JoinError, JoinKey, Joined, join as ask};

use crate::folder::{Folder, FolderError, Identity, PROTOCOL_VERSIONS};
use crate::init::OwnFiles;

/// What [`join`] is told.
#[derive(Clone)]
pub struct JoinOptions {
    /// The line that `invite` printed.
    pub token: String,
    /// `host:port` under which other members reach this node; empty: the address that the member sees, with `port`.
    pub addresses: Vec<String>,
    /// UDP port on which this node will listen; 0 when it is never to be dialled.
    pub port: u16,
    /// Kind of the node's key; not used with `own`.
    pub key_kind: KeyKind,
    /// A certificate that the cluster's own CA made.
    pub own: Option<OwnFiles>,
    /// The text of `config.toml`, which is written where there is none.
    pub config_text: String,
    /// Seconds since 1970.
    pub now_s: i64,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewMember {
    /// The node folder.
    pub folder: PathBuf,
    /// The cluster.
    pub cluster: u128,
    /// The node.
    pub node: NodeId,
    /// Its slot, 1 to 64, for life.
    pub slot: u8,
    /// Number of the newest epoch record.
    pub epoch: u64,
    /// Members, this one among them.
    pub members: usize,
    /// True when the node was a member before and got a new certificate; a daemon that runs takes it at its next start.
    pub renewed: bool,
    /// True when `config.toml` was written; false when one was there.
    pub config_written: bool,
}

/// Why this machine is no member. Run again with the same token, an attempt whose answer was lost is finished.
#[derive(Debug)]
pub enum JoinCommandError {
    /// The folder, or the keys.
    Folder(FolderError),
    /// The token cannot be used.
    Token(TokenError),
    /// A node lives here, of another cluster or name than the token's.
    OtherNode {
        /// The folder.
        folder: PathBuf,
        /// Who lives there.
        found: NodeId,
        /// Whom the token invites.
        invited: NodeId,
    },
    /// The certificate that was given names another node than the token.
    OtherCertificate {
        /// Whom it names.
        named: NodeId,
        /// Whom the token invites.
        invited: NodeId,
    },
    /// The certificate that was given belongs to another CA than the token names.
    OtherAuthority {
        /// The CA's file.
        ca: PathBuf,
    },
    /// The member that was asked, or the way there.
    Join(JoinError),
}

/// Joins. Must be called from within a tokio runtime with its network and its clock. The daemon may run only where a
/// certificate is renewed.
///
/// # Errors
/// [`JoinCommandError`] says what to do.
pub async fn join(folder: &Folder, options: &JoinOptions) -> Result<NewMember, JoinCommandError> {
    let token = JoinToken::parse(&options.token)?;
    let is_renewal = check_folder(folder, &token)?;
    folder.create()?;
    // A first join takes the daemon's place, so that neither a daemon nor another join works on the folder meanwhile.
    let _running = if is_renewal { None } else { Some(folder.lock_for_running()?) };
    let own = match &options.own {
        Some(files) => Some((files, files.read(token.cluster, options.now_s)?)),
        None => None,
    };
    if let Some((files, identity)) = &own {
        if identity.authority_fingerprint() != token.authority_fingerprint {
            return Err(JoinCommandError::OtherAuthority { ca: files.ca.clone() });
        }
        if *identity.node() != token.node {
            let (named, invited) = (identity.node().clone(), token.node);
            return Err(JoinCommandError::OtherCertificate { named, invited });
        }
    }
    let key = match own {
        Some(_) => None,
        None => {
            let _change = folder.lock_for_change()?;
            Some(folder.joining_key(|| Ok(JoinKey::generate(options.key_kind)?))?)
        }
    };
    let credential = match (&key, &own) {
        (Some(key), _) => JoinCredential::Key(key),
        (None, Some((_, identity))) => JoinCredential::Certificate(identity),
        (None, None) => unreachable!("a key is made where no certificate was given"),
    };
    let attempt = JoinAttempt {
        token: &token,
        credential,
        addresses: options.addresses.clone(),
        port: options.port,
        versions: PROTOCOL_VERSIONS,
        now_s: options.now_s,
    };
    // SUBTLE: a token that has expired is not refused here. Whether an answer that was lost is given again is for the
    // member to say, by its own clock.
    let joined = ask(&attempt).await?;
    keep(folder, joined, is_renewal, &options.config_text)
}

/// True when the node lives here already and gets a new certificate.
fn check_folder(folder: &Folder, token: &JoinToken) -> Result<bool, JoinCommandError> {
    if !folder.is_initialised() {
        return Ok(false);
    }
    let (cluster, found) = (folder.cluster()?, folder.node()?);
    if cluster == token.cluster && found == token.node {
        return Ok(true);
    }
    let (folder, invited) = (folder.path().into(), token.node.clone());
    Err(JoinCommandError::OtherNode { folder, found, invited })
}

/// Makes a node out of what the member said.
fn keep(folder: &Folder, joined: Joined, renewed: bool, config_text: &str) -> Result<NewMember, JoinCommandError> {
    let _change = folder.lock_for_change()?;
    let Joined { identity: node, epoch_key, keys, epochs, directory } = joined;
    // A long chain comes without its oldest records; those that are known here already stay. An identity that does not
    // read any more is what a renewal mends: then the answer alone counts.
    let known = if renewed { folder.load().map(|identity| identity.epochs).unwrap_or_default() } else { Vec::new() };
    let read = |signed: SignedEpoch| Epoch::from_bytes(&signed.bytes).ok().map(|epoch| (epoch.number, (epoch, signed)));
    let chain: BTreeMap<u64, (Epoch, SignedEpoch)> = known.into_iter().chain(epochs).filter_map(read).collect();
    let newest = chain.last_key_value().map(|(_, (epoch, _))| epoch.clone());
    let bad = |reason: &str| JoinCommandError::Join(JoinError::BadAnswer { reason: reason.to_owned() });
    let epoch = newest.ok_or_else(|| bad("it holds no epoch record"))?;
    let member = epoch.members.get(node.node().as_str()).ok_or_else(|| bad("the newest epoch lets nobody in"))?;
    let slot = member.slot;
    let epochs = chain.into_values().map(|(_, signed)| signed).collect();
    folder.forget_unfinished_issuer()?;
    let config_written = folder.save_new_config(config_text)?;
    folder.merge_directory(&directory)?;
    let identity = Identity { node, epoch_key, keys, epochs, epoch };
    folder.save(&identity)?;
    Ok(NewMember {
        folder: folder.path().into(),
        cluster: identity.node.cluster(),
        node: identity.node.node().clone(),
        slot,
        epoch: identity.epoch.number,
        members: identity.epoch.members.len(),
        renewed,
        config_written,
    })
}

impl JoinCommandError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.code(),
            Self::Token(error) => error.code(),
            Self::OtherNode { .. } => "ERR_ALREADY_INITIALISED",
            Self::OtherCertificate { .. } => "ERR_CERT_OTHER_NODE",
            Self::OtherAuthority { .. } => "ERR_WRONG_CLUSTER",
            Self::Join(error) => error.code(),
        }
    }
}

impl From<FolderError> for JoinCommandError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<TokenError> for JoinCommandError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<JoinError> for JoinCommandError {
    fn from(error: JoinError) -> Self {
        Self::Join(error)
    }
}

impl fmt::Display for JoinCommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => error.fmt(formatter),
            Self::Token(error) => error.fmt(formatter),
            Self::OtherNode { folder, found, invited } => write!(
                formatter,
                "the node {found} lives in {} already, and the token invites {invited} into another cluster or under \
                 another name; name another folder with --folder",
                folder.display()
            ),
            Self::OtherCertificate { named, invited } => write!(
                formatter,
                "the certificate names {named}, and the token invites {invited}; give the certificate of {invited}, or \
                 have {named} invited"
            ),
            Self::OtherAuthority { ca } => write!(
                formatter,
                "{} is not the CA of the token's cluster; give the CA's certificate that the inviting node uses",
                ca.display()
            ),
            Self::Join(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for JoinCommandError {}

/// Without the token.
impl fmt::Debug for JoinOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("JoinOptions");
        shown.field("addresses", &self.addresses).field("port", &self.port).finish_non_exhaustive()
    }
}
