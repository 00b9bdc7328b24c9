//! One client: its socket, its session, and what is to be done for it next.

use std::io::{self, Read, Write};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use resp::{Session, Step};

use super::{DoorFigures, Host};

/// A client's socket.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Names a client; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClientId {
    pub(super) slot: usize,
    pub(super) number: u64,
}

/// What a client needs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// An event, or an answer.
    Waits,
    /// Another turn: more of it can be read.
    Again,
    /// Room in the store.
    Parked,
    /// Nothing any more.
    Over,
}

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Blocked,
    Congested,
    /// It ends once its output is written.
    Ending,
}

/// What the clients share while one of them is served.
pub(super) struct Service<'a, H> {
    pub(super) host: &'a mut H,
    pub(super) registry: &'a Registry,
    pub(super) buffer: &'a mut [u8],
    pub(super) figures: &'a mut DoorFigures,
    pub(super) now_ms: u64,
}

/// One client.
///
/// SUBTLE: its socket is watched for reading alone. On a Unix socket every reply that a client takes makes the socket
/// writable anew, so watching for that would wake this thread once more for each command. Only who cannot be written to
/// is watched for it until it can.
pub(super) struct Connection {
    id: ClientId,
    token: Token,
    stream: Stream,
    session: Session,
    /// There may be bytes to read: the poll tells each arrival once.
    is_readable: bool,
    /// The client writes no more; what it wrote is still to be read.
    is_read_closed: bool,
    /// All that the client wrote was read.
    has_ended: bool,
    is_writable: bool,
    is_watched_for_writing: bool,
    /// The session has something new to look at.
    must_poll: bool,
    state: State,
    /// It is in the list of those to be served.
    pub(super) is_queued: bool,
    /// It is in the list of those that wait for room in the store.
    pub(super) is_parked: bool,
    /// Both ways are closed: no reply reaches it.
    is_gone: bool,
    /// Since when it has been waiting for an answer although it writes no more.
    deserted_since_ms: Option<u64>,
    /// What it held when that was last counted.
    held_bytes: u64,
    /// When the client last took something of what waits for it; `None` when nothing waits.
    stuck_since_ms: Option<u64>,
}

impl Connection {
    pub(super) fn new(id: ClientId, token: Token, stream: Stream, session: Session) -> Self {
        Self {
            id,
            token,
            stream,
            session,
            is_readable: true,
            is_read_closed: false,
            has_ended: false,
            is_writable: true,
            is_watched_for_writing: false,
            must_poll: false,
            state: State::Idle,
            is_queued: false,
            is_parked: false,
            is_gone: false,
            deserted_since_ms: None,
            held_bytes: 0,
            stuck_since_ms: None,
        }
    }

