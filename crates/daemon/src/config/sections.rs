//! The configuration as numbers, addresses and bounds, checked against each other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use replica::{Intervals, Limits as ReplicaLimits};
use resp::{Limits as DoorLimits, Password};
use store::{Durability, RedisTls};
use transport::membership::MembershipTiming;
use transport::{Limits as TransportLimits, NodeId, Timing};

use super::error::{ConfigError, Problem};
use super::value::{OFF, Value, read_mode};
use super::{Origin, Settings};
use crate::log::{Format, Level, LogOptions};

/// Kept unread of a client beyond its largest request, so that the next one is under way already.
const DOOR_INPUT_SPARE_BYTES: usize = 64 << 10;

/// The configuration of one node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Links to other members.
    pub transport: TransportSection,
    /// Times of SWIM.
    pub membership: MembershipTiming,
    /// The store.
    pub store: StoreSection,
    /// The local door.
    pub door: Door,
    /// Health and metrics.
    pub http: Http,
    /// The log.
    pub log: LogSection,
    /// Bounds of the node.
    pub limits: ReplicaLimits,
    /// Intervals of the node, also those of clocks and of collection.
    pub intervals: Intervals,
    /// Whether figures are collected that cost time on the hot path.
    pub stats_enabled: bool,
    /// Addresses of members that take the place of those that the members tell.
    pub peers: BTreeMap<NodeId, Vec<String>>,
}

/// `[transport]`.
#[derive(Clone, Debug)]
pub struct TransportSection {
    /// UDP address.
    pub listen: SocketAddr,
    /// True when nobody set `listen`: where IPv6 is off, the same port of IPv4 does as well.
    pub is_listen_default: bool,
    /// `host:port` under which others reach this node; empty: as `init` or `join` found out.
    pub advertise: Vec<String>,
    /// Threads for packets, cryptography and HTTP.
    pub threads: usize,
    /// Bounds of links.
    pub limits: TransportLimits,
    /// Times of links.
    pub timing: Timing,
}

/// `[store]` and `[redis]`.
#[derive(Clone, Debug)]
pub struct StoreSection {
    /// When a client is answered.
    pub durability: Durability,
    /// The server to use in the place of the embedded store.
    pub redis: Option<Redis>,
}

/// A Redis server for the store.
#[derive(Clone)]
pub struct Redis {
    /// With user and password.
    pub url: String,
    /// Certificates for TLS.
    pub tls: RedisTls,
    /// What all keys begin with; `None`: `crdt:` and the node id.
    pub prefix: Option<String>,
    /// Take a durability that the server does not tell on trust.
    pub trust_unknown_config: bool,
}

/// `[door]`.
#[derive(Clone, Debug)]
pub struct Door {
    /// The Unix socket; `None`: `door.sock` in the node folder.
    pub socket: Option<PathBuf>,
    /// Its mode.
    pub socket_mode: u32,
    /// TCP on the loopback interface with its password.
    pub tcp: Option<(SocketAddr, Password)>,
    /// Clients at a time.
    pub connections_max: usize,
    /// Bytes that all clients hold together.
    pub buffers_bytes_max: usize,
    /// Bounds of one client.
    pub limits: DoorLimits,
}

/// `[http]`.
#[derive(Clone, Debug)]
pub struct Http {
    /// TCP address; `None`: off.
    pub listen: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogSection {
    /// As the log takes it.
    pub options: LogOptions,
}

impl Config {
    /// Takes the settings apart.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that does not fit together.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let read = Read { settings };
        let mut problems = Vec::new();
        let config = Self {
            transport: read.transport(&mut problems),
            membership: read.membership(&mut problems),
            store: read.store(&mut problems),
            door: read.door(&mut problems),
            http: Http { listen: read.listen("http.listen") },
            log: LogSection { options: read.log() },
            limits: read.limits(),
            intervals: read.intervals(&mut problems),
            stats_enabled: read.flag("stats.enabled"),
            peers: settings.peers(),
        };
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { problems }) }
    }
}

impl TransportSection {
    /// `host:port` under which others are told to reach this node: what is configured, else the address to listen on
    /// if it is one of this machine; nothing where neither says it.
    pub fn told_addresses(&self) -> Vec<String> {
        match self.advertise.as_slice() {
            [] if self.listen.ip().is_unspecified() || self.listen.port() == 0 => Vec::new(),
            [] => vec![self.listen.to_string()],
            told => told.to_vec(),
        }
    }
}

