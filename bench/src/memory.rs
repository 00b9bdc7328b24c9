//! Resident memory of this process, as the kernel counts it.
//!
//! Counting inside the allocator would need unsafe code and would miss what the allocator itself
//! wastes; a process of its own for each library makes the kernel's figure belong to that library.

use std::fs;
use std::io;

/// Anonymous resident bytes. The heap and the stack are anonymous; the program's own code is not,
/// so pages of code that a library touches for the first time do not count as its data.
///
/// `smaps_rollup` walks the page tables; `statm` and `status` are counters that the kernel updates
/// late, by up to some hundred kilobytes for each processor.
pub(crate) fn resident_bytes() -> io::Result<usize> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"))
        .and_then(|amount| amount.trim().strip_suffix(" kB"))
        .and_then(|kilobytes| kilobytes.parse::<usize>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other("the kernel's smaps_rollup has no line 'Anonymous: N kB'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_becomes_resident() {
        const MEBIBYTES_16: usize = 16 << 20;
        let before = resident_bytes().expect("Linux");
        let touched = vec![1_u8; MEBIBYTES_16];
        let after = resident_bytes().expect("Linux");
        assert!(after - before >= MEBIBYTES_16 / 2, "{before} {after} {}", touched.len());
    }
}