    pub(super) fn id(&self) -> ClientId {
        self.id
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The session, which gets an answer, so that it may go on.
    pub(super) fn answered(&mut self) -> &mut Session {
        self.must_poll |= self.state != State::Idle;
        &mut self.session
    }

    /// Bytes that it held when that was last counted.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Counts what it holds; before, and now.
    pub(super) fn count_held(&mut self) -> (u64, u64) {
        let now = self.session.held_bytes() as u64;
        (std::mem::replace(&mut self.held_bytes, now), now)
    }

    /// Says why it ends, where nobody can take that for a reply to a request that was carried out.
    pub(super) fn say_last(&mut self, reply: &[u8]) {
        if !self.session.owes_reply() {
            // Who does not read it sees that the connection ends.
            let _ = self.stream.write(reply);
        }
    }

    /// Takes no further request.
    pub(super) fn close(&mut self) {
        self.session.close();
        self.must_poll = true;
    }

    /// What the poll told.
    pub(super) fn take_event(&mut self, event: &mio::event::Event) {
        self.is_read_closed |= event.is_read_closed();
        self.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.is_writable |= event.is_writable() || event.is_write_closed();
        self.is_gone |= event.is_write_closed();
    }

    /// How long it has been waiting for the answer to a call although it writes no more, in milliseconds. Over TCP that is
    /// all there is to see of a client that has gone.
    pub(super) fn deserted_ms(&mut self, now_ms: u64) -> u64 {
        if !self.is_read_closed || !self.session.awaits_answer() {
            self.deserted_since_ms = None;
            return 0;
        }
        now_ms.saturating_sub(*self.deserted_since_ms.get_or_insert(now_ms))
    }

    /// How long replies have waited for the client to take any, in milliseconds.
    pub(super) fn stuck_ms(&self, now_ms: u64) -> u64 {
        self.stuck_since_ms.map_or(0, |since| now_ms.saturating_sub(since))
    }

    /// Reads once, carries out what is whole, writes what may leave.
    pub(super) fn serve<H: Host>(&mut self, service: &mut Service<'_, H>) -> Outcome {
        if self.may_read() && !service.host.is_congested() && self.read(service).is_err() {
            return Outcome::Over;
        }
        loop {
            if self.must_poll {
                self.advance(service);
            }
            let written = match self.write(service) {
                Ok(written) => written,
                Err(_) => return Outcome::Over,
            };
            match self.state {
                State::Ending if self.session.output().is_empty() => return Outcome::Over,
                // What was written may have been what it was blocked by.
                State::Blocked if written > 0 => self.must_poll = true,
                // It would keep its place until the answer, which may never come (CRDT.WAIT without a bound).
                State::Blocked if self.is_gone && self.session.awaits_answer() => return Outcome::Over,
                State::Congested => return Outcome::Parked,
                State::Idle if self.may_read() => {
                    return if service.host.is_congested() { Outcome::Parked } else { Outcome::Again };
                }
                State::Idle | State::Blocked | State::Ending => return Outcome::Waits,
            }
        }
    }

    /// A client that is blocked is not read: it is to feel that it sends more than it takes.
    fn may_read(&self) -> bool {
        self.is_readable && !self.has_ended && self.state == State::Idle && self.session.room() > 0
    }

    fn read<H>(&mut self, service: &mut Service<'_, H>) -> io::Result<()> {
        let room = self.session.room().min(service.buffer.len());
        let buffer = service.buffer.get_mut(..room).unwrap_or_default();
        match self.stream.read(buffer) {
            Ok(0) => {
                self.has_ended = true;
                self.must_poll = true;
            }
            Ok(bytes) => {
                service.figures.bytes_read += bytes as u64;
                self.session.feed(buffer.get(..bytes).unwrap_or_default());
                self.must_poll = true;
                // Less than there was room for is all there was, and the next arrival is told anew. Not so the end,
                // which was told already.
                self.is_readable = bytes == room || self.is_read_closed;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => self.is_readable = false,
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        Ok(())
    }

    /// Lets the session go on as far as it can.
    fn advance<H: Host>(&mut self, service: &mut Service<'_, H>) {
        self.must_poll = false;
        self.state = loop {
            if service.host.is_congested() {
                self.must_poll = true;
                break State::Congested;
            }
            match self.session.poll(service.host.view()) {
                Step::Commit { ticket, intents } => {
                    let result = service.host.commit(self.id, &intents);
                    self.session.committed(ticket, result);
                }
                Step::Call { ticket, call } => {
                    if let Some(result) = service.host.call(self.id, ticket, call, service.figures) {
                        self.session.reply(ticket, result);
                    }
                }
                // Everything that it had asked for was begun, and it asks for nothing more.
                Step::Idle if self.has_ended => self.session.close(),
                Step::Idle => break State::Idle,
                Step::Blocked => break State::Blocked,
                Step::Close => break State::Ending,
            }
        };
    }

    /// Writes what may leave; returns how many bytes.
    fn write<H>(&mut self, service: &mut Service<'_, H>) -> io::Result<usize> {
        let mut written = 0;
        while self.is_writable && !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.session.consume(bytes);
                    written += bytes;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.is_writable = false;
                        self.watch(service.registry, true)?;
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        service.figures.bytes_written += written as u64;
        if self.session.output().is_empty() {
            self.stuck_since_ms = None;
            self.watch(service.registry, false)?;
        } else if written > 0 || self.stuck_since_ms.is_none() {
            self.stuck_since_ms = Some(service.now_ms);
        }
        Ok(written)
    }

    /// Watches for room to write, or no longer.
    fn watch(&mut self, registry: &Registry, for_writing: bool) -> io::Result<()> {
        if self.is_watched_for_writing != for_writing {
            self.is_watched_for_writing = for_writing;
            let interest = if for_writing { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            registry.reregister(&mut self.stream, self.token, interest)?;
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.register(registry, token, interests),
            Self::Tcp(stream) => stream.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.reregister(registry, token, interests),
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.deregister(registry),
            Self::Tcp(stream) => stream.deregister(registry),
        }
    }
}
