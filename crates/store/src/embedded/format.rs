//! The folder's format, in a file of its own: asked before anything else is touched.

use std::fs;
use std::path::Path;

use crate::ledger;
use crate::{Doubt, StoreError};

/// 1 had no such file: there the database's own journal was the log.
const FORMAT: &str = "store format 2\n";

/// Makes or checks the format of a folder; the file that does not read, or is gone, is damage and written anew.
pub(super) fn check(folder: &Path) -> Result<Option<Doubt>, StoreError> {
    fs::create_dir_all(folder).map_err(|error| StoreError::io("make", folder, &error))?;
    let path = folder.join("format");
    let damaged = || Some(Doubt::Damaged { what: "the file that names the format".into(), kept: None });
    let text = ledger::read_text(&path)?;
    let found = match text.as_deref().map(ledger::verified) {
        Some(Some(FORMAT)) => return Ok(None),
        Some(Some(other)) => {
            return Err(StoreError::Format { what: format!("{} ({})", folder.display(), other.trim_end()) });
        }
        None if !folder.join("log").exists() && folder.join("records").exists() => {
            return Err(StoreError::Format { what: format!("{} (store format 1)", folder.display()) });
        }
        None if !folder.join("log").exists() => None,
        // SUBTLE: all parts have marks of their own, so nothing is misread as a format that it is not.
        Some(None) | None => damaged(),
    };
    ledger::put(&ledger::write_new(&path, FORMAT)?, &path)?;
    Ok(found)
}
