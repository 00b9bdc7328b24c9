//! GET, SET, MGET, MSET: registers.

use crdt::{Kind, Value};

use super::{Invocation, out_of_range, shown_reply, value_reply};
use crate::error::ErrorReply;
use crate::refused::{Reason, refusal};
use crate::reply::Reply;
use crate::staged::{KeyName, Shown, Staged};
use crate::view::DOOR_KINDS;

pub(super) fn get(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    match value(staged, &key)? {
        Some(reply) => Ok(reply),
        None if staged.exists(&key, Kind::Set) || staged.exists(&key, Kind::Map) => Err(ErrorReply::wrong_type()),
        None => Ok(Reply::Null),
    }
}

pub(super) fn get_many(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let mut replies = Vec::with_capacity(call.arguments.len());
    for name in call.arguments.rest(1) {
        replies.push(value(staged, &call.key_of(name)?)?.unwrap_or(Reply::Null));
    }
    Ok(Reply::Array(replies))
}

/// The register's value, or the counter's sum.
fn value(staged: &Staged<'_>, key: &KeyName) -> Result<Option<Reply>, ErrorReply> {
    if let Some(value) = staged.register(key) {
        return Ok(Some(value_reply(value)));
    }
    let amount = staged.counter(key).map_err(out_of_range)?;
    Ok(amount.map(|amount| shown_reply(Some(Shown::Amount(amount)))))
}

pub(super) fn set(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    if let Some(option) = call.arguments.get(3) {
        return Err(refused_option(option));
    }
    let key = call.key(1)?;
    replace(staged, &key, call.at(2));
    Ok(Reply::OK)
}

fn refused_option(option: &[u8]) -> ErrorReply {
    let (name, reason) = match option.to_ascii_uppercase().as_slice() {
        b"NX" => ("SET NX", Reason::Condition),
        b"XX" => ("SET XX", Reason::Condition),
        b"GET" => ("SET GET", Reason::Taking),
        b"EX" | b"PX" | b"EXAT" | b"PXAT" | b"KEEPTTL" => ("SET with an expiry", Reason::Expiry),
        _ => return ErrorReply::syntax(),
    };
    refusal(name, reason)
}

pub(super) fn set_many(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    if call.arguments.len().is_multiple_of(2) {
        return Err(ErrorReply::arity("MSET"));
    }
    let keys = call.arguments.rest(1).step_by(2).map(|name| call.key_of(name));
    let keys: Vec<KeyName> = keys.collect::<Result<_, _>>()?;
    for (key, value) in keys.iter().zip(call.arguments.rest(2).step_by(2)) {
        replace(staged, key, value);
    }
    Ok(Reply::OK)
}

/// Sets the register and removes every other type under the name.
fn replace(staged: &mut Staged<'_>, key: &KeyName, value: &[u8]) {
    let kinds = staged.kinds(key);
    for kind in DOOR_KINDS.into_iter().filter(|kind| *kind != Kind::Register) {
        if kinds.contains(kind) && staged.exists(key, kind) {
            staged.remove(key, kind);
        }
    }
    staged.set(key, Value::bytes(value));
}
