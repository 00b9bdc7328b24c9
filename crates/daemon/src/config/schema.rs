//! Every setting: name, values, default, meaning. Files, variables, flags and documents are read and written by it.

use super::value::Kind;

/// One setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// `section.name`.
    pub key: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// The default, as text.
    pub default: &'static str,
    /// What it does, and what to mind when it is changed.
    pub meaning: &'static str,
    /// Not to be shown.
    pub is_secret: bool,
}

/// Sections, in the order of documents, each with what it is about.
pub const SECTIONS: [(&str, &str); 12] = [
    ("transport", "Links to the other members: QUIC over UDP, TLS 1.3 with certificates on both sides."),
    ("membership", "Who is alive: SWIM, which members speak over their links."),
    ("store", "Where this node keeps what it knows. Embedded in the folder state, unless [redis] names a server."),
    ("redis", "The store in a Redis 7: used as soon as url or host is set."),
    ("door", "The local door, which speaks Redis' protocol."),
    ("http", "Health and metrics."),
    ("log", "The log of the engine."),
    ("limits", "Bounds of memory and of single pieces of work."),
    ("sync", "How often nodes compare what they have."),
    ("clock", "What happens when clocks differ. Keep NTP running on every machine."),
    ("gc", "Collection of what no member needs any more."),
    ("stats", "Statistics."),
];

/// Begins the keys that name a member each: `peers.node_02`.
pub const PEERS: &str = "peers";
/// What [`PEERS`] is about.
pub const PEERS_MEANING: &str = "Addresses of members, NODE_ID = [\"HOST:PORT\"]. Only needed where the addresses that \
                                 the members tell each other are wrong from here, as behind NAT.";

const fn number(
    key: &'static str,
    default: &'static str,
    least: u64,
    most: u64,
    unit: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting { key, kind: Kind::Integer { least, most, unit }, default, meaning, is_secret: false }
}

const fn bytes(key: &'static str, default: &'static str, least: u64, most: u64, meaning: &'static str) -> Setting {
    number(key, default, least, most, "bytes", meaning)
}

const fn ms(key: &'static str, default: &'static str, least: u64, most: u64, meaning: &'static str) -> Setting {
    number(key, default, least, most, "milliseconds", meaning)
}

const fn other(key: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, kind, default, meaning, is_secret: false }
}

