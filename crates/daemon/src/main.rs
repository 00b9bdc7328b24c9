//! The binary `crdt-engine`. Everything is in the library, so that tests reach it too.

use std::process::ExitCode;

/// A fifth of what a small write cost with the allocator of the system went into it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemon::main()
}
