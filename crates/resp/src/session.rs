//! One connection as a state machine.
//!
//! Order of calls: [`Session::feed`] what was read; [`Session::poll`] until it is idle, blocked or closed, and do what
//! it says; write [`Session::output`] and tell [`Session::consume`]. After a commit tell [`Session::committed`], after
//! [`replica::Effect::Acknowledge`] tell [`Session::acknowledge`], and poll again after each of them.
//!
//! A later command of a pipeline sees an earlier write as soon as it is committed; its reply leaves behind the
//! earlier one's, so nobody is told on this connection what rests on a write that is not durable.

use crdt::{BatchId, Namespace};
use replica::{CommitError, Intent};

use crate::call::Call;
use crate::error::{ErrorReply, ProtocolError};
use crate::execute::execute;
use crate::limits::Limits;
use crate::password::Password;
use crate::refused;
use crate::replies::{Answer, Replies};
use crate::reply::{Reply, Version};
use crate::request::{Arguments, Parser, Progress};
use crate::staged::Staged;
use crate::table::{self, Command, Flag, Verb};
use crate::transaction::Transaction;
use crate::view::View;

/// What all connections of one door share.
#[derive(Clone, Debug, Default)]
pub struct SessionConfig {
    /// Limits.
    pub limits: Limits,
    /// Asked for before anything else; `None` where the socket's file mode keeps strangers out.
    pub password: Option<Password>,
    /// Version of the engine, told by HELLO.
    pub server_version: String,
}

/// Names a step that is to be answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);

/// What happens next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Commit these as one batch, then call [`Session::committed`]. Never empty.
    Commit {
        /// To be handed back.
        ticket: Ticket,
        /// For [`replica::Node::commit`].
        intents: Vec<Intent>,
    },
    /// Carry this out, then call [`Session::reply`].
    Call {
        /// To be handed back.
        ticket: Ticket,
        /// What is asked.
        call: Call,
    },
    /// Nothing, until more bytes are fed.
    Idle,
    /// Nothing, until a step is answered, a batch is acknowledged, or output is consumed.
    Blocked,
    /// Close the connection once the output is written.
    Close,
}

/// What was handed out and is not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Awaited {
    ticket: Ticket,
    /// EXEC, with the database from before it.
    transaction: Option<Namespace>,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) id: u64,
    pub(crate) config: SessionConfig,
    pub(crate) version: Version,
    pub(crate) is_authenticated: bool,
    /// Name that CLIENT SETNAME gave.
    pub(crate) name: Vec<u8>,
    pub(crate) namespace: Namespace,
    input: Vec<u8>,
    /// Bytes of `input` that are done with.
    read: usize,
    parser: Parser,
    transaction: Option<Transaction>,
    replies: Replies,
    awaited: Option<Awaited>,
    tickets: u64,
    last_write: Option<BatchId>,
    is_closing: bool,
}

impl Session {
    /// A fresh connection, in RESP2. `id` is unique in this process; CLIENT ID tells it.
    pub fn new(id: u64, config: SessionConfig) -> Self {
        Self {
            id,
            is_authenticated: config.password.is_none(),
            config,
            version: Version::default(),
            name: Vec::new(),
            namespace: Namespace::default(),
            input: Vec::new(),
            read: 0,
            parser: Parser::default(),
            transaction: None,
            replies: Replies::default(),
            awaited: None,
            tickets: 0,
            last_write: None,
            is_closing: false,
        }
    }

    /// Bytes that [`Session::feed`] takes now; read no more from the socket.
    pub fn room(&self) -> usize {
        if self.is_closing {
            return 0;
        }
        self.config.limits.input_bytes_max.saturating_sub(self.input.len() - self.read)
    }

