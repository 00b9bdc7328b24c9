//! What a client sees of the state.
//!
//! A name in the state has a type: a register, a counter, a set and a map can stand under one name side by side
//! (two regions may have made them at the same time, and both keep what they wrote). A Redis name has one type. So:
//!
//! - A command works on its own type if that is there, whatever else is under the name.
//! - Else it creates its type where nothing is, and answers `WRONGTYPE` where another type is.
//! - GET and MGET show the register; where there is none, the counter's sum. TYPE tells the first that is there of
//!   register and counter (both `string`), set, map (`hash`). EXISTS and DEL count a name once, and DEL removes all types.
//! - SET and MSET replace all types that this node sees, as in Redis. A field of a map is a register or a counter in
//!   the same way: HGET shows the register first, HSET replaces the counter, HDEL removes both.
//!
//! All of it is a function of the state, so equal states answer alike.

use std::borrow::Cow;

use crdt::{Key, Keyspace, Kind, KindSet, Namespace, Object};

/// The types that the door knows, in the order in which TYPE looks.
pub const DOOR_KINDS: [Kind; 4] = [Kind::Register, Kind::PnCounter, Kind::Set, Kind::Map];

/// The state that commands read. The daemon passes the node's [`Keyspace`].
pub trait View {
    /// The object under `key`.
    fn object(&self, key: &Key) -> Option<Cow<'_, Object>>;

    /// Types of the objects under a name.
    fn kinds(&self, namespace: Namespace, name: &[u8]) -> KindSet;
}

impl View for Keyspace {
    fn object(&self, key: &Key) -> Option<Cow<'_, Object>> {
        Keyspace::object(self, key)
    }

    fn kinds(&self, namespace: Namespace, name: &[u8]) -> KindSet {
        Keyspace::kinds(self, namespace, name)
    }
}
