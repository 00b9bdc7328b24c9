//! Commands that ask the daemon which runs on the node folder: they connect to its door and speak RESP, as any client
//! could.

mod answer;
mod error;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{Client, Cmd, Connection, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisResult, Value};
use serde_json::json;

use crate::cli::OutputFormat;
use crate::exit::Exit;
use answer::{Fields, cell, cell_lines, fields, maps, to_json};
use table::table;

pub use error::{AdminError, Cause};

/// How long an answer may take: a digest of a large state, on a machine that is busy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a command prints on standard output, and how it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Lines, the last one ended.
    pub text: String,
    /// [`Exit::Ok`] or [`Exit::Unwell`].
    pub exit: Exit,
}

/// How far a copy of all records is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyProgress {
    /// Records that were copied, those twice that changed meanwhile.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The file, once it is whole.
    pub file: Option<PathBuf>,
}

/// The keys behind MACs, as a node uses them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyUse {
    /// Signs.
    pub current: u64,
    /// Is valid as well.
    pub other: Option<u64>,
    /// Batches with the other key that some member is not known to have.
    pub batches: u64,
}

/// A connection to the daemon.
pub struct Daemon {
    socket: PathBuf,
    connection: Connection,
}

impl Daemon {
    /// Connects to the door by RESP3, which tells maps from arrays.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`].
    pub fn connect(socket: &Path) -> Result<Self, AdminError> {
        let open = || -> RedisResult<Connection> {
            let info = ConnectionAddr::Unix(socket.to_owned()).into_connection_info()?;
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            let client = Client::open(info.set_redis_settings(settings))?;
            let connection = client.get_connection_with_timeout(ANSWER_TIMEOUT)?;
            connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self { socket: socket.to_owned(), connection }),
            Err(error) => Err(AdminError::unreachable(socket, &error)),
        }
    }

    fn ask(&mut self, words: &[&str]) -> Result<Value, AdminError> {
        let mut command = Cmd::new();
        command.arg(words);
        command.query(&mut self.connection).map_err(|error| AdminError::of_answer(&self.socket, words, &error))
    }

    /// How the node is: itself and its members.
    ///
    /// # Errors
    /// What the daemon answers, or that it does not.
    pub fn status(&mut self, format: OutputFormat) -> Result<Report, AdminError> {
        let clock = self.ask(&["CRDT.CLOCK"])?;
        let peers = self.ask(&["CRDT.PEERS"])?;
        let info = cell_lines(&self.ask(&["INFO", "replication"])?);
        let members = maps("CRDT.PEERS", &peers)?;
        let away: Vec<String> =
            members.iter().filter(|member| !is_present(member)).map(|member| member.text("node")).collect();
        let refused: Vec<&str> =
            info.iter().filter(|(name, _)| name.starts_with("refuses_writes")).map(|(_, why)| why.as_str()).collect();
        let figure =
            |wanted: &str| info.iter().find(|(name, _)| name == wanted).map_or("?", |(_, value)| value.as_str());
        let exit = if away.is_empty() && refused.is_empty() { Exit::Ok } else { Exit::Unwell };
        if format == OutputFormat::Json {
            let value =
                json!({ "clock": to_json(&clock), "peers": to_json(&peers), "away": away, "refuses_writes": refused });
            return Ok(Report { text: json_text(&value), exit });
        }
        let clock = fields("CRDT.CLOCK", &clock)?;
        let mut text = String::new();
        for name in ["node", "replica", "digest"] {
            text.push_str(&format!("{name:<8} {}\n", clock.text(name)));
        }
        text.push_str(&match refused.as_slice() {
            [] => "writes   taken\n".to_owned(),
            reasons => reasons.iter().map(|reason| format!("writes   REFUSED: {reason}\n")).collect(),
        });
        // What a destroyed machine would lose, while there is somebody who could have it.
        if figure("unreplicated_ops") != "0" && !members.is_empty() {
            text.push_str(&format!(
                "at risk  {} operations, which no other member has yet\n",
                figure("unreplicated_ops")
            ));
        }
        if figure("held_streams") != "0" {
            let held = figure("held_streams");
            text.push_str(&format!("held     {held} streams wait for a decision: crdt-engine held list\n"));
        }
        text.push_str(&match (members.len(), away.len()) {
            (0, _) => "members  none but this one: nothing is replicated yet\n".to_owned(),
            (others, 0) => format!("members  this one and {others} more, all there\n"),
            (others, _) => format!("members  this one and {others} more, NOT THERE: {}\n", away.join(", ")),
        });
        if !members.is_empty() {
            text.push('\n');
            text.push_str(&member_table(&members));
        }
        Ok(Report { text, exit })
    }

    /// The other members.
    ///
    /// # Errors
    /// As [`Daemon::status`].
    pub fn node_list(&mut self, format: OutputFormat) -> Result<Report, AdminError> {
        let peers = self.ask(&["CRDT.PEERS"])?;
        let text = match format {
            OutputFormat::Json => json_text(&to_json(&peers)),
            OutputFormat::Table => match maps("CRDT.PEERS", &peers)?.as_slice() {
                [] => "there is no member but this one; let one in with: crdt-engine invite --node-id ID\n".to_owned(),
                members => member_table(members),
            },
        };
        Ok(Report { text, exit: Exit::Ok })
    }

    /// Compares states, with one member or with all; [`Exit::Unwell`] unless all are proven equal.
    ///
    /// # Errors
    /// As [`Daemon::status`].
    pub fn verify(&mut self, node: Option<&str>, format: OutputFormat) -> Result<Report, AdminError> {
        let mut words = vec!["CRDT.VERIFY"];
        words.extend(node);
        let answer = self.ask(&words)?;
        let mut rows = vec![["node", "state", "digest"].map(str::to_owned).to_vec()];
        let mut exit = Exit::Ok;
        for (node, verdict) in fields("CRDT.VERIFY", &answer)?.iter() {
            let verdict = fields("CRDT.VERIFY", verdict)?;
            let state = match (verdict.flag("fresh"), verdict.flag("vector_equal"), verdict.flag("digest_equal")) {
                (Some(false), ..) | (_, None, _) => "not heard of",
                (_, Some(true), Some(true)) => "equal",
                (_, Some(true), _) => "DIFFERENT (ERR_DIVERGED)",
                (_, Some(false), _) => "not comparable: writes are on their way",
            };
            if state != "equal" {
                exit = Exit::Unwell;
            }
            rows.push(vec![node.to_owned(), state.to_owned(), verdict.text("digest")]);
        }
        let text = match format {
            OutputFormat::Json => json_text(&to_json(&answer)),
            OutputFormat::Table if rows.len() == 1 => {
                "there is no member but this one, so there is nothing to compare with\n".to_owned()
            }
            OutputFormat::Table => table(&rows),
        };
        Ok(Report { text, exit })
    }

    /// What waits for a decision.
    ///
    /// # Errors
    /// As [`Daemon::status`].
    pub fn held_list(&mut self, format: OutputFormat) -> Result<Report, AdminError> {
        let answer = self.ask(&["CRDT.HELD", "LIST"])?;
        let text = match format {
            OutputFormat::Json => json_text(&to_json(&answer)),
            OutputFormat::Table => match maps("CRDT.HELD", &answer)?.as_slice() {
                [] => "nothing is held\n".to_owned(),
                held => any_table(held),
            },
        };
        Ok(Report { text, exit: Exit::Ok })
    }

    /// Lets something go on that was held.
    ///
    /// # Errors
    /// As [`Daemon::status`].
    pub fn held_release(&mut self, id: &str) -> Result<Report, AdminError> {
        self.ask(&["CRDT.HELD", "RELEASE", id])?;
        Ok(Report { text: format!("released {id}\n"), exit: Exit::Ok })
    }

    /// Drops something for ever that was held.
    ///
    /// # Errors
    /// As [`Daemon::status`].
    pub fn held_discard(&mut self, id: &str) -> Result<Report, AdminError> {
        self.ask(&["CRDT.HELD", "DISCARD", id])?;
        Ok(Report { text: format!("discarded {id}\n"), exit: Exit::Ok })
    }

    /// Lets the daemon copy its records into a file of its folder; the number of the copy.
    ///
    /// # Errors
    /// As [`Daemon::status`]; also that a copy is under way.
    pub fn begin_copy(&mut self) -> Result<u64, AdminError> {
        let answer = self.ask(&["CRDT.BACKUP", "START"])?;
        copy_number("CRDT.BACKUP", &fields("CRDT.BACKUP", &answer)?, "number")
    }

    /// How far this copy is.
    ///
    /// # Errors
    /// As [`Daemon::status`]; also why there is none.
    pub fn copy_progress(&mut self, number: u64) -> Result<CopyProgress, AdminError> {
        let answer = self.ask(&["CRDT.BACKUP", "STATUS"])?;
        let found = fields("CRDT.BACKUP", &answer)?;
        let figure = |name| copy_number("CRDT.BACKUP", &found, name);
        let refused = |reason: String| Err(AdminError::Refused { command: "CRDT.BACKUP".to_owned(), reason });
        if figure("number")? != number {
            return refused("the node was restarted, or somebody began another copy; start again".to_owned());
        }
        let is_done = match found.text("state").as_str() {
            "running" => false,
            "done" => true,
            _ => return refused(format!("{} ({})", found.text("message"), found.text("code"))),
        };
        let file = is_done.then(|| PathBuf::from(found.text("file")));
        Ok(CopyProgress { records: figure("records")?, bytes: figure("bytes")?, file })
    }

    /// The keys behind MACs, first read again from the node folder if that is wanted.
    ///
    /// # Errors
    /// As [`Daemon::status`]; also that the keys in the folder do not read.
    pub fn key_use(&mut self, reload: bool) -> Result<KeyUse, AdminError> {
        let answer = self.ask(if reload { &["CRDT.KEYS", "RELOAD"] } else { &["CRDT.KEYS"] })?;
        let found = fields("CRDT.KEYS", &answer)?;
        let figure = |name| copy_number("CRDT.KEYS", &found, name);
        let other = if found.text("other").is_empty() { None } else { Some(figure("other")?) };
        Ok(KeyUse { current: figure("current")?, other, batches: figure("batches_under_other")? })
    }

    /// Which keys are valid.
    ///
    /// # Errors
    /// As [`Daemon::status`].
    pub fn key_list(&mut self, format: OutputFormat) -> Result<Report, AdminError> {
        let KeyUse { current, other, batches } = self.key_use(false)?;
        let text = match (format, other) {
            (OutputFormat::Json, _) => {
                json_text(&json!({ "current": current, "other": other, "batches_under_other": batches }))
            }
            (OutputFormat::Table, None) => format!("key {current}  signs\n"),
            (OutputFormat::Table, Some(other)) => {
                format!(
                    "key {current}  signs\nkey {other}  valid as well; {batches} batches with it that some member is \
                     not known to have\n"
                )
            }
        };
        Ok(Report { text, exit: Exit::Ok })
    }

    /// Collects now.
    ///
    /// # Errors
    /// As [`Daemon::status`].
    pub fn gc(&mut self, format: OutputFormat) -> Result<Report, AdminError> {
        let answer = self.ask(&["CRDT.GC"])?;
        let text = match format {
            OutputFormat::Json => json_text(&to_json(&answer)),
            OutputFormat::Table => {
                let figures = fields("CRDT.GC", &answer)?;
                format!("collected {} of {} remains\n", figures.text("collected"), figures.text("attempted"))
            }
        };
        Ok(Report { text, exit: Exit::Ok })
    }
}

