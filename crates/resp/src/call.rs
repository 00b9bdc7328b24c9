//! Commands that the daemon answers, because a session knows only one connection.

use core::str::from_utf8;

use crdt::BatchId;

use crate::error::ErrorReply;
use crate::number::parse_integer;
use crate::request::Arguments;
use crate::table::{Command, Verb};

/// Longest name of a section, node, pattern or held batch.
const WORD_BYTES_MAX: usize = 255;

/// What the daemon is asked; it answers with [`crate::Session::reply`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// The text of INFO; no section means all. Answer with [`crate::Reply::Text`].
    Info {
        /// Names of sections in small letters.
        sections: Vec<String>,
    },
    /// Clock and vectors.
    Clock,
    /// The matrix clock.
    Matrix,
    /// The links.
    Peers,
    /// Counters whose names match.
    Stats {
        /// Everything without one.
        pattern: Option<String>,
    },
    /// The conflict journal.
    Conflicts {
        /// Most entries; [`CONFLICTS_DEFAULT`] if the client gave none.
        count: usize,
    },
    /// Held batches.
    Held(HeldCall),
    /// Collect now.
    Gc,
    /// The keys behind MACs.
    Keys {
        /// Read them from the node folder first.
        reload: bool,
    },
    /// Copy all records into a file of the node folder, or tell how far that is.
    Backup {
        /// Begin one.
        start: bool,
    },
    /// Compare digests.
    Verify {
        /// With this member, else with all.
        node: Option<String>,
    },
    /// Exchange digests.
    Sync {
        /// With this member, else with all.
        node: Option<String>,
    },
    /// The configuration.
    Config {
        /// Everything without one.
        pattern: Option<String>,
    },
    /// Wait for other members; answer with how many have the write, also when the time is over.
    Wait {
        /// How many.
        members: usize,
        /// For how long; 0: for ever, as in Redis' WAIT.
        timeout_ms: u64,
        /// The connection's last write; `None`: there was none, and every member has it.
        after: Option<BatchId>,
    },
}

/// What shall happen to held batches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeldCall {
    /// List them.
    List,
    /// Let one go on.
    Release(String),
    /// Drop one.
    Discard(String),
}

/// Entries of the conflict journal in one reply.
pub const CONFLICTS_DEFAULT: usize = 100;

impl Call {
    /// The call that a command means; `None` for a command that the session answers itself.
    pub(crate) fn parse(
        command: &Command,
        arguments: Arguments<'_>,
        after: Option<BatchId>,
    ) -> Option<Result<Self, ErrorReply>> {
        let most = |count: usize| if arguments.len() > count { Err(ErrorReply::arity(command.name)) } else { Ok(()) };
        let optional = || most(2).and_then(|()| arguments.get(1).map(word).transpose());
        let action = || optional().map(|action| action.map(|word| word.to_ascii_uppercase()));
        Some(match command.verb {
            Verb::Info => {
                let sections: Result<Vec<String>, _> = arguments.rest(1).map(word).collect();
                sections
                    .map(|sections| Self::Info { sections: sections.iter().map(|s| s.to_ascii_lowercase()).collect() })
            }
            Verb::CrdtClock => Ok(Self::Clock),
            Verb::CrdtMatrix => Ok(Self::Matrix),
            Verb::CrdtPeers => Ok(Self::Peers),
            Verb::CrdtGc => Ok(Self::Gc),
            Verb::CrdtKeys => action().and_then(|action| match action.as_deref() {
                None => Ok(Self::Keys { reload: false }),
                Some("RELOAD") => Ok(Self::Keys { reload: true }),
                Some(_) => Err(ErrorReply::syntax()),
            }),
            Verb::CrdtBackup => action().and_then(|action| match action.as_deref() {
                None | Some("STATUS") => Ok(Self::Backup { start: false }),
                Some("START") => Ok(Self::Backup { start: true }),
                Some(_) => Err(ErrorReply::syntax()),
            }),
            Verb::CrdtStats => optional().map(|pattern| Self::Stats { pattern }),
            Verb::CrdtConfig => optional().map(|pattern| Self::Config { pattern }),
            Verb::CrdtVerify => optional().map(|node| Self::Verify { node }),
            Verb::CrdtSync => optional().map(|node| Self::Sync { node }),
            Verb::CrdtConflicts => most(2).and_then(|()| {
                let count = arguments.get(1).map_or(Ok(CONFLICTS_DEFAULT), number)?;
                Ok(Self::Conflicts { count })
            }),
            Verb::CrdtHeld => held(command, arguments).map(Self::Held),
            Verb::CrdtWait => number(arguments.at(1)).and_then(|members| {
                let timeout_ms = number(arguments.at(2))? as u64;
                Ok(Self::Wait { members, timeout_ms, after })
            }),
            _ => return None,
        })
    }
}

fn held(command: &Command, arguments: Arguments<'_>) -> Result<HeldCall, ErrorReply> {
    let Some(action) = arguments.get(1) else { return Ok(HeldCall::List) };
    match (action.to_ascii_uppercase().as_slice(), arguments.get(2), arguments.len()) {
        (b"LIST", None, _) => Ok(HeldCall::List),
        (b"RELEASE", Some(id), 3) => word(id).map(HeldCall::Release),
        (b"DISCARD", Some(id), 3) => word(id).map(HeldCall::Discard),
        (b"LIST" | b"RELEASE" | b"DISCARD", _, _) => Err(ErrorReply::arity(command.name)),
        _ => Err(ErrorReply::syntax()),
    }
}

fn word(bytes: &[u8]) -> Result<String, ErrorReply> {
    let text = if bytes.len() > WORD_BYTES_MAX { None } else { from_utf8(bytes).ok() };
    text.map(str::to_owned).ok_or_else(ErrorReply::syntax)
}

fn number(bytes: &[u8]) -> Result<usize, ErrorReply> {
    parse_integer(bytes).and_then(|number| usize::try_from(number).ok()).ok_or_else(ErrorReply::not_an_integer)
}
