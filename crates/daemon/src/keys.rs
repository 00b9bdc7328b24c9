//! `crdt-engine key`: the three steps in which all members change the key behind MACs, without a moment at which one
//! refuses what another has signed.

use std::fmt;

use transport::identity::{ClusterKeys, KeyToken, KeyTokenError, MacKey, RotationError};

use crate::folder::{Folder, FolderError};

/// Why no key was changed. The folder is as it was.
#[derive(Debug)]
pub enum KeysError {
    /// The folder, or what stands in it.
    Folder(FolderError),
    /// This step cannot be taken now.
    Rotation(RotationError),
    /// The text is no key.
    Token(KeyTokenError),
    /// The key is for another cluster.
    OtherCluster {
        /// The key's.
        found: u128,
        /// That of this node.
        own: u128,
    },
    /// Some member may still need the old key.
    StillNeeded {
        /// Its id.
        key: u32,
        /// Batches with it that some member is not known to have.
        batches: u64,
    },
    /// Nobody can tell whether the old key is still needed.
    NotRunning {
        /// Its id.
        key: u32,
    },
}

/// First step, on one member: a new key is valid here, and signs nothing yet. Gives the line that the others need.
///
/// # Errors
/// [`KeysError`] says what to do.
pub fn begin(folder: &Folder) -> Result<KeyToken, KeysError> {
    change(folder, |cluster, keys| {
        let key = MacKey::generate(keys.current.id.wrapping_add(1)).map_err(FolderError::from)?;
        keys.add(key.clone())?;
        Ok(KeyToken { cluster, key })
    })
}

/// First step, on the others: the key is valid here as well. Doing it twice changes nothing.
///
/// # Errors
/// [`KeysError`] says what to do.
pub fn add(folder: &Folder, text: &str) -> Result<ClusterKeys, KeysError> {
    let KeyToken { cluster, key } = KeyToken::parse(text).map_err(KeysError::Token)?;
    change(folder, |own, keys| {
        if cluster != own {
            return Err(KeysError::OtherCluster { found: cluster, own });
        }
        if keys.current != key && keys.other.as_ref() != Some(&key) {
            keys.add(key)?;
        }
        Ok(keys.clone())
    })
}

/// Second step: the newer key signs. Doing it twice changes nothing.
///
/// # Errors
/// [`KeysError`] says what to do.
pub fn promote(folder: &Folder) -> Result<ClusterKeys, KeysError> {
    change(folder, |_, keys| {
        let other = keys.other.as_ref().ok_or(RotationError::NotUnderWay)?;
        // Ids count up, so that of two keys everybody knows the newer one.
        if is_newer(other.id, keys.current.id) {
            keys.promote()?;
        }
        Ok(keys.clone())
    })
}

/// Last step: the older key is forgotten.
///
/// # Errors
/// [`KeysError`] says what to do.
pub fn retire(folder: &Folder) -> Result<ClusterKeys, KeysError> {
    change(folder, |_, keys| {
        let other = keys.other.as_ref().ok_or(RotationError::NotUnderWay)?;
        if is_newer(other.id, keys.current.id) {
            return Err(RotationError::NotPromoted(other.id).into());
        }
        keys.retire()?;
        Ok(keys.clone())
    })
}

/// True when `id` was made after `than`; ids go round.
fn is_newer(id: u32, than: u32) -> bool {
    id != than && id.wrapping_sub(than) < 1 << 31
}

/// Changes the keys of a cluster while nobody else does; they are saved if they are others afterwards.
fn change<Done>(
    folder: &Folder,
    change: impl FnOnce(u128, &mut ClusterKeys) -> Result<Done, KeysError>,
) -> Result<Done, KeysError> {
    // Before the lock, which would not tell that no node lives here.
    let cluster = folder.cluster()?;
    let _change = folder.lock_for_change()?;
    let before = folder.mac_keys()?;
    let mut keys = before.clone();
    let done = change(cluster, &mut keys)?;
    if keys != before {
        folder.save_mac_keys(&keys)?;
    }
    Ok(done)
}

impl KeysError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.code(),
            Self::Rotation(error) => error.code(),
            Self::Token(error) => error.code(),
            Self::OtherCluster { .. } => "ERR_WRONG_CLUSTER",
            Self::StillNeeded { .. } | Self::NotRunning { .. } => "ERR_KEY_NEEDED",
        }
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => error.fmt(formatter),
            Self::Rotation(error) => error.fmt(formatter),
            Self::Token(error) => error.fmt(formatter),
            Self::OtherCluster { found, own } => {
                write!(formatter, "the key is for the cluster {found:032x}, and this node belongs to {own:032x}")
            }
            Self::StillNeeded { key, batches } => write!(
                formatter,
                "{batches} batches are signed with key {key} that some member is not known to have; wait until \
                 `crdt-engine key list` shows none on any member, or add --force if who lacks them does not return"
            ),
            Self::NotRunning { key } => write!(
                formatter,
                "no daemon runs here that could tell whether a member still needs key {key}; start it, or add --force"
            ),
        }
    }
}

impl std::error::Error for KeysError {}

impl From<FolderError> for KeysError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<RotationError> for KeysError {
    fn from(error: RotationError) -> Self {
        Self::Rotation(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_what_was_made_later_also_where_ids_go_round() {
        assert!(is_newer(2, 1) && !is_newer(1, 2) && !is_newer(1, 1));
        assert!(is_newer(0, u32::MAX) && !is_newer(u32::MAX, 0));
    }
}
