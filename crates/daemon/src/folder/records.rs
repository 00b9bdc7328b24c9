//! The small files of an identity: `cluster.toml` and `mac.keys`, both TOML.

use serde::{Deserialize, Serialize};
use transport::NodeId;
use transport::identity::{
    ClusterKeys, EPOCH_KEY_BYTES, MAC_KEY_BYTES, MacKey, read_public, read_secret, write_secret,
};

use super::error::FolderError;
use super::{Folder, hex};

/// What a node folder says about cluster and node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClusterRecord {
    pub(super) cluster: u128,
    pub(super) node: NodeId,
    /// SHA-256 of the CA's certificate.
    pub(super) authority_sha256: [u8; 32],
    pub(super) epoch_key: [u8; EPOCH_KEY_BYTES],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterText {
    cluster: String,
    node: String,
    authority_sha256: String,
    epoch_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysText {
    current: KeyText,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<KeyText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    id: u32,
    secret: String,
}

/// Goes before files that nobody is to edit.
pub(super) const HEADER: &str = "# Written by crdt-engine; not to be edited.\n";

/// The TOML text of something that has only strings, integers, booleans, and tables of them.
pub(super) fn to_toml(value: &impl Serialize) -> String {
    let text = toml::to_string(value).expect("strings, integers below 2^63 and tables have a form in TOML");
    format!("{HEADER}{text}")
}

impl ClusterRecord {
    pub(super) fn to_text(&self) -> String {
        to_toml(&ClusterText {
            cluster: format!("{:032x}", self.cluster),
            node: self.node.to_string(),
            authority_sha256: hex::encode(&self.authority_sha256),
            epoch_key: hex::encode(&self.epoch_key),
        })
    }

    /// What is wrong goes out in words.
    fn from_text(text: &str) -> Result<Self, String> {
        let read: ClusterText = toml::from_str(text).map_err(|error| error.to_string())?;
        let cluster: [u8; 16] = hex::decode_array(&read.cluster).ok_or("cluster is not 32 hexadecimal digits")?;
        let authority_sha256 = hex::decode_array(&read.authority_sha256);
        let epoch_key = hex::decode_array(&read.epoch_key);
        Ok(Self {
            cluster: u128::from_be_bytes(cluster),
            node: NodeId::new(&read.node).map_err(|error| error.to_string())?,
            authority_sha256: authority_sha256.ok_or("authority_sha256 is not 64 hexadecimal digits")?,
            epoch_key: epoch_key.ok_or("epoch_key is not 64 hexadecimal digits")?,
        })
    }
}

impl Folder {
    pub(super) fn cluster_record(&self) -> Result<ClusterRecord, FolderError> {
        if !self.is_initialised() {
            return Err(FolderError::NotInitialised { folder: self.root.clone() });
        }
        let path = self.identity("cluster.toml");
        ClusterRecord::from_text(&read_public(&path)?).map_err(|reason| FolderError::damaged(path, reason))
    }

    /// The keys behind MACs.
    pub(crate) fn mac_keys(&self) -> Result<ClusterKeys, FolderError> {
        let path = self.identity("mac.keys");
        let text = read_secret(&path)?;
        // Without what TOML says: it would quote the line, and the line holds a secret.
        let read: KeysText = toml::from_str(&text).map_err(|_| FolderError::damaged(&path, "it is no list of keys"))?;
        let key = |text: KeyText| -> Result<MacKey, FolderError> {
            let secret: Option<[u8; MAC_KEY_BYTES]> = hex::decode_array(&text.secret);
            let secret = secret.ok_or_else(|| FolderError::damaged(&path, "a key is not 64 hexadecimal digits"))?;
            Ok(MacKey { id: text.id, secret })
        };
        let (current, other) = (key(read.current)?, read.other.map(key).transpose()?);
        if other.as_ref().is_some_and(|other| other.id == current.id) {
            return Err(FolderError::damaged(&path, format!("both keys have the id {}", current.id)));
        }
        Ok(ClusterKeys { current, other })
    }

    /// Writes the keys behind MACs. The right to change is held by the caller.
    pub(crate) fn save_mac_keys(&self, keys: &ClusterKeys) -> Result<(), FolderError> {
        let key = |key: &MacKey| KeyText { id: key.id, secret: hex::encode(&key.secret) };
        let text = to_toml(&KeysText { current: key(&keys.current), other: keys.other.as_ref().map(key) });
        Ok(write_secret(&self.identity("mac.keys"), &text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_record_round_trips_and_says_what_is_wrong() {
        let record = ClusterRecord {
            cluster: 7,
            node: NodeId::new("node_01").unwrap(),
            authority_sha256: [0xab; 32],
            epoch_key: [0xcd; 32],
        };
        let text = record.to_text();
        assert_eq!(ClusterRecord::from_text(&text), Ok(record));
        let damaged = [("node_01", "NODE"), ("cluster =", "clutter ="), ("abab", "ab"), ("cdcd", "xxxx"), ("\"", "")];
        for (from, to) in damaged {
            assert!(ClusterRecord::from_text(&text.replacen(from, to, 1)).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn mac_keys_round_trip() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("node"));
        folder.create().unwrap();
        let key = |id, byte| MacKey { id, secret: [byte; 32] };
        for other in [None, Some(key(4, 9))] {
            let keys = ClusterKeys { current: key(3, 8), other };
            folder.save_mac_keys(&keys).unwrap();
            assert_eq!(folder.mac_keys().unwrap(), keys);
        }
        folder.save_mac_keys(&ClusterKeys { current: key(3, 8), other: Some(key(3, 9)) }).unwrap();
        assert_eq!(folder.mac_keys().unwrap_err().code(), "ERR_FOLDER_DAMAGED");
    }
}
