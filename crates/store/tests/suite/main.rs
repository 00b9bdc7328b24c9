//! One conformance suite for every store, and what each medium can do wrong.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod conformance;
mod copy;
mod crash;
mod damage;
mod full_disk;
mod ground;
mod redis_server;
mod service;
mod tls;
