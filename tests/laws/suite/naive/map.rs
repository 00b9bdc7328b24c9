//! The map: a history of its own for each leaf. Removing a path removes every leaf below it that shows
//! something.

use std::collections::BTreeMap;

use crdt::{Dot, Hlc, Kind};

use super::counter::CounterOp;
use super::register::RegisterOp;
use super::row::RowOp;
use super::set::SetOp;
use super::{CounterModel, Model, Past, Record, RegisterModel, RowModel, Scene, SetModel};
use crate::picture::{Leaf, Picture};
use crate::subjects::{LeafIntent, MapIntent};

/// Names and types from the top down to a leaf; every type but the last is the map's.
type LeafKey = Vec<(String, Kind)>;

/// What one operation did, and where.
#[derive(Debug, Clone)]
pub(crate) struct MapOp {
    leaf: LeafKey,
    op: LeafOp,
}

#[derive(Debug, Clone)]
enum LeafOp {
    Register(RegisterOp),
    Counter(CounterOp),
    Set(SetOp),
    Row(RowOp),
}

#[derive(Debug)]
enum LeafModel {
    Register(RegisterModel),
    Counter(CounterModel),
    Set(SetModel),
    Row(RowModel),
}

/// All operations below one map.
#[derive(Debug, Default)]
pub(crate) struct MapModel {
    leaves: BTreeMap<LeafKey, LeafModel>,
}

impl LeafModel {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Register => Self::Register(RegisterModel::default()),
            Kind::GCounter | Kind::PnCounter => Self::Counter(CounterModel::default()),
            Kind::Set => Self::Set(SetModel::default()),
            Kind::Row => Self::Row(RowModel::default()),
            Kind::Map => panic!("a map is no leaf"),
        }
    }

    fn plan(&self, past: &Past, now: Hlc, intent: &LeafIntent) -> Vec<(Hlc, LeafOp)> {
        let scene = Scene { past, shadow: &(), now };
        let wrap = |wrap: fn(_) -> LeafOp| move |(stamp, op)| (stamp, wrap(op));
        match (self, intent) {
            (Self::Register(model), LeafIntent::Register(intent)) => {
                model.plan(&scene, intent).into_iter().map(wrap(LeafOp::Register)).collect()
            }
            (Self::Counter(model), LeafIntent::GCounter(intent) | LeafIntent::PnCounter(intent)) => {
                let planned = model.plan(&scene, intent);
                planned.into_iter().map(|(stamp, op)| (stamp, LeafOp::Counter(op))).collect()
            }
            (Self::Set(model), LeafIntent::Set(intent)) => {
                model.plan(&scene, intent).into_iter().map(|(stamp, op)| (stamp, LeafOp::Set(op))).collect()
            }
            (Self::Row(model), LeafIntent::Row(intent)) => {
                let scene = Scene { past, shadow: &model.look(past), now };
                model.plan(&scene, intent).into_iter().map(|(stamp, op)| (stamp, LeafOp::Row(op))).collect()
            }
            (model, intent) => panic!("{intent:?} for {model:?}"),
        }
    }

    /// Rows stay: a DELETE is the database's business.
    fn removal(&self, past: &Past) -> Option<LeafOp> {
        match self {
            Self::Register(model) => model.removal(past).map(LeafOp::Register),
            Self::Counter(model) => model.removal(past).map(LeafOp::Counter),
            Self::Set(model) => model.removal(past).map(LeafOp::Set),
            Self::Row(_) => None,
        }
    }

    fn record(&mut self, dot: Dot, stamp: Hlc, past: Past, op: LeafOp) {
        match (self, op) {
            (Self::Register(model), LeafOp::Register(op)) => model.record(dot, Record { stamp, past, op }),
            (Self::Counter(model), LeafOp::Counter(op)) => model.record(dot, Record { stamp, past, op }),
            (Self::Set(model), LeafOp::Set(op)) => model.record(dot, Record { stamp, past, op }),
            (Self::Row(model), LeafOp::Row(op)) => model.record(dot, Record { stamp, past, op }),
            (model, op) => panic!("{op:?} for {model:?}"),
        }
    }

    fn leaf(&self, past: &Past) -> Leaf {
        match self {
            Self::Register(model) => model.leaf(past),
            Self::Counter(model) => model.leaf(past),
            Self::Set(model) => model.leaf(past),
            Self::Row(model) => model.leaf(past),
        }
    }
}

fn key_of(names: &[&str], kind: Kind) -> LeafKey {
    let last = names.len() - 1;
    let kind_at = |place: usize| if place == last { kind } else { Kind::Map };
    names.iter().enumerate().map(|(place, name)| ((*name).to_owned(), kind_at(place))).collect()
}

fn name_of(key: &LeafKey) -> String {
    let names: Vec<&str> = key.iter().map(|(name, _)| name.as_str()).collect();
    let kind = key.last().expect("a leaf has a name").1;
    format!("{}:{kind:?}", names.join("/"))
}

impl Model for MapModel {
    type Intent = MapIntent;
    type Shadow = ();
    type Op = MapOp;

    fn plan(&self, scene: &Scene<'_, ()>, intent: &MapIntent) -> Vec<(Hlc, MapOp)> {
        match intent {
            MapIntent::Leaf(names, intent) => {
                let key = key_of(names, intent.kind());
                let untouched = LeafModel::new(intent.kind());
                let model = self.leaves.get(&key).unwrap_or(&untouched);
                let planned = model.plan(scene.past, scene.now, intent).into_iter();
                planned.map(|(stamp, op)| (stamp, MapOp { leaf: key.clone(), op })).collect()
            }
            MapIntent::Remove(names) => {
                let is_below = |key: &LeafKey| {
                    key.len() >= names.len() && names.iter().zip(key).all(|(name, (present, _))| name == present)
                };
                let below = self.leaves.iter().filter(|(key, _)| is_below(key));
                let removals = below.filter_map(|(key, model)| Some((key, model.removal(scene.past)?)));
                removals.map(|(key, op)| (scene.now, MapOp { leaf: key.clone(), op })).collect()
            }
        }
    }

    fn record(&mut self, dot: Dot, record: Record<MapOp>) {
        let Record { stamp, past, op: MapOp { leaf, op } } = record;
        let kind = leaf.last().expect("a leaf has a name").1;
        self.leaves.entry(leaf).or_insert_with(|| LeafModel::new(kind)).record(dot, stamp, past, op);
    }

    fn picture(&self, past: &Past) -> Picture {
        let mut picture = Picture::default();
        self.leaves.iter().for_each(|(key, model)| picture.insert(name_of(key), model.leaf(past)));
        picture
    }
}
