//! A model of MariaDB: transactions with snapshot reads and row locks, triggers that fill an outbox, and the
//! answers to the engine's requests.
//!
//! | property | as in MariaDB |
//! |---|---|
//! | plain reads of a site's transaction | REPEATABLE READ: the snapshot of its first read, and its own writes |
//! | writes | lock the row until the end of the transaction, and see what is committed under the lock |
//! | the engine's transaction | READ COMMITTED; a missing row keeps no lock, so an INSERT can meet 1062 |
//! | outbox ids | given at the statement, visible at the commit: out of order, with holes |
//! | a lock cycle | 1213 for the session that closes it |
//! | a wait that is too long | 1205; a row changed since the snapshot: 1020, where that is switched on |

mod engine;
mod locks;
mod session;
mod statement;
mod store;
mod tables;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use replica::host::{OutboxEntry, RowId, RowImage, RowOperation, SqlError};

use locks::{Locks, Request};
pub use session::{Committed, RowChange, SessionId};
use session::{Pending, Session, Transaction};
pub use statement::{Outcome, Statement};
pub use store::{ID_INCREMENT, Image, Store};
pub use tables::{Columns, Tables, column};

/// One database server.
#[derive(Clone, Debug)]
pub struct Database {
    store: Store,
    locks: Locks,
    sessions: BTreeMap<SessionId, Session>,
    last_session: u32,
    last_wait: u64,
    /// The server's clock in milliseconds since 1970.
    wall_ms: u64,
    /// Residue class of the ids that this server gives.
    slot: u8,
    /// True when writers' transactions fail with 1020 on rows changed since their snapshot.
    snapshot_isolation: bool,
    runnable: VecDeque<SessionId>,
    completions: Vec<(SessionId, Outcome)>,
    waits: Vec<(SessionId, u64)>,
    commits: Vec<Committed>,
    misuse: Vec<String>,
}

impl Database {
    /// An empty database.
    pub fn new(tables: Rc<Tables>, slot: u8, snapshot_isolation: bool) -> Self {
        Self {
            store: Store::new(tables),
            locks: Locks::default(),
            sessions: BTreeMap::new(),
            last_session: 0,
            last_wait: 0,
            wall_ms: 0,
            slot,
            snapshot_isolation,
            runnable: VecDeque::new(),
            completions: Vec::new(),
            waits: Vec::new(),
            commits: Vec::new(),
            misuse: Vec::new(),
        }
    }

    /// What is committed.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Sets the server's clock; to be called before anything that runs statements.
    pub fn set_clock(&mut self, wall_ms: u64) {
        self.wall_ms = wall_ms;
    }

    /// Opens a connection.
    pub fn connect(&mut self) -> SessionId {
        self.last_session += 1;
        let id = SessionId(self.last_session);
        self.sessions.insert(id, Session::default());
        id
    }

    /// A connection ends: its transaction is rolled back.
    pub fn disconnect(&mut self, session: SessionId) {
        self.end_transaction(session);
        self.sessions.remove(&session);
        self.run();
    }

