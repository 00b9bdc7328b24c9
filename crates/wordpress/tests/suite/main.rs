//! The crate against a real MariaDB with a real WordPress in it.
//!
//! Each test has a server of its own, on a copy of one data folder that is made once.

mod capture;
mod install;
mod requests;
mod server;
mod values;
