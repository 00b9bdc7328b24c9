//! The local door's sockets: a Unix socket, and TCP on the loopback interface where it is configured.
//!
//! The hot thread does this I/O itself, as Redis does, so a command costs no message between threads: one read takes all
//! that a client has sent, one write hands it all that it may be told. What a session holds is bounded by
//! [`resp::Limits`]; who does not take its replies is read no more, and after a while cut off.

mod connection;
mod listen;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use crdt::BatchId;
use mio::event::Event;
use mio::{Interest, Registry, Token};
use replica::{CommitError, Intent};
use resp::{Call, ErrorReply, Limits, Password, Reply, Session, SessionConfig, Ticket, View};

use self::connection::{Connection, Outcome, Service};
use self::listen::Listener;
use crate::log::Log;

pub(crate) use self::connection::ClientId;
pub use self::listen::DoorError;

/// Tokens below belong to the poll's other sources.
pub(crate) const TOKEN_FIRST: usize = 1;
/// Tokens of listening sockets; clients come behind them.
const LISTENERS_MAX: usize = 2;
/// Bytes read from one client at a time: a pipeline of hundreds of small commands. More would let one client hold up
/// the others, less would cost system calls.
const READ_BYTES: usize = 64 << 10;
/// Clients let in from one socket a turn; those behind them come in the next.
const ACCEPTS_MAX: usize = 64;
/// Pause after the system refused a client, as it does when no file descriptor is left.
const ACCEPT_PAUSE_MS: u64 = 500;
/// A client that takes nothing of what waits for it for this long is cut off. Redis waits a minute too where it waits.
const STUCK_MS_MAX: u64 = 60_000;

/// Where the door is, and for how many.
#[derive(Clone, Debug)]
pub struct DoorParts {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Its file mode: who may write to it may connect.
    pub socket_mode: u32,
    /// TCP with the password that its clients must say; port 0 takes a free one.
    pub tcp: Option<(SocketAddr, Password)>,
    /// Clients at a time, at least 1. Each holds up to [`Limits::input_bytes_max`] and [`Limits::output_bytes_max`].
    pub connections_max: usize,
    /// Bytes that all clients hold together ([`Session::held_bytes`]): above it those who hold most are cut off. One turn
    /// of one client may go beyond it for that moment.
    pub buffers_bytes_max: usize,
    /// Bounds of one client.
    pub limits: Limits,
}

/// Who carries out what clients ask for.
pub(crate) trait Host {
    /// What commands read.
    fn view(&self) -> &dyn View;

    /// True while nothing more is to be taken.
    fn is_congested(&self) -> bool;

    /// Commits; [`Door::acknowledge`] follows when it is durable.
    fn commit(&mut self, from: ClientId, intents: &[Intent]) -> Result<BatchId, CommitError>;

    /// Carries out a call; `None` when the answer comes later, by [`Door::reply`].
    fn call(
        &mut self,
        from: ClientId,
        ticket: Ticket,
        call: Call,
        door: &DoorFigures,
    ) -> Option<Result<Reply, ErrorReply>>;
}

/// What has happened at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DoorFigures {
    pub(crate) clients: u64,
    pub(crate) clients_let_in: u64,
    pub(crate) refused_full: u64,
    pub(crate) cut_slow: u64,
    pub(crate) cut_memory: u64,
    /// Bytes that clients hold now.
    pub(crate) held_bytes: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

/// The open door.
pub(crate) struct Door {
    registry: Registry,
    listeners: Vec<Listener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Free from the next turn on: an event of this turn may still name them.
    freed: Vec<usize>,
    ready: VecDeque<usize>,
    parked: Vec<usize>,
    /// Clients that went since this was last asked.
    gone: Vec<ClientId>,
    buffer: Box<[u8]>,
    connections_max: usize,
    buffers_bytes_max: u64,
    last_number: u64,
    accept_again_ms: Option<u64>,
    figures: DoorFigures,
    log: Log,
}

impl Door {
    /// Listens. Clients that come before the first turn wait.
    ///
    /// # Errors
    /// [`DoorError`]; nothing is left behind then.
    pub(crate) fn open(parts: DoorParts, version: &str, registry: Registry, log: Log) -> Result<Self, DoorError> {
        let config = SessionConfig { limits: parts.limits, password: None, server_version: version.to_owned() };
        let mut listeners = vec![Listener::unix(&parts.socket, parts.socket_mode, config.clone())?];
        if let Some((address, password)) = parts.tcp {
            listeners.push(Listener::tcp(address, SessionConfig { password: Some(password), ..config })?);
        }
        for (place, listener) in listeners.iter_mut().enumerate() {
            let failed = |error| DoorError::Bind { place: parts.socket.display().to_string(), error };
            listener.register(&registry, Token(TOKEN_FIRST + place)).map_err(failed)?;
        }
        Ok(Self {
            registry,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            freed: Vec::new(),
            ready: VecDeque::new(),
            parked: Vec::new(),
            gone: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            connections_max: parts.connections_max.max(1),
            buffers_bytes_max: parts.buffers_bytes_max as u64,
            last_number: 0,
            accept_again_ms: None,
            figures: DoorFigures::default(),
            log,
        })
    }

