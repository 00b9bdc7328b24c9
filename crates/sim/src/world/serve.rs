//! Requests of engines to their databases, and what databases did.

use replica::host::{RowId, RowImage, RowWrite, SqlError, SqlRequest, SqlResponse};

use super::World;
use super::event::Event;
use super::machine::{CrashPoint, RequestKind};
use crate::checkers::{Violation, show_row as name_of};
use crate::coverage::{Fault, Path};
use crate::database::{Committed, Outcome, SessionId, Statement};
use crate::history::{CommitId, RowChange};

/// What stands in a value that a poisoned database cannot take.
pub(super) const POISON: &[u8] = b"poison";

fn kind_of(request: &SqlRequest) -> Option<RequestKind> {
    match request {
        SqlRequest::Drain { .. } => Some(RequestKind::Drain),
        SqlRequest::DeleteOutbox { .. } => Some(RequestKind::Delete),
        SqlRequest::Lock { .. } => Some(RequestKind::Lock),
        SqlRequest::Write { .. } => Some(RequestKind::Write),
        SqlRequest::ReadCursor | SqlRequest::Rollback | SqlRequest::Scan { .. } => None,
    }
}

fn step_of(request: &SqlRequest) -> Option<u64> {
    match request {
        SqlRequest::DeleteOutbox { cursor, .. } | SqlRequest::Write { cursor, .. } => Some(*cursor),
        _ => None,
    }
}

fn is_poisonous(request: &SqlRequest) -> bool {
    let poisonous = |image: &RowImage| {
        image.values().any(|value| matches!(value, crdt::Value::Bytes(bytes) if bytes.starts_with(POISON)))
    };
    match request {
        SqlRequest::Write { rows, .. } => rows.iter().any(|(_, write)| match write {
            RowWrite::Insert(image) | RowWrite::Update(image) => poisonous(image),
            RowWrite::Delete => false,
        }),
        _ => false,
    }
}

impl World {
    fn statement_us(&mut self) -> u64 {
        20 + self.random.long_tailed(self.swarm.statement_us)
    }

    /// A node asks its database: the request is on its way.
    pub(super) fn ask(&mut self, node: usize, request: SqlRequest) {
        let process = self.machines[node].process_number();
        self.machines[node].unanswered_step = step_of(&request);
        let delay_us = self.statement_us();
        self.plan_in(delay_us, Event::Request { node, process, request });
    }

    /// A request reaches the database.
    pub(super) fn request(&mut self, node: usize, process: u32, request: SqlRequest) {
        if self.machines[node].process_number() != process || self.machines[node].database.is_none() {
            return;
        }
        let kind = kind_of(&request);
        if self.crash_at_request(node, kind, false) {
            return;
        }
        self.note(20, &[node as u64, kind.map_or(9, |kind| kind as u64)]);
        self.line(Some(node), || format!("asks {}", brief(&request)));
        if let Some(error) = self.refusal(node, &request) {
            return self.refuse(node, error);
        }
        let wall_ms = self.clock_of(node).wall_ms;
        let machine = &mut self.machines[node];
        let Some(database) = &mut machine.database else { return };
        database.set_clock(wall_ms);
        let session = *machine.session.get_or_insert_with(|| database.connect());
        machine.is_asking = true;
        database.submit(session, Statement::Engine(request));
        self.serve(node);
        self.crash_at_request(node, kind, true);
    }

    fn crash_at_request(&mut self, node: usize, asked: Option<RequestKind>, carried_out: bool) -> bool {
        let Some(CrashPoint::Request { kind, after }) = self.machines[node].crash else { return false };
        if asked != Some(kind) || after != carried_out {
            return false;
        }
        let drains = matches!(kind, RequestKind::Drain | RequestKind::Delete);
        self.fault(if drains { Fault::CrashInDrain } else { Fault::CrashInApply });
        self.crash(node);
        true
    }

    /// Whether the database refuses this request on its own.
    fn refusal(&mut self, node: usize, request: &SqlRequest) -> Option<SqlError> {
        if self.machines[node].poisoned && is_poisonous(request) {
            self.fault(Fault::PoisonOperation);
            return Some(SqlError::Deadlock);
        }
        if self.is_calm {
            return None;
        }
        let sql = self.swarm.sql;
        let changes = step_of(request).is_some();
        let locks = matches!(request, SqlRequest::Lock { .. });
        if (changes || locks) && self.random.per_mille(sql.deadlock) {
            self.fault(Fault::SqlDeadlock);
            return Some(SqlError::Deadlock);
        }
        if locks && self.random.per_mille(sql.lock_timeout) {
            self.fault(Fault::SqlLockTimeout);
            return Some(SqlError::LockTimeout);
        }
        if changes && self.random.per_mille(sql.record_changed) {
            self.fault(Fault::SqlRecordChanged);
            return Some(SqlError::RecordChanged);
        }
        if self.random.per_mille(sql.connection_lost) {
            self.fault(Fault::SqlConnectionLost);
            return Some(SqlError::ConnectionLost);
        }
        self.machines[node].loses_answer = self.random.per_mille(sql.answer_lost);
        None
    }

