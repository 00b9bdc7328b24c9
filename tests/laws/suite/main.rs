//! Laws, models, published bugs and golden bytes of every data type.
//!
//! | module | question |
//! |---|---|
//! | [`laws`] | is every type a semilattice on which both ways, changes and joins, lead to one state? |
//! | [`models`] | does it show and journal what its rules say, by a naive model that shares no code with it? |
//! | [`keyspace`] | does the same hold for many objects, through encoded batches? |
//! | [`counter_examples`] | runs that once failed, shrunk and named |
//! | [`published_bugs`] | bugs that other systems really had |
//! | [`golden`] | have the formats changed? |
//! | `mutants` | with the feature of that name: do the above notice deliberate bugs? |
//!
//! `harness` runs replicas, `script` tells runs step by step, `subjects` drives the real types by intents, `naive` holds the models. All runs
//! are drawn from fixed seeds; `CRDT_LAWS_FACTOR=100` runs a hundred times as many, from fresh seeds.

mod counter_examples;
mod golden;
mod harness;
mod keyspace;
mod keyspace_nodes;
mod laws;
mod models;
#[cfg(feature = "mutants")]
mod mutants;
mod naive;
mod picture;
mod published_bugs;
mod script;
mod subjects;
