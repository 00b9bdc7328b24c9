//! The file of the log, rotated by size.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The group may read the log, others may not: node names and addresses stand in it.
const FILE_MODE: u32 = 0o640;

/// A file that is appended to, and its predecessors `name.1`, `name.2`...
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    inode: u64,
    bytes: u64,
    bytes_max: u64,
    files_kept: u32,
}

impl LogFile {
    pub(super) fn open(path: PathBuf, bytes_max: u64, files_kept: u32) -> io::Result<Self> {
        let file = open(&path)?;
        let stat = file.metadata()?;
        Ok(Self { path, file, inode: stat.ino(), bytes: stat.len(), bytes_max, files_kept })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line, into a new file when it would not fit.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.follow()?;
        let bytes = self.bytes.saturating_add(line.len() as u64);
        if self.bytes > 0 && bytes > self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes = self.bytes.saturating_add(line.len() as u64);
        Ok(())
    }

    /// Opens anew when somebody else moved the file away or shortened it, as logrotate does.
    fn follow(&mut self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(stat) if stat.ino() == self.inode => {
                self.bytes = stat.len();
                Ok(())
            }
            Ok(_) => self.reopen(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reopen(),
            Err(error) => Err(error),
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        match self.files_kept {
            0 => fs::remove_file(&self.path)?,
            kept => {
                for number in (1..kept).rev() {
                    match fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                }
                fs::rename(&self.path, numbered(&self.path, 1))?;
            }
        }
        self.reopen()
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(self.path.clone(), self.bytes_max, self.files_kept)?;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn files_rotate_by_size_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.log");
        let mut file = LogFile::open(path.clone(), 10, 2).unwrap();
        for line in ["one 45678\n", "two\n", "three\n", "four 5678\n", "five 5678\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "five 5678\n");
        assert_eq!(read(&numbered(&path, 1)), "four 5678\n");
        assert_eq!(read(&numbered(&path, 2)), "two\nthree\n");
        assert!(!numbered(&path, 3).exists());
    }

    #[test]
    fn a_line_above_the_bound_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.log");
        let mut file = LogFile::open(path.clone(), 4, 0).unwrap();
        file.write(b"a long line\n").unwrap();
        file.write(b"next\n").unwrap();
        assert_eq!(read(&path), "next\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.log");
        let mut file = LogFile::open(path.clone(), 1_000, 1).unwrap();
        file.write(b"one\n").unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        file.write(b"two\n").unwrap();
        assert_eq!(read(&path), "two\n");
        assert_eq!(read(&folder.path().join("moved")), "one\n");
    }
}
