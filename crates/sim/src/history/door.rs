//! What clients of the door did.

use std::rc::Rc;

use crdt::{BatchId, Kind, Name, Namespace, Value};

use super::{NodeIndex, Order, Vector};

/// What a key holds, as a client of the door addresses it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Leaf {
    /// Site of the network.
    pub namespace: Namespace,
    /// Names from the root to the leaf.
    pub path: Vec<Name>,
    /// Its type.
    pub kind: Kind,
}

/// What a door client did to one leaf, with what the node showed it just before. One MULTI must not touch a leaf twice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DoorAction {
    /// Register: wrote a value.
    Set {
        /// The new value; globally unique.
        value: Value,
        /// The value that was shown.
        saw: Option<Value>,
    },
    /// Register: removed the value that was shown.
    Remove {
        /// The value that was shown.
        saw: Option<Value>,
    },
    /// Register: wrote a journaled value anew.
    Restore {
        /// The value; written before.
        value: Value,
        /// The batch that had written it.
        from: BatchId,
        /// The value that was shown.
        saw: Option<Value>,
    },
    /// Either counter: added an amount.
    Add(i128),
    /// Either counter: removed it as it was counted here.
    RemoveCounter,
    /// Set: added elements.
    Include(Vec<Name>),
    /// Set: removed those of the elements that were there.
    Exclude(Vec<Name>),
    /// Set: removed all elements.
    Clear,
}

/// One intent of a door write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DoorWrite {
    /// What was addressed.
    pub leaf: Leaf,
    /// What was done.
    pub action: DoorAction,
}

/// A door write that `Node::commit` accepted.
#[derive(Clone, Debug)]
pub struct DoorCommit {
    /// When it was written down.
    pub order: Order,
    /// Virtual time.
    pub time_us: u64,
    /// Where.
    pub node: NodeIndex,
    /// Its dot.
    pub batch: BatchId,
    /// The intents.
    pub writes: Vec<DoorWrite>,
    /// Everything that its node had applied before.
    pub saw: Rc<Vector>,
    /// True once its client was told.
    pub acknowledged: bool,
    /// True when its process died before anything of it was written, and its dot was given again.
    pub void: bool,
}
