//! The demonstration's side of a door: what every Redis client would do.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use redis::{
    Client, Cmd, Connection, ConnectionAddr, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError, RedisResult,
    Value, from_redis_value_ref,
};

/// How long an answer may take: an fsync of a slow disk, on a machine that runs several nodes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection.
pub(super) struct Door(Connection);

/// What CRDT.CLOCK tells, as far as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Clock {
    /// Replica, as hex -> last applied sequence number.
    pub(super) applied: BTreeMap<String, u64>,
    /// Fingerprint of the keyspace, as hex.
    pub(super) digest: String,
}

/// What CRDT.PEERS tells of one member, as far as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PeerView {
    pub(super) node: String,
    pub(super) is_up: bool,
    /// Operations of ours that it lacks.
    pub(super) lag_ops: u64,
}

impl Door {
    /// Connects by RESP3, which tells maps from arrays.
    pub(super) fn open(socket: &Path) -> RedisResult<Self> {
        let info = ConnectionAddr::Unix(socket.to_owned()).into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        let connection = client.get_connection_with_timeout(ANSWER_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self(connection))
    }

    /// Asks one command.
    pub(super) fn ask(&mut self, words: &[&str]) -> RedisResult<Value> {
        let mut command = Cmd::new();
        command.arg(words);
        command.query(&mut self.0)
    }

    /// Asks several at once; an error in one is an error of all.
    pub(super) fn ask_all(&mut self, pipeline: &Pipeline) -> RedisResult<()> {
        pipeline.exec(&mut self.0)
    }

    /// A number, from a counter or a count.
    pub(super) fn number(&mut self, words: &[&str]) -> RedisResult<i64> {
        Ok(from_redis_value_ref(&self.ask(words)?)?)
    }

    pub(super) fn clock(&mut self) -> RedisResult<Clock> {
        let fields = fields(&self.ask(&["CRDT.CLOCK"])?)?;
        let vector = self::fields(field(&fields, "applied")?)?;
        let entry = |(replica, seq): &(String, Value)| -> RedisResult<(String, u64)> {
            Ok((replica.clone(), from_redis_value_ref(seq)?))
        };
        Ok(Clock {
            applied: vector.iter().map(entry).collect::<RedisResult<_>>()?,
            digest: from_redis_value_ref(field(&fields, "digest")?)?,
        })
    }

    pub(super) fn peers(&mut self) -> RedisResult<Vec<PeerView>> {
        let Value::Array(peers) = self.ask(&["CRDT.PEERS"])? else {
            return Err(unexpected("CRDT.PEERS answered no array"));
        };
        let view = |peer: &Value| -> RedisResult<PeerView> {
            let fields = fields(peer)?;
            let link: String = from_redis_value_ref(field(&fields, "link")?)?;
            Ok(PeerView {
                node: from_redis_value_ref(field(&fields, "node")?)?,
                is_up: link == "up",
                lag_ops: from_redis_value_ref(field(&fields, "lag_ops")?)?,
            })
        };
        peers.iter().map(view).collect()
    }
}

/// The pairs of a map, also of one that came as a flat array.
fn fields(value: &Value) -> RedisResult<Vec<(String, Value)>> {
    let named = |name: &Value, value: &Value| -> RedisResult<(String, Value)> {
        Ok((from_redis_value_ref(name)?, value.clone()))
    };
    match value {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| named(name, value)).collect(),
        Value::Array(flat) => {
            let pairs = flat.chunks_exact(2);
            pairs.filter_map(|pair| pair.first().zip(pair.get(1))).map(|(name, value)| named(name, value)).collect()
        }
        _ => Err(unexpected("a map was expected at the door")),
    }
}

fn field<'a>(fields: &'a [(String, Value)], name: &str) -> RedisResult<&'a Value> {
    let found = fields.iter().find(|(candidate, _)| candidate == name);
    found.map(|(_, value)| value).ok_or_else(|| unexpected("the door's answer lacks a field that it should have"))
}

fn unexpected(what: &'static str) -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, what).into()
}
