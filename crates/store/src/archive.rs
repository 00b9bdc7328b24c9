//! All records of one moment in one file, for backups.
//!
//! ```text
//! head:  'CRDTCOPY', version 1 (4)
//! block: bytes of its pairs (4), XXH3-64 of them, seeded with the number of the block (8), pairs
//! pair:  1, length of the key (4), key, length of the value (4), value
//!        0, length of the key (4), key                                   the pair with this key was removed
//! end:   0 (4), blocks (8), pairs (8), XXH3-64 of these sixteen bytes, seeded with the number of blocks (8)
//! ```
//! Integers are little-endian; key and value are as a store with byte keys has them (`frame`), so that each value has
//! its own checksum as well. Of two pairs with one key the later one counts. Nothing stands behind the end.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::copying::StoredPair;
use crate::frame::VALUE_BYTES_MAX;
use crate::{Copying, StoreError};

const MAGIC: &[u8; 8] = b"CRDTCOPY";
const VERSION: u32 = 1;
/// A block is closed when it has so many bytes: what one checksum covers, and what is held in memory.
const BLOCK_BYTES: usize = 1 << 20;
/// A block with one pair of the largest key and value behind others.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + 2 * VALUE_BYTES_MAX + 1024;
const END_BYTES: usize = 16;

/// How far an archive has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArchiveTotals {
    /// Pairs, those included that a later one replaces.
    pub pairs: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why an archive is not whole.
#[derive(Debug)]
pub enum ArchiveError {
    /// The file cannot be read or written.
    Io(io::Error),
    /// The store cannot be read or written.
    Store(StoreError),
    /// It ends before its end.
    Truncated {
        /// Bytes that are there.
        bytes: u64,
    },
    /// Bytes are not those that were written.
    Damaged {
        /// Offset of the block, or of what is no block.
        at: u64,
    },
    /// It is no archive, or one of a version that this build does not know.
    Format {
        /// What it is.
        found: String,
    },
    /// Nobody wants it any more.
    Cancelled,
}

/// Writes everything that a copy gives. `progress` is told after each block; false ends it.
///
/// # Errors
/// [`ArchiveError::Io`], [`ArchiveError::Store`], [`ArchiveError::Cancelled`]; what was written is no archive then.
pub fn write_archive(
    out: &mut impl Write,
    copying: Copying,
    progress: &mut dyn FnMut(ArchiveTotals) -> bool,
) -> Result<ArchiveTotals, ArchiveError> {
    let mut totals = ArchiveTotals { pairs: 0, bytes: (MAGIC.len() + 4) as u64 };
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    let (mut block, mut blocks) = (Vec::new(), 0);
    let mut close = |block: &mut Vec<u8>, blocks: &mut u64, totals: &mut ArchiveTotals| {
        let length = u32::try_from(block.len()).expect("a block ends at BLOCK_BYTES_MAX, below 4 GiB");
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&xxh3_64_with_seed(block, *blocks).to_le_bytes())?;
        out.write_all(block)?;
        totals.bytes += 12 + block.len() as u64;
        *blocks += 1;
        block.clear();
        if progress(*totals) { Ok(()) } else { Err(ArchiveError::Cancelled) }
    };
    for batch in copying {
        for pair in batch.map_err(ArchiveError::Store)? {
            put(&mut block, &pair);
            totals.pairs += 1;
            if block.len() >= BLOCK_BYTES {
                close(&mut block, &mut blocks, &mut totals)?;
            }
        }
    }
    if !block.is_empty() {
        close(&mut block, &mut blocks, &mut totals)?;
    }
    let mut end = [0; END_BYTES];
    end[..8].copy_from_slice(&blocks.to_le_bytes());
    end[8..].copy_from_slice(&totals.pairs.to_le_bytes());
    out.write_all(&0_u32.to_le_bytes())?;
    out.write_all(&end)?;
    out.write_all(&xxh3_64_with_seed(&end, blocks).to_le_bytes())?;
    out.flush()?;
    totals.bytes += (4 + END_BYTES + 8) as u64;
    Ok(totals)
}

fn put(block: &mut Vec<u8>, pair: &StoredPair) {
    block.push(u8::from(pair.value.is_some()));
    for part in core::iter::once(&pair.key).chain(&pair.value) {
        let length = u32::try_from(part.len()).expect("keys and values end at VALUE_BYTES_MAX");
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(part);
    }
}

