//! Clients of databases and doors.

use super::World;
use super::event::Event;
use crate::checkers::show_row;
use crate::coverage::Fault;
use crate::database::{Image, Outcome, SessionId, Statement, column};
use crate::history::{DoorAction, DoorWrite};
use crate::workload::{Request, Script, Step};
use crdt::BatchId;
use replica::host::{RowId, RowImage, SqlError};

/// Door writes for a person.
fn told(writes: &[DoorWrite]) -> String {
    let name = |name: &crdt::Name| name.escape_ascii().to_string();
    let told = writes.iter().map(|write| {
        let path = write.leaf.path.iter().map(name).collect::<Vec<_>>().join(".");
        let action = match &write.action {
            DoorAction::Include(names) => format!("Include({})", names.iter().map(name).collect::<Vec<_>>().join(" ")),
            DoorAction::Exclude(names) => format!("Exclude({})", names.iter().map(name).collect::<Vec<_>>().join(" ")),
            action => format!("{action:?}"),
        };
        format!("{}/{path} ({:?}): {action}", write.leaf.namespace.0, write.leaf.kind)
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Times that a client begins again after an error.
const RETRIES_MAX: u32 = 3;

/// A client of a database: one connection, one request at a time.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) node: usize,
    pub(super) session: Option<SessionId>,
    pub(super) script: Option<Script>,
    /// What its last statement came to.
    pub(super) outcome: Option<Outcome>,
    /// Requests that it still sends without a pause: a runaway.
    flood: u32,
    /// True for a client that comes with one request only.
    comes_once: bool,
    /// Number of its next event: an event that was planned before is obsolete.
    turn: u32,
}

impl Client {
    fn new(node: usize, comes_once: bool) -> Self {
        Self { node, session: None, script: None, outcome: None, flood: 0, comes_once, turn: 0 }
    }
}

/// What a client does next.
enum Move {
    /// Nothing, until an event of its own comes.
    Waits,
    /// Its script is over.
    Ends,
    /// The next step, now.
    Goes,
}

impl World {
    /// Clients for every machine.
    pub(super) fn begin_clients(&mut self) {
        for node in 0..self.machines.len() {
            self.add_clients(node);
        }
    }

    /// Clients for one machine.
    pub(super) fn add_clients(&mut self, node: usize) {
        if self.machines[node].database.is_some() {
            for _ in 0..self.swarm.clients {
                self.clients.push(Client::new(node, false));
                let (client, delay_us) = (self.clients.len() - 1, self.random.below(self.swarm.pause_us));
                self.plan_client(client, delay_us);
            }
        }
        for _ in 0..self.swarm.door_clients {
            let delay_us = self.random.below(self.swarm.pause_us);
            self.plan_in(delay_us, Event::Door { node });
        }
    }

    /// True while some client is in the middle of a request.
    pub(super) fn clients_are_busy(&self) -> bool {
        self.clients.iter().any(|client| client.script.is_some())
    }

    /// The client's next event; one that was planned before does not count any more.
    pub(super) fn plan_client(&mut self, client: usize, delay_us: u64) {
        self.clients[client].turn += 1;
        let turn = self.clients[client].turn;
        self.plan_in(delay_us, Event::Client { client, turn });
    }

    pub(super) fn client_goes_on(&mut self, client: usize, turn: u32) {
        if self.clients[client].turn != turn {
            return;
        }
        let node = self.clients[client].node;
        if self.clients[client].script.is_none() {
            if self.is_calm || self.clients[client].comes_once {
                return;
            }
            let Some(database) = &mut self.machines[node].database else { return };
            self.clients[client].outcome = None;
            self.clients[client].script = Some(self.workload.script(database));
        }
        self.note(30, &[client as u64]);
        let mut next = self.take_outcome(client);
        while let Move::Goes = next {
            next = self.client_step(client);
        }
        if let Move::Ends = next {
            self.end_script(client);
        }
    }

    fn end_script(&mut self, client: usize) {
        self.clients[client].script = None;
        if self.is_calm || self.clients[client].comes_once {
            return;
        }
        let pause_us = if self.clients[client].flood > 0 {
            self.clients[client].flood -= 1;
            1_000
        } else {
            self.random.long_tailed(self.swarm.pause_us)
        };
        self.plan_client(client, pause_us);
    }

    fn take_outcome(&mut self, client: usize) -> Move {
        let Some(outcome) = self.clients[client].outcome.take() else { return Move::Goes };
        match outcome {
            Outcome::Failed(SqlError::DuplicateKey) => self.give_up(client),
            Outcome::Failed(error) => {
                if error == SqlError::ConnectionLost {
                    self.hang_up(client);
                }
                let delay_us = 1_000 + self.random.long_tailed(50_000);
                match &mut self.clients[client].script {
                    Some(script) if script.retries < RETRIES_MAX => script.restart(),
                    _ => return Move::Ends,
                }
                self.plan_client(client, delay_us);
                Move::Waits
            }
            Outcome::Rows(rows) => {
                if let Some(script) = &mut self.clients[client].script {
                    script.loaded.extend(rows);
                }
                Move::Goes
            }
            Outcome::Affected(_) | Outcome::Committed | Outcome::Engine(_) => Move::Goes,
        }
    }

    fn hang_up(&mut self, client: usize) {
        let node = self.clients[client].node;
        if let Some(session) = self.clients[client].session.take() {
            self.machines[node].sessions.remove(&session);
        }
    }

    /// Rolls back and leaves it at that.
    fn give_up(&mut self, client: usize) -> Move {
        if let Some(script) = &mut self.clients[client].script {
            script.at = script.steps.len();
        }
        self.submit(client, Statement::Rollback);
        Move::Waits
    }

    fn client_step(&mut self, client: usize) -> Move {
        let Some(script) = &mut self.clients[client].script else { return Move::Ends };
        let Some(step) = script.steps.get(script.at).cloned() else { return Move::Ends };
        script.at += 1;
        match step {
            Step::Think { us } => {
                let us = if self.is_calm { us.min(1_000_000) } else { us };
                self.plan_client(client, us);
                Move::Waits
            }
            Step::Load(rows) => {
                self.submit(client, Statement::Read(rows));
                Move::Waits
            }
            Step::Run(statement) => {
                self.submit(client, statement);
                Move::Waits
            }
            Step::Save { row, set, add, whole } => {
                let Some(statement) = script.save(&row, &set, &add, whole) else { return self.give_up(client) };
                let loaded = script.loaded.get(&row).cloned().flatten();
                if whole && self.is_stale(client, &row, &loaded, &set) {
                    self.fault(Fault::StaleSave);
                    let node = self.clients[client].node;
                    self.line(Some(node), || format!("a stale save of {} follows", show_row(&row)));
                }
                self.submit(client, statement);
                Move::Waits
            }
        }
    }

    /// True when a save sends back an older value than the database has now.
    fn is_stale(&self, client: usize, row: &RowId, loaded: &Image, set: &RowImage) -> bool {
        let Some(database) = &self.machines[self.clients[client].node].database else { return false };
        let (Some(loaded), Some(now)) = (loaded, database.store().row(row)) else { return false };
        loaded.iter().any(|(name, value)| !set.contains_key(name) && now.get(name) != Some(value))
    }

    fn submit(&mut self, client: usize, statement: Statement) {
        let node = self.clients[client].node;
        let wall_ms = self.clock_of(node).wall_ms;
        let machine = &mut self.machines[node];
        let Some(database) = &mut machine.database else { return };
        let session = match self.clients[client].session.filter(|session| database.is_connected(*session)) {
            Some(session) => session,
            None => {
                let session = database.connect();
                machine.sessions.insert(session, client);
                self.clients[client].session = Some(session);
                session
            }
        };
        database.set_clock(wall_ms);
        database.submit(session, statement);
        self.serve(node);
    }

    /// A database went away under its clients.
    pub(super) fn clients_lose_connection(&mut self, node: usize) {
        self.machines[node].sessions.clear();
        for client in 0..self.clients.len() {
            if self.clients[client].node == node && self.clients[client].session.take().is_some() {
                if self.clients[client].script.is_none() {
                    continue;
                }
                self.clients[client].outcome = Some(Outcome::Failed(SqlError::ConnectionLost));
                self.plan_client(client, 1_000);
            }
        }
    }

    /// Lets the clients of a node come without a pause for a while.
    pub(super) fn flood(&mut self, node: usize) {
        let regular = |client: &Client| client.node == node && !client.comes_once;
        let Some(client) = self.clients.iter().position(regular) else { return };
        let requests = self.random.range(40, 120) as u32;
        self.clients[client].flood = requests;
        self.fault(Fault::RunawayWriter);
        self.line(Some(node), || format!("a writer runs away: {requests} requests without a pause"));
        if self.clients[client].script.is_none() {
            self.plan_client(client, 0);
        }
    }

    pub(super) fn door_client(&mut self, node: usize) {
        if self.is_calm {
            return;
        }
        let pause_us = self.random.long_tailed(self.swarm.pause_us);
        self.plan_in(pause_us, Event::Door { node });
        self.door_request(node);
    }

    /// One command at a node's door, or some that come together and so become one batch.
    pub fn door_request(&mut self, node: usize) {
        let now = self.clock_of(node);
        let commands = if self.random.one_in(4) { self.random.range(2, 6) } else { 1 };
        let mut gathered: Option<(BatchId, Vec<DoorWrite>)> = None;
        for _ in 0..commands {
            let Some(process) = &mut self.machines[node].process else { return };
            let request = self.workload.door_request(&process.node);
            // The oracle knows no order within a batch.
            let is_written = |write: &DoorWrite| {
                gathered.iter().flat_map(|(_, writes)| writes).any(|other| other.leaf.path == write.leaf.path)
            };
            if request.intents.is_empty() || request.writes.iter().any(is_written) {
                continue;
            }
            let committed = process.node.gather(now, &request.intents);
            self.note(31, &[node as u64, request.intents.len() as u64]);
            match committed {
                Ok(batch) => {
                    self.operations += request.writes.len() as u64;
                    self.line(Some(node), || format!("door commits {batch}: {}", told(&request.writes)));
                    let (first, writes) = gathered.get_or_insert_with(|| (batch, Vec::new()));
                    debug_assert_eq!(*first, batch, "so few commands are one batch");
                    writes.extend(request.writes);
                }
                Err(error) => self.line(Some(node), || format!("door refuses: {error}")),
            }
        }
        if let Some((batch, writes)) = gathered {
            if let Some(process) = &mut self.machines[node].process {
                process.node.seal(now);
            }
            self.history.door_commit(node, batch, writes);
            self.settle(node);
        }
    }

    /// A client's request of a given kind, at once: for scripted scenarios.
    pub fn write(&mut self, node: usize, request: Request) {
        let Some(database) = &mut self.machines[node].database else { return };
        let script = self.workload.script_of(request, database);
        self.run_script(node, script);
    }

    /// Writes one option by its name: for scripted scenarios, and for rows that some database cannot take.
    pub(super) fn write_option(&mut self, node: usize, name: &str, value: &[u8]) {
        let row = RowId::named(crdt::Namespace(1), "wp_options", name.as_bytes());
        let image = RowImage::from([(column("option_value"), crdt::Value::bytes(value))]);
        let script = Script::transaction("option", vec![Step::Run(Statement::Replace { row, image })]);
        self.run_script(node, script);
    }

    fn run_script(&mut self, node: usize, script: Script) {
        // A client of its own, so that it waits for nobody's thoughts; it ends with its script.
        let free = |client: &Client| client.node == node && client.script.is_none() && client.comes_once;
        let client = self.clients.iter().position(free).unwrap_or_else(|| {
            self.clients.push(Client::new(node, true));
            self.clients.len() - 1
        });
        self.clients[client].outcome = None;
        self.clients[client].script = Some(script);
        self.plan_client(client, 0);
    }
}
