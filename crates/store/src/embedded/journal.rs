//! Telling a torn tail from damage in the database's journal, before the database reads it.
//!
//! The database (`fjall` 3.1, `journal/entry.rs` and `journal/batch_reader.rs`) cuts its journal where an entry does
//! not read, whatever stands behind: right for the tail of a killed process, silent loss for a flipped bit in the
//! middle. A complete batch behind the place tells the two apart, because a process that was killed has written
//! nothing behind. Its format, integers little-endian:
//!
//! ```text
//! batch: start, items, end
//! start: 1, count of items (4), number of the batch (8)
//! item:  2, kind (1), compression (1), keyspace (8), key length (2), value length (4), stored length (4), key, value
//! clear: 4, keyspace (8)                       counts as an item
//! end:   3, XXH3-64 of all bytes of the items (8), 'F' 'J' 'L' 3
//! ```
//!
//! A new journal is 64 MiB of zeros.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::Quarantine;
use crate::{Doubt, StoreError};

const MAGIC: [u8; 4] = [b'F', b'J', b'L', 3];
/// Tag, checksum and magic of an end.
const END_BYTES: usize = 13;
const CHUNK_BYTES: usize = 64 << 10;

/// What a journal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finding {
    /// Batches, and behind them nothing but zeros or a torn tail.
    Sound,
    /// Something that does not read at this offset, and complete batches behind it.
    Damaged(u64),
}

/// Reads all journals in the folder of a database. At damage the journal is cut, and what was behind it, with all
/// later journals, goes to quarantine: what is left is an earlier moment of the store, whole.
pub(super) fn mend(place: &Path, quarantine: &mut Quarantine) -> Result<Option<Doubt>, StoreError> {
    let journals = journals(place)?;
    let mut number = None;
    for (at, path) in journals.iter().enumerate() {
        let is_last = at + 1 == journals.len();
        let finding = audit(path, is_last, &mut number).map_err(|error| StoreError::io("read", path, &error))?;
        let Finding::Damaged(offset) = finding else { continue };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let kept = quarantine.place(&name)?;
        cut(path, offset, &kept).map_err(|error| StoreError::io("set aside the damage of", path, &error))?;
        for later in &journals[at + 1..] {
            quarantine.take(later)?;
        }
        let what = format!("the journal {name} from byte {offset} on");
        return Ok(Some(Doubt::Damaged { what, kept: Some(kept) }));
    }
    Ok(None)
}