    /// Takes bytes of the client, at most [`Session::room`]; returns how many.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        if self.read > 0 && self.input.len() + taken > self.input.capacity() {
            self.input.drain(..self.read);
            self.read = 0;
        }
        self.input.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Goes on until something is to be done outside.
    pub fn poll(&mut self, view: &dyn View) -> Step {
        loop {
            if self.awaited.is_some() {
                return Step::Blocked;
            }
            if self.is_closing {
                return if self.replies.waiting() > 0 { Step::Blocked } else { Step::Close };
            }
            let limits = self.limits();
            if self.replies.waiting() >= limits.replies_max || self.replies.bytes() >= limits.output_bytes_max {
                return Step::Blocked;
            }
            // Taken out, so that arguments may point into them while the session changes.
            let input = core::mem::take(&mut self.input);
            let mut parser = core::mem::take(&mut self.parser);
            let unread = input.get(self.read..).unwrap_or_default();
            let progress = parser.advance(unread, &limits);
            let step = match progress {
                Ok(Progress::Complete(bytes)) => {
                    let step = self.run(parser.arguments(unread), view);
                    self.skip(&mut parser, bytes);
                    step
                }
                Ok(Progress::Empty(bytes)) => {
                    self.skip(&mut parser, bytes);
                    None
                }
                Ok(Progress::Incomplete) => Some(Step::Idle),
                Err(error) => {
                    self.break_off(error);
                    None
                }
            };
            self.input = input;
            self.parser = parser;
            if self.read == self.input.len() {
                self.input.clear();
                self.input.shrink_to(INPUT_BYTES_KEPT);
                self.read = 0;
            }
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// What became of [`Step::Commit`]. The reply leaves when the batch is acknowledged, or at once with the error.
    pub fn committed(&mut self, ticket: Ticket, result: Result<BatchId, CommitError>) {
        let Some(awaited) = self.awaited.take_if(|awaited| awaited.ticket == ticket) else { return };
        let answer = match result {
            Ok(batch) => {
                self.last_write = Some(batch);
                Answer::Durable(batch)
            }
            Err(error) => {
                let mut refusal = ErrorReply::from(error);
                if let Some(namespace) = awaited.transaction {
                    self.namespace = namespace;
                    refusal = ErrorReply::new("EXECABORT", format!("Transaction discarded because of: {refusal}"));
                }
                Answer::Bytes(Reply::Error(refusal).to_bytes(self.version))
            }
        };
        self.replies.answer(ticket, answer);
    }

    /// What became of [`Step::Call`].
    pub fn reply(&mut self, ticket: Ticket, result: Result<Reply, ErrorReply>) {
        if self.awaited.take_if(|awaited| awaited.ticket == ticket).is_some() {
            let bytes = Reply::from(result).to_bytes(self.version);
            self.replies.answer(ticket, Answer::Bytes(bytes));
        }
    }

    /// The batch is durable: its client is told. True when one of this connection waited for it.
    pub fn acknowledge(&mut self, batch: BatchId) -> bool {
        self.replies.acknowledge(batch)
    }

    /// The store failed: no write that waits will be acknowledged, and its client is told so.
    pub fn fail_writes(&mut self) {
        let bytes = Reply::Error(ErrorReply::not_durable()).to_bytes(self.version);
        self.replies.fail(&bytes);
    }

    /// The node stops: no further request is taken. What runs is still answered.
    pub fn close(&mut self) {
        self.is_closing = true;
    }

    /// Bytes for the client.
    pub fn output(&self) -> &[u8] {
        self.replies.output()
    }

    /// So many bytes of the output were written.
    pub fn consume(&mut self, bytes: usize) {
        self.replies.consume(bytes);
    }

    /// Bytes that this connection holds: what it sent and is not done with, what waits between MULTI and EXEC, and replies
    /// that it has not taken. The buffers that an idle one keeps, at most 64 KiB for each way, are not among them.
    pub fn held_bytes(&self) -> usize {
        let unread = self.input.len() - self.read;
        let input = self.input.capacity().saturating_sub(INPUT_BYTES_KEPT).max(unread);
        let queued = self.transaction.as_ref().map_or(0, Transaction::bytes);
        input + self.parser.held_bytes() + queued + self.replies.held_bytes()
    }

    /// True while a step that was handed out is not answered.
    pub fn awaits_answer(&self) -> bool {
        self.awaited.is_some()
    }

    /// True while a request has no reply, or the client has not taken one: nothing else may be said to it then.
    pub fn owes_reply(&self) -> bool {
        self.awaited.is_some() || self.replies.waiting() > 0 || self.replies.bytes() > 0
    }

    /// The connection's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Version of the protocol in use.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The limits that hold now.
    fn limits(&self) -> Limits {
        let limits = self.config.limits;
        if self.is_authenticated { limits } else { limits.for_strangers() }
    }

    fn skip(&mut self, parser: &mut Parser, bytes: usize) {
        self.read += bytes;
        parser.reset();
    }

    fn break_off(&mut self, error: ProtocolError) {
        self.answer(Reply::Error(error.into()));
        self.is_closing = true;
    }

    fn answer(&mut self, reply: Reply) {
        let version = self.version;
        self.replies.ready(|out| reply.encode(version, out));
    }

    /// Refuses a command; between MULTI and EXEC that breaks the transaction.
    fn refuse(&mut self, error: ErrorReply) -> Option<Step> {
        if let Some(transaction) = &mut self.transaction {
            transaction.is_broken = true;
        }
        self.answer(Reply::Error(error));
        None
    }

    fn run(&mut self, arguments: Arguments<'_>, view: &dyn View) -> Option<Step> {
        let name = arguments.at(0);
        let Some(command) = table::find(name) else {
            if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"HOST:") {
                self.break_off(ProtocolError::Http);
                return None;
            }
            return self.refuse(unknown(arguments));
        };
        if !command.takes(arguments.len()) {
            return self.refuse(ErrorReply::arity(command.name));
        }
        if !self.is_authenticated && !command.has(Flag::NoAuth) {
            return self.refuse(ErrorReply::new("NOAUTH", "Authentication required."));
        }
        match command.verb {
            Verb::Multi | Verb::Exec | Verb::Discard | Verb::Quit => self.control(command.verb, view),
            _ if self.transaction.is_some() => self.queue(command, arguments),
            _ => self.run_now(command, arguments, view),
        }
    }

    fn queue(&mut self, command: &'static Command, arguments: Arguments<'_>) -> Option<Step> {
        if command.has(Flag::NoMulti) {
            return self.refuse(ErrorReply::err("Command not allowed inside a transaction"));
        }
        let limits = self.config.limits;
        let queued = self.transaction.as_mut().map_or(Ok(()), |open| open.queue(command, arguments, &limits));
        match queued {
            Ok(()) => self.answer(Reply::Simple("QUEUED")),
            Err(error) => return self.refuse(error),
        }
        None
    }

    fn run_now(&mut self, command: &'static Command, arguments: Arguments<'_>, view: &dyn View) -> Option<Step> {
        match Call::parse(command, arguments, self.last_write) {
            Some(Ok(call)) => {
                let ticket = self.hand_out(None, Vec::new());
                return Some(Step::Call { ticket, call });
            }
            Some(Err(error)) => return self.refuse(error),
            None => {}
        }
        let mut staged = Staged::new(view);
        let reply = self.carry_out(command, arguments, &mut staged);
        self.finish(reply, staged, None)
    }

    /// The reply of a command that needs nothing from outside.
    fn carry_out(&mut self, command: &Command, arguments: Arguments<'_>, staged: &mut Staged<'_>) -> Reply {
        match execute(command.verb, arguments, self.namespace, staged) {
            Some(result) => result.into(),
            None => self.connection(command, arguments).into(),
        }
    }

    fn control(&mut self, verb: Verb, view: &dyn View) -> Option<Step> {
        match (verb, self.transaction.take()) {
            (Verb::Quit, _) => {
                self.answer(Reply::OK);
                self.is_closing = true;
            }
            (Verb::Multi, None) => {
                self.transaction = Some(Transaction::default());
                self.answer(Reply::OK);
            }
            (Verb::Multi, open) => {
                self.transaction = open;
                self.answer(Reply::Error(ErrorReply::err("MULTI calls can not be nested")));
            }
            (Verb::Discard, Some(_)) => self.answer(Reply::OK),
            (Verb::Discard, None) => self.answer(Reply::Error(ErrorReply::err("DISCARD without MULTI"))),
            (_, None) => self.answer(Reply::Error(ErrorReply::err("EXEC without MULTI"))),
            (_, Some(open)) if open.is_broken => {
                let message = "Transaction discarded because of previous errors.";
                self.answer(Reply::Error(ErrorReply::new("EXECABORT", message)));
            }
            (_, Some(open)) => return self.execute_queued(&open, view),
        }
        None
    }

    /// Runs what MULTI queued, one command after the other, each over what the ones before it stage.
    fn execute_queued(&mut self, open: &Transaction, view: &dyn View) -> Option<Step> {
        let before = self.namespace;
        let mut staged = Staged::new(view);
        let mut replies = Vec::with_capacity(open.queued.len());
        for queued in &open.queued {
            replies.push(self.carry_out(queued.command, queued.arguments(), &mut staged));
        }
        self.finish(Reply::Array(replies), staged, Some(before))
    }

    fn finish(&mut self, reply: Reply, staged: Staged<'_>, transaction: Option<Namespace>) -> Option<Step> {
        let intents = staged.into_intents();
        if intents.is_empty() {
            self.answer(reply);
            return None;
        }
        let ticket = self.hand_out(transaction, reply.to_bytes(self.version));
        Some(Step::Commit { ticket, intents })
    }

    fn hand_out(&mut self, transaction: Option<Namespace>, bytes: Vec<u8>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.awaited = Some(Awaited { ticket, transaction });
        self.replies.wait(ticket, bytes);
        ticket
    }
}

/// Memory that an idle connection keeps for its next request.
const INPUT_BYTES_KEPT: usize = 64 << 10;
/// Bytes of an unknown command and of its arguments that are told back, as in Redis.
const TOLD_BACK_BYTES: usize = 128;

fn unknown(arguments: Arguments<'_>) -> ErrorReply {
    let name = arguments.at(0);
    if let Some(reason) = refused::find(name) {
        return refused::refusal(&String::from_utf8_lossy(name).to_ascii_uppercase(), reason);
    }
    let told = |bytes: &[u8]| {
        let bytes = bytes.get(..TOLD_BACK_BYTES).unwrap_or(bytes);
        String::from_utf8_lossy(bytes).into_owned()
    };
    let mut given = String::new();
    for argument in arguments.rest(1) {
        if given.len() >= TOLD_BACK_BYTES {
            break;
        }
        given.push_str(&format!("'{}' ", told(argument)));
    }
    let name = told(name);
    ErrorReply::err(format!("unknown command '{name}', with args beginning with: {given}").replace(['\r', '\n'], " "))
}
