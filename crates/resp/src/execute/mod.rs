//! Commands over keys: reads answer from the state, writes stage intents. An error stages nothing.

mod counters;
mod hashes;
mod keys;
mod sets;
mod strings;

use crdt::set::NAME_BYTES_MAX;
use crdt::{CounterOverflow, Kind, Name, Namespace, Value};

use crate::error::ErrorReply;
use crate::number::parse_integer;
use crate::reply::{Reply, double};
use crate::request::Arguments;
use crate::staged::{KeyName, Shown, Staged};
use crate::table::Verb;
use crate::view::DOOR_KINDS;

/// Carries out a command over keys; `None` for a verb that needs no keys.
pub(crate) fn execute(
    verb: Verb,
    arguments: Arguments<'_>,
    namespace: Namespace,
    staged: &mut Staged<'_>,
) -> Option<Result<Reply, ErrorReply>> {
    let call = Invocation { arguments, namespace };
    Some(match verb {
        Verb::Get => strings::get(call, staged),
        Verb::Set => strings::set(call, staged),
        Verb::MGet => strings::get_many(call, staged),
        Verb::MSet => strings::set_many(call, staged),
        Verb::Del => keys::remove(call, staged),
        Verb::Exists => keys::exists(call, staged),
        Verb::Type => keys::type_of(call, staged),
        Verb::Incr => counters::add(call, 1, staged),
        Verb::Decr => counters::add(call, -1, staged),
        Verb::IncrBy => counters::add_amount(call, staged),
        Verb::DecrBy => counters::subtract_amount(call, staged),
        Verb::HSet => hashes::set(call, staged),
        Verb::HGet => hashes::get(call, staged),
        Verb::HMGet => hashes::get_many(call, staged),
        Verb::HGetAll => hashes::get_all(call, staged),
        Verb::HDel => hashes::remove(call, staged),
        Verb::HIncrBy => hashes::increment(call, staged),
        Verb::SAdd => sets::add(call, staged),
        Verb::SRem => sets::remove(call, staged),
        Verb::SMembers => sets::members(call, staged),
        Verb::SIsMember => sets::is_member(call, staged),
        Verb::SCard => sets::cardinality(call, staged),
        _ => return None,
    })
}

/// A command with its arguments and the database of its connection.
#[derive(Clone, Copy)]
struct Invocation<'a> {
    arguments: Arguments<'a>,
    namespace: Namespace,
}

impl<'a> Invocation<'a> {
    fn at(&self, index: usize) -> &'a [u8] {
        self.arguments.at(index)
    }

    /// The key at this place.
    fn key(&self, index: usize) -> Result<KeyName, ErrorReply> {
        self.key_of(self.at(index))
    }

    fn key_of(&self, name: &[u8]) -> Result<KeyName, ErrorReply> {
        Ok(KeyName { namespace: self.namespace, name: bounded_name("key", name)? })
    }

    /// The whole number at this place.
    fn integer(&self, index: usize) -> Result<i64, ErrorReply> {
        parse_integer(self.at(index)).ok_or_else(ErrorReply::not_an_integer)
    }
}

/// A key, field or member, which are bounded alike.
fn bounded_name(what: &str, bytes: &[u8]) -> Result<Name, ErrorReply> {
    if bytes.len() > NAME_BYTES_MAX {
        let length = bytes.len();
        let message = format!("a {what} has at most {NAME_BYTES_MAX} bytes, this one has {length} (ERR_PATH)");
        return Err(ErrorReply::err(message));
    }
    Ok(bytes.into())
}

/// `Ok(true)` where the type is there, `Ok(false)` where nothing is.
fn present(staged: &Staged<'_>, key: &KeyName, kind: Kind) -> Result<bool, ErrorReply> {
    if staged.exists(key, kind) {
        return Ok(true);
    }
    let kinds = staged.kinds(key);
    let others = DOOR_KINDS.into_iter().filter(|other| *other != kind && kinds.contains(*other));
    let other = others.into_iter().any(|other| staged.exists(key, other));
    if other { Err(ErrorReply::wrong_type()) } else { Ok(false) }
}

/// The sum after an addition, which must fit into a reply.
fn summed(before: Option<i128>, amount: i64) -> Result<(i128, Reply), ErrorReply> {
    let sum = before.unwrap_or(0).checked_add(amount.into()).ok_or_else(ErrorReply::overflow)?;
    let told = i64::try_from(sum).map_err(|_| ErrorReply::overflow())?;
    Ok((sum, Reply::Integer(told)))
}

fn out_of_range(_: CounterOverflow) -> ErrorReply {
    ErrorReply::err("the counter's shares do not fit into 128 bits (ERR_COUNTER_OVERFLOW)")
}

fn shown_reply(shown: Option<Shown>) -> Reply {
    match shown {
        Some(Shown::Value(value)) => value_reply(value),
        Some(Shown::Amount(amount)) => Reply::bulk(amount.to_string()),
        None => Reply::Null,
    }
}

/// A value as a string: clients of Redis know no other.
fn value_reply(value: Value) -> Reply {
    match value {
        Value::Null => Reply::Null,
        Value::Bool(value) => Reply::bulk(if value { "1" } else { "0" }),
        Value::Integer(number) => Reply::bulk(number.get().to_string()),
        Value::Float(number) => Reply::bulk(double(number.get())),
        Value::Bytes(bytes) => Reply::Bulk(bytes),
    }
}
