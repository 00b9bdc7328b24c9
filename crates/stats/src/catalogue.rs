//! Every metric, declared once. Surfaces, documents and tests read this list.
//!
//! A metric stands here only when it is counted. Names follow Prometheus: base units, `_total` on counters. No label
//! holds a key or a value of a user.

use crate::metric::{Kind, Metric, Unit};

macro_rules! catalogue {
    ($($id:ident: $kind:ident, $unit:ident, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All metrics, in the order of documents.
        pub const CATALOGUE: &[&Metric] = &[$(&$id),*];
    };
}

catalogue! {
    BUILD_INFO: Gauge, Count, "crdt_build_info", ["version"],
        "Always 1; the label tells the version.";
    START_SECONDS: Gauge, Seconds, "crdt_start_time_seconds", [],
        "When the process started, in seconds since 1970.";
    READY: Gauge, Count, "crdt_ready", [],
        "1 while the node takes writes, else 0.";

    CLOCK_DRIFT_OPS: Gauge, Count, "crdt_clock_drift_ops", ["origin", "peer"],
        "Operations of the origin that are applied here and, as far as the peer told, not there.";
    CLOCK_SKEW_SECONDS: Gauge, Seconds, "crdt_clock_skew_seconds", ["peer"],
        "The peer's clock minus ours, by four timestamps; absent until it was compared.";
    CLOCK_SKEW_REJECTED_TOTAL: Counter, Count, "crdt_clock_skew_rejected_total", ["origin"],
        "Batches delayed or fenced because their clock runs ahead of ours by more than the bound.";
    UNREPLICATED_OPS: Gauge, Count, "crdt_unreplicated_ops", [],
        "Own operations that no peer has told to have: what a destroyed site would lose.";
    UNREPLICATED_SECONDS: Gauge, Seconds, "crdt_unreplicated_seconds", [],
        "Age of the oldest of them, to the second; 0 when there is none.";
    UNAPPLIED_OPS: Gauge, Count, "crdt_unapplied_ops", [],
        "Operations of others that are received and wait to be applied.";
    APPLIED_OPS: Gauge, Count, "crdt_applied_ops", ["origin"],
        "Operations of the origin that the state includes.";

    APPLY_LAG_SECONDS: Histogram, Seconds, "crdt_apply_lag_seconds", ["origin"],
        "From the stamp that the origin's clock gave a batch at its commit to the turn of this node that applied it, by our \
         clock: what the two clocks differ by is in it. Batches that came by a snapshot, or were received before the start, are not.";
    CONVERGENCE_SECONDS: Histogram, Seconds, "crdt_convergence_seconds", [],
        "From a commit of a client here until every other member that is LIVE has told to show it. The telling is in it: up to \
         one interval of digests, and 0.05 s. Commits within a millisecond count as one.";
    MERGES_TOTAL: Counter, Count, "crdt_merges_total", ["kind"],
        "Changes of other nodes that were joined into the state, by type of the object; those that came by a snapshot are not counted.";

    CONFLICT_JOURNAL_ENTRIES: Gauge, Count, "crdt_conflict_journal_entries", [],
        "Values that are present and not shown.";
    IDEMPOTENCY_VIOLATIONS_TOTAL: Counter, Count, "crdt_idempotency_violations_total", [],
        "Batches of which two versions with one number exist; the stream of that replica is stopped.";
    DIVERGED_TOTAL: Counter, Count, "crdt_diverged_total", [],
        "Peers and ranges of keys found to differ on equal vectors.";
    REPORTS_TOTAL: Counter, Count, "crdt_reports_total", ["code"],
        "Events with a stable code that the node reported; `crdt-engine explain CODE` tells more.";
    HELD_STREAMS: Gauge, Count, "crdt_held_streams", [],
        "Streams that are stopped until a person acts.";
    OVERFLOW_EPISODES_TOTAL: Counter, Count, "crdt_overflow_episodes_total", [],
        "Times that the buffer beyond gaps, or the log, was full, so that batches were dropped to be pulled again.";

    TOMBSTONES: Gauge, Count, "crdt_tombstones", [],
        "Keys with remains of removals that are not collected.";
    GC_ATTEMPTED_TOTAL: Counter, Count, "crdt_gc_attempted_total", [],
        "Remains that waited when a slice of collection began, added up over the slices.";
    GC_COLLECTED_TOTAL: Counter, Count, "crdt_gc_collected_total", [],
        "Remains that were collected.";

    LOG_BYTES: Gauge, Bytes, "crdt_log_bytes", [],
        "Batches kept in the log, in memory and on disk.";
    LOG_BATCHES: Gauge, Count, "crdt_log_batches", [],
        "Number of batches in the log.";
    LOG_CUTS_TOTAL: Counter, Count, "crdt_log_cuts_total", [],
        "Times that the log was cut although a member lacks what was cut.";
    BEYOND_GAP_BATCHES: Gauge, Count, "crdt_beyond_gap_batches", [],
        "Batches received that wait for one before them.";

    SNAPSHOTS_INSTALLED_TOTAL: Counter, Count, "crdt_snapshots_installed_total", ["how"],
        "Snapshots that were taken over: joined into our state, or in the place of it.";
    SNAPSHOTS_INTERRUPTED_TOTAL: Counter, Count, "crdt_snapshots_interrupted_total", [],
        "Snapshots that were given up before their end.";
    SNAPSHOT_BYTES_TOTAL: Counter, Bytes, "crdt_snapshot_bytes_total", ["direction"],
        "Bytes of messages about snapshots.";
    PREIMAGE_BYTES: Gauge, Bytes, "crdt_preimage_bytes", [],
        "Old values kept for members that fetch a state while it changes.";

    MEMBERS: Gauge, Count, "crdt_members", ["state"],
        "Other members by state: LIVE, SUSPECT, DEAD.";
    LINK_UP: Gauge, Count, "crdt_link_up", ["peer"],
        "1 while a link to the peer is up, else 0.";
    LINKS_UP_TOTAL: Counter, Count, "crdt_links_up_total", ["peer"],
        "Times that a link to the peer came up.";
    LINK_OVERFLOWS_TOTAL: Counter, Count, "crdt_link_overflows_total", ["peer"],
        "Times that the link was reset because the peer took less than was sent to it.";
    LINK_QUEUE_BYTES: Gauge, Bytes, "crdt_link_queue_bytes", ["peer"],
        "Bytes that wait to be sent to the peer.";
    LINK_REFUSALS_TOTAL: Counter, Count, "crdt_link_refusals_total", ["code"],
        "Attempts to come to a link that failed, on either side.";
    WIRE_BYTES_TOTAL: Counter, Bytes, "crdt_wire_bytes_total", ["peer", "kind", "direction"],
        "Bytes of messages, without framing and encryption.";
    WIRE_MESSAGES_TOTAL: Counter, Count, "crdt_wire_messages_total", ["peer", "kind", "direction"],
        "Messages.";
    DATAGRAMS_DROPPED_TOTAL: Counter, Count, "crdt_datagrams_dropped_total", ["peer"],
        "Datagrams that came in and were dropped because what came before waits to be taken.";
    PACKETS_LOST_TOTAL: Counter, Count, "crdt_packets_lost_total", ["peer"],
        "Packets to the peer that QUIC took for lost.";
    RTT_SECONDS: Gauge, Seconds, "crdt_rtt_seconds", ["peer"],
        "Smoothed round trip; absent while no link is up.";
    SYNC_INTERVAL_SECONDS: Gauge, Seconds, "crdt_sync_interval_seconds", ["peer"],
        "Time between two digests to the peer.";

    STORE_BYTES: Gauge, Bytes, "crdt_store_bytes", [],
        "Bytes on the medium, at most some seconds old; 0 when unknown.";
    STORE_QUEUE_BYTES: Gauge, Bytes, "crdt_store_queue_bytes", [],
        "Bytes of records that are not durable yet.";
    STORE_QUEUE_WRITES: Gauge, Count, "crdt_store_queue_writes", [],
        "Writes of clients that are not durable yet.";
    STORE_COMMIT_GROUPS: Histogram, Count, "crdt_store_commit_groups", [],
        "Groups of records of the node that were handed to the store as one: what one turn made.";
    STORE_COMMITS_TOTAL: Counter, Count, "crdt_store_commits_total", [],
        "Commits of the store since it was opened.";
    STORE_GROUPS_TOTAL: Counter, Count, "crdt_store_groups_total", [],
        "Groups of records of the node that were handed to the store.";
    STORE_WAIT_SECONDS: Histogram, Seconds, "crdt_store_wait_seconds", [],
        "Time from handing groups to the store until they are durable by its policy.";
    STORE_ERRORS_TOTAL: Counter, Count, "crdt_store_errors_total", ["code"],
        "Failures of the store; after one the node takes no more writes until it is restarted.";

    DOOR_CLIENTS: Gauge, Count, "crdt_door_clients", [],
        "Clients that are connected.";
    DOOR_CLIENTS_TOTAL: Counter, Count, "crdt_door_clients_total", [],
        "Clients that were let in.";
    DOOR_BUFFER_BYTES: Gauge, Bytes, "crdt_door_buffer_bytes", [],
        "Bytes of requests that are not finished, of open transactions, and of replies that are not taken, of all clients.";
    DOOR_REFUSED_TOTAL: Counter, Count, "crdt_door_refused_total", ["reason"],
        "Clients that were refused or cut off: full (too many), slow (took no replies), memory (held most of too much).";
    DOOR_BYTES_TOTAL: Counter, Bytes, "crdt_door_bytes_total", ["direction"],
        "Bytes read from and written to clients.";
    DOOR_COMMITS_TOTAL: Counter, Count, "crdt_door_commits_total", ["result"],
        "Writes of clients: accepted, or refused with an error.";
    DOOR_COMMIT_SECONDS: Histogram, Seconds, "crdt_door_commit_seconds", [],
        "Time from the turn that committed a write until it was durable and its reply left.";
    BACKPRESSURE_SECONDS_TOTAL: Counter, Seconds, "crdt_backpressure_seconds_total", [],
        "Time in which neither clients nor peers were read, because the store was behind.";

    HOT_THREAD_SECONDS_TOTAL: Counter, Seconds, "crdt_hot_thread_seconds_total", [],
        "Time in which the hot thread was at work; at one second a second it is the bottleneck.";
    HOT_THREAD_TURN_SECONDS: Histogram, Seconds, "crdt_hot_thread_turn_seconds", [],
        "Time that one turn took: everybody else waits for so long.";
    HOT_THREAD_TURNS_TOTAL: Counter, Count, "crdt_hot_thread_turns_total", [],
        "Turns of the hot thread: times that it woke and did all there was.";
    LOG_LINES_DROPPED: Gauge, Count, "crdt_log_lines_dropped", [],
        "Lines of the log that were dropped and not yet told of.";
}