    /// True while the connection stands.
    pub fn is_connected(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The server restarts: every connection is lost and every open transaction rolled back.
    pub fn restart(&mut self) {
        self.sessions.clear();
        self.locks = Locks::default();
        self.runnable.clear();
        self.completions.clear();
        self.waits.clear();
    }

    /// Puts a backup in place of everything committed, and restarts.
    pub fn restore(&mut self, store: Store) {
        self.restart();
        self.store = store;
    }

    /// Gives a session a statement. It completes at once or waits for locks; see [`Database::take_completions`].
    pub fn submit(&mut self, session: SessionId, statement: Statement) {
        let rows = statement.rows_to_lock().into();
        let Some(entry) = self.sessions.get_mut(&session) else {
            self.completions.push((session, Outcome::Failed(SqlError::ConnectionLost)));
            return;
        };
        entry.pending = Some(Pending { statement, rows, wait: 0 });
        self.runnable.push_back(session);
        self.run();
    }

    /// A wait has taken too long: 1205, if it still is the same one.
    pub fn expire(&mut self, session: SessionId, wait: u64) -> bool {
        let pending = self.sessions.get(&session).and_then(|session| session.pending.as_ref());
        let expired = pending.is_some_and(|pending| pending.wait == wait) && self.locks.is_waiting(session);
        if expired {
            self.fail(session, SqlError::LockTimeout);
            self.run();
        }
        expired
    }

    /// Rolls a session back with an error that was injected.
    pub fn fail_injected(&mut self, session: SessionId, error: SqlError) {
        self.fail(session, error);
        self.run();
    }

    /// What statements came to since the last call, in order.
    pub fn take_completions(&mut self) -> Vec<(SessionId, Outcome)> {
        std::mem::take(&mut self.completions)
    }

    /// Drops what the last statement of one session came to.
    pub fn forget_completions(&mut self, session: SessionId) {
        self.completions.retain(|(completed, _)| *completed != session);
    }

    /// Waits that began since the last call: session and number of the wait.
    pub fn take_waits(&mut self) -> Vec<(SessionId, u64)> {
        std::mem::take(&mut self.waits)
    }

    /// What was committed since the last call, in order.
    pub fn take_commits(&mut self) -> Vec<Committed> {
        std::mem::take(&mut self.commits)
    }

    /// What the engine did that no database would have taken from it: bugs.
    pub fn take_misuse(&mut self) -> Vec<String> {
        std::mem::take(&mut self.misuse)
    }

    /// An id for a new row of a table.
    pub fn next_id(&mut self, namespace: crdt::Namespace, table: &str) -> u64 {
        self.store.next_id(namespace, table, self.slot)
    }

    fn run(&mut self) {
        while let Some(session) = self.runnable.pop_front() {
            self.step(session);
        }
    }

    /// Goes on with a session's statement until it completes or waits.
    fn step(&mut self, session: SessionId) {
        while let Some(row) = self.next_lock(session) {
            match self.locks.request(session, &row) {
                Request::Granted if self.changed_since_snapshot(session, &row) => {
                    return self.fail(session, SqlError::RecordChanged);
                }
                Request::Granted => self.granted(session, &row),
                Request::Deadlock => return self.fail(session, SqlError::Deadlock),
                Request::Waits => return self.begin_wait(session),
            }
        }
        let Some(pending) = self.sessions.get_mut(&session).and_then(|session| session.pending.take()) else { return };
        let outcome = self.execute(session, pending.statement);
        self.completions.push((session, outcome));
    }

    fn next_lock(&self, session: SessionId) -> Option<RowId> {
        self.sessions.get(&session)?.pending.as_ref()?.rows.front().cloned()
    }

    fn granted(&mut self, session: SessionId, row: &RowId) {
        let Some(pending) = self.sessions.get_mut(&session).and_then(|session| session.pending.as_mut()) else {
            return;
        };
        pending.rows.pop_front();
        // READ COMMITTED keeps no lock on a row that is not there, so somebody else can insert it meanwhile.
        if pending.statement.reads_under_lock() && self.store.row(row).is_none() {
            self.runnable.extend(self.locks.release(session, row));
        }
    }

    fn begin_wait(&mut self, session: SessionId) {
        self.last_wait += 1;
        if let Some(pending) = self.sessions.get_mut(&session).and_then(|session| session.pending.as_mut()) {
            pending.wait = self.last_wait;
            self.waits.push((session, self.last_wait));
        }
    }

    fn changed_since_snapshot(&self, session: SessionId, row: &RowId) -> bool {
        let transaction = self.sessions.get(&session).and_then(|session| session.transaction.as_ref());
        let snapshot = transaction.filter(|transaction| !transaction.by_engine).and_then(|open| open.snapshot);
        self.snapshot_isolation && snapshot.is_some_and(|snapshot| self.store.changed_by(row) > snapshot)
    }

    fn fail(&mut self, session: SessionId, error: SqlError) {
        self.end_transaction(session);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.pending = None;
        }
        self.completions.push((session, Outcome::Failed(error)));
    }

    fn end_transaction(&mut self, session: SessionId) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.transaction = None;
        }
        let next = self.locks.release_all(session);
        self.runnable.extend(next);
    }

    fn oldest_snapshot(&self) -> Option<u64> {
        self.sessions.values().filter_map(|session| session.transaction.as_ref()?.snapshot).min()
    }

    /// The row as the session would write on it: its own write, else what is committed.
    fn current(&self, session: SessionId, row: &RowId) -> Image {
        let transaction = self.sessions.get(&session).and_then(|session| session.transaction.as_ref());
        let own = transaction.and_then(|transaction| transaction.writes.get(row));
        own.cloned().unwrap_or_else(|| self.store.row(row).cloned())
    }

    /// Writes a row in the session's transaction; the trigger adds its entry unless it looks away.
    fn write(&mut self, session: SessionId, row: &RowId, image: Option<RowImage>, operation: RowOperation) {
        let captured =
            self.transaction(session).is_some_and(|transaction| transaction.is_captured && !transaction.by_engine);
        let entry = captured.then(|| OutboxEntry {
            id: self.store.next_outbox_id(),
            row: row.clone(),
            operation,
            time_ms: self.wall_ms,
        });
        if let Some(transaction) = self.transaction(session) {
            if image.is_none() {
                transaction.deleted.insert(row.clone());
            }
            transaction.writes.insert(row.clone(), image.map(Rc::new));
            transaction.outbox.extend(entry);
        }
    }

    fn transaction(&mut self, session: SessionId) -> Option<&mut Transaction> {
        self.sessions.get_mut(&session)?.transaction.as_mut()
    }

    /// Commits the session's transaction and gives its locks back.
    fn commit(&mut self, session: SessionId) {
        let Some(transaction) = self.sessions.get_mut(&session).and_then(|session| session.transaction.take()) else {
            return;
        };
        let changes = transaction.changes(&self.store);
        let outbox = transaction.outbox.iter().map(|entry| entry.id).collect();
        if !transaction.writes.is_empty() {
            let oldest = self.oldest_snapshot();
            self.store.commit(&transaction.writes, oldest);
        }
        self.store.insert_outbox(transaction.outbox);
        self.store.delete_outbox(&transaction.outbox_deletes);
        if let Some(cursor) = transaction.cursor {
            self.store.set_cursor(cursor);
        }
        let Transaction { by_engine, is_captured, outbox_deletes: drained, .. } = transaction;
        if !changes.is_empty() || !drained.is_empty() {
            self.commits.push(Committed { session, by_engine, is_captured, changes, outbox, drained });
        }
        let next = self.locks.release_all(session);
        self.runnable.extend(next);
    }
}

#[cfg(test)]
mod tests;
