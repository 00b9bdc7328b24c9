//! The map, and objects of any type below it.

use crdt::object::MapDelta;
use crdt::object::Name;
use crdt::{Hlc, Kind, Object, Op, OrMap, ReplicaId};
use proptest::prelude::*;

use super::{LeafIntent, MapIntent, RegisterIntent, RowIntent, counter, register, row, set};
use crate::harness::{Author, Subject};
use crate::naive::MapModel;
use crate::picture::{Leaf, Picture, Touch};

/// Drives [`OrMap`].
#[derive(Clone, Debug)]
pub(crate) struct MapSubject;

impl Subject for MapSubject {
    type State = OrMap;
    type Intent = MapIntent;
    type Shadow = ();
    type Model = MapModel;

    fn intents() -> BoxedStrategy<MapIntent> {
        MapIntent::any().boxed()
    }

    fn act(author: &Author<'_, Self>, intent: &MapIntent) -> Vec<(Hlc, MapDelta)> {
        match intent {
            MapIntent::Leaf(names, leaf) => {
                let path = path_of(names);
                let object = find(author.state, &path, leaf.kind()).cloned().unwrap_or(Object::new(leaf.kind()));
                let ops = act_on_leaf(&object, author.replica, author.now, leaf);
                ops.into_iter().map(|(stamp, op)| (stamp, MapDelta { path: path.clone(), op })).collect()
            }
            MapIntent::Remove(names) => {
                let prefix = path_of(names);
                let removals = Object::Map(author.state.clone()).removals();
                let below = removals.into_iter().filter(|(path, _)| path.starts_with(&prefix));
                below.map(|(path, op)| (author.now, MapDelta { path, op })).collect()
            }
        }
    }

    fn wrap(state: OrMap) -> Object {
        Object::Map(state)
    }

    fn unwrap(object: Object) -> OrMap {
        match object {
            Object::Map(state) => state,
            other => panic!("a {:?} stands for another type", other.kind()),
        }
    }

    fn restores(intent: &MapIntent) -> bool {
        use LeafIntent::{Register, Row};
        matches!(intent, MapIntent::Leaf(_, Register(RegisterIntent::Restore(_)) | Row(RowIntent::Restore(_))))
    }

    fn touches(author: &Author<'_, Self>, delta: &MapDelta) -> Vec<Touch> {
        let kind = delta.op.kind();
        let object = find(author.state, &delta.path, kind).cloned().unwrap_or(Object::new(kind));
        let mut touches = match (&object, &delta.op) {
            (Object::Register(leaf), Op::Register(op)) => register::touches(leaf, op),
            (Object::Row(leaf), Op::Row(op)) => row::touches(&leaf.view().expect("amounts are small"), op),
            _ => Vec::new(),
        };
        touches.iter_mut().for_each(|touch| touch.spot.leaf = leaf_name(&delta.path, kind));
        touches
    }

    fn counts(delta: &MapDelta) -> bool {
        match &delta.op {
            Op::GCounter(_) | Op::PnCounter(_) => true,
            Op::Row(op) => op.columns.iter().any(|column| column.add.is_some()),
            Op::Register(_) | Op::Set(_) => false,
        }
    }
}

pub(crate) fn path_of(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| name.as_bytes().into()).collect()
}

/// How pictures call a leaf.
pub(crate) fn leaf_name(path: &[Name], kind: Kind) -> String {
    let names: Vec<_> = path.iter().map(|name| String::from_utf8_lossy(name)).collect();
    format!("{}:{kind:?}", names.join("/"))
}

fn find<'a>(map: &'a OrMap, path: &[Name], kind: Kind) -> Option<&'a Object> {
    match path {
        [] => None,
        [name] => map.entry(name, kind),
        [name, rest @ ..] => match map.entry(name, Kind::Map)? {
            Object::Map(inner) => find(inner, rest, kind),
            other => panic!("a {:?} stands where a map was asked for", other.kind()),
        },
    }
}

/// Changes that an intent makes to an object of its type. A row's database is in step.
pub(crate) fn act_on_leaf(object: &Object, replica: ReplicaId, now: Hlc, intent: &LeafIntent) -> Vec<(Hlc, Op)> {
    let op: Option<(Hlc, Op)> = match (object, intent) {
        (Object::Register(leaf), LeafIntent::Register(intent)) => {
            register::act(leaf, now, intent).map(|(stamp, delta)| (stamp, Op::Register(delta)))
        }
        (Object::GCounter(leaf), LeafIntent::GCounter(intent)) => {
            counter::act_growing(leaf, replica, intent).map(|delta| (now, Op::GCounter(delta)))
        }
        (Object::PnCounter(leaf), LeafIntent::PnCounter(intent)) => {
            counter::act(leaf, replica, intent).map(|delta| (now, Op::PnCounter(delta)))
        }
        (Object::Set(leaf), LeafIntent::Set(intent)) => set::act(leaf, intent).map(|delta| (now, Op::Set(delta))),
        (Object::Row(leaf), LeafIntent::Row(intent)) => {
            let view = leaf.view().expect("amounts are small");
            let deltas = row::act(leaf, &view, replica, now, intent);
            return deltas.into_iter().map(|(stamp, delta)| (stamp, Op::Row(delta))).collect();
        }
        (object, intent) => panic!("{intent:?} for a {:?}", object.kind()),
    };
    op.into_iter().collect()
}

/// What anybody can see of an object; below a map, leaf by leaf.
pub(crate) fn observe(object: &Object) -> Picture {
    let mut picture = Picture::default();
    match object {
        Object::Map(map) => {
            let mut path = Vec::new();
            observe_below(map, &mut path, &mut picture);
            assert_eq!(map.exists(), picture.exists());
        }
        leaf => picture.insert(String::new(), observe_leaf(leaf)),
    }
    picture
}

fn observe_below(map: &OrMap, path: &mut Vec<Name>, picture: &mut Picture) {
    for (field, object) in map.iter() {
        path.push(field.name.clone());
        match object {
            Object::Map(inner) => observe_below(inner, path, picture),
            leaf => picture.insert(leaf_name(path, field.kind), observe_leaf(leaf)),
        }
        path.pop();
    }
}

fn observe_leaf(object: &Object) -> Leaf {
    match object {
        Object::Register(leaf) => register::observe(leaf),
        Object::GCounter(leaf) => counter::observe_growing(leaf),
        Object::PnCounter(leaf) => counter::observe(leaf),
        Object::Set(leaf) => set::observe(leaf),
        Object::Row(leaf) => row::observe(leaf),
        Object::Map(_) => panic!("a map is no leaf"),
    }
}
