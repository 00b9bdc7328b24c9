//! Asking a door, or a Redis, what it knows. Not for what is measured: see `wire`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use redis::{
    Client, Cmd, Connection, ConnectionAddr, FromRedisValue, IntoConnectionInfo, ProtocolVersion, RedisResult, Value,
    from_redis_value_ref,
};

use crate::failure::Failure;

/// Longer than any answer of a busy server should take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// One connection by RESP3.
pub(crate) struct Door {
    who: String,
    connection: Connection,
}

/// What a node has applied and shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Clock {
    /// Sequence by replica id, without zeros.
    pub(crate) applied: BTreeMap<String, u64>,
    pub(crate) digest: String,
}

impl Clock {
    /// Operations applied, over all replicas.
    pub(crate) fn operations(&self) -> u64 {
        self.applied.values().sum()
    }
}

impl Door {
    pub(crate) fn open(who: &str, socket: &Path) -> Result<Self, Failure> {
        let connection = connect(socket).map_err(Failure::server(who, "a connection"))?;
        Ok(Self { who: who.to_owned(), connection })
    }

    /// Asks one command.
    pub(crate) fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, Failure> {
        let mut command = Cmd::new();
        command.arg(words);
        command.query(&mut self.connection).map_err(Failure::server(&self.who, &words.join(" ")))
    }

    pub(crate) fn clock(&mut self) -> Result<Clock, Failure> {
        let asked = "CRDT.CLOCK";
        let answer: Value = self.ask(&[asked])?;
        let applied = self.fields(asked, self.field(asked, &answer, "applied")?)?;
        let mut clock = Clock { applied: BTreeMap::new(), digest: self.text(asked, &answer, "digest")? };
        for (replica, seq) in applied {
            let seq: u64 = from_redis_value_ref(&seq).map_err(|_| self.unexpected(asked, &seq))?;
            if seq > 0 {
                clock.applied.insert(replica, seq);
            }
        }
        Ok(clock)
    }

    /// Names of the members to which a link is up.
    pub(crate) fn linked(&mut self) -> Result<Vec<String>, Failure> {
        let asked = "CRDT.PEERS";
        let answer: Value = self.ask(&[asked])?;
        let Value::Array(peers) = &answer else { return Err(self.unexpected(asked, &answer)) };
        let mut linked = Vec::new();
        for peer in peers {
            if self.text(asked, peer, "link")? == "up" {
                linked.push(self.text(asked, peer, "node")?);
            }
        }
        Ok(linked)
    }

    /// Which of these members do not have the same vector and digest, by the engine's own comparison, and in what.
    pub(crate) fn differing(&mut self, members: &[String]) -> Result<Vec<String>, Failure> {
        let asked = "CRDT.VERIFY";
        let answer: Value = self.ask(&[asked])?;
        let mut differing = Vec::new();
        let verdicts = self.fields(asked, &answer)?;
        for member in members {
            let Some((node, verdict)) = verdicts.iter().find(|(node, _)| node == member) else {
                differing.push(format!("{member} was not compared"));
                continue;
            };
            for name in ["vector_equal", "digest_equal"] {
                let value = self.field(asked, verdict, name)?;
                let is_equal: bool = from_redis_value_ref(value).map_err(|_| self.unexpected(asked, value))?;
                if !is_equal {
                    differing.push(format!("{node}: {name} is false"));
                }
            }
        }
        Ok(differing)
    }

    /// The sum of the metrics whose names match.
    pub(crate) fn metric(&mut self, pattern: &str) -> Result<f64, Failure> {
        let asked = "CRDT.STATS";
        let answer: Value = self.ask(&[asked, pattern])?;
        let metrics = self.fields(asked, &answer)?;
        if metrics.is_empty() {
            return Err(Failure::Answer {
                who: self.who.clone(),
                asked: format!("{asked} {pattern}"),
                answered: "no metric".to_owned(),
            });
        }
        let mut sum = 0.0;
        for (_, value) in &metrics {
            sum += from_redis_value_ref::<f64>(value).map_err(|_| self.unexpected(asked, value))?;
        }
        Ok(sum)
    }

    fn fields(&self, asked: &str, value: &Value) -> Result<Vec<(String, Value)>, Failure> {
        let Value::Map(pairs) = value else { return Err(self.unexpected(asked, value)) };
        let named = |(name, value): &(Value, Value)| -> Result<(String, Value), Failure> {
            Ok((from_redis_value_ref(name).map_err(|_| self.unexpected(asked, name))?, value.clone()))
        };
        pairs.iter().map(named).collect()
    }

    fn field<'a>(&self, asked: &str, value: &'a Value, name: &str) -> Result<&'a Value, Failure> {
        let Value::Map(pairs) = value else { return Err(self.unexpected(asked, value)) };
        let is_it = |key: &Value| from_redis_value_ref::<String>(key).is_ok_and(|key| key == name);
        let found = pairs.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value);
        found.ok_or_else(|| self.unexpected(asked, value))
    }

    fn text(&self, asked: &str, value: &Value, name: &str) -> Result<String, Failure> {
        let found = self.field(asked, value, name)?;
        from_redis_value_ref(found).map_err(|_| self.unexpected(asked, found))
    }

    fn unexpected(&self, asked: &str, answered: &Value) -> Failure {
        Failure::Answer { who: self.who.clone(), asked: asked.to_owned(), answered: format!("{answered:?}") }
    }
}

fn connect(socket: &Path) -> RedisResult<Connection> {
    let info = ConnectionAddr::Unix(socket.to_owned()).into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let connection = Client::open(info.set_redis_settings(settings))?.get_connection_with_timeout(ANSWER_TIMEOUT)?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(connection)
}