    fn refuse(&mut self, node: usize, error: SqlError) {
        let machine = &mut self.machines[node];
        if let (Some(database), Some(session)) = (&mut machine.database, machine.session) {
            if error == SqlError::ConnectionLost {
                machine.session = None;
                database.disconnect(session);
            } else {
                database.fail_injected(session, error);
                // The completion that this gave is the answer below.
                database.forget_completions(session);
            }
        }
        machine.is_asking = false;
        self.serve(node);
        self.answer(node, SqlResponse::Failed(error));
    }

    pub(super) fn answer(&mut self, node: usize, response: SqlResponse) {
        let process = self.machines[node].process_number();
        let delay_us = self.statement_us();
        self.plan_in(delay_us, Event::Response { node, process, response });
    }

    /// The engine's statement came to an end in the database.
    fn engine_completed(&mut self, node: usize, response: SqlResponse) {
        self.machines[node].is_asking = false;
        if std::mem::take(&mut self.machines[node].loses_answer) {
            self.fault(Fault::SqlAnswerLost);
            let machine = &mut self.machines[node];
            if let (Some(database), Some(session)) = (&mut machine.database, machine.session.take()) {
                database.disconnect(session);
            }
            return self.answer(node, SqlResponse::Failed(SqlError::ConnectionLost));
        }
        match &response {
            SqlResponse::Drained { entries, .. } => {
                let known = &self.machines[node].outbox_commits;
                let commits: Vec<CommitId> = entries.iter().filter_map(|entry| known.get(&entry.id).copied()).collect();
                self.history.drained(node, commits);
            }
            SqlResponse::Locked { entries, .. } if !entries.is_empty() => self.path(Path::SecondLook),
            SqlResponse::Failed(error) => {
                if *error == SqlError::ConnectionLost {
                    // The server had restarted: the next request opens a connection.
                    self.machines[node].session = None;
                }
                self.path(Path::ApplyRetried);
            }
            SqlResponse::Cursor(cursor) => {
                let (cursor, orphaned) = (*cursor, self.machines[node].orphaned_step.take());
                if let Some(step) = orphaned {
                    self.path(if cursor == step { Path::StepFoundDone } else { Path::StepRepeated });
                }
            }
            _ => {}
        }
        self.answer(node, response);
    }

    /// The answer reaches the engine.
    pub(super) fn response(&mut self, node: usize, process: u32, response: SqlResponse) {
        let now = self.clock_of(node);
        let machine = &mut self.machines[node];
        let Some(running) = machine.process.as_mut().filter(|running| running.number == process) else { return };
        machine.unanswered_step = None;
        if response == SqlResponse::Failed(SqlError::ConnectionLost) {
            // Whether a step on its way happened is not known until the cursor was read again.
            self.trace.event(self.now_us, 21, &[node as u64]);
        }
        running.node.handle_sql(now, response);
        self.settle(node);
    }

    pub(super) fn notify(&mut self, node: usize) {
        let now = self.clock_of(node);
        if let Some(process) = &mut self.machines[node].process {
            process.node.handle_notify(now);
            self.settle(node);
        }
    }

    pub(super) fn lock_timeout(&mut self, node: usize, session: SessionId, wait: u64) {
        let Some(database) = &mut self.machines[node].database else { return };
        if database.expire(session, wait) {
            self.fault(Fault::SqlLockTimeout);
            self.note(22, &[node as u64, session.0.into()]);
            self.serve(node);
        }
    }

    /// Takes everything that a database has to say: commits first, because what completed may show them.
    pub(super) fn serve(&mut self, node: usize) {
        let Some(database) = &mut self.machines[node].database else { return };
        let (commits, completions) = (database.take_commits(), database.take_completions());
        let (waits, misuse) = (database.take_waits(), database.take_misuse());
        if let Some(what) = misuse.into_iter().next() {
            self.violation = Some(Violation { invariant: 10, node: Some(node), key: "database".into(), what });
        }
        for commit in commits {
            self.committed(node, commit);
        }
        for (session, wait) in waits {
            let delay_us = self.swarm.lock_wait_us;
            self.plan_in(delay_us, Event::LockTimeout { node, session, wait });
        }
        for (session, outcome) in completions {
            self.completed(node, session, outcome);
        }
    }