/// Values of the schema by their kind.
struct Read<'a> {
    settings: &'a Settings,
}

impl Read<'_> {
    fn number(&self, key: &str) -> u64 {
        match self.settings.value(key) {
            Value::Integer(number) => *number,
            other => unreachable!("{key} is a number in the schema, not {other}"),
        }
    }

    fn size(&self, key: &str) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    /// A number whose range in the schema ends with 32 bits.
    fn small(&self, key: &str) -> u32 {
        u32::try_from(self.number(key)).unwrap_or(u32::MAX)
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.settings.value(key), Value::Boolean(true))
    }

    fn text(&self, key: &str) -> &str {
        match self.settings.value(key) {
            Value::Text(text) => text,
            other => unreachable!("{key} is a text in the schema, not {other}"),
        }
    }

    /// A text that is not empty.
    fn word(&self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn listen(&self, key: &str) -> Option<SocketAddr> {
        Some(self.text(key)).filter(|text| *text != OFF).and_then(|text| text.parse().ok())
    }

    fn conflict(&self, key: &str, reason: impl Into<String>) -> Problem {
        Problem::Conflict { reason: reason.into(), origin: self.settings.origin(key).clone() }
    }

    fn transport(&self, problems: &mut Vec<Problem>) -> TransportSection {
        let limits = TransportLimits {
            message_bytes_max: self.size("transport.message_bytes_max"),
            send_queue_bytes_max: self.size("transport.send_queue_bytes_max"),
            receive_queue_bytes_max: self.size("transport.receive_queue_bytes_max"),
            handshakes_max: self.size("transport.handshakes_max"),
            window_bytes: self.small("transport.window_bytes"),
        };
        if let Err(error) = limits.check() {
            let key = format!("transport.{}", error.field);
            problems.push(self.conflict(&key, format!("transport.{error}")));
        }
        let timing = Timing {
            keep_alive_ms: self.small("transport.keep_alive_ms"),
            idle_timeout_ms: self.small("transport.idle_timeout_ms"),
            handshake_timeout_ms: self.small("transport.handshake_timeout_ms"),
            dial_first_ms: self.small("transport.dial_first_ms"),
            dial_max_ms: self.small("transport.dial_max_ms"),
            dial_second_ms: self.small("transport.dial_second_ms"),
            drain_ms: self.small("transport.drain_ms"),
        };
        if timing.keep_alive_ms > timing.idle_timeout_ms / 3 {
            let reason = format!(
                "transport.keep_alive_ms is {} and must be at most a third of transport.idle_timeout_ms, which is {}",
                timing.keep_alive_ms, timing.idle_timeout_ms
            );
            problems.push(self.conflict("transport.keep_alive_ms", reason));
        }
        if timing.dial_first_ms > timing.dial_max_ms {
            let reason = "transport.dial_first_ms must not be above transport.dial_max_ms";
            problems.push(self.conflict("transport.dial_first_ms", reason));
        }
        let advertise = match self.settings.value("transport.advertise") {
            Value::List(list) => list.clone(),
            other => unreachable!("transport.advertise is a list in the schema, not {other}"),
        };
        TransportSection {
            listen: self.listen("transport.listen").expect("the schema takes addresses only"),
            is_listen_default: *self.settings.origin("transport.listen") == Origin::Default,
            advertise,
            threads: self.size("transport.threads"),
            limits,
            timing,
        }
    }

    fn membership(&self, problems: &mut Vec<Problem>) -> MembershipTiming {
        let timing = MembershipTiming {
            probe_ms: self.small("membership.probe_ms"),
            probe_rtt_ms: self.small("membership.probe_rtt_ms"),
            suspect_ms: self.small("membership.suspect_ms"),
            announce_ms: self.small("membership.announce_ms"),
        };
        if timing.probe_rtt_ms > timing.probe_ms / 2 {
            let reason = format!(
                "membership.probe_rtt_ms is {} and must be at most half of membership.probe_ms, which is {}",
                timing.probe_rtt_ms, timing.probe_ms
            );
            problems.push(self.conflict("membership.probe_rtt_ms", reason));
        }
        if timing.suspect_ms < timing.probe_ms {
            let reason = format!(
                "membership.suspect_ms is {} and must not be below membership.probe_ms, {}: a suspect hears of it with a \
                 probe",
                timing.suspect_ms, timing.probe_ms
            );
            problems.push(self.conflict("membership.suspect_ms", reason));
        }
        timing
    }

    fn store(&self, problems: &mut Vec<Problem>) -> StoreSection {
        let durability = self.text("store.durability").parse().unwrap_or_default();
        let (url, host) = (self.word("redis.url"), self.word("redis.host"));
        if url.is_some() && host.is_some() {
            let reason = "redis.url and redis.host are both set; keep one of them";
            problems.push(self.conflict("redis.host", reason));
        }
        let tls = self.redis_tls(problems);
        let redis = url.or_else(|| host.map(|host| self.redis_url(&host))).map(|url| Redis {
            url,
            tls,
            prefix: self.word("redis.prefix"),
            trust_unknown_config: self.flag("redis.trust_unknown_config"),
        });
        StoreSection { durability, redis }
    }

    fn redis_tls(&self, problems: &mut Vec<Problem>) -> RedisTls {
        let path = |key| self.word(key).map(PathBuf::from);
        let (certificate, key) = (path("redis.tls_certificate"), path("redis.tls_key"));
        if certificate.is_some() != key.is_some() {
            let set = if key.is_some() { "redis.tls_key" } else { "redis.tls_certificate" };
            let reason = "redis.tls_certificate and redis.tls_key belong together; set both or none";
            problems.push(self.conflict(set, reason));
        }
        let tls = RedisTls { ca: path("redis.tls_ca"), client: certificate.zip(key) };
        let url = self.text("redis.url");
        // The same in any case of letters, as in every URL.
        let is_secured = |url: &str| url.get(..9).is_some_and(|scheme| scheme.eq_ignore_ascii_case("rediss://"));
        if !url.is_empty() && !is_secured(url) {
            for given in ["redis.tls", "redis.tls_ca", "redis.tls_certificate"] {
                if *self.settings.origin(given) != Origin::Default
                    && !matches!(self.settings.value(given), Value::Boolean(false))
                {
                    let reason = format!("{given} is set, and redis.url asks for no TLS; begin it with rediss://");
                    problems.push(self.conflict(given, reason));
                }
            }
        }
        if !self.text("redis.host").is_empty() && !self.flag("redis.tls") && !tls.is_empty() {
            let reason = "redis.tls_ca and redis.tls_certificate need redis.tls = true beside redis.host";
            let set = if tls.ca.is_some() { "redis.tls_ca" } else { "redis.tls_certificate" };
            problems.push(self.conflict(set, reason));
        }
        if self.text("redis.host").starts_with('/') && self.flag("redis.tls") {
            problems.push(self.conflict("redis.tls", "redis.tls is set, and redis.host is a Unix socket; unset one"));
        }
        tls
    }

    fn redis_url(&self, host: &str) -> String {
        let (user, password) = (percent(self.text("redis.user")), percent(self.text("redis.password")));
        let database = self.number("redis.database");
        if host.starts_with('/') {
            let mut url = format!("unix://{host}?db={database}");
            for (name, value) in [("user", user), ("pass", password)] {
                if !value.is_empty() {
                    url.push_str(&format!("&{name}={value}"));
                }
            }
            return url;
        }
        let login = if user.is_empty() && password.is_empty() { String::new() } else { format!("{user}:{password}@") };
        // An IPv6 address stands in brackets in a URL.
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let scheme = if self.flag("redis.tls") { "rediss" } else { "redis" };
        format!("{scheme}://{login}{host}:{}/{database}", self.number("redis.port"))
    }

    fn door(&self, problems: &mut Vec<Problem>) -> Door {
        let limits = DoorLimits {
            frame_bytes_max: self.size("door.frame_bytes_max"),
            arguments_max: self.size("door.arguments_max"),
            bulk_bytes_max: self.size("door.bulk_bytes_max"),
            input_bytes_max: self.size("door.frame_bytes_max").saturating_add(DOOR_INPUT_SPARE_BYTES),
            replies_max: self.size("door.replies_max"),
            output_bytes_max: self.size("door.output_bytes_max"),
            transaction_commands_max: self.size("door.transaction_commands_max"),
            transaction_bytes_max: self.size("door.transaction_bytes_max"),
            databases_max: self.small("door.databases_max"),
            ..DoorLimits::default()
        };
        if limits.bulk_bytes_max > limits.frame_bytes_max {
            let reason = "door.bulk_bytes_max must not be above door.frame_bytes_max";
            problems.push(self.conflict("door.bulk_bytes_max", reason));
        }
        let buffers_bytes_max = self.size("door.buffers_bytes_max");
        // So that one client with the largest request behind the largest replies is not cut off for another such one.
        let least = 2 * (limits.frame_bytes_max + limits.output_bytes_max);
        if buffers_bytes_max < least {
            let reason = format!(
                "door.buffers_bytes_max is {buffers_bytes_max} and must be at least {least}: twice door.frame_bytes_max and \
                 door.output_bytes_max together"
            );
            problems.push(self.conflict("door.buffers_bytes_max", reason));
        }
        let listen = self.listen("door.listen");
        let password = Password::new(self.text("door.password").as_bytes());
        if listen.is_some() && password.is_none() {
            let reason = "door.listen needs door.password: every program of this machine reaches a TCP port";
            problems.push(self.conflict("door.listen", reason));
        }
        Door {
            socket: self.word("door.socket").map(PathBuf::from),
            socket_mode: read_mode(self.text("door.socket_mode")).expect("the schema takes modes only"),
            tcp: listen.zip(password),
            connections_max: self.size("door.connections_max"),
            buffers_bytes_max,
            limits,
        }
    }

    fn log(&self) -> LogOptions {
        LogOptions {
            level: Level::parse(self.text("log.level")).expect("the schema takes levels only"),
            format: if self.text("log.format") == "json" { Format::Json } else { Format::Text },
            to_stderr: self.flag("log.stderr"),
            file: self.word("log.file").map(PathBuf::from),
            file_bytes_max: self.number("log.file_bytes_max"),
            files_kept: self.small("log.files_kept"),
        }
    }

    fn limits(&self) -> ReplicaLimits {
        ReplicaLimits {
            beyond_gap_batches_max: self.size("limits.beyond_gap_batches_max"),
            batch_changes_max: self.size("limits.batch_changes_max"),
            pull_bytes_max: self.size("limits.pull_bytes_max"),
            message_bytes_max: self.size("limits.message_bytes_max"),
            log_bytes_max: self.size("limits.log_bytes_max"),
            origin_turn_changes: self.size("limits.origin_turn_changes"),
            chunk_bytes_max: self.size("limits.chunk_bytes_max"),
            snapshot_preimage_bytes_max: self.size("limits.snapshot_preimage_bytes_max"),
            gc_slice_keys: self.size("gc.slice_keys"),
            gc_threshold: self.number("gc.threshold"),
            // Of a database behind the node, which is not here yet; and of the blast brake.
            ..ReplicaLimits::default()
        }
    }

    fn intervals(&self, problems: &mut Vec<Problem>) -> Intervals {
        let intervals = Intervals {
            digest_ms: self.number("sync.digest_ms"),
            digest_min_ms: self.number("sync.digest_min_ms"),
            digest_max_ms: self.number("sync.digest_max_ms"),
            retry_ms: self.number("sync.retry_ms"),
            listen_ms: self.number("sync.listen_ms"),
            gc_ms: self.number("gc.interval_ms"),
            journal_retention_ms: self.number("gc.journal_retention_ms"),
            skew_warn_ms: self.number("clock.skew_warn_ms"),
            skew_bound_ms: self.number("clock.skew_bound_ms"),
            skew_delay_ms: self.number("clock.skew_delay_ms"),
            skew_fence_ms: self.number("clock.skew_fence_ms"),
            ..Intervals::default()
        };
        let orders = [
            ("sync.digest_min_ms", intervals.digest_min_ms, "sync.digest_ms", intervals.digest_ms),
            ("sync.digest_ms", intervals.digest_ms, "sync.digest_max_ms", intervals.digest_max_ms),
            ("clock.skew_warn_ms", intervals.skew_warn_ms, "clock.skew_bound_ms", intervals.skew_bound_ms),
            ("clock.skew_bound_ms", intervals.skew_bound_ms, "clock.skew_fence_ms", intervals.skew_fence_ms),
        ];
        for (lower, low, upper, high) in orders {
            if low > high {
                problems.push(self.conflict(lower, format!("{lower} is {low} and must not be above {upper}, {high}")));
            }
        }
        intervals
    }
}

/// Escapes what has a meaning of its own in a URL (RFC 3986).
fn percent(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => {
                escaped.push(char::from(byte));
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Without the password.
impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Redis").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