    /// The address of TCP, if it is open.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        self.listeners.iter().find_map(Listener::tcp_address)
    }

    /// What the poll told, of any token from [`TOKEN_FIRST`] on.
    pub(crate) fn take_event(&mut self, event: &Event) {
        let place = event.token().0.saturating_sub(TOKEN_FIRST);
        match place.checked_sub(LISTENERS_MAX) {
            None => {
                if let Some(listener) = self.listeners.get_mut(place) {
                    listener.is_ready = true;
                }
            }
            Some(slot) => {
                if let Some(connection) = self.connection(slot) {
                    connection.take_event(event);
                    self.queue(slot);
                }
            }
        }
    }

    /// Lets in who waits, and serves everybody who has something to be served with, once.
    pub(crate) fn turn(&mut self, host: &mut impl Host, now_ms: u64) {
        self.free.append(&mut self.freed);
        if self.listeners.iter().any(|listener| listener.is_ready) {
            self.accept(now_ms);
        }
        if !self.parked.is_empty() && !host.is_congested() {
            for slot in std::mem::take(&mut self.parked) {
                if let Some(connection) = self.connection(slot) {
                    connection.is_parked = false;
                    self.queue(slot);
                }
            }
        }
        // Who is put into the queue while this runs has its turn in the next.
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { break };
            self.serve(slot, host, now_ms);
        }
    }

    fn serve(&mut self, slot: usize, host: &mut impl Host, now_ms: u64) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        connection.is_queued = false;
        let mut service =
            Service { host, registry: &self.registry, buffer: &mut self.buffer, figures: &mut self.figures, now_ms };
        let outcome = connection.serve(&mut service);
        let (before, now) = connection.count_held();
        self.figures.held_bytes = self.figures.held_bytes - before + now;
        match outcome {
            Outcome::Waits => {}
            Outcome::Again => self.queue(slot),
            Outcome::Parked if connection.is_parked => {}
            Outcome::Parked => {
                connection.is_parked = true;
                self.parked.push(slot);
            }
            Outcome::Over => self.remove(slot),
        }
        while self.figures.held_bytes > self.buffers_bytes_max && self.cut_largest() {}
    }

    /// Cuts off who holds most. Not reading from them would not do: what they sent in part would stay, and the others, who
    /// ask for little, would wait for them without an end. False when nobody holds anything.
    fn cut_largest(&mut self) -> bool {
        let held = |(slot, place): (usize, &Option<Connection>)| Some((place.as_ref()?.held_bytes(), slot));
        let largest = self.connections.iter().enumerate().filter_map(held).max();
        let Some((bytes, slot)) = largest.filter(|(bytes, _)| *bytes > 0) else { return false };
        self.figures.cut_memory += 1;
        let fields: [(&str, &dyn std::fmt::Display); 2] = [("bytes", &bytes), ("bound", &self.buffers_bytes_max)];
        self.log.warn("ERR_DOOR_BUFFERS", "clients held too much together; the one with the most was cut off", &fields);
        if let Some(connection) = self.connection(slot) {
            connection.say_last(b"-ERR all clients together hold too much, and this one most (ERR_DOOR_BUFFERS)\r\n");
        }
        self.remove(slot);
        true
    }

    /// True when a further turn finds something to do without any event.
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.listeners.iter().any(|listener| listener.is_ready)
    }

    /// The batch of a client is durable; it is told in the next turn.
    pub(crate) fn acknowledge(&mut self, client: ClientId, batch: BatchId) {
        if let Some(connection) = self.client(client)
            && connection.answered().acknowledge(batch)
        {
            self.queue(client.slot);
        }
    }

    /// A call of a client is answered; it is told in the next turn. Who has gone is not.
    pub(crate) fn reply(&mut self, client: ClientId, ticket: Ticket, result: Result<Reply, ErrorReply>) {
        if let Some(connection) = self.client(client) {
            connection.answered().reply(ticket, result);
            self.queue(client.slot);
        }
    }

    /// The store failed: everybody who waits for a write is told.
    pub(crate) fn fail_writes(&mut self) {
        for slot in 0..self.connections.len() {
            if let Some(connection) = self.connection(slot) {
                connection.answered().fail_writes();
                self.queue(slot);
            }
        }
    }

    /// Lets nobody in any more, takes no further request, and ends each connection when all is said.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
        self.accept_again_ms = None;
        for slot in 0..self.connections.len() {
            if let Some(connection) = self.connection(slot) {
                connection.close();
                self.queue(slot);
            }
        }
    }

    /// True when nobody is connected.
    pub(crate) fn is_empty(&self) -> bool {
        self.figures.clients == 0
    }

    /// Clients that went since this was last asked.
    pub(crate) fn take_gone(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.gone)
    }

    /// What has happened so far.
    pub(crate) fn figures(&self) -> DoorFigures {
        self.figures
    }

    /// Once a second or so: cuts off who takes nothing, and looks again for who could not be let in.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        if self.accept_again_ms.is_some_and(|at| at <= now_ms) {
            self.accept_again_ms = None;
            self.listeners.iter_mut().for_each(|listener| listener.is_ready = true);
        }
        for slot in 0..self.connections.len() {
            let stuck_ms = self.connection(slot).map_or(0, |connection| connection.stuck_ms(now_ms));
            if stuck_ms > STUCK_MS_MAX {
                self.figures.cut_slow += 1;
                let message = "a client took none of its replies for a minute, and was cut off";
                self.log.warn("ERR_DOOR_SLOW_CLIENT", message, &[("milliseconds", &stuck_ms)]);
                self.remove(slot);
            } else if self.connection(slot).map_or(0, |connection| connection.deserted_ms(now_ms)) > STUCK_MS_MAX {
                self.remove(slot);
            }
        }
    }

    fn accept(&mut self, now_ms: u64) {
        for place in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_MAX {
                let Some(listener) = self.listeners.get_mut(place).filter(|listener| listener.is_ready) else { break };
                match listener.accept() {
                    Ok(stream) => {
                        let config = listener.config.clone();
                        self.let_in(stream, config);
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => listener.is_ready = false,
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                        _ => {
                            listener.is_ready = false;
                            self.accept_again_ms = Some(now_ms + ACCEPT_PAUSE_MS);
                            let message = "a client could not be let in; it is tried again";
                            self.log.warn("ERR_DOOR_ACCEPT", message, &[("error", &error)]);
                        }
                    },
                }
            }
        }
    }

    fn let_in(&mut self, mut stream: connection::Stream, config: SessionConfig) {
        if self.figures.clients >= self.connections_max as u64 {
            self.figures.refused_full += 1;
            // Redis' words, which clients know. Who does not read them sees that the connection ends.
            let _ = stream.write(b"-ERR max number of clients reached (ERR_DOOR_FULL)\r\n");
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let token = Token(TOKEN_FIRST + LISTENERS_MAX + slot);
        if let Err(error) = self.registry.register(&mut stream, token, Interest::READABLE) {
            self.free.push(slot);
            return self.log.warn("ERR_DOOR_ACCEPT", "a client could not be watched", &[("error", &error)]);
        }
        self.last_number += 1;
        self.figures.clients += 1;
        self.figures.clients_let_in += 1;
        let id = ClientId { slot, number: self.last_number };
        let session = Session::new(self.last_number, config);
        if let Some(place) = self.connections.get_mut(slot) {
            *place = Some(Connection::new(id, token, stream, session));
        }
        // What it sent already was there before it was watched.
        self.queue(slot);
    }

    fn remove(&mut self, slot: usize) {
        let Some(mut connection) = self.connections.get_mut(slot).and_then(Option::take) else { return };
        // The socket closes right after, which ends the watch in any case.
        let _ = self.registry.deregister(connection.stream());
        self.figures.held_bytes -= connection.held_bytes();
        self.gone.push(connection.id());
        self.freed.push(slot);
        self.figures.clients -= 1;
    }

    fn queue(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut)
            && !connection.is_queued
        {
            connection.is_queued = true;
            self.ready.push_back(slot);
        }
    }

    fn connection(&mut self, slot: usize) -> Option<&mut Connection> {
        self.connections.get_mut(slot).and_then(Option::as_mut)
    }

    /// The client of this name, unless it has gone.
    fn client(&mut self, client: ClientId) -> Option<&mut Connection> {
        self.connection(client.slot).filter(|connection| connection.id() == client)
    }
}

#[cfg(test)]
mod tests;