/// Journals in the order in which they were written.
fn journals(place: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !place.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(place).map_err(|error| StoreError::io("list", place, &error))?;
    let mut journals = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| StoreError::io("list", place, &error))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|extension| extension == "jnl")) {
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

fn audit(path: &Path, is_last: bool, number: &mut Option<u64>) -> io::Result<Finding> {
    let file = File::open(path)?;
    let left = file.metadata()?.len();
    let mut scan = Scan { reader: BufReader::with_capacity(CHUNK_BYTES, file), left, valid: 0, number: *number };
    while scan.batch()? {}
    let Scan { mut reader, valid, number: last, .. } = scan;
    *number = last;
    reader.seek(SeekFrom::Start(valid))?;
    let (has_end, is_zero) = look_behind(&mut reader)?;
    // A journal with a later one was synced whole before that one was made: it has no torn tail.
    let is_sound = !has_end && (is_last || is_zero);
    Ok(if is_sound { Finding::Sound } else { Finding::Damaged(valid) })
}

struct Scan {
    reader: BufReader<File>,
    /// Bytes of the file that were not read.
    left: u64,
    /// Offset behind the last whole batch.
    valid: u64,
    /// Number of the last whole batch.
    number: Option<u64>,
}

impl Scan {
    /// Reads one batch; false where there is none.
    fn batch(&mut self) -> io::Result<bool> {
        let before = self.left;
        let Some([1]) = self.take::<1>()? else { return Ok(false) };
        let Some(start) = self.take::<12>()? else { return Ok(false) };
        let [a, b, c, d, number @ ..] = start;
        // SUBTLE: the number is under no checksum, and an item of a higher one hides later ones. They ascend.
        let number = u64::from_le_bytes(number);
        if self.number.is_some_and(|last| number <= last) {
            return Ok(false);
        }
        let mut hasher = Xxh3::new();
        for _ in 0..u32::from_le_bytes([a, b, c, d]) {
            if !self.item(&mut hasher)? {
                return Ok(false);
            }
        }
        let Some(end) = self.take::<END_BYTES>()? else { return Ok(false) };
        let mut sum = [0; 8];
        sum.copy_from_slice(&end[1..9]);
        if end[0] != 3 || end[9..] != MAGIC || u64::from_le_bytes(sum) != hasher.digest() {
            return Ok(false);
        }
        self.valid += before - self.left;
        self.number = Some(number);
        Ok(true)
    }

    fn item(&mut self, hasher: &mut Xxh3) -> io::Result<bool> {
        let Some(tag) = self.take::<1>()? else { return Ok(false) };
        hasher.update(&tag);
        match tag {
            [2] => {
                let Some(head) = self.take::<20>()? else { return Ok(false) };
                hasher.update(&head);
                let key = u64::from(u16::from_le_bytes([head[10], head[11]]));
                let value = u64::from(u32::from_le_bytes([head[16], head[17], head[18], head[19]]));
                self.hash(key + value, hasher)
            }
            [4] => self.hash(8, hasher),
            _ => Ok(false),
        }
    }

    /// Hashes so many bytes in pieces: a length that is damaged costs no memory.
    fn hash(&mut self, mut bytes: u64, hasher: &mut Xxh3) -> io::Result<bool> {
        if bytes > self.left {
            return Ok(false);
        }
        let mut chunk = [0; 4 << 10];
        while bytes > 0 {
            let length = usize::try_from(bytes).map_or(chunk.len(), |bytes| bytes.min(chunk.len()));
            let piece = &mut chunk[..length];
            self.reader.read_exact(piece)?;
            hasher.update(piece);
            bytes -= length as u64;
            self.left -= length as u64;
        }
        Ok(true)
    }

    fn take<const BYTES: usize>(&mut self) -> io::Result<Option<[u8; BYTES]>> {
        if (BYTES as u64) > self.left {
            return Ok(None);
        }
        let mut bytes = [0; BYTES];
        self.reader.read_exact(&mut bytes)?;
        self.left -= BYTES as u64;
        Ok(Some(bytes))
    }
}

/// Whether the end of a batch comes, and whether everything to come is zero.
fn look_behind(reader: &mut impl Read) -> io::Result<(bool, bool)> {
    let mut is_zero = true;
    let mut window = Vec::with_capacity(CHUNK_BYTES + END_BYTES);
    let (mut chunk, zeros) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    loop {
        let length = reader.read(&mut chunk)?;
        if length == 0 {
            return Ok((false, is_zero));
        }
        // Nearly all of a new journal; an end does not end in a zero.
        if chunk[..length] == zeros[..length] {
            window.clear();
            window.extend_from_slice(&zeros[..length.min(END_BYTES - 1)]);
            continue;
        }
        is_zero = false;
        window.extend_from_slice(&chunk[..length]);
        if window.windows(END_BYTES).any(|end| end[0] == 3 && end[9..] == MAGIC) {
            return Ok((true, false));
        }
        let keep = window.len().saturating_sub(END_BYTES - 1);
        window.drain(..keep);
    }
}

/// Copies what stands from `offset` on to `kept`, durably, and cuts it off.
fn cut(path: &Path, offset: u64, kept: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut copy = File::create_new(kept)?;
    io::copy(&mut file, &mut copy)?;
    copy.flush()?;
    copy.sync_all()?;
    file.set_len(offset)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut item = vec![2, 0, 0];
        item.extend(1u64.to_le_bytes());
        item.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
        item.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        item.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        item.extend(key);
        item.extend(value);
        let mut bytes = vec![1];
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend(&item);
        bytes.push(3);
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&item).to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    fn finding(bytes: &[u8], is_last: bool) -> Finding {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.jnl");
        fs::write(&path, bytes).unwrap();
        audit(&path, is_last, &mut None).unwrap()
    }

    #[test]
    fn a_torn_tail_is_sound_at_each_length() {
        let (first, second) = (batch(1, b"a", b"one"), batch(2, b"b", b"two"));
        for length in 0..second.len() {
            let mut bytes = first.clone();
            bytes.extend(&second[..length]);
            assert_eq!(finding(&bytes, true), Finding::Sound, "{length} bytes of the second batch");
            bytes.extend([0; 100]);
            assert_eq!(finding(&bytes, true), Finding::Sound, "{length} bytes and zeros");
        }
    }

    #[test]
    fn a_flipped_bit_before_a_whole_batch_is_damage() {
        let (first, second) = (batch(1, b"a", b"one"), batch(2, b"b", b"two"));
        for bit in 0..first.len() * 8 {
            // The number of a batch is under no checksum: the next test.
            if (5..13).contains(&(bit / 8)) {
                continue;
            }
            let mut bytes = first.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes.extend(&second);
            assert_eq!(finding(&bytes, true), Finding::Damaged(0), "bit {bit}");
        }
    }

    #[test]
    fn numbers_of_batches_ascend() {
        let (first, second) = (batch(7, b"a", b"one"), batch(7, b"b", b"two"));
        assert_eq!(finding(&[first.clone(), second].concat(), true), Finding::Damaged(first.len() as u64));
    }

    #[test]
    fn a_journal_with_a_later_one_has_no_torn_tail() {
        let mut bytes = batch(1, b"a", b"one");
        assert_eq!(finding(&bytes, false), Finding::Sound);
        bytes.extend([0; 9]);
        assert_eq!(finding(&bytes, false), Finding::Sound);
        let length = bytes.len() - 9;
        bytes.extend(&batch(2, b"b", b"two")[..20]);
        bytes.truncate(length + 29);
        assert!(matches!(finding(&bytes, false), Finding::Damaged(_)));
    }
}
