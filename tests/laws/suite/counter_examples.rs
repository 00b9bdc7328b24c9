//! Runs and bytes that once gave a wrong answer, shrunk, and limits that random runs do not reach.

use crdt::chain::{Increment, Seen};
use crdt::change::{MAC_BYTES, seal};
use crdt::counter::CounterDelta;
use crdt::object::{MapDelta, PATH_DEPTH_MAX};
use crdt::pack::{DotTable, Reader, Writer};
use crdt::register::RegisterDelta;
use crdt::row::{ColumnDelta, RowDelta};
use crdt::{
    Batch, BatchHeader, BatchId, Change, Content, CounterOverflow, Crdt, DecodeError, Dot, Envelope, GCounter, Hlc,
    Key, Keyspace, Kind, Namespace, Object, Op, OrMap, PnCounter, ReplicaId, Row, Tally, VersionVector,
};

use crate::harness::{Network, delta_bytes, delta_from_bytes, place, state_bytes};
use crate::script::{A, B, C};
use crate::subjects::{Input, RegisterIntent, RegisterSubject, RowIntent, RowSubject};

fn set(value: u64) -> RegisterIntent {
    RegisterIntent::Set(value.into())
}

fn put(column: &'static str, input: Input) -> RowIntent {
    RowIntent::Put([(column, input)].into())
}

/// A retired value equal to the shown one was not named by the write over it, and came back into the journal
/// although its overwriter had seen it.
#[test]
fn a_write_names_retired_values_equal_to_the_shown_one() {
    let mut network = Network::<RegisterSubject>::new();
    network.does(A, 0, set(0));
    let other = network.does(B, 1, set(1));
    network.hears(A, &[other]);
    assert_eq!(network.sees(A).value(), Some(1_u64.into()));
    network.does(A, 0, set(0));
    assert_eq!(network.sees(A).journal.len(), 0, "the first 0 is retired, and equal to what is shown");
    network.does(A, 0, set(1));
    assert_eq!(network.agree().journal.len(), 0);
}

/// The same in a row, where the equal value had lost its life.
#[test]
fn a_write_names_values_of_ended_lives_equal_to_the_shown_one() {
    let mut network = Network::<RowSubject>::new();
    let insert = network.does(A, 0, put("status", Input::Cell(0_u64.into())));
    network.hears(B, &[insert]);
    network.does(A, 0, put("title", Input::Cell(2_u64.into())));
    network.does(B, 0, RowIntent::Delete);
    network.does(B, 0, put("title", Input::Cell(2_u64.into())));
    assert_eq!(network.agree().journal.len(), 0, "A's value lost its life, and equals what is shown");
    network.does(C, 0, put("title", Input::Cell(3_u64.into())));
    assert_eq!(network.agree().journal.len(), 0);
}

/// A followed view listed sums in the order of local writes and a fresh one in that of births, so a row in
/// step did not look like it, and would have been written back for nothing.
#[test]
fn a_followed_view_equals_a_fresh_one_whoever_counted_first() {
    let mut network = Network::<RowSubject>::new();
    // The chain of C is older, and its birth greater than that of A's.
    let first = network.does(C, 0, put("views", Input::Count(1)));
    network.hears(A, &[first]);
    let mut followed = network.nodes[A].shadow.clone();
    let batch = network.does(A, 0, put("views", Input::Count(1)));
    for sent in &network.batches[batch].changes {
        followed.follow(sent.dot, sent.stamp, &sent.delta).expect("amounts are small");
    }
    assert_eq!(Ok(followed), network.nodes[A].state.view());
}

