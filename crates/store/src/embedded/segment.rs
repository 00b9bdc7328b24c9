//! The bytes of a segment of the log: a header and frames, each a whole group.
//!
//! ```text
//! header, 40 bytes:  "CRDTWAL", format 1                   (8)
//!                    number of the segment                 (8)   as in its file's name
//!                    base                                  (8)   number of the group before its first frame
//!                    follows                               (8)   number of the last group that stands before it; less
//!                                                                than base only where groups were lost
//!                    XXH3-64 of the 32 bytes above         (8)
//! frame, 24 bytes:   length of the payload                 (4)
//!                    number of the group                   (8)   one more than the frame's before
//!                    XXH3-64 of the payload                (8)
//!                    low half of XXH3-64 of the 20 bytes
//!                    above, seeded with the segment's number (4)
//!   payload:         records: key length (2), body length or 0xFFFF_FFFF for a removal (4), stored key, body
//! ```
//!
//! Integers are little-endian. A segment is only ever written at its end, so a killed process leaves a beginning of
//! what it meant to write: a frame's head that is cut, or a sound head with fewer bytes behind it than it names. All
//! else that does not read is damage. After a power cut a part that was never synced may read as anything; there a
//! tail with no whole frame in it is torn too.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::frame::GROUP_BYTES_MAX;

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: usize = 40;
/// Bytes before a payload.
const HEAD_BYTES: usize = 24;
const MAGIC: &[u8; 8] = b"CRDTWAL\x01";
const REMOVED: u32 = u32::MAX;
/// Bytes of a tail that are searched for a whole frame after a power cut, which bounds memory. What was not synced is a
/// second's writes; a frame beyond would only be named in one more doubt, beside that of the power cut.
const TAIL_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Where a segment stands among the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) base: u64,
    pub(super) follows: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.follows.to_le_bytes());
        let sum = xxh3_64(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let header = Self { number: eight(bytes, 8), base: eight(bytes, 16), follows: eight(bytes, 24) };
        (header.to_bytes() == *bytes && header.follows <= header.base).then_some(header)
    }
}

/// The beginning of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Start {
    Sound(Header),
    /// Shorter than a header: killed while it was made.
    Torn,
    Damaged,
}

/// Reads the header of the segment of this number.
pub(super) fn start(path: &Path, number: u64) -> io::Result<Start> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
    let Ok(bytes) = <&[u8; HEADER_BYTES]>::try_from(bytes.as_slice()) else { return Ok(Start::Torn) };
    let header = Header::parse(bytes).filter(|header| header.number == number);
    Ok(header.map_or(Start::Damaged, Start::Sound))
}

/// A stored key with the body to store, or `None` to remove.
pub(super) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// Appends a frame.
pub(super) fn append<'a>(buffer: &mut Vec<u8>, segment: u64, group: u64, records: impl Iterator<Item = Change<'a>>) {
    let at = buffer.len();
    buffer.extend_from_slice(&[0; HEAD_BYTES]);
    for (key, body) in records {
        let key_length = u16::try_from(key.len()).expect("longer keys go by their hash");
        let length = body.map_or(REMOVED, |body| u32::try_from(body.len()).expect("groups are bounded"));
        buffer.extend_from_slice(&key_length.to_le_bytes());
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(body.unwrap_or_default());
    }
    let payload = &buffer[at + HEAD_BYTES..];
    let length = u32::try_from(payload.len()).expect("groups are bounded");
    let sum = xxh3_64(payload);
    let head = &mut buffer[at..at + HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..12].copy_from_slice(&group.to_le_bytes());
    head[12..20].copy_from_slice(&sum.to_le_bytes());
    let check = head_check(head, segment);
    head[20..].copy_from_slice(&check);
}

/// The pairs of a payload; `None` where it is none.
pub(super) fn records(payload: &[u8]) -> Option<Vec<Change<'_>>> {
    let (mut pairs, mut rest) = (Vec::new(), payload);
    while !rest.is_empty() {
        let (head, behind) = rest.split_first_chunk::<6>()?;
        let key = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
        let (key, behind) = behind.split_at_checked(key)?;
        rest = behind;
        let body = match length {
            REMOVED => None,
            _ => {
                let (body, behind) = rest.split_at_checked(length as usize)?;
                rest = behind;
                Some(body)
            }
        };
        pairs.push((key, body));
    }
    Some(pairs)
}

/// What comes next in a segment.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// A whole group: its number. Its payload is [`Reader::payload`].
    Group(u64),
    /// The end, behind a whole frame.
    End,
    /// A frame that was never written to its end, at this offset.
    Torn(u64),
    /// Something else, at this offset.
    Damaged(u64),
}

/// Reads the frames of a segment in order.
pub(super) struct Reader {
    reader: BufReader<File>,
    /// Offset of the next frame, and of the end.
    offset: u64,
    end: u64,
    segment: u64,
    /// Number of the last group.
    last: u64,
    payload: Vec<u8>,
}

