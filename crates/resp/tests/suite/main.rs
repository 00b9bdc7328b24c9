//! The door from outside: frames, replies, and sessions over a real node.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod documents;
mod node;
mod pipelines;
mod replies;
mod requests;
mod sessions;
