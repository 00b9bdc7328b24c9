//! HSET, HGET, HMGET, HGETALL, HDEL, HINCRBY: maps whose fields are registers or counters.

use crdt::{Kind, Name, Value};

use super::{Invocation, bounded_name, out_of_range, present, shown_reply, summed};
use crate::error::ErrorReply;
use crate::reply::Reply;
use crate::staged::{FIELD_KINDS, Shown, Staged};

pub(super) fn set(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    if !call.arguments.len().is_multiple_of(2) {
        return Err(ErrorReply::arity("HSET"));
    }
    let key = call.key(1)?;
    let fields = call.arguments.rest(2).step_by(2).map(|field| bounded_name("field", field));
    let fields: Vec<Name> = fields.collect::<Result<_, _>>()?;
    present(staged, &key, Kind::Map)?;
    let mut new = 0;
    for (field, value) in fields.iter().zip(call.arguments.rest(3).step_by(2)) {
        let there = staged.field_kinds(&key, field);
        new += usize::from(!FIELD_KINDS.into_iter().any(|kind| there.contains(kind)));
        if there.contains(Kind::PnCounter) {
            staged.remove_field(&key, field, Kind::PnCounter);
        }
        staged.set_field(&key, field, Value::bytes(value));
    }
    Ok(Reply::count(new))
}

pub(super) fn get(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    let field = bounded_name("field", call.at(2))?;
    match staged.field(&key, &field).map_err(out_of_range)? {
        Some(shown) => Ok(shown_reply(Some(shown))),
        None => present(staged, &key, Kind::Map).map(|_| Reply::Null),
    }
}

pub(super) fn get_many(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    present(staged, &key, Kind::Map)?;
    let mut replies = Vec::with_capacity(call.arguments.len());
    for field in call.arguments.rest(2) {
        let field = bounded_name("field", field)?;
        replies.push(shown_reply(staged.field(&key, &field).map_err(out_of_range)?));
    }
    Ok(Reply::Array(replies))
}

pub(super) fn get_all(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    present(staged, &key, Kind::Map)?;
    let mut pairs = Vec::new();
    for field in staged.fields(&key) {
        let shown = staged.field(&key, &field).map_err(out_of_range)?;
        pairs.push((Reply::Bulk(field), shown_reply(shown)));
    }
    Ok(Reply::Map(pairs))
}

pub(super) fn remove(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    let fields = call.arguments.rest(2).map(|field| bounded_name("field", field));
    let fields: Vec<Name> = fields.collect::<Result<_, _>>()?;
    present(staged, &key, Kind::Map)?;
    let mut removed = 0;
    for field in &fields {
        let kinds = staged.field_kinds(&key, field);
        let there: Vec<Kind> = FIELD_KINDS.into_iter().filter(|kind| kinds.contains(*kind)).collect();
        removed += usize::from(!there.is_empty());
        there.into_iter().for_each(|kind| staged.remove_field(&key, field, kind));
    }
    Ok(Reply::count(removed))
}

pub(super) fn increment(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    let field = bounded_name("field", call.at(2))?;
    let amount = call.integer(3)?;
    present(staged, &key, Kind::Map)?;
    let before = match staged.leaf(&key, &field, Kind::PnCounter).map_err(out_of_range)? {
        Some(Shown::Amount(sum)) => Some(sum),
        _ if staged.field_kinds(&key, &field).contains(Kind::Register) => return Err(field_is_register()),
        _ => None,
    };
    let (sum, reply) = summed(before, amount)?;
    staged.increment_field(&key, &field, amount.into(), sum);
    Ok(reply)
}

fn field_is_register() -> ErrorReply {
    ErrorReply::new("WRONGTYPE", "the field holds a value of HSET, which two nodes cannot add to; HDEL it first")
}
