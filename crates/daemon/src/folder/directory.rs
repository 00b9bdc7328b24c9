//! Where the members are, as last heard: `directory.toml`.

use serde::{Deserialize, Serialize};
use transport::identity::{read_public, write_public};
use transport::join::DirectoryEntry;
use transport::{ADDRESSES_MAX, NodeId};

use super::Folder;
use super::error::FolderError;
use super::records::to_toml;

/// Greatest counter that is taken: TOML has no greater integer. One change a millisecond would not reach it.
const COUNTER_MAX: u64 = i64::MAX as u64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryText {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    member: Vec<EntryText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryText {
    node: String,
    counter: u64,
    addresses: Vec<String>,
}

impl Folder {
    /// Reads the directory, in the order of node ids; empty where none was written yet.
    ///
    /// # Errors
    /// [`FolderError`] for a file that does not read. The directory can be heard again from any member that is reached
    /// by `[peers]` of the configuration: a caller may go on without it, and should say so.
    pub fn directory(&self) -> Result<Vec<DirectoryEntry>, FolderError> {
        let path = self.root.join("directory.toml");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let damaged = |reason: &dyn std::fmt::Display| FolderError::damaged(&path, reason);
        let read: DirectoryText = toml::from_str(&read_public(&path)?).map_err(|error| damaged(&error))?;
        let mut entries = Vec::new();
        for EntryText { node, counter, addresses } in read.member {
            let node = NodeId::new(&node).map_err(|error| damaged(&error))?;
            entries.push(DirectoryEntry { node, counter, addresses });
        }
        entries.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(entries)
    }

    /// Takes entries into the directory: of two for one node the one with the greater counter counts. Gives the whole
    /// directory. Written only when something changed. Takes no lock: see [`Folder::lock_for_change`].
    ///
    /// # Errors
    /// As [`Folder::directory`].
    pub fn merge_directory(&self, heard: &[DirectoryEntry]) -> Result<Vec<DirectoryEntry>, FolderError> {
        let mut entries = self.directory()?;
        if take(&mut entries, heard) {
            self.save_directory(&entries)?;
        }
        Ok(entries)
    }

    /// Writes a directory. The right to change is held by the caller.
    pub fn save_directory(&self, entries: &[DirectoryEntry]) -> Result<(), FolderError> {
        let member = entries.iter().map(|entry| EntryText {
            node: entry.node.to_string(),
            counter: entry.counter.min(COUNTER_MAX),
            addresses: entry.addresses.clone(),
        });
        let text = to_toml(&DirectoryText { member: member.collect() });
        Ok(write_public(&self.root.join("directory.toml"), &text)?)
    }
}

/// Takes what is newer; true when anything was.
fn take(entries: &mut Vec<DirectoryEntry>, heard: &[DirectoryEntry]) -> bool {
    let mut is_changed = false;
    for new in heard.iter().filter(|new| new.counter <= COUNTER_MAX && new.addresses.len() <= ADDRESSES_MAX) {
        match entries.binary_search_by(|known| known.node.cmp(&new.node)) {
            Ok(place) => {
                if let Some(known) = entries.get_mut(place).filter(|known| known.counter < new.counter) {
                    known.clone_from(new);
                    is_changed = true;
                }
            }
            Err(place) => {
                entries.insert(place, new.clone());
                is_changed = true;
            }
        }
    }
    is_changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(node: &str, counter: u64, address: &str) -> DirectoryEntry {
        DirectoryEntry { node: NodeId::new(node).unwrap(), counter, addresses: vec![address.to_owned()] }
    }

    #[test]
    fn newer_entries_take_the_place_of_older_ones() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("node"));
        folder.create().unwrap();
        assert_eq!(folder.directory().unwrap(), []);
        folder.merge_directory(&[entry("b", 2, "b:2"), entry("a", 1, "a:1")]).unwrap();
        let merged = folder.merge_directory(&[entry("b", 1, "b:1"), entry("a", 7, "a:7"), entry("c", 1, "c:1")]);
        let expected = [entry("a", 7, "a:7"), entry("b", 2, "b:2"), entry("c", 1, "c:1")];
        assert_eq!(merged.unwrap(), expected);
        assert_eq!(folder.directory().unwrap(), expected);
        folder.merge_directory(&[entry("d", u64::MAX, "d:1")]).unwrap();
        assert_eq!(folder.directory().unwrap(), expected, "a counter that nothing could overtake is not taken");
    }
}
