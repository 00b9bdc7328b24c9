//! `crdt-engine`: one node on real disks and real sockets. This crate only wires; what a node does is decided in
//! `replica`, and what clients mean in `resp`.
//!
//! | module | what it answers |
//! |---|---|
//! | [`cli`], [`exit`] | which commands are there, and how do they end? |
//! | [`config`] | which settings are there, what are they, and where do they come from? |
//! | [`folder`], [`directory`] | what stands on disk beside the store? |
//! | [`init`], [`invite`], [`join`], [`join_host`] | how does a machine become a member? |
//! | [`keys`] | how do members change the key behind MACs? |
//! | [`admin`], [`backup`] | how is a node asked, copied and brought back? |
//! | [`codes`], [`explain`] | what does an error code mean? |
//! | [`log`], [`surroundings`] | what is written down, and what does the machine give? |
//! | [`engine`], [`door`], [`calls`], [`http`], [`notify`] | how does a node run? |
//! | [`demo`] | how does a whole cluster look? |

pub mod admin;
pub mod backup;
pub mod calls;
pub mod cli;
pub mod codes;
mod commands;
pub mod config;
pub mod demo;
pub mod directory;
pub mod door;
pub mod engine;
pub mod exit;
pub mod explain;
pub mod folder;
pub mod http;
pub mod init;
pub mod invite;
pub mod join;
pub mod join_host;
pub mod keys;
pub mod log;
pub mod notify;
pub mod surroundings;

use std::process::ExitCode;

/// Does what the command line says. Results go to standard output, everything else to standard error; the status is one
/// of [`exit::Exit`].
pub fn main() -> ExitCode {
    commands::main().into()
}
