//! How a target reads several things from one input.
//!
//! An input is a row of bytes and *blocks*: a length in two bytes, big endian, and that many bytes, or fewer
//! where the input ends. So every input is a script, and a damaged length only moves what comes behind it.

/// Takes a script apart.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// Reads from the start of `input`.
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// The next byte; `None` at the end.
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    /// The next block; `None` at the end.
    pub fn block(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?) << 8 | usize::from(self.byte()?);
        let (block, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        Some(block)
    }
}

/// Appends a block to a script.
///
/// # Panics
/// When the block is longer than two bytes can say.
pub fn push_block(script: &mut Vec<u8>, block: &[u8]) {
    let length = u16::try_from(block.len()).expect("a block is at most 65,535 bytes long");
    script.extend_from_slice(&length.to_be_bytes());
    script.extend_from_slice(block);
}
