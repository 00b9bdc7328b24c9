use super::*;
use crate::chain::{Increment, Seen};
use crate::counter::CounterDelta;
use crate::dot::Dot;
use crate::register::RegisterDelta;
use crate::row::{ColumnDelta, RowDelta};
use crate::value::Value;

const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);

fn set(name: &str, replaces: &[Dot], value: &str) -> Change {
    Change {
        namespace: Namespace(0),
        path: vec![name.as_bytes().into()],
        stamp: Hlc(50),
        content: Content::Op(Op::Register(RegisterDelta {
            replaces: replaces.to_vec(),
            retires: Vec::new(),
            write: Some(Value::from(value)),
        })),
    }
}

fn batch(changes: Vec<Change>) -> Batch {
    let header = BatchHeader {
        id: BatchId { replica: A, seq: 9 },
        more: false,
        hlc: Hlc(50),
        context: [(B, 7)].into_iter().collect(),
    };
    Batch { header, changes }
}

fn round_trip(batch: &Batch) -> Batch {
    let bytes = seal(batch.to_signed_bytes(3), [7; MAC_BYTES]);
    let envelope = Envelope::parse(&bytes).expect("own bytes parse");
    assert_eq!((envelope.key_id, envelope.mac), (3, [7; MAC_BYTES]));
    envelope.to_batch().expect("own changes decode")
}

#[test]
fn batches_round_trip() {
    let counter =
        Op::PnCounter(CounterDelta { removes: Vec::new(), add: Some(Increment { extends: None, amount: -4 }) });
    let batch = batch(vec![
        set("a", &[], "first"),
        set("b", &[Dot::new(B, 7, 2)], "second"),
        set("c", &[Dot::new(B, 1, 0), Dot::new(A, 9, 0)], "third"),
        Change { namespace: Namespace(4), stamp: Hlc(99), ..set("d", &[], "fourth") },
        Change { namespace: Namespace(4), path: vec![b"m"[..].into(), b"f"[..].into()], ..set("", &[], "fifth") },
        Change { content: Content::Op(counter), ..set("n", &[], "") },
        Change { content: Content::Unknown { code: 12, bytes: vec![1, 2, 3] }, ..set("future", &[], "") },
    ]);
    assert_eq!(round_trip(&batch), batch);
}

#[test]
fn a_one_cell_change_takes_six_bytes_beside_name_and_value() {
    let empty = batch(Vec::new()).to_signed_bytes(0).len();
    let one = batch(vec![set("0123456789", &[Dot::new(B, 2, 40)], "v")]).to_signed_bytes(0).len();
    assert!(one - empty <= 10 + 1 + 6, "{}", one - empty);
}

#[test]
#[should_panic(expected = "gathered")]
fn a_dot_outside_the_context_cannot_be_written() {
    batch(vec![set("a", &[Dot::new(ReplicaId(3), 1, 0)], "x")]).to_signed_bytes(0);
}

#[test]
fn damaged_bytes_are_refused_and_never_panic() {
    let bytes = seal(batch(vec![set("a", &[Dot::new(B, 3, 0)], "x")]).to_signed_bytes(3), [7; MAC_BYTES]);
    for length in 0..bytes.len() {
        let _ = Envelope::parse(&bytes[..length]).and_then(|envelope| envelope.to_batch());
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let _ = Envelope::parse(&damaged).and_then(|envelope| envelope.to_batch());
        }
    }
    assert!(matches!(Envelope::parse(&[]), Err(DecodeError::Truncated { .. })));
    let mut version = bytes.clone();
    version[3] = 9;
    assert_eq!(Envelope::parse(&version).err(), Some(DecodeError::Version { found: 9, known: BATCH_VERSION }));
}

#[test]
fn an_increment_extends_only_an_earlier_one_of_its_own_replica() {
    let extending = |tip: Dot| {
        let seen = Seen { birth: Dot::new(tip.replica, 1, 0), tip, total: 3 };
        let add = Some(Increment { extends: Some(seen), amount: 1 });
        let row = RowDelta { columns: vec![ColumnDelta { add, ..ColumnDelta::default() }], ..RowDelta::default() };
        [Op::PnCounter(CounterDelta { removes: Vec::new(), add }), Op::Row(row)].map(|op| {
            let extended = Change { content: Content::Op(op), ..set("n", &[], "") };
            let bytes = seal(batch(vec![set("a", &[], "x"), extended]).to_signed_bytes(3), [7; MAC_BYTES]);
            Envelope::parse(&bytes).and_then(|envelope| envelope.to_batch()).is_ok()
        })
    };
    assert_eq!(extending(Dot::new(A, 9, 0)), [true; 2]);
    // The state would hold a chain that begins with one replica and ends with another, or ends before it begins.
    assert_eq!(extending(Dot::new(B, 7, 0)), [false; 2]);
    assert_eq!(extending(Dot::new(A, 9, 1)), [false; 2], "itself");
    assert_eq!(extending(Dot::new(A, 9, 2)), [false; 2], "a later one");
}

#[test]
fn golden_batch() {
    let bytes =
        seal(batch(vec![set("a", &[Dot::new(B, 7, 0)], "x"), set("b", &[], "y")]).to_signed_bytes(1), [9; MAC_BYTES]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("../golden/batch-0.hex").trim(), "the format changed: is that meant?");
}
