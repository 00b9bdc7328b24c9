//! INCR, DECR, INCRBY, DECRBY: counters.

use crdt::Kind;

use super::{Invocation, out_of_range, present, summed};
use crate::error::ErrorReply;
use crate::reply::Reply;
use crate::staged::Staged;

pub(super) fn add(call: Invocation<'_>, amount: i64, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let key = call.key(1)?;
    let before = match staged.counter(&key).map_err(out_of_range)? {
        Some(sum) => Some(sum),
        None => {
            present(staged, &key, Kind::PnCounter)?;
            None
        }
    };
    let (sum, reply) = summed(before, amount)?;
    staged.increment(&key, amount.into(), sum);
    Ok(reply)
}

pub(super) fn add_amount(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    add(call, call.integer(2)?, staged)
}

pub(super) fn subtract_amount(call: Invocation<'_>, staged: &mut Staged<'_>) -> Result<Reply, ErrorReply> {
    let amount = call.integer(2)?.checked_neg().ok_or_else(|| ErrorReply::err("decrement would overflow"))?;
    add(call, amount, staged)
}