    fn completed(&mut self, node: usize, session: SessionId, outcome: Outcome) {
        if let Outcome::Failed(error) = &outcome {
            match error {
                SqlError::Deadlock => self.fault(Fault::SqlDeadlock),
                SqlError::RecordChanged => self.fault(Fault::SqlRecordChanged),
                _ => {}
            }
        }
        if self.machines[node].session == Some(session) {
            let response = match outcome {
                Outcome::Engine(response) => response,
                Outcome::Failed(error) => SqlResponse::Failed(error),
                // The engine's session is only given requests of the engine.
                Outcome::Affected(_) | Outcome::Rows(_) | Outcome::Committed => return,
            };
            return self.engine_completed(node, response);
        }
        let Some(client) = self.machines[node].sessions.get(&session).copied() else { return };
        self.clients[client].outcome = Some(outcome);
        let delay_us = self.statement_us();
        self.plan_client(client, delay_us);
    }

    fn committed(&mut self, node: usize, commit: Committed) {
        self.note(23, &[node as u64, commit.session.0.into(), commit.changes.len() as u64]);
        if commit.by_engine {
            let known = &self.machines[node].outbox_commits;
            let cleared: Vec<CommitId> = commit.drained.iter().filter_map(|id| known.get(id).copied()).collect();
            self.history.cleared(cleared);
            let rows =
                commit.changes.iter().map(|change| (&change.row, change.before.is_some(), change.after.is_some()));
            self.history.engine_wrote(node, rows);
            if self.trace.keeps_lines() {
                for change in &commit.changes {
                    let (row, after) = (name_of(&change.row), image_of(change.after.as_deref()));
                    let text = format!("database: {row} becomes {after}");
                    self.line(Some(node), || text);
                }
            }
            return;
        }
        let client = self.machines[node].sessions.get(&commit.session).copied();
        let inserted = |row: &RowId| commit.changes.iter().any(|change| change.row == *row && change.before.is_none());
        let script = client.and_then(|client| self.clients[client].script.as_ref());
        let mut parents = script.map(|script| script.seen_parents()).unwrap_or_default();
        parents.retain(|(child, _)| inserted(child));
        if self.trace.keeps_lines() {
            let name = script.map_or("client", |script| script.name);
            for change in &commit.changes {
                let (before, after) = (image_of(change.before.as_deref()), image_of(change.after.as_deref()));
                let text = format!("client writes ({name}): {} from {before} to {after}", name_of(&change.row));
                self.trace.line(self.now_us, Some(node), || text);
            }
        }
        self.operations += commit.changes.len() as u64;
        if !commit.is_captured {
            self.fault(Fault::BypassedCapture);
            (self.has_bypassed, self.scans_since_us) = (true, None);
        }
        if self.machines[node].donor.is_some() || self.machines.iter().any(|machine| machine.donor == Some(node)) {
            self.fault(Fault::WritesDuringSnapshot);
        }
        let changes = commit.changes.into_iter().map(|change| RowChange {
            row: change.row,
            before: change.before,
            after: change.after,
            recreated: change.recreated,
        });
        let id = self.history.sql_commit(node, commit.is_captured, changes.collect(), parents);
        let machine = &mut self.machines[node];
        machine.commits.insert(id);
        machine.outbox_commits.extend(commit.outbox.into_iter().map(|entry| (entry, id)));
        // The datagram of the site may be lost; the poll finds the entry as well.
        if commit.is_captured && !self.random.one_in(4) {
            self.plan_in(100, Event::Notify { node });
        }
    }
}

/// A row's content for a person.
fn image_of(image: Option<&RowImage>) -> String {
    let Some(image) = image else { return "nothing".into() };
    let columns = image.iter().map(|(name, value)| {
        let mut value = format!("{value:?}");
        value.truncate(value.trim_end_matches(['.', '"']).len().min(24));
        format!("{}={value}", name.escape_ascii())
    });
    format!("{{{}}}", columns.collect::<Vec<_>>().join(" "))
}

fn brief(request: &SqlRequest) -> String {
    let names = |rows: &mut dyn Iterator<Item = &RowId>| rows.map(name_of).collect::<Vec<_>>().join(" ");
    match request {
        SqlRequest::ReadCursor => "for the cursor".into(),
        SqlRequest::Drain { also } => format!("for the outbox, and {}", names(&mut also.iter())),
        SqlRequest::DeleteOutbox { ids, cursor } => format!("to delete entries {ids:?}, step {cursor}"),
        SqlRequest::Lock { rows } => format!("to lock {}", names(&mut rows.iter())),
        SqlRequest::Write { rows, cursor } => {
            format!("to write {}, step {cursor}", names(&mut rows.iter().map(|(row, _)| row)))
        }
        SqlRequest::Rollback => "to roll back".into(),
        SqlRequest::Scan { after, .. } => format!("to scan after {:?}", after.as_ref().map(name_of)),
    }
}
