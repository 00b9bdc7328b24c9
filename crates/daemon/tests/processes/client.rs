//! A client of a door, as thin as the `redis` crate allows.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use redis::{
    Client as Opener, Cmd, Connection, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, ProtocolVersion,
    RedisError, RedisResult, Value, from_redis_value_ref,
};

/// Longer than any pause of a test: a lost connection then means a killed daemon, and what it had not answered is
/// settled before a later connection's writes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(50);

/// One connection by RESP3.
pub(crate) struct Client(Connection);

/// What became of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Answered: it must never be lost.
    Done,
    /// The node says that it did not happen.
    Refused(String),
    /// No answer, or one that leaves it open.
    Uncertain(String),
}

/// CRDT.CLOCK.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Clock {
    pub(crate) node: String,
    pub(crate) replica: String,
    pub(crate) hlc_ms: u64,
    pub(crate) applied: BTreeMap<String, u64>,
    pub(crate) digest: String,
}

/// One entry of CRDT.PEERS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    pub(crate) node: String,
    pub(crate) is_up: bool,
    pub(crate) skew_ms: i64,
}

/// One entry of CRDT.VERIFY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Verdict {
    pub(crate) vector_equal: bool,
    pub(crate) digest_equal: bool,
}

impl Client {
    pub(crate) fn open(socket: &Path) -> RedisResult<Self> {
        let info = ConnectionAddr::Unix(socket.to_owned()).into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let connection =
            Opener::open(info.set_redis_settings(settings))?.get_connection_with_timeout(ANSWER_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self(connection))
    }

    /// Asks one command.
    pub(crate) fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> RedisResult<T> {
        let mut command = Cmd::new();
        command.arg(words);
        command.query(&mut self.0)
    }

    /// Sends one write.
    pub(crate) fn write(&mut self, words: &[&str]) -> Outcome {
        match self.ask::<Value>(words) {
            Ok(_) => Outcome::Done,
            Err(error) => outcome(&error),
        }
    }

    /// Sends writes as one transaction.
    pub(crate) fn write_together(&mut self, writes: &[Vec<&str>]) -> Outcome {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for words in writes {
            let mut command = Cmd::new();
            command.arg(words.as_slice());
            pipeline.add_command(command);
        }
        match pipeline.query::<Value>(&mut self.0) {
            Ok(Value::Nil) => Outcome::Uncertain("EXEC answered nothing".into()),
            Ok(_) => Outcome::Done,
            Err(error) => outcome(&error),
        }
    }

    pub(crate) fn clock(&mut self) -> RedisResult<Clock> {
        let fields = fields(&self.ask(&["CRDT.CLOCK"])?)?;
        let entry = |(replica, seq): (&String, &Value)| -> RedisResult<(String, u64)> {
            Ok((replica.clone(), from_redis_value_ref(seq)?))
        };
        Ok(Clock {
            node: text(&fields, "node")?,
            replica: text(&fields, "replica")?,
            hlc_ms: from_redis_value_ref(field(&fields, "hlc_ms")?)?,
            applied: self::fields(field(&fields, "applied")?)?.iter().map(entry).collect::<RedisResult<_>>()?,
            digest: text(&fields, "digest")?,
        })
    }

    pub(crate) fn peers(&mut self) -> RedisResult<Vec<Peer>> {
        let peer = |value: &Value| -> RedisResult<Peer> {
            let fields = fields(value)?;
            Ok(Peer {
                node: text(&fields, "node")?,
                is_up: text(&fields, "link")? == "up",
                skew_ms: from_redis_value_ref(field(&fields, "skew_ms")?)?,
            })
        };
        match self.ask(&["CRDT.PEERS"])? {
            Value::Array(peers) => peers.iter().map(peer).collect(),
            other => Err(unexpected("CRDT.PEERS", &other)),
        }
    }

    /// Whether each member has the same vector and digest as this node.
    pub(crate) fn verify(&mut self) -> RedisResult<BTreeMap<String, Verdict>> {
        let members = fields(&self.ask(&["CRDT.VERIFY"])?)?;
        let verdict = |(node, value): (&String, &Value)| -> RedisResult<(String, Verdict)> {
            let fields = fields(value)?;
            let flag = |name| -> RedisResult<bool> { Ok(from_redis_value_ref(field(&fields, name)?)?) };
            let verdict = Verdict { vector_equal: flag("vector_equal")?, digest_equal: flag("digest_equal")? };
            Ok((node.clone(), verdict))
        };
        members.iter().map(verdict).collect()
    }

    /// Sum of the counters whose names match.
    pub(crate) fn stats_sum(&mut self, pattern: &str) -> RedisResult<f64> {
        let stats = fields(&self.ask(&["CRDT.STATS", pattern])?)?;
        stats.values().map(|value| -> RedisResult<f64> { Ok(from_redis_value_ref(value)?) }).sum()
    }

    /// The conflict journal, as text.
    pub(crate) fn conflicts(&mut self) -> RedisResult<String> {
        let mut told = String::new();
        spell(&self.ask(&["CRDT.CONFLICTS", "100000"])?, &mut told);
        Ok(told)
    }
}

/// `LOADING` says that nothing happened; everything else leaves it open.
fn outcome(error: &RedisError) -> Outcome {
    let told = error.to_string();
    if told.contains("LOADING") || told.contains("ERR_NOT_READY") || error.is_connection_refusal() {
        Outcome::Refused(told)
    } else {
        Outcome::Uncertain(told)
    }
}

/// Every text within, one a line.
fn spell(value: &Value, told: &mut String) {
    match value {
        Value::BulkString(bytes) => {
            told.push_str(&String::from_utf8_lossy(bytes));
            told.push('\n');
        }
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => {
            told.push_str(text);
            told.push('\n');
        }
        Value::Array(values) | Value::Set(values) => values.iter().for_each(|value| spell(value, told)),
        Value::Map(pairs) => pairs.iter().for_each(|(name, value)| {
            spell(name, told);
            spell(value, told);
        }),
        _ => {}
    }
}

/// A map by its names, also one that came as a flat array.
fn fields(value: &Value) -> RedisResult<BTreeMap<String, Value>> {
    let named = |name: &Value, value: &Value| -> RedisResult<(String, Value)> {
        Ok((from_redis_value_ref(name)?, value.clone()))
    };
    match value {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| named(name, value)).collect(),
        Value::Array(flat) if flat.len().is_multiple_of(2) => {
            flat.chunks_exact(2).map(|pair| named(&pair[0], &pair[1])).collect()
        }
        other => Err(unexpected("a map", other)),
    }
}

fn field<'a>(fields: &'a BTreeMap<String, Value>, name: &str) -> RedisResult<&'a Value> {
    fields.get(name).ok_or_else(|| (ErrorKind::UnexpectedReturnType, "a field is missing", name.to_owned()).into())
}

fn text(fields: &BTreeMap<String, Value>, name: &str) -> RedisResult<String> {
    Ok(from_redis_value_ref(field(fields, name)?)?)
}

fn unexpected(what: &str, found: &Value) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "unexpected answer", format!("{what}: {found:?}")).into()
}
