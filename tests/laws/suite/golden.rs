//! Golden bytes: one file a type for a state and for a delta, each behind its table of replicas. They change
//! deliberately, or not at all.

use crdt::{Object, RowView};

use crate::harness::{Network, Subject, delta_bytes, delta_from_bytes, state_bytes, state_from_bytes};
use crate::script::{A, B, C};
use crate::subjects::{
    CounterIntent, GCounterSubject, Input, LeafIntent, MapIntent, MapSubject, PnCounterSubject, RegisterIntent,
    RegisterSubject, RowIntent, RowSubject, SetIntent, SetSubject,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("hex"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

/// The state of A and the last change of the run are those of the files, in both directions.
fn compare<S: Subject>(network: &Network<S>, state_file: &str, delta_file: &str) {
    let state = &network.nodes[A].state;
    assert_eq!(hex(&state_bytes(state)), state_file.trim(), "the state's format changed: is that meant?");
    assert_eq!(state_from_bytes::<S::State>(&unhex(state_file)).as_ref(), Ok(state));
    let object = S::wrap(state.clone());
    assert_eq!(Object::from_bytes(object.kind(), &unhex(state_file)), Ok(object));
    let delta = &network.batches.last().and_then(|batch| batch.changes.last()).expect("the run made changes").delta;
    assert_eq!(hex(&delta_bytes::<S::State>(delta)), delta_file.trim(), "the delta's format changed: is that meant?");
    assert_eq!(delta_from_bytes::<S::State>(&unhex(delta_file)).as_ref(), Ok(delta));
}

macro_rules! golden {
    ($network:expr, $name:literal) => {
        compare(
            &$network,
            include_str!(concat!("../../../crates/crdt/golden/", $name, "-state-0.hex")),
            include_str!(concat!("../../../crates/crdt/golden/", $name, "-delta-0.hex")),
        )
    };
}

/// A shown value, a concurrent one, and a retired one.
#[test]
fn golden_register() {
    let mut network = Network::<RegisterSubject>::new();
    let set = |value: &str| RegisterIntent::Set(value.into());
    network.does(A, 5, set("by A"));
    let hidden = network.does(B, 4, set("by B, hidden"));
    network.hears(A, &[hidden]);
    network.does(C, 300, RegisterIntent::Set((-1.5).into()));
    network.does(A, 6, set("over A"));
    network.agree();
    golden!(network, "register");
}

#[test]
fn golden_growing_counter() {
    let mut network = Network::<GCounterSubject>::new();
    let first = network.does(A, 1, CounterIntent::Increment(300));
    network.hears(B, &[first]);
    network.does(B, 1, CounterIntent::Increment(7));
    network.agree();
    network.does(A, 1, CounterIntent::Increment(1));
    golden!(network, "growing-counter");
}

/// Sums that were removed in part, and a reset.
#[test]
fn golden_counter() {
    let mut network = Network::<PnCounterSubject>::new();
    let first = network.does(A, 1, CounterIntent::Increment(-5));
    network.hears(B, &[first]);
    network.does(A, 1, CounterIntent::Increment(1_000));
    network.does(B, 1, CounterIntent::Reset(40));
    network.agree();
    network.does(B, 1, CounterIntent::Reset(2));
    network.agree();
    golden!(network, "counter");
}

/// An element added twice, one that was removed, and the empty one.
#[test]
fn golden_set() {
    let mut network = Network::<SetSubject>::new();
    let add = |elements: &[&str]| SetIntent::Add(elements.iter().map(|element| element.as_bytes().to_vec()).collect());
    network.does(A, 1, add(&["both", "gone"]));
    network.does(B, 1, add(&["both", ""]));
    network.agree();
    network.does(C, 1, add(&["third"]));
    network.does(A, 1, SetIntent::Remove(vec![b"gone".to_vec(), b"absent".to_vec()]));
    network.agree();
    golden!(network, "set");
}

/// One name with two types, and a leaf three maps deep.
#[test]
fn golden_map() {
    let mut network = Network::<MapSubject>::new();
    let leaf = |names: &[&'static str], leaf| MapIntent::Leaf(names.to_vec(), leaf);
    network.does(A, 1, leaf(&["name"], LeafIntent::Set(SetIntent::Add(vec![b"x".to_vec()]))));
    network.does(B, 2, leaf(&["name"], LeafIntent::PnCounter(CounterIntent::Increment(-2))));
    network.settle(&mut |_, _| {});
    network.does(C, 3, leaf(&["a", "b", "c"], LeafIntent::Register(RegisterIntent::Set(true.into()))));
    network.settle(&mut |_, _| {});
    golden!(network, "map");
}

fn columns(title: &str, views: i128) -> RowIntent {
    RowIntent::Put([("title", Input::Cell(title.into())), ("views", Input::Count(views))].into())
}

/// Two lives, a value that hangs on one of them, one that lost its life, and a removed sum.
fn rows() -> Network<RowSubject> {
    let mut network = Network::<RowSubject>::new();
    network.does(A, 1, columns("first life", 10));
    network.agree();
    network.does(A, 2, RowIntent::Delete);
    network.does(B, 900, columns("late", 3));
    network.does(C, 2, RowIntent::Replace([("views", Input::Count(100))].into()));
    network.agree();
    network.does(B, 3, columns("by B", 1));
    network.does(C, 4, RowIntent::Put([("status", Input::Cell(crdt::Value::Null))].into()));
    network.agree();
    network.does(C, 5, columns("by all", 2));
    network.agree();
    network
}

#[test]
fn golden_row() {
    golden!(rows(), "row");
}

#[test]
fn golden_row_view() {
    let file = include_str!("../../../crates/crdt/golden/row-view-0.hex");
    let view = rows().nodes[A].state.view().expect("amounts are small");
    assert_eq!(hex(&view.to_bytes()), file.trim(), "the view's format changed: is that meant?");
    assert_eq!(RowView::from_bytes(&unhex(file)), Ok(view));
}
