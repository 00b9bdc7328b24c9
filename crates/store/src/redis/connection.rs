//! One connection to a Redis server, with its errors told apart.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ::redis::{
    Client, Cmd, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError,
    ServerErrorKind, Value, cmd, pipe,
};

use super::text;
use super::tls::RedisTls;
use crate::{Durability, StoreError};

/// Fields of a hash with their values.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// How long a connection or an answer may take. A fork or a slow disk of the server holds it up for a second or two.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broken connection is tried again before the store gives up.
const RECONNECT_FOR: Duration = Duration::from_secs(10);
const RECONNECT_EVERY: Duration = Duration::from_millis(50);

/// The connection, and which process is behind it.
pub(super) struct Link {
    client: Client,
    /// Without the password.
    address: String,
    connection: Connection,
    run_id: String,
}

impl Link {
    /// Connects by RESP3; `tls` is for an address that asks for TLS, and an error for any other.
    pub(super) fn connect(url: &str, tls: &RedisTls) -> Result<Self, StoreError> {
        let unusable = |message: String| StoreError::Address { message };
        let info = url.into_connection_info().map_err(|error| unusable(error.to_string()))?;
        let address = info.addr().to_string();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let is_tls = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(unusable("#insecure would trust anybody; name the CA of the server instead".to_owned()));
            }
            ConnectionAddr::TcpTls { .. } => true,
            _ => false,
        };
        let info = info.set_redis_settings(settings);
        let client = match is_tls {
            true => Client::build_with_tls(info, tls.read()?).map_err(|error| tls_error(&address, &error))?,
            false if tls.is_empty() => Client::open(info).map_err(|error| unusable(error.to_string()))?,
            false => return Err(unusable("it has certificates and no TLS; write rediss://".to_owned())),
        };
        let (connection, run_id) = greet(&client, &address)?;
        Ok(Self { client, address, connection, run_id })
    }

    /// `run_id` of the server process.
    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Connects again after a break; another process behind the address is an error.
    pub(super) fn reconnect(&mut self) -> Result<(), StoreError> {
        let until = Instant::now() + RECONNECT_FOR;
        loop {
            match greet(&self.client, &self.address) {
                Ok((connection, run_id)) if run_id == self.run_id => {
                    self.connection = connection;
                    return Ok(());
                }
                Ok((_, now)) => return Err(StoreError::Restarted { before: self.run_id.clone(), now }),
                Err(StoreError::Unreachable { .. }) if Instant::now() < until => thread::sleep(RECONNECT_EVERY),
                Err(error) => return Err(error),
            }
        }
    }

    /// Refuses a server that promises less than asked for.
    pub(super) fn check_promises(&mut self, durability: Durability, trust_unknown: bool) -> Result<(), StoreError> {
        let role = self.info("replication", "role")?.unwrap_or_default();
        if role != "master" {
            return Err(StoreError::ReadOnly { message: format!("the server's role is {role}") });
        }
        let syncs: &[&str] = match durability {
            Durability::Always => &["always"],
            Durability::Everysec => &["everysec", "always"],
        };
        // What has no time to live is only taken by the policies for all keys.
        let policies = &["noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"];
        let wanted: [(&str, &[&str]); 3] =
            [("appendonly", &["yes"]), ("appendfsync", syncs), ("maxmemory-policy", policies)];
        for (name, values) in wanted {
            let mut ask = cmd("CONFIG");
            ask.arg("GET").arg(name);
            let found = match self.ask(&ask) {
                Ok(answer) => pairs(answer).pop().and_then(|(_, value)| String::from_utf8(value).ok()),
                Err(StoreError::Denied { .. } | StoreError::Service { .. }) => None,
                Err(error) => return Err(error),
            };
            match found {
                Some(found) if values.contains(&found.as_str()) => {}
                None if trust_unknown => {}
                found => {
                    let found = found.unwrap_or_else(|| "no answer".into());
                    return Err(StoreError::Weak { needed: format!("{name} {}", values[0]), found });
                }
            }
        }
        Ok(())
    }

    /// A string, if there is one.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        let mut get = cmd("GET");
        get.arg(key);
        match self.ask(&get)? {
            Value::Nil => Ok(None),
            answer => match text(&answer) {
                Some(text) => Ok(Some(text)),
                None => Err(StoreError::Service { message: format!("GET {key} is no text") }),
            },
        }
    }

    /// Sets a string.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        let mut set = cmd("SET");
        set.arg(key).arg(value);
        self.ask(&set).map(drop)
    }

    /// A field of a hash.
    pub(super) fn field(&mut self, hash: &str, field: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut get = cmd("HGET");
        get.arg(hash).arg(field);
        let answer = match self.ask(&get) {
            Err(StoreError::Unreachable { .. }) => {
                self.reconnect()?;
                self.ask(&get)?
            }
            answer => answer?,
        };
        match answer {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            _ => Err(StoreError::Service { message: format!("HGET {hash} is no string") }),
        }
    }

    /// All pairs of some hashes, in one round trip.
    pub(super) fn hashes(&mut self, names: &[String]) -> Result<Pairs, StoreError> {
        let mut all = pipe();
        for name in names {
            all.cmd("HGETALL").arg(name);
        }
        match self.run(&all)? {
            Value::Array(answers) if answers.len() == names.len() => Ok(answers.into_iter().flat_map(pairs).collect()),
            _ => Err(StoreError::Service { message: "HGETALL without an answer to each".into() }),
        }
    }

    /// Bytes that the server holds, 0 when it does not say.
    pub(super) fn used_memory(&mut self) -> u64 {
        let used = self.info("memory", "used_memory").ok().flatten();
        used.and_then(|used| used.parse().ok()).unwrap_or_default()
    }

    /// Runs a pipeline; its answers, without the ignored ones, as a list.
    pub(super) fn run(&mut self, pipe: &Pipeline) -> Result<Value, StoreError> {
        pipe.query(&mut self.connection).map_err(|error| store_error(&self.address, error))
    }

    fn ask(&mut self, command: &Cmd) -> Result<Value, StoreError> {
        command.query(&mut self.connection).map_err(|error| store_error(&self.address, error))
    }

    fn info(&mut self, section: &str, field: &str) -> Result<Option<String>, StoreError> {
        let mut info = cmd("INFO");
        info.arg(section);
        Ok(info_field(&self.ask(&info)?, field))
    }
}