impl Reader {
    pub(super) fn open(path: &Path, header: Header) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        let offset = file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
        let reader = BufReader::with_capacity(READ_BYTES, file);
        Ok(Self { reader, offset, end, segment: header.number, last: header.base, payload: Vec::new() })
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        let (at, left) = (self.offset, self.end.saturating_sub(self.offset));
        if left == 0 {
            return Ok(Next::End);
        }
        if left < HEAD_BYTES as u64 {
            return Ok(Next::Torn(at));
        }
        let mut bytes = [0; HEAD_BYTES];
        self.reader.read_exact(&mut bytes)?;
        let Some(head) = Head::parse(&bytes, self.segment).filter(|head| head.group == self.last + 1) else {
            return Ok(Next::Damaged(at));
        };
        // The length is under a checksum and bounded by what the file holds: nothing is allocated for a wrong one.
        if head.length as u64 > left - HEAD_BYTES as u64 {
            return Ok(Next::Torn(at));
        }
        self.payload.resize(head.length, 0);
        self.reader.read_exact(&mut self.payload)?;
        if xxh3_64(&self.payload) != head.sum {
            return Ok(Next::Damaged(at));
        }
        self.offset += (HEAD_BYTES + head.length) as u64;
        self.last = head.group;
        Ok(Next::Group(head.group))
    }

    /// Where the next frame begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The records of the group that came last.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Whether a whole frame of this segment begins anywhere behind `offset`.
pub(super) fn has_frame_behind(path: &Path, segment: u64, offset: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let is_whole = |at: usize| {
        let (head, behind) = bytes[at..].split_first_chunk::<HEAD_BYTES>()?;
        let head = Head::parse(head, segment)?;
        Some(xxh3_64(behind.get(..head.length)?) == head.sum)
    };
    Ok((0..bytes.len()).any(|at| is_whole(at).unwrap_or_default()))
}

/// The head of a frame that fits its check.
struct Head {
    length: usize,
    group: u64,
    sum: u64,
}

impl Head {
    fn parse(bytes: &[u8; HEAD_BYTES], segment: u64) -> Option<Self> {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let head = Self { length, group: eight(bytes, 4), sum: eight(bytes, 12) };
        (head_check(bytes, segment) == bytes[20..] && length <= GROUP_BYTES_MAX).then_some(head)
    }
}

fn head_check(head: &[u8], segment: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = xxh3_64_with_seed(&head[..20], segment).to_le_bytes();
    [a, b, c, d]
}

fn eight(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..at + 8].try_into().expect("eight bytes were cut out");
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { number: 3, base: 40, follows: 40 };

    /// Two groups of two records, and where the second begins.
    fn segment() -> (Vec<u8>, usize) {
        let mut bytes = HEADER.to_bytes().to_vec();
        let records = [(&b"key"[..], Some(&b"body"[..])), (b"gone", None)];
        append(&mut bytes, 3, 41, records.into_iter());
        let second = bytes.len();
        append(&mut bytes, 3, 42, records.into_iter());
        (bytes, second)
    }

    /// Numbers of the groups that read, and the end; `None` where the header does not.
    fn read(bytes: &[u8]) -> (Vec<u64>, Option<Next>, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        std::fs::write(&path, bytes).unwrap();
        let behind = has_frame_behind(&path, 3, HEADER_BYTES as u64).unwrap();
        let Start::Sound(header) = start(&path, 3).unwrap() else { return (Vec::new(), None, behind) };
        let mut reader = Reader::open(&path, header).unwrap();
        let mut groups = Vec::new();
        loop {
            match reader.next().unwrap() {
                Next::Group(group) => groups.push(group),
                end => return (groups, Some(end), behind),
            }
        }
    }

    #[test]
    fn groups_round_trip() {
        let (bytes, _) = segment();
        assert_eq!(read(&bytes), (vec![41, 42], Some(Next::End), true));
        let payload = &bytes[HEADER_BYTES + HEAD_BYTES..];
        let pairs = records(&payload[..6 + 3 + 4 + 6 + 4]).unwrap();
        assert_eq!(pairs, [(&b"key"[..], Some(&b"body"[..])), (b"gone", None)]);
        assert_eq!(records(&payload[..7]), None);
    }

    #[test]
    fn a_segment_cut_anywhere_is_torn_and_never_damaged() {
        let (bytes, second) = segment();
        for length in 0..bytes.len() {
            let (groups, end, _) = read(&bytes[..length]);
            let (expected, whole) = match length {
                _ if length < HEADER_BYTES => (vec![], None),
                _ if length < second => (vec![], Some(HEADER_BYTES)),
                _ => (vec![41], Some(second)),
            };
            let torn = whole.map(|at| if at == length { Next::End } else { Next::Torn(at as u64) });
            assert_eq!((groups, end), (expected, torn), "{length} bytes");
        }
    }

    #[test]
    fn each_flipped_bit_is_damage_also_in_the_last_frame() {
        let (bytes, second) = segment();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (groups, end, _) = read(&flipped);
            let expected = match bit / 8 {
                at if at < HEADER_BYTES => (vec![], None),
                at if at < second => (vec![], Some(Next::Damaged(HEADER_BYTES as u64))),
                _ => (vec![41], Some(Next::Damaged(second as u64))),
            };
            assert_eq!((groups, end), expected, "bit {bit}");
        }
    }

    #[test]
    fn frames_of_another_segment_or_out_of_order_are_damage() {
        let records = [(&b"key"[..], None)];
        for (segment, group) in [(4, 41), (3, 40), (3, 42)] {
            let mut bytes = HEADER.to_bytes().to_vec();
            append(&mut bytes, segment, group, records.into_iter());
            assert_eq!(read(&bytes).1, Some(Next::Damaged(HEADER_BYTES as u64)), "{segment} {group}");
        }
    }

    #[test]
    fn a_whole_frame_behind_garbage_is_found() {
        let (bytes, second) = segment();
        let garbage = vec![0; 100];
        let with = [&bytes[..HEADER_BYTES], &garbage, &bytes[second..]].concat();
        let without = [&bytes[..HEADER_BYTES], &garbage, &bytes[second + 1..]].concat();
        assert!(read(&with).2 && !read(&without).2);
    }
}
