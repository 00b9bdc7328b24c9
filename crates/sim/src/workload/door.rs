//! Requests at the door: registers, counters, sets and maps without a database behind them.

use crdt::{Key, Kind, Name, Namespace, Object, Value};
use replica::{Action, Intent, Node};

use super::Workload;
use crate::history::{DoorAction, DoorWrite, Leaf};

/// One command, as the node gets it and as the history keeps it.
#[derive(Clone, Debug, Default)]
pub struct DoorRequest {
    /// For [`Node::commit`].
    pub intents: Vec<Intent>,
    /// For the history: the same, with what the node showed just before.
    pub writes: Vec<DoorWrite>,
}

const KINDS: [Kind; 4] = [Kind::Register, Kind::PnCounter, Kind::GCounter, Kind::Set];

/// The object at the end of a path of one or two names.
pub fn leaf_object(node: &Node, leaf: &Leaf) -> Option<Object> {
    let (first, rest) = leaf.path.split_first()?;
    let kind = if rest.is_empty() { leaf.kind } else { Kind::Map };
    let object = node.keyspace().object(&Key::new(leaf.namespace, kind, first))?.into_owned();
    match (object, rest) {
        (object, []) => Some(object),
        (Object::Map(map), [name]) => map.entry(name, leaf.kind).cloned(),
        _ => None,
    }
}

fn shown(object: Option<&Object>) -> Option<Value> {
    match object {
        Some(Object::Register(register)) => register.shown().map(|entry| entry.value.clone()),
        _ => None,
    }
}

impl Workload {
    /// What a client of this node's door does next; up to four leaves in one command, each once.
    pub fn door_request(&mut self, node: &Node) -> DoorRequest {
        let mut request = DoorRequest::default();
        let wanted = if self.random.one_in(3) { self.random.range(2, 4) } else { 1 };
        for _ in 0..wanted {
            let leaf = self.leaf();
            if request.writes.iter().any(|write| write.leaf.path == leaf.path) {
                continue;
            }
            let object = leaf_object(node, &leaf);
            let Some((action, recorded)) = self.door_action(leaf.kind, object.as_ref()) else { continue };
            request.intents.push(Intent { namespace: leaf.namespace, path: leaf.path.clone(), action });
            request.writes.push(DoorWrite { leaf, action: recorded });
        }
        request
    }

    fn leaf(&mut self) -> Leaf {
        let kind = KINDS[self.random.index(KINDS.len())];
        let name = |text: String| Name::from(text.as_bytes());
        let key = name(format!("key-{}-{}", kind as u8, self.random.below(6)));
        let path = if self.random.one_in(3) {
            let map = name(format!("map-{}", self.random.below(3)));
            vec![map, key]
        } else {
            vec![key]
        };
        Leaf { namespace: Namespace(self.random.below(2) as u32), path, kind }
    }

    fn door_action(&mut self, kind: Kind, object: Option<&Object>) -> Option<(Action, DoorAction)> {
        match kind {
            Kind::Register => Some(self.register_action(object)),
            Kind::PnCounter | Kind::GCounter => {
                if self.random.one_in(8) && object.is_some_and(Object::exists) {
                    return Some((Action::Remove(kind), DoorAction::RemoveCounter));
                }
                let amount = self.random.range(1, 9);
                if kind == Kind::GCounter {
                    return Some((Action::Grow(amount), DoorAction::Add(amount.into())));
                }
                let amount = i128::from(amount) * if self.random.one_in(3) { -1 } else { 1 };
                Some((Action::Increment(amount), DoorAction::Add(amount)))
            }
            Kind::Set => self.set_action(object),
            Kind::Map | Kind::Row => None,
        }
    }

    fn register_action(&mut self, object: Option<&Object>) -> (Action, DoorAction) {
        let saw = shown(object);
        if let Some(Object::Register(register)) = object {
            if saw.is_some() && self.random.one_in(7) {
                return (Action::Remove(Kind::Register), DoorAction::Remove { saw });
            }
            let journaled = register.journal().next().filter(|_| self.random.one_in(3));
            if let Some(entry) = journaled {
                let (value, from) = (entry.value.clone(), entry.dot.batch());
                return (Action::Restore(entry.dot), DoorAction::Restore { value, from, saw });
            }
        }
        let value = self.value();
        (Action::Set(value.clone()), DoorAction::Set { value, saw })
    }

    fn set_action(&mut self, object: Option<&Object>) -> Option<(Action, DoorAction)> {
        let present: Vec<Name> = match object {
            Some(Object::Set(set)) => set.iter().map(Name::from).collect(),
            _ => Vec::new(),
        };
        if !present.is_empty() && self.random.one_in(12) {
            return Some((Action::Remove(Kind::Set), DoorAction::Clear));
        }
        let mut names: Vec<Name> = Vec::new();
        for _ in 0..self.random.range(1, 3) {
            let name = Name::from(format!("element-{}", self.random.below(10)).as_bytes());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if self.random.one_in(2) {
            return Some((Action::Add(names.clone()), DoorAction::Include(names)));
        }
        names.retain(|name| present.contains(name));
        (!names.is_empty()).then(|| (Action::Discard(names.clone()), DoorAction::Exclude(names)))
    }
}
