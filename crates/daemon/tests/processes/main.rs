//! Real daemons: child processes of the real binary on real disks, with relays between them that a test commands.
//!
//! Every scenario ends with `Cluster::assert_sound`: equal vectors and digests, an oracle that knows every acknowledged
//! write finds none missing and none invented, and no process needed more memory than its cap. All of them wait for
//! conditions with deadlines. No process outlives its test: dropped ones are killed, and if a test itself is killed, its
//! daemons end with it (`CRDT_END_WITH_PARENT`).
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod client;
mod cluster;
mod demonstration;
mod node;
mod oracle;
mod patience;
mod places;
mod relay;
mod scenarios;
mod settings;
mod tmpfs;
mod writers;
