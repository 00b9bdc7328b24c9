//! SADD, SREM, SMEMBERS, SISMEMBER, SCARD: sets.

use std::collections::BTreeSet;

use crdt::{Kind, Name};

use super::{Invocation, bounded_name, present};
use crate::error::ErrorReply;
use crate::reply::Reply;
use crate::staged::Staged;

pub(super) fn add(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    let members = named(call)?;
    present(staged, &key, Kind::Set)?;
    let new = members.iter().filter(|member| !staged.contains(&key, member)).count();
    // Those that are there are added again: so each wins against a concurrent remove.
    staged.add(&key, members.into_iter().collect());
    Ok(Reply::count(new))
}

pub(super) fn remove(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    let members = named(call)?;
    present(staged, &key, Kind::Set)?;
    let there: Vec<Name> = members.into_iter().filter(|member| staged.contains(&key, member)).collect();
    let removed = there.len();
    if removed > 0 {
        staged.discard(&key, there);
    }
    Ok(Reply::count(removed))
}

pub(super) fn members(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    present(staged, &key, Kind::Set)?;
    Ok(Reply::Set(staged.members(&key).into_iter().map(Reply::Bulk).collect()))
}

pub(super) fn is_member(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    let member = bounded_name("member", call.at(2))?;
    present(staged, &key, Kind::Set)?;
    Ok(Reply::Integer(staged.contains(&key, &member).into()))
}

pub(super) fn cardinality(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    present(staged, &key, Kind::Set)?;
    Ok(Reply::count(staged.cardinality(&key)))
}

/// The members that the command names, each once.
fn named(call: Invocation<'_>) -> Result<BTreeSet<Name>, ErrorReply> {
    call.arguments.rest(2).map(|member| bounded_name("member", member)).collect()
}
