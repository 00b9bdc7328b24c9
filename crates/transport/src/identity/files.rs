//! Files of an identity: written in one step, secrets for the owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::error::IdentityError;

/// Largest PEM file that is read: a chain of several RSA certificates is far below it.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Read and write for the owner, nothing for anybody else.
const SECRET_MODE: u32 = 0o600;
/// Readable for all.
const PUBLIC_MODE: u32 = 0o644;

/// Writes a secret with mode 0600. A file of this name is replaced as a whole; a crash leaves the old one or the new.
///
/// # Errors
/// [`IdentityError::File`].
pub fn write_secret(path: &Path, text: &str) -> Result<(), IdentityError> {
    write(path, text, SECRET_MODE).map_err(|error| IdentityError::File { path: path.into(), error })
}

/// Writes what is no secret, with mode 0644; else as [`write_secret`].
///
/// # Errors
/// [`IdentityError::File`].
pub fn write_public(path: &Path, text: &str) -> Result<(), IdentityError> {
    write(path, text, PUBLIC_MODE).map_err(|error| IdentityError::File { path: path.into(), error })
}

/// Reads a secret.
///
/// # Errors
/// [`IdentityError::Readable`] when others than the owner have any right to it, else as [`read_public`].
pub fn read_secret(path: &Path) -> Result<String, IdentityError> {
    let failed = |error| IdentityError::File { path: path.into(), error };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Readable { path: path.into(), mode });
    }
    read(path, file)
}

/// Reads a text file of at most 256 KiB.
///
/// # Errors
/// [`IdentityError::File`], [`IdentityError::FileTooLarge`].
pub fn read_public(path: &Path) -> Result<String, IdentityError> {
    let file = File::open(path).map_err(|error| IdentityError::File { path: path.into(), error })?;
    read(path, file)
}

fn read(path: &Path, file: File) -> Result<String, IdentityError> {
    let failed = |error| IdentityError::File { path: path.into(), error };
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(IdentityError::FileTooLarge { path: path.into(), bytes, bytes_max: FILE_BYTES_MAX });
    }
    let mut text = String::new();
    // The bound again: the file may grow, or be a device without a length.
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = folder.join(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // SUBTLE: the mode is given at creation, so that the secret is at no moment readable for others.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}