/// Reads an archive, block by block; after an error, and after the end, there is nothing more. Until it ended without an
/// error nothing proves that it was whole.
pub struct ArchiveReader<R> {
    source: R,
    blocks: u64,
    totals: ArchiveTotals,
    is_over: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`ArchiveError::Format`], [`ArchiveError::Truncated`], [`ArchiveError::Io`].
    pub fn new(source: R) -> Result<Self, ArchiveError> {
        let mut reader = Self { source, blocks: 0, totals: ArchiveTotals::default(), is_over: false };
        let magic: [u8; 8] = reader.array()?;
        if magic != *MAGIC {
            return Err(ArchiveError::Format { found: "a file of something else".to_owned() });
        }
        let version = u32::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(ArchiveError::Format { found: format!("version {version}, and this build knows {VERSION}") });
        }
        Ok(reader)
    }

    /// What was read so far.
    pub fn totals(&self) -> ArchiveTotals {
        self.totals
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], ArchiveError> {
        let mut bytes = [0; LENGTH];
        match self.source.read_exact(&mut bytes) {
            Ok(()) => {
                self.totals.bytes += LENGTH as u64;
                Ok(bytes)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(ArchiveError::Truncated { bytes: self.totals.bytes })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn block(&mut self) -> Result<Option<Vec<StoredPair>>, ArchiveError> {
        let at = self.totals.bytes;
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length == 0 {
            return self.end(at).map(|()| None);
        }
        let sum = u64::from_le_bytes(self.array()?);
        if length > BLOCK_BYTES_MAX {
            return Err(ArchiveError::Damaged { at });
        }
        // Grows as bytes come: a length that is damaged costs no memory.
        let mut bytes = Vec::new();
        let read = (&mut self.source).take(length as u64).read_to_end(&mut bytes)?;
        self.totals.bytes += read as u64;
        if read < length {
            return Err(ArchiveError::Truncated { bytes: self.totals.bytes });
        }
        let pairs = (sum == xxh3_64_with_seed(&bytes, self.blocks)).then(|| pairs(&bytes)).flatten();
        let pairs = pairs.ok_or(ArchiveError::Damaged { at })?;
        self.blocks += 1;
        self.totals.pairs += pairs.len() as u64;
        Ok(Some(pairs))
    }

    fn end(&mut self, at: u64) -> Result<(), ArchiveError> {
        let end: [u8; END_BYTES] = self.array()?;
        let sum = u64::from_le_bytes(self.array()?);
        let mut told = [0; END_BYTES];
        told[..8].copy_from_slice(&self.blocks.to_le_bytes());
        told[8..].copy_from_slice(&self.totals.pairs.to_le_bytes());
        let is_last = self.source.read(&mut [0])? == 0;
        if end == told && sum == xxh3_64_with_seed(&end, self.blocks) && is_last {
            return Ok(());
        }
        Err(ArchiveError::Damaged { at })
    }
}

impl<R: Read> Iterator for ArchiveReader<R> {
    type Item = Result<Vec<StoredPair>, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let block = self.block();
        self.is_over = !matches!(block, Ok(Some(_)));
        block.transpose()
    }
}

fn pairs(mut bytes: &[u8]) -> Option<Vec<StoredPair>> {
    let mut pairs = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let (key, rest) = part(rest)?;
        let (value, rest) = match tag {
            0 => (None, rest),
            1 => part(rest).map(|(value, rest)| (Some(value), rest))?,
            _ => return None,
        };
        bytes = rest;
        pairs.push(StoredPair { key, value });
    }
    Some(pairs)
}

fn part(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((part.to_vec(), rest))
}

impl ArchiveError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "ERR_BACKUP_FILE",
            Self::Store(error) => error.code(),
            Self::Truncated { .. } | Self::Damaged { .. } => "ERR_BACKUP_INVALID",
            Self::Format { .. } => "ERR_BACKUP_FORMAT",
            Self::Cancelled => "ERR_BACKUP_CANCELLED",
        }
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for ArchiveError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(formatter, "the records cannot be read or written: {error}"),
            Self::Store(error) => error.fmt(formatter),
            Self::Truncated { bytes } => write!(formatter, "the records break off after {bytes} bytes"),
            Self::Damaged { at } => write!(formatter, "the records are damaged at byte {at}"),
            Self::Format { found } => write!(formatter, "the records are {found}"),
            Self::Cancelled => formatter.write_str("the copy was given up because the node stops"),
        }
    }
}

impl core::error::Error for ArchiveError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(number: u64, length: usize) -> StoredPair {
        let value = (!number.is_multiple_of(5)).then(|| vec![number as u8; length]);
        StoredPair { key: number.to_be_bytes().to_vec(), value }
    }

    fn archive(pairs: &[StoredPair]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let totals = write_archive(&mut bytes, Copying::of(pairs.to_vec()), &mut |_| true).unwrap();
        assert_eq!(totals, ArchiveTotals { pairs: pairs.len() as u64, bytes: bytes.len() as u64 });
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<StoredPair>, ArchiveError> {
        let mut found = Vec::new();
        for block in ArchiveReader::new(bytes)? {
            found.extend(block?);
        }
        Ok(found)
    }

    #[test]
    fn what_was_written_is_read() {
        for count in [0, 1, 7, 40] {
            let pairs: Vec<StoredPair> = (0..count).map(|number| pair(number, 100_000)).collect();
            assert_eq!(read(&archive(&pairs)).unwrap(), pairs);
        }
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_noticed() {
        let bytes = archive(&[pair(1, 20), pair(5, 0), pair(7, 0)]);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(read(&bytes[..length]), Err(ArchiveError::Truncated { .. })), "length {length}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(read(&longer), Err(ArchiveError::Damaged { .. })));
    }

    #[test]
    fn blocks_that_changed_places_are_noticed() {
        let mixed = archive(&[pair(1, 2 << 20), pair(2, 2 << 20)]);
        let block = (mixed.len() - 12 - 28) / 2;
        let swapped =
            [&mixed[..12], &mixed[12 + block..12 + 2 * block], &mixed[12..12 + block], &mixed[12 + 2 * block..]];
        assert!(read(&mixed).is_ok() && read(&swapped.concat()).is_err());
    }

    #[test]
    fn a_length_that_lies_costs_no_memory() {
        let mut bytes = archive(&[]);
        bytes.truncate(12);
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        assert!(matches!(read(&bytes), Err(ArchiveError::Damaged { at: 12 })));
        bytes.truncate(12);
        bytes.extend_from_slice(&(BLOCK_BYTES_MAX as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        assert!(matches!(read(&bytes), Err(ArchiveError::Truncated { .. })));
    }

    #[test]
    fn somebody_who_does_not_want_it_any_more_ends_it() {
        let given = write_archive(&mut Vec::new(), Copying::of(vec![pair(1, 9)]), &mut |_| false);
        assert!(matches!(given, Err(ArchiveError::Cancelled)));
    }
}
