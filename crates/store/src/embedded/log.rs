//! The log: segments that are written at their end, read once at the start, and deleted when the tree holds them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::quarantine::Quarantine;
use super::segment::{self, Change, HEADER_BYTES, Header, Next, Reader, Start};
use crate::ledger::sync_folder;
use crate::{Doubt, StoreError};

/// Memory that the buffer of a commit may keep; one that had to hold a very large group is let go.
const BUFFER_BYTES_MAX: usize = 8 << 20;

/// The log, open for writing.
pub(super) struct Log {
    folder: PathBuf,
    active: Option<Active>,
    /// Number of the next segment.
    next: u64,
    /// Number of the last group that stands in the store.
    follows: u64,
    /// Segments that were written to since they were last synced.
    unsynced: Unsynced,
    buffer: Vec<u8>,
}

struct Active {
    segment: Segment,
    file: Arc<File>,
}

/// A segment on the disk.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    number: u64,
    path: PathBuf,
    bytes: u64,
}

/// What is to be synced.
#[derive(Default)]
pub(super) struct Unsynced {
    files: Vec<(PathBuf, Arc<File>)>,
    /// The folder, when a segment was made in it.
    folder: Option<PathBuf>,
}

impl Unsynced {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folder.is_none()
    }

    /// Syncs all of it.
    pub(super) fn sync(self) -> Result<(), StoreError> {
        for (path, file) in &self.files {
            file.sync_data().map_err(|error| StoreError::io("sync", path, &error))?;
        }
        self.folder.as_deref().map_or(Ok(()), sync_folder)
    }
}

/// What the start found in a log.
pub(super) struct Recovered {
    pub(super) log: Log,
    /// Number of the last group that stands in the store.
    pub(super) last: u64,
    /// What was read; to be deleted when the tree holds it.
    pub(super) segments: Vec<Segment>,
    /// The log begins behind this group, and the tree knows of none.
    pub(super) root: Option<u64>,
    pub(super) damage: Option<Doubt>,
}

impl Log {
    /// Reads the log in `folder`, which is made if need be. The tree holds the groups up to `tree`, if it knows; `apply`
    /// gets the records of all groups behind, in order.
    ///
    /// A tail that was never written to its end is cut off. At damage the log ends: what stands from there on goes to
    /// quarantine, and what is left is an earlier moment of the store, whole.
    pub(super) fn recover(
        folder: &Path,
        tree: Option<u64>,
        after_power_cut: bool,
        quarantine: &mut Quarantine,
        apply: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<Recovered, StoreError> {
        if !folder.exists() {
            fs::create_dir_all(folder).map_err(|error| StoreError::io("make", folder, &error))?;
            sync_folder(folder.parent().unwrap_or(folder))?;
        }
        let mut segments = list(folder)?;
        let next = segments.last().map_or(1, |segment| segment.number + 1);
        remove(&drop_held(&mut segments, tree.unwrap_or_default())?)?;
        let mut recovery = Recovery { tree, last: tree.unwrap_or_default(), root: None, apply };
        let (mut read, mut damage) = (Vec::new(), None);
        for (at, segment) in segments.iter().enumerate() {
            let is_last = at + 1 == segments.len();
            let finding = recovery.segment(segment, at == 0, is_last && after_power_cut);
            match finding.map_err(|error| StoreError::io("read", &segment.path, &error))? {
                Finding::Whole => read.push(segment.clone()),
                Finding::Torn(offset) if is_last => {
                    cut(&segment.path, offset).map_err(|error| StoreError::io("cut", &segment.path, &error))?;
                    read.push(Segment { bytes: offset, ..segment.clone() });
                }
                // A segment with a later one was written to its end before that one was made.
                Finding::Torn(offset) | Finding::Damaged(offset) => {
                    damage = Some(set_aside(&segments[at..], offset, quarantine)?);
                    if offset > 0 {
                        read.push(Segment { bytes: offset, ..segment.clone() });
                    }
                    break;
                }
            }
        }
        let Recovery { last, root, .. } = recovery;
        let (folder, unsynced, buffer) = (folder.to_owned(), Unsynced::default(), Vec::new());
        let log = Self { folder, active: None, next, follows: last, unsynced, buffer };
        Ok(Recovered { log, last, segments: read, root, damage })
    }

    /// Gathers a frame for the next [`Log::write`]; `before` is the number of the group before it.
    pub(super) fn gather<'a>(
        &mut self,
        before: u64,
        records: impl Iterator<Item = Change<'a>>,
    ) -> Result<(), StoreError> {
        let number = match &self.active {
            Some(active) => active.segment.number,
            None => self.begin(before)?,
        };
        segment::append(&mut self.buffer, number, before + 1, records);
        self.follows = before + 1;
        Ok(())
    }

    /// Makes a segment; its header is written with its first frame.
    fn begin(&mut self, base: u64) -> Result<u64, StoreError> {
        let number = self.next;
        let path = self.folder.join(format!("{number:016}.log"));
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(|error| StoreError::io("make", &path, &error))?;
        self.buffer.extend_from_slice(&Header { number, base, follows: self.follows }.to_bytes());
        self.unsynced.folder = Some(self.folder.clone());
        self.active = Some(Active { segment: Segment { number, path, bytes: 0 }, file: Arc::new(file) });
        self.next = number + 1;
        Ok(number)
    }

