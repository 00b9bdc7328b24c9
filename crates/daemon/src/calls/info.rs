//! The text of INFO, with the sections and names that tools for Redis look for, as far as they mean something here.

use std::fmt::{Display, Write};

use crate::door::DoorFigures;
use crate::engine::core::Core;

/// Sections, in the order of the text.
const SECTIONS: [&str; 7] = ["server", "clients", "memory", "persistence", "stats", "replication", "keyspace"];
/// Names that mean all sections.
const ALL: [&str; 3] = ["all", "default", "everything"];

/// The sections that are named, or all of them.
pub(super) fn text(core: &Core, door: &DoorFigures, wanted: &[String]) -> String {
    let is_all = wanted.is_empty() || wanted.iter().any(|name| ALL.contains(&name.as_str()));
    let mut text = String::new();
    for section in SECTIONS.into_iter().filter(|section| is_all || wanted.iter().any(|name| name == section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let (first, rest) = section.split_at(1);
        line(&mut text, format_args!("# {}{rest}", first.to_ascii_uppercase()));
        for (name, value) in fields(core, door, section) {
            line(&mut text, format_args!("{name}:{value}"));
        }
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String does not fail.
    let _ = text.write_fmt(line);
    text.push_str("\r\n");
}

fn fields(core: &Core, door: &DoorFigures, section: &str) -> Vec<(String, String)> {
    match section {
        "server" => server(core),
        "clients" => vec![
            field("connected_clients", door.clients),
            field("blocked_on_durability", core.pending_writes()),
            field("rejected_connections", door.refused_full),
            field("cut_off_slow_clients", door.cut_slow),
        ],
        "memory" => {
            let gauges = core.node.gauges();
            vec![
                field("used_memory_rss", resident_bytes()),
                field("log_bytes", gauges.log_bytes),
                field("preimage_bytes", gauges.snapshot_preimage_bytes),
                field("store_queue_bytes", core.storage.open_bytes()),
            ]
        }
        "persistence" => persistence(core),
        "stats" => vec![
            field("total_connections_received", door.clients_let_in),
            field("total_net_input_bytes", door.bytes_read),
            field("total_net_output_bytes", door.bytes_written),
            field("total_commits", core.figures.commits),
            field("refused_commits", core.figures.commits_refused),
            field("conflict_journal_entries", core.node.keyspace().journal_entries()),
            field("tombstones", core.node.gauges().remains),
        ],
        "replication" => replication(core),
        // Counted over all databases: the state does not count them apart.
        _ => vec![field("objects", core.node.keyspace().len())],
    }
}

fn server(core: &Core) -> Vec<(String, String)> {
    let uptime_ms = core.at.now.mono_ms.saturating_sub(core.about.started.now.mono_ms);
    vec![
        // Clients read what they may use off this version of Redis.
        field("redis_version", "7.2.0"),
        field("redis_mode", "standalone"),
        field("crdt_engine_version", &core.about.version),
        field("process_id", std::process::id()),
        field("node_id", core.node.id()),
        field("cluster_id", format_args!("{:032x}", core.about.cluster)),
        field("uptime_in_seconds", uptime_ms / 1_000),
        field("hot_thread_turns", core.figures.turns),
    ]
}

fn persistence(core: &Core) -> Vec<(String, String)> {
    let sizes = core.storage.sizes();
    let failure = core.storage.failure();
    let mut fields = vec![
        field("loading", u8::from(core.node.is_installing())),
        field("store_status", if failure.is_none() { "ok" } else { "failed" }),
        field("store_bytes", sizes.stored_bytes),
        field("store_commits", sizes.commits),
        field("store_sequence", sizes.sequence),
    ];
    if let Some(failure) = failure {
        fields.push(field("store_error_code", failure.code()));
        fields.push(field("store_error", failure.to_string().replace(['\r', '\n'], " ")));
    }
    fields
}

fn replication(core: &Core) -> Vec<(String, String)> {
    let peers = core.node.peers();
    let (own, replicated) = core.replicated(&peers);
    let unready = core.unreadiness();
    let mut fields = vec![
        // Every node takes writes, which is what a client asks for with this word.
        field("role", "master"),
        field("takes_writes", u8::from(unready.is_empty())),
        field("epoch", core.node.epoch().number),
        field("members", core.node.epoch().members.len()),
        field("connected_slaves", core.network.others().filter(|node| core.network.is_up(node)).count()),
        field("unreplicated_ops", own - replicated),
        field("held_streams", core.node.gauges().held),
    ];
    for (place, unready) in unready.iter().enumerate() {
        fields.push(field(&format!("refuses_writes{place}"), format_args!("{} {}", unready.code, unready.reason)));
    }
    for (place, node) in core.network.others().enumerate() {
        let state = core.network.state_of(node).name();
        let link = if core.network.is_up(node) { "up" } else { "down" };
        fields.push(field(&format!("peer{place}"), format_args!("node={node},state={state},link={link}")));
    }
    fields
}

fn field(name: &str, value: impl Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// Memory of this process, as the system counts it; 0 where it does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1_024)
}