const fn secret(key: &'static str, meaning: &'static str) -> Setting {
    Setting { key, kind: Kind::Text, default: "", meaning, is_secret: true }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 3_600_000;
/// Largest value of a field that has 32 bits.
const U32: u64 = u32::MAX as u64;

/// All settings, section by section.
pub const SETTINGS: &[Setting] = &[
    other(
        "transport.listen",
        Kind::Listen { can_be_off: false, loopback_only: false },
        "[::]:8888",
        "UDP address for the other members. [::] takes IPv4 too.",
    ),
    other(
        "transport.advertise",
        Kind::Addresses,
        "",
        "Where the other members reach this node. Empty: what init or join found out.",
    ),
    number("transport.threads", "2", 1, 64, "threads", "Threads for packets, cryptography and HTTP."),
    ms(
        "transport.keep_alive_ms",
        "4000",
        50,
        MINUTE_MS,
        "A silent link sends something after this. At most a third of idle_timeout_ms, else two lost packets end it.",
    ),
    ms(
        "transport.idle_timeout_ms",
        "15000",
        500,
        10 * MINUTE_MS,
        "A link over which nothing was heard for this long is down.",
    ),
    ms("transport.handshake_timeout_ms", "10000", 500, MINUTE_MS, "A handshake must be done in this time."),
    ms(
        "transport.dial_first_ms",
        "250",
        10,
        MINUTE_MS,
        "Wait before the second attempt to dial; it doubles with each further one.",
    ),
    ms("transport.dial_max_ms", "15000", 10, 60 * MINUTE_MS, "Longest wait between two attempts to dial."),
    ms(
        "transport.dial_second_ms",
        "3000",
        0,
        MINUTE_MS,
        "The smaller node id dials; the other one too, after so long without a link; a node that starts for the first time, after dial_first_ms.",
    ),
    ms("transport.drain_ms", "2000", 0, MINUTE_MS, "How long an orderly end waits until what is queued is sent."),
    bytes(
        "transport.message_bytes_max",
        "9437184",
        9 * MIB,
        512 * MIB,
        "Largest message. The largest batch must fit, and all members need the same.",
    ),
    bytes(
        "transport.send_queue_bytes_max",
        "33554432",
        10 * MIB,
        GIB,
        "What may wait for one slow member. Above it the link is reset, and what was lost is pulled later.",
    ),
    bytes(
        "transport.receive_queue_bytes_max",
        "16777216",
        10 * MIB,
        GIB,
        "What may wait from one member. At it the member is slowed.",
    ),
    number("transport.handshakes_max", "64", 1, 4_096, "handshakes", "Handshakes of strangers at a time."),
    bytes(
        "transport.window_bytes",
        "4194304",
        64 * KIB,
        GIB,
        "Bytes under way to one member: a link carries at most this in one round trip.",
    ),
    ms(
        "membership.probe_ms",
        "5000",
        100,
        10 * MINUTE_MS,
        "Between two probes, each of one other member. As foca, which does SWIM here, and memberlist have it for a WAN.",
    ),
    ms(
        "membership.probe_rtt_ms",
        "2000",
        50,
        5 * MINUTE_MS,
        "A probe that is not answered in this time is asked of other members: the slowest round trip with a packet lost \
         and sent again. At most half of probe_ms, so that there is time for the others' answers.",
    ),
    ms(
        "membership.suspect_ms",
        "30000",
        200,
        60 * MINUTE_MS,
        "A suspect that does not answer for itself in this time is down. Six probes, as foca has it for a WAN: a member \
         that is slow for a moment is not to be called dead.",
    ),
    ms(
        "membership.announce_ms",
        "5000",
        100,
        10 * MINUTE_MS,
        "A node that knows of nobody alive announces itself again after this, to everybody it has a link to.",
    ),
    other(
        "store.durability",
        Kind::Choice(&["everysec", "always"]),
        "everysec",
        "When a client is answered. everysec: kill -9 loses nothing, a power cut up to the last second. always: after \
         the fsync.",
    ),
    secret(
        "redis.url",
        "redis://[user:password@]host:port/db, rediss:// of the same form for TLS, or unix:///path?db=N. Not together \
         with host.",
    ),
    other("redis.host", Kind::Text, "", "Host name, or the absolute path of a Unix socket."),
    number("redis.port", "6379", 1, 65_535, "", "TCP port beside host."),
    other("redis.user", Kind::Text, "", "User of the ACL beside host; empty: the default user."),
    secret("redis.password", "Password beside host."),
    number("redis.database", "0", 0, 1_023, "", "Database beside host, from 0."),
    other("redis.tls", Kind::Boolean, "false", "TLS beside host; in a url it is rediss://."),
    other(
        "redis.tls_ca",
        Kind::Path,
        "",
        "CA of the server (PEM). Empty: those that this machine trusts. TLS is 1.3, and the name is always checked.",
    ),
    other("redis.tls_certificate", Kind::Path, "", "Certificate (PEM) for a server that asks clients for one."),
    other("redis.tls_key", Kind::Path, "", "Its private key (PEM)."),
    other("redis.prefix", Kind::Text, "", "What all keys of this node begin with. Empty: crdt:NODE_ID."),
    other(
        "redis.trust_unknown_config",
        Kind::Boolean,
        "false",
        "Take the durability of a server on trust that does not tell it, as hosted ones do.",
    ),
    other("door.socket", Kind::Path, "", "Unix socket. Empty: door.sock in the node folder."),
    other("door.socket_mode", Kind::Mode, "0660", "Who may connect: whoever may write to the socket."),
    other(
        "door.listen",
        Kind::Listen { can_be_off: true, loopback_only: true },
        "off",
        "TCP address beside the Unix socket. Needs password.",
    ),
    secret("door.password", "What clients over TCP say with AUTH."),
    number("door.connections_max", "1024", 1, 65_536, "connections", "Clients at a time. Further ones are refused."),
    bytes("door.frame_bytes_max", "8388608", 64 * KIB, 64 * MIB, "Largest request of a client."),
    bytes("door.bulk_bytes_max", "4194304", KIB, 4 * MIB, "Largest argument of a request, so also the largest value."),
    number("door.arguments_max", "65536", 16, 1_048_576, "arguments", "Most arguments of one request."),
    number("door.replies_max", "4096", 1, 65_536, "replies", "Replies of one client that wait for their fsync."),
    bytes(
        "door.output_bytes_max",
        "1048576",
        KIB,
        GIB,
        "Replies that a client has not taken. Above it none of its requests is read.",
    ),
    number("door.transaction_commands_max", "10000", 1, 10_000, "commands", "Between MULTI and EXEC."),
    bytes("door.transaction_bytes_max", "8388608", KIB, 64 * MIB, "Between MULTI and EXEC."),
    bytes(
        "door.buffers_bytes_max",
        "134217728",
        MIB,
        64 * GIB,
        "All that clients have sent and not finished, queued in transactions, or not taken of their replies, together. \
         Above it those who hold most are cut off. At least twice frame_bytes_max and output_bytes_max together.",
    ),
    number("door.databases_max", "16", 1, 65_536, "databases", "Databases that SELECT takes."),
    other(
        "http.listen",
        Kind::Listen { can_be_off: true, loopback_only: false },
        "127.0.0.1:9100",
        "TCP address of /healthz, /readyz and /metrics, which know no password. If it is taken, the engine runs on, \
         and tries again.",
    ),
    other("log.level", Kind::Choice(&["error", "warn", "info", "debug"]), "info", "Lines below are left out."),
    other("log.format", Kind::Choice(&["text", "json"]), "text", "How lines look."),
    other("log.stderr", Kind::Boolean, "true", "Write to standard error, which is the journal under systemd."),
    other("log.file", Kind::Path, "", "Also write to this file."),
    bytes("log.file_bytes_max", "10485760", 64 * KIB, GIB, "The file is rotated before it becomes larger."),
    number("log.files_kept", "5", 0, 100, "files", "Rotated files that are kept."),
    number(
        "limits.beyond_gap_batches_max",
        "1024",
        16,
        65_536,
        "batches",
        "Kept beyond a gap; further ones are dropped and pulled again.",
    ),
    number("limits.batch_changes_max", "10000", 1, 10_000, "changes", "Most changes of one batch."),
    bytes("limits.pull_bytes_max", "4194304", 64 * KIB, 64 * MIB, "Asked for in one pull."),
    bytes("limits.message_bytes_max", "1048576", 4 * KIB, 8 * MIB, "Batches that travel in one message."),
    bytes(
        "limits.log_bytes_max",
        "1073741824",
        4 * KIB,
        1 << 40,
        "Log kept for members that are away. Above it what is applied here is cut, and they take a snapshot.",
    ),
    number(
        "limits.origin_turn_changes",
        "1000",
        1,
        1_000_000,
        "changes",
        "Applied of one origin before it is another's turn.",
    ),
    bytes(
        "limits.chunk_bytes_max",
        "262144",
        4 * KIB,
        2 * MIB,
        "One chunk of a snapshot; eight are on their way at once.",
    ),
    bytes(
        "limits.snapshot_preimage_bytes_max",
        "67108864",
        MIB,
        16 * GIB,
        "Old values kept for a snapshot that is being sent; above it the snapshot starts over.",
    ),
    ms("sync.digest_ms", "1000", 10, MINUTE_MS, "Between two digests to a member, at first."),
    ms("sync.digest_min_ms", "50", 10, MINUTE_MS, "The shortest interval of digests."),
    ms("sync.digest_max_ms", "15000", 10, 10 * MINUTE_MS, "The longest interval of digests."),
    ms("sync.retry_ms", "2000", 50, MINUTE_MS, "What was asked for and did not come is asked for again."),
    ms(
        "sync.listen_ms",
        "1000",
        0,
        MINUTE_MS,
        "A node that starts takes no write until every member that is reached told what it knows, or for this long.",
    ),
    ms("clock.skew_warn_ms", "500", 1, DAY_MS, "Difference at which a warning is given."),
    ms("clock.skew_bound_ms", "5000", 10, DAY_MS, "Difference above which a clock is not followed."),
    ms("clock.skew_delay_ms", "60000", 0, 60 * MINUTE_MS, "How long a batch of such a clock is delayed at most."),
    ms(
        "clock.skew_fence_ms",
        "86400000",
        MINUTE_MS,
        U32 * 1_000,
        "Difference above which an origin is fenced until somebody releases it.",
    ),
    number("gc.threshold", "10000", 1, U32, "removals", "Remains above which the next slice comes ten times sooner."),
    number("gc.slice_keys", "1000", 1, 1_000_000, "keys", "Work of one slice."),
    ms("gc.interval_ms", "60000", 100, DAY_MS, "Between two slices."),
    ms(
        "gc.journal_retention_ms",
        "2592000000",
        MINUTE_MS,
        3_660 * DAY_MS,
        "How long an entry of the conflict journal is kept at least.",
    ),
    other(
        "stats.enabled",
        Kind::Boolean,
        "true",
        "Collect figures that cost time on the hot path. Health and drift are told anyway.",
    ),
];

impl Setting {
    /// The setting with this key.
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Section and name.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("CRDT_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_has_a_section_a_name_of_its_own_and_a_default_that_fits() {
        let mut variables = BTreeSet::new();
        let mut sections: Vec<&str> = SETTINGS.iter().map(|setting| setting.parts().0).collect();
        sections.dedup();
        assert_eq!(sections, SECTIONS.map(|(name, _)| name), "each section once, in order");
        for setting in SETTINGS {
            assert!(variables.insert(setting.variable()), "{} has a variable of its own", setting.key);
            assert!(setting.kind.read(setting.default).is_ok(), "the default of {}", setting.key);
            assert!(setting.meaning.ends_with('.'), "{} is explained by sentences", setting.key);
            let text = setting.key;
            assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_')), "{text}");
        }
    }

    #[test]
    fn the_variables_that_people_know_exist() {
        for known in ["CRDT_REDIS_HOST", "CRDT_GC_THRESHOLD", "CRDT_STATS_ENABLED"] {
            assert!(SETTINGS.iter().any(|setting| setting.variable() == known), "{known}");
        }
    }
}
