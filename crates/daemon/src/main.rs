//! The binary `crdt-engine`. Everything is in the library, so that tests reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main()
}