/// A table with a replica too many, or in another order, was another form of the same state.
#[test]
fn a_state_has_one_table() {
    let mut counter = PnCounter::default();
    let dots = [Dot::new(ReplicaId(1), 3, 0), Dot::new(ReplicaId(2), 4, 0)];
    for dot in dots {
        let delta = counter.increment(dot.replica, 1).expect("small");
        counter.apply(dot, Hlc(1), &delta, place(), &mut Tally::default()).expect("small");
    }
    let with_table = |table: &[(ReplicaId, u64)]| {
        let table = DotTable::new(table.to_vec());
        let mut writer = Writer::new();
        writer.table(&table);
        counter.encode(&mut writer, &table);
        Object::from_bytes(Kind::PnCounter, &writer.into_bytes())
    };
    let (first, second) = ((ReplicaId(1), 3), (ReplicaId(2), 4));
    assert_eq!(with_table(&[first, second]), Ok(Object::PnCounter(counter.clone())));
    let idle = (ReplicaId(3), 9);
    for other in [&[second, first][..], &[first, (ReplicaId(2), 5)], &[first, second, idle]] {
        assert!(matches!(with_table(other), Err(DecodeError::NotCanonical { .. })), "{other:?}");
    }
}

/// Head bytes that say the short thing in the long way were other forms of the same delta.
#[test]
fn a_delta_has_one_form() {
    let table = DotTable::new(vec![(ReplicaId(1), 1)]);
    let register = |bytes: &[u8]| crdt::Register::decode_delta(&mut Reader::new(bytes), &table);
    let replaced = RegisterDelta { replaces: vec![Dot::new(ReplicaId(1), 1, 0)], ..RegisterDelta::default() };
    assert_eq!(register(&[2, 0, 0]), Ok(replaced));
    assert!(matches!(register(&[0, 1, 0, 0]), Err(DecodeError::NotCanonical { .. })), "a list of one");
    assert!(matches!(register(&[4, 0, 0]), Err(DecodeError::NotCanonical { .. })), "an empty list of retired values");
    let row = |flags: &[u8]| {
        let head = [0, 0, 0, 1, 1, b'c'];
        Row::decode_delta(&mut Reader::new(&[&head, flags].concat()), &table)
    };
    assert!(row(&[2, 0, 0]).is_ok());
    assert!(matches!(row(&[0, 1, 0, 0]), Err(DecodeError::NotCanonical { .. })), "a list of one");
    assert!(matches!(row(&[4, 0, 0]), Err(DecodeError::NotCanonical { .. })), "counts that are none");
}

#[test]
fn a_growing_counter_takes_no_negative_sum() {
    let seen = |total| Seen { birth: FULL, tip: FULL, total };
    let added = |total, amount| CounterDelta {
        removes: Vec::new(),
        add: Some(Increment { extends: Some(seen(total)), amount }),
    };
    let decode = |delta: &CounterDelta| delta_from_bytes::<GCounter>(&delta_bytes::<GCounter>(delta));
    assert!(decode(&added(1, 1)).is_ok());
    let removed = CounterDelta { removes: vec![seen(-1)], add: None };
    for delta in [added(1, -1), added(-1, 1), removed] {
        assert!(decode(&delta).is_err(), "{delta:?}");
    }
}

/// A life that a delta named twice stood twice in the cell, in a form that no node could read back.
#[test]
fn a_life_named_twice_counts_once() {
    let (first, second) = (Dot::new(ReplicaId(1), 1, 0), Dot::new(ReplicaId(1), 2, 0));
    let mut row = Row::default();
    let title = ColumnDelta { name: b"title"[..].into(), write: Some("x".into()), ..ColumnDelta::default() };
    let insert = RowDelta { insert: true, ..RowDelta::default() };
    let update = RowDelta { lives: vec![first, first], columns: vec![title], ..RowDelta::default() };
    for (dot, delta) in [(first, insert), (second, update)] {
        row.apply(dot, Hlc(1), &delta, place(), &mut Tally::default()).expect("no counter");
    }
    let object = Object::Row(row);
    assert_eq!(Object::from_bytes(Kind::Row, &object.to_bytes()), Ok(object));
}

