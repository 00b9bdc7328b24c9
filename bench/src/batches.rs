//! Encoded batches, one after the other in one piece of memory, and their way through a pipe.

use std::io::{self, Read, Write};

/// A list of byte strings without an allocation for each: a million small ones would make the heap
/// that the receiver works in differ from library to library.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Batches {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batches {
    /// Appends one batch.
    pub(crate) fn push(&mut self, batch: &[u8]) {
        self.bytes.extend_from_slice(batch);
        self.ends.push(self.bytes.len());
    }

    /// The batches in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// Bytes of all batches, without any framing.
    pub(crate) fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// Sends the number of batches, then each with its length before it.
    pub(crate) fn send(&self, pipe: &mut impl Write) -> io::Result<()> {
        send_number(pipe, self.ends.len())?;
        for batch in self.iter() {
            send_number(pipe, batch.len())?;
            pipe.write_all(batch)?;
        }
        Ok(())
    }

    /// Takes what `send` sent.
    pub(crate) fn receive(pipe: &mut impl Read) -> io::Result<Self> {
        let mut batches = Self::default();
        let mut batch = Vec::new();
        for _ in 0..receive_number(pipe)? {
            receive_batch(pipe, &mut batch)?;
            batches.push(&batch);
        }
        Ok(batches)
    }
}

/// Takes the number of batches or the length of one.
pub(crate) fn receive_number(pipe: &mut impl Read) -> io::Result<usize> {
    let mut bytes = [0; 8];
    pipe.read_exact(&mut bytes)?;
    usize::try_from(u64::from_le_bytes(bytes)).map_err(io::Error::other)
}

/// Takes one batch into a buffer that the caller reuses.
pub(crate) fn receive_batch(pipe: &mut impl Read, batch: &mut Vec<u8>) -> io::Result<()> {
    let length = receive_number(pipe)?;
    batch.resize(length, 0);
    pipe.read_exact(batch)
}

fn send_number(pipe: &mut impl Write, number: usize) -> io::Result<()> {
    pipe.write_all(&(number as u64).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_out_of_the_pipe_as_they_went_in() {
        let mut batches = Batches::default();
        for batch in [b"one".as_slice(), b"", b"three"] {
            batches.push(batch);
        }
        let mut pipe = Vec::new();
        batches.send(&mut pipe).expect("a vector takes everything");
        assert_eq!(Batches::receive(&mut pipe.as_slice()).expect("whole"), batches);
        assert_eq!(batches.iter().collect::<Vec<_>>(), [b"one".as_slice(), b"", b"three"]);
        assert_eq!(batches.byte_count(), 8);
    }
}
