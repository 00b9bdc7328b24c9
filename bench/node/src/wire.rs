//! The least client there is, for what is measured: requests that are made before the clock runs, one write and as few
//! reads as the kernel needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::failure::Failure;

/// Longer than any answer of a busy server should take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Commands in one write of [`Wire::load`], whose answers fit into the buffers of a Unix socket.
const PIPELINE: usize = 500;
/// Bytes after which no further command is added to such a write.
const PIPELINE_BYTES_MAX: usize = 64 << 10;

/// One connection by RESP2.
pub(crate) struct Wire {
    who: String,
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    line: String,
}

/// Appends one command.
fn append(request: &mut Vec<u8>, words: &[&[u8]]) {
    // Infallible into memory.
    let _ = write!(request, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(request, "${}\r\n", word.len());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
}

/// One command in the form of the protocol.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut request = Vec::new();
    append(&mut request, words);
    request
}

impl Wire {
    pub(crate) fn open(who: &str, socket: &Path) -> Result<Self, Failure> {
        let failed = || Failure::io(format!("connect to {who}"));
        let writer = UnixStream::connect(socket).map_err(failed())?;
        writer.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed())?;
        writer.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(failed())?;
        let reader = BufReader::new(writer.try_clone().map_err(failed())?);
        Ok(Self { who: who.to_owned(), writer, reader, line: String::new() })
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(request).map_err(Failure::io(format!("write to {}", self.who)))
    }

    /// Reads one reply that must be `+OK`.
    pub(crate) fn expect_ok(&mut self) -> Result<(), Failure> {
        self.read_line()?;
        if self.line == "+OK\r\n" { Ok(()) } else { Err(self.unexpected("a write")) }
    }

    /// Reads one reply that must be a text or nothing, and gives the number in it; 0 for nothing.
    pub(crate) fn number(&mut self) -> Result<u64, Failure> {
        self.read_line()?;
        let length: i64 = match self.line.strip_prefix('$').and_then(|length| length.trim_end().parse().ok()) {
            Some(length) => length,
            None => return Err(self.unexpected("GET")),
        };
        if length < 0 {
            return Ok(0);
        }
        self.read_line()?;
        self.line.trim_end().parse().map_err(|_| self.unexpected("GET"))
    }

    /// Carries out all these commands, as fast as the server takes them. Each must be answered by OK or a number.
    pub(crate) fn load(&mut self, commands: impl Iterator<Item = Vec<u8>>) -> Result<(), Failure> {
        let (mut request, mut count) = (Vec::new(), 0);
        for command in commands {
            request.extend_from_slice(&command);
            count += 1;
            if count == PIPELINE || request.len() > PIPELINE_BYTES_MAX {
                self.flush(&mut request, &mut count)?;
            }
        }
        self.flush(&mut request, &mut count)
    }

    fn flush(&mut self, request: &mut Vec<u8>, count: &mut usize) -> Result<(), Failure> {
        self.send(request)?;
        for _ in 0..*count {
            self.read_line()?;
            if self.line != "+OK\r\n" && !self.line.starts_with(':') {
                return Err(self.unexpected("a command of a load"));
            }
        }
        request.clear();
        *count = 0;
        Ok(())
    }

    fn read_line(&mut self) -> Result<(), Failure> {
        /// Longer than any reply that is read here.
        const LINE_BYTES_MAX: u64 = 4_096;
        self.line.clear();
        let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX);
        let read = limited.read_line(&mut self.line).map_err(Failure::io(format!("read from {}", self.who)))?;
        if read == 0 { Err(self.unexpected("a command")) } else { Ok(()) }
    }

    fn unexpected(&self, asked: &str) -> Failure {
        Failure::Answer { who: self.who.clone(), asked: asked.to_owned(), answered: format!("{:?}", self.line) }
    }
}
