//! Where damage is kept as it was found.

use std::fs;
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::ledger::sync_folder;

/// A folder with numbered entries.
pub(super) struct Quarantine {
    folder: PathBuf,
    next: u32,
}

impl Quarantine {
    /// Nothing is made before there is something to keep.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, next: 0 }
    }

    /// A free name for something of the name `of`.
    pub(super) fn place(&mut self, of: &str) -> Result<PathBuf, StoreError> {
        fs::create_dir_all(&self.folder).map_err(|error| StoreError::io("make", &self.folder, &error))?;
        loop {
            let place = self.folder.join(format!("{:04}-{of}", self.next));
            self.next += 1;
            if !place.exists() {
                return Ok(place);
            }
        }
    }

    /// Moves a file or folder here.
    pub(super) fn take(&mut self, path: &Path) -> Result<PathBuf, StoreError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let place = self.place(&name)?;
        fs::rename(path, &place).map_err(|error| StoreError::io("move", path, &error))?;
        sync_folder(&self.folder)?;
        sync_folder(path.parent().unwrap_or(path))?;
        Ok(place)
    }
}
