//! Checks the workspace against what its documents promise.
//!
//! | module | promise | written in |
//! |---|---|---|
//! | [`rooms`] | dependencies between our packages follow the table of rooms, downwards only | ARCHITECTURE.md |
//! | [`purity`] | pure rooms do no I/O, read no clock, draw no randomness, know no async | ARCHITECTURE.md |
//! | [`style`] | module names say something; a long file says why | ARCHITECTURE.md |
//! | [`ledger`] | every dependency from outside has its reason, and no reason outlives its dependency | docs/dependencies.md |
//! | [`data_types`] | the table of CRDT types says what the headers of their modules say | docs/types.md |
//!
//! Every check is a function from texts to a list of complaints, so that its own tests can show it bad
//! input. `tests/workspace.rs` runs all of them on the real workspace.

pub mod data_types;
pub mod ledger;
pub mod manifest;
pub mod markdown;
pub mod purity;
pub mod rooms;
pub mod source;
pub mod style;
