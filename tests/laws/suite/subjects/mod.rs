//! The real types, driven by intents: what a user wants, not which dots that takes.

mod counter;
mod intent;
mod map;
mod register;
mod row;
mod set;

pub(crate) use counter::{GCounterSubject, PnCounterSubject};
pub(crate) use intent::{CounterIntent, Input, LeafIntent, MapIntent, RegisterIntent, RowIntent, SetIntent};
pub(crate) use map::{MapSubject, act_on_leaf, observe, path_of};
pub(crate) use register::RegisterSubject;
pub(crate) use row::RowSubject;
pub(crate) use set::SetSubject;