    /// Writes what was gathered, in one call.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        let Some(Active { segment, file }) = &mut self.active else { return Ok(()) };
        if let Err(error) = (&**file).write_all(&self.buffer) {
            // A beginning of it must not look like more than a torn tail, and may take the last space of the disk. If
            // this fails too, the next start cuts it off.
            let _ = file.set_len(segment.bytes);
            return Err(StoreError::io("write to", &segment.path, &error));
        }
        segment.bytes += self.buffer.len() as u64;
        if self.unsynced.files.last().is_none_or(|(path, _)| *path != segment.path) {
            self.unsynced.files.push((segment.path.clone(), Arc::clone(file)));
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
        Ok(())
    }

    /// What is to be synced; the caller does it.
    pub(super) fn take_unsynced(&mut self) -> Unsynced {
        std::mem::take(&mut self.unsynced)
    }

    /// Ends the segment: the next group begins another one.
    pub(super) fn roll(&mut self) -> Option<Segment> {
        self.active.take().map(|active| active.segment)
    }

    /// Bytes of the segment that is written to.
    pub(super) fn bytes(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.segment.bytes)
    }
}

/// Bytes of segments.
pub(super) fn bytes(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.bytes).sum()
}

/// Deletes segments. That need not be durable: the next start deletes again what the tree holds.
pub(super) fn remove(segments: &[Segment]) -> Result<(), StoreError> {
    for Segment { path, .. } in segments {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Segments in the order in which they were made.
fn list(folder: &Path) -> Result<Vec<Segment>, StoreError> {
    let failed = |error: io::Error| StoreError::io("list", folder, &error);
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|extension| extension == "log")) {
            let bytes = entry.metadata().map_err(failed)?.len();
            segments.push(Segment { number, path, bytes });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.number);
    Ok(segments)
}

/// Takes out the segments that the tree holds to their last group: those before one that follows no later group.
fn drop_held(segments: &mut Vec<Segment>, tree: u64) -> Result<Vec<Segment>, StoreError> {
    let mut held = 0;
    for (at, segment) in segments.iter().enumerate() {
        let start = segment::start(&segment.path, segment.number);
        let start = start.map_err(|error| StoreError::io("read", &segment.path, &error))?;
        if matches!(start, Start::Sound(header) if header.follows <= tree) {
            held = at;
        }
    }
    Ok(segments.drain(..held).collect())
}

enum Finding {
    Whole,
    Torn(u64),
    Damaged(u64),
}

/// Reading segments one behind the other.
struct Recovery<A> {
    tree: Option<u64>,
    last: u64,
    root: Option<u64>,
    apply: A,
}

impl<A: FnMut(&[u8], Option<&[u8]>)> Recovery<A> {
    fn segment(&mut self, segment: &Segment, is_first: bool, may_be_garbage: bool) -> io::Result<Finding> {
        let Segment { path, number, .. } = segment;
        let finding = match segment::start(path, *number)? {
            Start::Sound(header) => self.frames(path, header, is_first)?,
            Start::Torn => Finding::Torn(0),
            Start::Damaged => Finding::Damaged(0),
        };
        Ok(match finding {
            Finding::Damaged(at) if may_be_garbage && !segment::has_frame_behind(path, *number, at)? => {
                Finding::Torn(at)
            }
            finding => finding,
        })
    }

    fn frames(&mut self, path: &Path, header: Header, is_first: bool) -> io::Result<Finding> {
        let held = self.tree.unwrap_or_default();
        if is_first && self.tree.is_none() && header.follows > 0 {
            self.root = Some(header.follows);
            self.last = header.follows;
        }
        // A segment is missing, or one is there that does not belong here.
        if header.follows != self.last && !(is_first && header.follows < held) {
            return Ok(Finding::Damaged(0));
        }
        let mut reader = Reader::open(path, header)?;
        loop {
            let offset = reader.offset();
            match reader.next()? {
                Next::Group(number) => {
                    let Some(records) = segment::records(reader.payload()) else {
                        return Ok(Finding::Damaged(offset));
                    };
                    if number > held {
                        records.into_iter().for_each(|(key, body)| (self.apply)(key, body));
                        self.last = number;
                    }
                }
                Next::End => return Ok(Finding::Whole),
                Next::Torn(offset) => return Ok(Finding::Torn(offset)),
                Next::Damaged(offset) => return Ok(Finding::Damaged(offset)),
            }
        }
    }
}

/// Sets aside the first segment from `offset` on, and all later ones.
fn set_aside(segments: &[Segment], offset: u64, quarantine: &mut Quarantine) -> Result<Doubt, StoreError> {
    let [first, later @ ..] = segments else { unreachable!("there is one that is damaged") };
    let name = first.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The last first: whatever is killed in between, the next start finds the damage again.
    for segment in later.iter().rev() {
        quarantine.take(&segment.path)?;
    }
    let kept = if offset == 0 {
        quarantine.take(&first.path)?
    } else {
        let kept = quarantine.place(&name)?;
        let copied = copy(&first.path, offset, &kept).and_then(|()| cut(&first.path, offset));
        copied.map_err(|error| StoreError::io("set aside the damage of", &first.path, &error))?;
        kept
    };
    Ok(Doubt::Damaged { what: format!("the log {name} from byte {offset} on"), kept: Some(kept) })
}

/// Copies what stands from `offset` on, durably.
fn copy(path: &Path, offset: u64, kept: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut copy = File::create_new(kept)?;
    io::copy(&mut file, &mut copy)?;
    copy.sync_all()
}

/// Cuts a file off, durably; a segment without a whole header goes.
fn cut(path: &Path, offset: u64) -> io::Result<()> {
    if offset < HEADER_BYTES as u64 {
        return fs::remove_file(path);
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(offset)?;
    file.sync_all()
}