/// Connects and learns which process answers.
fn greet(client: &Client, address: &str) -> Result<(Connection, String), StoreError> {
    let failed = |error| store_error(address, error);
    let mut connection = client.get_connection_with_timeout(ANSWER_TIMEOUT).map_err(failed)?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    connection.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    let mut info = cmd("INFO");
    info.arg("server");
    let answer: Value = info.query(&mut connection).map_err(failed)?;
    match info_field(&answer, "run_id") {
        Some(run_id) if !run_id.is_empty() => Ok((connection, run_id)),
        _ => Err(StoreError::Service { message: "INFO server has no run_id".into() }),
    }
}

/// A field of the text that `INFO` answers.
fn info_field(answer: &Value, field: &str) -> Option<String> {
    let text = match answer {
        Value::VerbatimString { text, .. } => text.clone(),
        answer => text(answer)?,
    };
    let mut lines = text.lines();
    lines.find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim_end().to_owned()))
}

/// Pairs of a map, which RESP2 writes as a list.
fn pairs(answer: Value) -> Pairs {
    let bytes = |value| match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    };
    match answer {
        Value::Map(pairs) => pairs.into_iter().map(|(key, value)| (bytes(key), bytes(value))).collect(),
        Value::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| Some((bytes(items.next()?), bytes(items.next()?)))).collect()
        }
        _ => Vec::new(),
    }
}

/// TLS did not come about.
fn tls_error(address: &str, message: &impl ToString) -> StoreError {
    StoreError::Tls { address: address.to_owned(), message: message.to_string() }
}

/// What TLS says of an error, if it is one of TLS: the system's error is around it.
fn tls_cause(error: &RedisError) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // SUBTLE: the library wraps causes in `Arc`, and the system's error shows its own only this way.
        cause = match error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            Some(shared) => Some(shared.as_ref()),
            None => match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            },
        };
    }
    None
}

/// Tells the library's errors apart by what is to be done.
fn store_error(address: &str, error: RedisError) -> StoreError {
    if let Some(cause) = tls_cause(&error) {
        return tls_error(address, cause);
    }
    let message = error.to_string();
    let kind = error.kind();
    // A transaction that was refused says only EXECABORT; the commands in it say why.
    let mut codes: Vec<String> = error.code().map(str::to_owned).into_iter().collect();
    let is_broken = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
    if let Some(errors) = error.into_server_errors() {
        codes.extend(errors.iter().map(|(_, error)| error.code().to_owned()));
    }
    let says = |code: &str| codes.iter().any(|said| said == code);
    if is_broken || says("LOADING") {
        StoreError::Unreachable { address: address.to_owned(), message }
    } else if says("OOM") {
        StoreError::Full { place: format!("Redis at {address}"), message }
    } else if says("READONLY") || says("MISCONF") || kind == ErrorKind::Server(ServerErrorKind::ReadOnly) {
        StoreError::ReadOnly { message }
    } else if kind == ErrorKind::AuthenticationFailed || says("NOAUTH") || says("WRONGPASS") || says("NOPERM") {
        StoreError::Denied { message }
    } else {
        StoreError::Service { message }
    }
}
