//! The changes of a batch, read one after the other.

use crate::change::{BATCH_BYTES_MAX, Change, Content, HEAD_DEPTH, HEAD_NAMESPACE, HEAD_STAMP, Namespace, op_code};
use crate::dot::{BatchId, Dot};
use crate::error::DecodeError;
use crate::hlc::Hlc;
use crate::keyspace::write_key;
use crate::object::{Kind, Name, Op, PATH_DEPTH_MAX};
use crate::pack::{DotTable, Reader, ValueRef};
use crate::register::RegisterDelta;
use crate::set::NAME_BYTES_MAX;

/// A change as it stands in its batch: the most frequent operation borrows its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeRef<'a> {
    /// A register at the root, written with at most one value replaced.
    Cell(CellWrite<'a>),
    /// Any other change; apart, so that a cell stays small.
    Change(Box<Change>),
}

/// The most frequent change: one value of one register at the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CellWrite<'a> {
    /// Site of the network.
    pub namespace: Namespace,
    /// The register's name.
    pub name: &'a [u8],
    /// Write stamp.
    pub stamp: Hlc,
    /// The value that the author saw.
    pub replaces: Option<Dot>,
    /// The new value.
    pub value: ValueRef<'a>,
}

impl<'a> CellWrite<'a> {
    /// The bytes of the key that it writes to.
    pub fn key_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_key(&mut bytes, Kind::Register, self.namespace, self.name);
        bytes
    }

    /// The change as a cell's, if it is one.
    pub fn of_change(change: &'a Change) -> Option<Self> {
        let Content::Op(Op::Register(delta)) = &change.content else { return None };
        let ([name], [], Some(value)) = (change.path.as_slice(), delta.retires.as_slice(), &delta.write) else {
            return None;
        };
        let replaces = match delta.replaces.as_slice() {
            [] => None,
            [dot] => Some(*dot),
            _ => return None,
        };
        Some(Self { namespace: change.namespace, name, stamp: change.stamp, replaces, value: value.into() })
    }
}

impl ChangeRef<'_> {
    /// The change on its own.
    pub fn into_change(self) -> Change {
        match self {
            Self::Change(change) => *change,
            Self::Cell(cell) => Change {
                namespace: cell.namespace,
                path: vec![cell.name.into()],
                stamp: cell.stamp,
                content: Content::Op(Op::Register(RegisterDelta {
                    replaces: cell.replaces.into_iter().collect(),
                    retires: Vec::new(),
                    write: Some(cell.value.into_owned()),
                })),
            },
        }
    }
}

/// Takes the changes of a batch one after the other.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    reader: Reader<'a>,
    table: DotTable,
    id: BatchId,
    namespace: Namespace,
    hlc: Hlc,
    next: u32,
    count: u32,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(bytes: &'a [u8], table: DotTable, id: BatchId, hlc: Hlc, count: u32) -> Self {
        Self { reader: Reader::new(bytes), table, id, namespace: Namespace::default(), hlc, next: 0, count }
    }

    /// Number of changes that are still to come.
    pub fn left(&self) -> usize {
        (self.count - self.next) as usize
    }

    /// The next change with its index, `None` after the last.
    ///
    /// # Errors
    /// [`DecodeError`] for a change that does not decode; the rest cannot be read then.
    #[allow(clippy::should_implement_trait, reason = "an error ends the iteration, which Iterator cannot say")]
    #[inline(always)]
    pub fn next(&mut self) -> Result<Option<(u32, ChangeRef<'a>)>, DecodeError> {
        if self.next == self.count {
            self.reader.finish()?;
            return Ok(None);
        }
        let index = self.next;
        self.next += 1;
        self.decode(index).map(|change| Some((index, change)))
    }

    #[inline(always)]
    fn decode(&mut self, index: u32) -> Result<ChangeRef<'a>, DecodeError> {
        let Self { reader, table, .. } = self;
        let at = reader.at();
        let head = reader.byte()?;
        if head & 128 != 0 {
            return Err(DecodeError::Invalid { what: "head of a change", at });
        }
        if head & HEAD_NAMESPACE != 0 {
            let namespace = Namespace(reader.bounded("namespace", u32::MAX.into())? as u32);
            if namespace == self.namespace {
                return Err(DecodeError::NotCanonical { what: "namespace", at });
            }
            self.namespace = namespace;
        }
        let namespace = self.namespace;
        let mut stamp = self.hlc;
        if head & HEAD_STAMP != 0 {
            let at = reader.at();
            let moved = reader.signed()?.checked_add(self.hlc.0.into()).and_then(|stamp| u64::try_from(stamp).ok());
            stamp = Hlc(moved.ok_or(DecodeError::Invalid { what: "stamp", at })?);
        }
        let depth =
            if head & HEAD_DEPTH == 0 { 1 } else { reader.bounded("depth of a path", PATH_DEPTH_MAX as u64)? };
        let (stamp_repeated, depth_long) = (head & HEAD_STAMP != 0 && stamp == self.hlc, head & HEAD_DEPTH != 0);
        if stamp_repeated || (depth_long && depth < 2) {
            return Err(DecodeError::NotCanonical { what: "head of a change", at });
        }
        let name = reader.bytes("name length", NAME_BYTES_MAX)?;
        let code = head & 15;
        if depth == 1 && (code == 5 || code == 6) {
            let replaces = if code == 5 { Some(reader.dot(table)?) } else { None };
            let value = reader.value_ref()?;
            return Ok(ChangeRef::Cell(CellWrite { namespace, name, stamp, replaces, value }));
        }
        self.decode_other((index, at), name, depth, stamp, code)
    }

    fn decode_other(
        &mut self,
        (index, at): (u32, usize),
        name: &[u8],
        depth: u64,
        stamp: Hlc,
        code: u8,
    ) -> Result<ChangeRef<'a>, DecodeError> {
        let Self { reader, table, namespace, .. } = self;
        let mut path: Vec<Name> = Vec::with_capacity(depth as usize);
        path.push(name.into());
        for _ in 1..depth {
            path.push(reader.bytes("name length", NAME_BYTES_MAX)?.into());
        }
        let content = decode_content(code, reader, table)?;
        let dot = Dot::new(self.id.replica, self.id.seq, index);
        if matches!(&content, Content::Op(op) if !op.extends_only_before(dot)) {
            return Err(DecodeError::Invalid { what: "chain that an increment extends", at });
        }
        Ok(ChangeRef::Change(Box::new(Change { namespace: *namespace, path, stamp, content })))
    }
}

fn decode_content(code: u8, reader: &mut Reader<'_>, table: &DotTable) -> Result<Content, DecodeError> {
    let kind = match code {
        0 => Kind::Register,
        1 => Kind::GCounter,
        2 => Kind::PnCounter,
        3 => Kind::Set,
        4 => Kind::Row,
        5 | 6 => {
            let replaces = if code == 5 { vec![reader.dot(table)?] } else { Vec::new() };
            let write = Some(reader.value()?);
            return Ok(Content::Op(Op::Register(RegisterDelta { replaces, retires: Vec::new(), write })));
        }
        _ => {
            let bytes = reader.bytes("length of an unknown operation", BATCH_BYTES_MAX)?.to_vec();
            return Ok(Content::Unknown { code, bytes });
        }
    };
    let at = reader.at();
    let op = Op::decode(kind, reader, table)?;
    if op_code(&op) != code {
        return Err(DecodeError::NotCanonical { what: "operation", at });
    }
    Ok(Content::Op(op))
}