/// The deepest path goes through every encoding, and one name more is refused.
#[test]
fn paths_have_one_depth_everywhere() {
    let at_depth = |depth: usize| {
        let header = BatchHeader {
            id: BatchId { replica: ReplicaId(1), seq: 1 },
            more: false,
            hlc: Hlc(1),
            context: VersionVector::new(),
        };
        let delta = RegisterDelta { write: Some("deep".into()), ..RegisterDelta::default() };
        let (path, content) = (vec![b"n"[..].into(); depth], Content::Op(Op::Register(delta)));
        let changes = vec![Change { namespace: Namespace(0), path, stamp: Hlc(1), content }];
        let bytes = seal(Batch { header, changes }.to_signed_bytes(1), [0; MAC_BYTES]);
        Envelope::parse(&bytes).and_then(|envelope| envelope.to_batch())
    };
    let batch = at_depth(PATH_DEPTH_MAX).expect("the deepest path");
    let mut keyspace = Keyspace::new();
    keyspace.apply_change(FULL, &batch.changes[0]).expect("no counter");
    let object = keyspace.object(&Key::new(Namespace(0), Kind::Map, "n")).expect("a map").into_owned();
    assert_eq!(Object::from_bytes(Kind::Map, &object.to_bytes()), Ok(object));
    assert!(matches!(at_depth(PATH_DEPTH_MAX + 1), Err(DecodeError::Limit { .. })));
}

const FULL: Dot = Dot::new(ReplicaId(1), 1, 0);

/// An increment on top of a sum that leaves no room.
fn overflowing() -> CounterDelta {
    let full = Seen { birth: FULL, tip: FULL, total: i128::MAX };
    CounterDelta { removes: Vec::new(), add: Some(Increment { extends: Some(full), amount: 1 }) }
}

/// Applies the change, which must be refused, and leave state and figures as they were.
fn refused<T: Crdt>(state: &T, delta: &T::Delta) {
    let (mut after, mut tally) = (state.clone(), state.tally(place()));
    let outcome = after.apply(Dot::new(ReplicaId(1), 2, 0), Hlc(2), delta, place(), &mut tally);
    assert_eq!(outcome, Err(CounterOverflow));
    assert_eq!((state_bytes(&after), tally), (state_bytes(state), state.tally(place())));
}

/// The same state, with one change applied.
fn with<T: Crdt>(delta: &T::Delta) -> T {
    let mut state = T::default();
    state.apply(FULL, Hlc(1), delta, place(), &mut Tally::default()).expect("the greatest sum still fits");
    state
}

#[test]
fn a_sum_that_leaves_its_range_is_refused_and_changes_nothing() {
    let most = CounterDelta { removes: Vec::new(), add: Some(Increment { extends: None, amount: i128::MAX }) };
    let counter: PnCounter = with::<PnCounter>(&most);
    assert_eq!(counter.increment(ReplicaId(1), 1), Err(CounterOverflow));
    assert_eq!(counter.increment(ReplicaId(2), 1), Err(CounterOverflow), "the value would not fit");
    refused(&counter, &overflowing());
    refused(&with::<GCounter>(&most), &overflowing());
    // A map keeps no empty entry of the attempt either.
    let in_map = |delta| MapDelta { path: vec![b"n"[..].into()], op: Op::PnCounter(delta) };
    refused(&OrMap::default(), &in_map(overflowing()));
    refused(&with::<OrMap>(&in_map(most.clone())), &in_map(overflowing()));
    // The column before the counter's is not written either.
    let column = |name: &[u8], add| ColumnDelta { name: name.into(), add, ..ColumnDelta::default() };
    let insert = RowDelta { insert: true, columns: vec![column(b"n", most.add)], ..RowDelta::default() };
    let title = ColumnDelta { write: Some("x".into()), ..column(b"a", None) };
    let columns = vec![title, column(b"n", overflowing().add)];
    refused(&with::<Row>(&insert), &RowDelta { lives: vec![FULL], columns, ..RowDelta::default() });
}

#[test]
fn a_keyspace_refuses_an_overflow_and_keeps_its_figures() {
    let change = |delta| Change {
        namespace: Namespace(1),
        path: vec![b"n"[..].into()],
        stamp: Hlc(1),
        content: Content::Op(Op::PnCounter(delta)),
    };
    let mut keyspace = Keyspace::new();
    let refused = keyspace.apply_change(Dot::new(ReplicaId(1), 2, 0), &change(overflowing()));
    assert_eq!(refused, Err(CounterOverflow));
    assert!(keyspace.is_empty() && keyspace.object(&Key::new(Namespace(1), Kind::PnCounter, "n")).is_none());
    assert_eq!(keyspace.recount(), Tally::default());
}
