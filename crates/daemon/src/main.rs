//! The binary `crdt-engine`. Everything is in the library, so that tests reach it too.

use std::process::ExitCode;

/// A fifth of what a small write cost with the allocator of the system went into it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, of which a node touches little: an idle one then keeps 15 MiB more, and one of
    // 100,000 keys 40 MiB. A kernel that refuses costs just that.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    daemon::main()
}
