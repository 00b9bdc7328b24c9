//! DEL, EXISTS, TYPE: whatever is under a name.

use crdt::Kind;

use super::Invocation;
use crate::error::ErrorReply;
use crate::reply::Reply;
use crate::staged::{KeyName, Staged};
use crate::view::DOOR_KINDS;

pub(super) fn remove(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let mut removed = 0;
    for key in keys(call)? {
        let there: Vec<Kind> = DOOR_KINDS.into_iter().filter(|kind| staged.exists(&key, *kind)).collect();
        removed += usize::from(!there.is_empty());
        there.into_iter().for_each(|kind| staged.remove(&key, kind));
    }
    Ok(Reply::count(removed))
}

pub(super) fn exists(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let is_there = |key: &KeyName| DOOR_KINDS.into_iter().any(|kind| staged.exists(key, kind));
    Ok(Reply::count(keys(call)?.iter().filter(|key| is_there(key)).count()))
}

pub(super) fn type_of(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    let first = DOOR_KINDS.into_iter().find(|kind| staged.exists(&key, *kind));
    Ok(Reply::Simple(match first {
        Some(Kind::Register | Kind::PnCounter) => "string",
        Some(Kind::Set) => "set",
        Some(_) => "hash",
        None => "none",
    }))
}

fn keys(call: Invocation<'_>) -> Result<Vec<KeyName>, ErrorReply> {
    call.arguments.rest(1).map(|name| call.key_of(name)).collect()
}
