//! What can happen next.

use std::rc::Rc;

use replica::host::{SqlRequest, SqlResponse};
use replica::{RecordKey, Ticket};

use crate::database::SessionId;
use crate::network::PartitionId;
use crate::swarm::Disturbance;

/// A planned event.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A message arrives. Without a connection number it arrives whichever connection stands.
    Deliver { from: usize, to: usize, connection: Option<u32>, bytes: Rc<[u8]> },
    /// Two machines may find each other.
    Connect { one: usize, other: usize },
    /// A machine notices that a peer does not answer.
    LinkLost { at: usize, peer: usize, connection: u32 },
    /// A sync ends.
    SyncDone { node: usize, process: u32 },
    /// A write failed.
    PersistFailed { node: usize, process: u32, ticket: Ticket },
    /// A request of the engine reaches its database.
    Request { node: usize, process: u32, request: SqlRequest },
    /// The database's answer reaches the engine.
    Response { node: usize, process: u32, response: SqlResponse },
    /// A record was read.
    Loaded { node: usize, process: u32, key: RecordKey },
    /// A node's timer.
    Timer { node: usize, process: u32 },
    /// The site tells the engine that it has written.
    Notify { node: usize },
    /// A session has waited long enough.
    LockTimeout { node: usize, session: SessionId, wait: u64 },
    /// A client of a database goes on.
    Client { client: usize, turn: u32 },
    /// A client of a door comes.
    Door { node: usize },
    /// A planned fault begins.
    Disturb { disturbance: Disturbance, again_us: u64 },
    /// A fault ends.
    Undo(Undo),
    /// A process is started.
    Start { node: usize },
    /// The operator hands over all epoch records.
    HandEpochs { node: usize },
}

/// The end of a fault.
#[derive(Clone, Debug)]
pub(super) enum Undo {
    /// A cut is over. A rolling one moves on instead, so many times.
    Heal { id: PartitionId, rolls: usize },
    /// Bandwidth is back.
    Speed { node: usize },
    /// Space is free again; the process is started anew.
    Space { node: usize },
    /// The disk stops lying, by losing power.
    Lie { node: usize },
    /// The clock is set right.
    Clock { node: usize },
    /// The clock runs on.
    Thaw { node: usize },
    /// A backup is put back.
    Restore { node: usize, backup: usize },
    /// The process is started with the right version.
    Version { node: usize },
    /// The database can take the value after all.
    Poison { node: usize },
}
