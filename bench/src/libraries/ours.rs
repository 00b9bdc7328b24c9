//! Ours: the keyspace of `crdt`, fed with encoded batches as they travel.
//!
//! In the clock stands what makes a batch part of the state: header, order, causal context, decoding,
//! joining, journal and digest. Chain hash, MAC and the records for the disk do not: no peer has the
//! like, and `core.growth` measures a whole node with all of them.

use crdt::change::{CellWrite, MAC_BYTES, seal};
use crdt::pack::ValueRef;
use crdt::register::RegisterDelta;
use crdt::{
    Batch, BatchHeader, BatchId, Change, ChangeRef, Content, Dot, Envelope, HybridClock, Key, Keyspace, Kind,
    Namespace, Object, Op, ReplicaId, Value, VersionVector,
};

use crate::replica::{BareCells, Outcome, Replica, identity};
use crate::workload::{Cell, Cells};

/// A wall clock in milliseconds in 2026.
const FIRST_MILLIS: u64 = 1_795_000_000_000;

/// One node's state, with what it needs to write.
pub(crate) struct Ours {
    replica: ReplicaId,
    clock: HybridClock,
    keyspace: Keyspace,
    applied: VersionVector,
    claimed: VersionVector,
}

impl Replica for Ours {
    const NAME: &'static str = "ours";
    const CONDITIONS: &'static str = "batches as nodes send them, 16-byte MAC included on the wire; \
        causal context checked, journal and digest kept; chain hash and MAC not in the clock";

    fn open(writer: u8) -> Outcome<Self> {
        Ok(Self {
            replica: ReplicaId(u128::from(identity(writer)) << 64 | u128::from(!identity(writer))),
            clock: HybridClock::default(),
            keyspace: Keyspace::new(),
            applied: VersionVector::new(),
            claimed: VersionVector::new(),
        })
    }

    fn write(&mut self, cells: &[Cell]) -> Outcome<Vec<u8>> {
        let id = BatchId { replica: self.replica, seq: self.applied.seq(self.replica) + 1 };
        let hlc = self.clock.tick(FIRST_MILLIS + id.seq);
        let mut context = VersionVector::new();
        for (replica, seq) in self.applied.iter().filter(|(replica, _)| *replica != self.replica) {
            if seq > self.claimed.seq(replica) {
                context.advance(replica, seq);
            }
        }
        let mut changes = Vec::with_capacity(cells.len());
        for (index, cell) in cells.iter().enumerate() {
            let change = self.set(hlc, cell);
            self.keyspace.apply_change(Dot::new(id.replica, id.seq, index as u32), &change)?;
            if let Content::Op(op) = &change.content {
                op.named(&mut |dot| {
                    if dot.replica != self.replica {
                        context.advance(dot.replica, self.applied.seq(dot.replica));
                    }
                });
            }
            changes.push(change);
        }
        self.applied.advance(id.replica, id.seq);
        self.claimed.join(&context);
        let batch = Batch { header: BatchHeader { id, more: false, hlc, context }, changes };
        Ok(seal(batch.to_signed_bytes(1), [7; MAC_BYTES]))
    }

    fn apply(&mut self, batch: &[u8]) -> Outcome<()> {
        let envelope = Envelope::parse(batch)?;
        let id = envelope.header.id;
        if id.seq != self.applied.seq(id.replica) + 1 || !self.applied.dominates(&envelope.header.context) {
            return Err("the batch came before what it needs".into());
        }
        self.keyspace.apply_batch(id, envelope.changes())?;
        self.applied.advance(id.replica, id.seq);
        self.clock.follow(envelope.header.hlc);
        Ok(())
    }

    fn cells(&self) -> Outcome<Cells> {
        let mut cells = Cells::new();
        for key in self.keyspace.keys() {
            let object = self.keyspace.object(&key).ok_or("a key without an object")?;
            if let Object::Register(register) = object.as_ref()
                && let Some(entry) = register.shown()
                && let Value::Bytes(value) = &entry.value
            {
                cells.insert(key.name.to_vec(), value.to_vec());
            }
        }
        Ok(cells)
    }
}

impl Ours {
    fn set(&self, hlc: crdt::Hlc, cell: &Cell) -> Change {
        let value = Value::bytes(cell.value);
        let present = self.keyspace.object(&Key::new(Namespace(0), Kind::Register, cell.key));
        let (stamp, delta) = match present.as_deref() {
            Some(Object::Register(register)) => register.set(value, hlc),
            _ => (hlc, RegisterDelta { write: Some(value), ..RegisterDelta::default() }),
        };
        let content = Content::Op(Op::Register(delta));
        Change { namespace: Namespace(0), path: vec![cell.key.into()], stamp, content }
    }
}

impl BareCells for Ours {
    fn for_each_cell(batch: &[u8], mut take: impl FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut changes = Envelope::parse(batch)?.changes();
        while let Some((_, change)) = changes.next()? {
            if let ChangeRef::Cell(CellWrite { name, value: ValueRef::Bytes(value), .. }) = change {
                take(name, value);
            }
        }
        Ok(())
    }
}
