use super::*;
use crate::Hlc;
use crate::fingerprint::Leaf;
use crate::object::Op;
use crate::register::RegisterDelta;
use crate::value::Value;

const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);

fn write(key: &str, stamp: u64, replaces: &[Dot], value: Value) -> Change {
    Change {
        namespace: Namespace(300),
        path: vec![key.as_bytes().into()],
        stamp: Hlc(stamp),
        content: Content::Op(Op::Register(RegisterDelta {
            replaces: replaces.to_vec(),
            retires: Vec::new(),
            write: Some(value),
        })),
    }
}

fn shown(keyspace: &Keyspace, key: &str) -> Option<Value> {
    match keyspace.object(&Key::new(Namespace(300), Kind::Register, key))?.as_ref() {
        Object::Register(register) => register.shown().map(|entry| entry.value.clone()),
        _ => None,
    }
}

#[test]
fn packed_cells_grow_shrink_and_keep_their_figures() {
    let mut keyspace = Keyspace::new();
    let mut last: Vec<Option<Dot>> = vec![None; 500];
    for round in 0..40_u64 {
        for (key, last) in last.iter_mut().enumerate() {
            let dot = Dot::new(A, round * 500 + key as u64 + 1, 0);
            let length = (key as u64 * 7 + round * 13) % 1_500;
            let change =
                write(&format!("key{key}"), round + 1, last.as_slice(), Value::bytes(vec![b'x'; length as usize]));
            keyspace.apply_change(dot, &change).expect("no counter");
            *last = Some(dot);
        }
    }
    assert_eq!(keyspace.len(), 500);
    assert_eq!(keyspace.recount().fingerprint, keyspace.fingerprint());
    for key in 0..500_u64 {
        let length = (key * 7 + 39 * 13) % 1_500;
        assert_eq!(shown(&keyspace, &format!("key{key}")), Some(Value::bytes(vec![b'x'; length as usize])));
    }
}

#[test]
fn a_concurrent_value_unpacks_a_cell_and_the_next_write_packs_it_again() {
    let mut keyspace = Keyspace::new();
    let (first, second, third) = (Dot::new(A, 1, 0), Dot::new(B, 1, 0), Dot::new(A, 2, 0));
    keyspace.apply_change(first, &write("k", 5, &[], "a".into())).expect("no counter");
    keyspace.apply_change(second, &write("k", 6, &[], "b".into())).expect("no counter");
    assert_eq!(keyspace.journal_entries(), 1);
    assert_eq!(keyspace.journaled().count(), 1);
    assert_eq!(shown(&keyspace, "k"), Some("b".into()));
    keyspace.apply_change(third, &write("k", 7, &[first, second], "c".into())).expect("no counter");
    assert_eq!(keyspace.journal_entries(), 0);
    assert_eq!(keyspace.journaled().count(), 0);
    assert_eq!(keyspace.recount().fingerprint, keyspace.fingerprint());
}

#[test]
fn a_removed_object_leaves_nothing() {
    let mut keyspace = Keyspace::new();
    let key = Key::new(Namespace(300), Kind::Register, "k");
    keyspace.apply_change(Dot::new(A, 1, 0), &write("k", 5, &[], Value::from(1_u64))).expect("no counter");
    keyspace.remove(&key);
    assert!(keyspace.is_empty());
    assert_eq!(keyspace.fingerprint(), Fingerprint::default());
    assert_eq!(keyspace.object(&key), None);
}

#[test]
fn keys_round_trip_and_have_a_shard() {
    for namespace in [0, 127, 128, u32::MAX] {
        let key = Key::new(Namespace(namespace), Kind::Set, b"name");
        assert_eq!(Key::from_bytes(&key.to_bytes()), Ok(key.clone()));
        assert!(key.shard() < SHARDS);
    }
}

#[test]
fn types_under_one_name_stand_side_by_side_and_are_told_apart() {
    let bytes = |kind| Key::new(Namespace(7), kind, "name").to_bytes();
    let places: Vec<Located> = Kind::ALL.into_iter().map(|kind| Located::new(&bytes(kind))).collect();
    for (kind, place) in Kind::ALL.into_iter().zip(&places) {
        assert_eq!(Key::kind_of(&bytes(kind)), Some(kind));
        assert_eq!((place.shard, place.hash), (places[0].shard, places[0].hash));
    }
    let distinct: BTreeSet<u128> =
        places.iter().map(|place| place.place.dot(Leaf::Life, &[], Dot::new(A, 1, 0)).0).collect();
    assert_eq!(distinct.len(), Kind::ALL.len());
}

#[test]
fn a_cell_written_in_place_is_what_the_register_would_be() {
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::from(-5_i64),
        Value::from(u64::MAX),
        Value::from(0.5_f64),
        Value::bytes(b""),
        Value::bytes(vec![b'x'; 100]),
        Value::bytes(vec![b'y'; 5_000]),
    ];
    let (mut packed, mut edited) = (Keyspace::new(), Keyspace::new());
    let key = Key::new(Namespace(300), Kind::Register, "k");
    let bytes = key.to_bytes();
    let place = Located::new(&bytes);
    let mut last: Option<Dot> = None;
    for (seq, value) in (1..).zip(values.iter().chain(values.iter().rev())) {
        let dot = Dot::new(if seq % 3 == 0 { B } else { A }, seq, seq as u32);
        let change = write("k", seq, last.as_slice(), value.clone());
        packed.apply_change(dot, &change).expect("no counter");
        edited.apply_edit(dot, &change).expect("no counter");
        assert_eq!(packed.object(&key), edited.object(&key));
        let stored = packed.object_bytes(&bytes, place);
        assert_eq!(stored, packed.object(&key).map(|object| object.to_bytes()), "{value:?}");
        assert_eq!(packed.fingerprint(), edited.fingerprint());
        assert!(packed.single(&key).is_none_or(|single| single == (dot, Hlc(seq))));
        last = Some(dot);
    }
    assert_eq!(packed.recount().fingerprint, packed.fingerprint());
    assert_eq!(packed.object_bytes(b"\x01nothing", Located::new(b"\x01nothing")), None);
}