fn copy_number(command: &str, found: &Fields<'_>, name: &str) -> Result<u64, AdminError> {
    let number = found.text(name).parse();
    number.map_err(|_| AdminError::answer(command, format!("{name} is no number")))
}

/// True for a member that is alive and linked.
fn is_present(member: &Fields<'_>) -> bool {
    member.text("state") == "LIVE" && member.text("link") == "up"
}

fn member_table(members: &[Fields<'_>]) -> String {
    let columns = [
        ("node", "node"),
        ("state", "state"),
        ("link", "link"),
        ("rtt_us", "rtt us"),
        ("lag_ops", "lag ops"),
        ("skew_ms", "skew ms"),
        ("address", "address"),
    ];
    let mut rows = vec![columns.iter().map(|(_, title)| (*title).to_owned()).collect::<Vec<_>>()];
    let cell = |member: &Fields<'_>, name: &str| match name {
        // Told as 0 while they are not known.
        "skew_ms" if member.flag("skew_known") == Some(false) => "?".to_owned(),
        "rtt_us" if member.text(name) == "0" => "?".to_owned(),
        _ => member.text(name),
    };
    rows.extend(members.iter().map(|member| columns.iter().map(|(name, _)| cell(member, name)).collect()));
    table(&rows)
}

/// A table of whatever columns the first entry has.
fn any_table(entries: &[Fields<'_>]) -> String {
    let names: Vec<String> =
        entries.first().map(|first| first.iter().map(|(name, _)| name.to_owned()).collect()).unwrap_or_default();
    let mut rows = vec![names.clone()];
    rows.extend(
        entries.iter().map(|entry| names.iter().map(|name| entry.get(name).map_or_else(String::new, cell)).collect()),
    );
    table(&rows)
}

fn json_text(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests;
