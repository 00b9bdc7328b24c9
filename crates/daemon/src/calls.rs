//! Answers to what only the engine knows: INFO and `CRDT.*`. Maps are maps in RESP3 and flat arrays in RESP2.

mod info;
mod pattern;

use std::fmt;

use crdt::object::{JournalContent, JournalEntry};
use crdt::{Key, Kind, ReplicaId, Value, VersionVector};
use replica::{HeldReason, HeldView, PeerView};
use resp::{Call, ErrorReply, HeldCall, Reply, Ticket};

use crate::door::{ClientId, DoorFigures};
use crate::engine::core::Core;
use crate::engine::{Asker, CopyState, RequestError, Verdict, lag_of};

use self::pattern::matches;

/// Most entries of the conflict journal in one reply, whatever was asked for: each may hold a value of megabytes.
const CONFLICTS_MAX: usize = 100_000;

/// Carries out a call; `None` when the answer comes later.
pub(crate) fn answer(
    core: &mut Core,
    client: ClientId,
    ticket: Ticket,
    call: Call,
    door: &DoorFigures,
) -> Option<Result<Reply, ErrorReply>> {
    Some(match call {
        Call::Info { sections } => Ok(Reply::Text(info::text(core, door, &sections))),
        Call::Clock => Ok(clock(core)),
        Call::Matrix => Ok(matrix(core)),
        Call::Peers => Ok(peers(core)),
        Call::Stats { pattern } => Ok(stats(core, door, pattern.as_deref())),
        Call::Conflicts { count } => Ok(conflicts(core, count)),
        Call::Held(call) => held(core, &call).map_err(refusal),
        Call::Gc => Ok(collect(core)),
        Call::Keys { reload } => keys(core, reload),
        Call::Backup { start } => backup(core, start),
        Call::Verify { node } => {
            let begun = core.begin_check(node.as_deref(), Asker::Client(client, ticket));
            return begun.err().map(|(error, _)| Err(refusal(error)));
        }
        Call::Sync { node } => core.exchange(node.as_deref()).map(|()| Reply::OK).map_err(refusal),
        Call::Config { pattern } => Ok(config(core, pattern.as_deref())),
        Call::Wait { members, timeout_ms, after } => {
            return core.begin_wait(client, ticket, members, timeout_ms, after);
        }
    })
}

/// An error with its stable code, as a client sees it.
fn refusal(error: RequestError) -> ErrorReply {
    coded(&error, error.code())
}

fn coded(error: &impl fmt::Display, code: &str) -> ErrorReply {
    ErrorReply::err(format!("{error} ({code})"))
}

fn number(number: u64) -> Reply {
    i64::try_from(number).map_or_else(|_| Reply::BigNumber(number.into()), Reply::Integer)
}

fn map<const LEN: usize>(pairs: [(&str, Reply); LEN]) -> Reply {
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect())
}

/// A replica id in full: its short form may name two.
fn replica_text(replica: ReplicaId) -> String {
    format!("{replica:?}")
}

fn vector_reply(vector: &VersionVector) -> Reply {
    Reply::Map(vector.iter().map(|(replica, seq)| (Reply::bulk(replica_text(replica)), number(seq))).collect())
}

fn replicas_reply(replicas: &[ReplicaId]) -> Reply {
    Reply::Array(replicas.iter().map(|replica| Reply::bulk(replica_text(*replica))).collect())
}

fn clock(core: &Core) -> Reply {
    let node = &core.node;
    map([
        ("node", Reply::bulk(node.id())),
        ("cluster", Reply::bulk(format!("{:032x}", core.about.cluster))),
        ("epoch", number(node.epoch().number)),
        ("replica", Reply::bulk(replica_text(node.replica()))),
        ("hlc_ms", number(node.clock().millis())),
        ("applied", vector_reply(node.applied())),
        ("received", vector_reply(&node.received())),
        ("stable", vector_reply(node.stable())),
        ("digest", Reply::bulk(format!("{:?}", node.fingerprint()))),
    ])
}

/// The keys behind MACs, first read from the folder if that is asked for.
fn keys(core: &Core, reload: bool) -> Result<Reply, ErrorReply> {
    let keyring = &core.about.keyring;
    if reload {
        keyring.reload().map_err(|error| coded(&error, error.code()))?;
        let (current, other) = keyring.ids();
        core.log.info("the keys behind MACs were read again", &[("signs", &current), ("valid", &valid(other))]);
    }
    let (current, other) = keyring.ids();
    let batches = other.map_or(0, |other| core.node.missing_batches_under(other));
    Ok(map([
        ("current", number(current.into())),
        ("other", other.map_or(Reply::Null, |other| number(other.into()))),
        ("batches_under_other", number(batches as u64)),
    ]))
}

/// As the log tells it.
fn valid(other: Option<u32>) -> String {
    other.map_or_else(|| "no other".to_owned(), |other| format!("{other} as well"))
}

fn matrix(core: &Core) -> Reply {
    let node = &core.node;
    let own = map([
        ("epoch", number(node.epoch().number)),
        ("replicas", replicas_reply(node.replicas())),
        ("shown", vector_reply(node.shown())),
        ("received", vector_reply(&node.received())),
    ]);
    let mut rows = vec![(Reply::bulk(node.id()), own)];
    for PeerView { node, row, .. } in node.peers() {
        let row = row.map_or(Reply::Null, |row| {
            map([
                ("epoch", number(row.epoch)),
                ("replicas", replicas_reply(&row.replicas)),
                ("shown", vector_reply(&row.shown)),
                ("received", vector_reply(&row.received)),
            ])
        });
        rows.push((Reply::bulk(node), row));
    }
    Reply::Map(rows)
}

fn peers(core: &Core) -> Reply {
    let figures = core.network.figures();
    let peer = |peer: &PeerView| {
        let link = figures.iter().find(|link| link.peer.as_str() == peer.node);
        let path = link.and_then(|link| link.path);
        let sum = |traffic: &[transport::Traffic]| number(traffic.iter().map(|traffic| traffic.bytes).sum());
        let is_up = core.network.is_up(&peer.node);
        map([
            ("node", Reply::bulk(&peer.node)),
            ("state", Reply::bulk(core.network.state_of(&peer.node).name())),
            ("link", Reply::bulk(if is_up { "up" } else { "down" })),
            // 0 while it is not known, so that there is always a number.
            ("rtt_us", number(path.and_then(|path| path.rtt_us).unwrap_or_default())),
            ("lag_ops", number(lag_of(&core.node, peer))),
            ("skew_ms", Reply::Integer(peer.clock_offset_ms.unwrap_or_default())),
            ("skew_known", Reply::Boolean(peer.clock_offset_ms.is_some())),
            ("bytes_sent", link.map_or(Reply::Integer(0), |link| sum(&link.sent))),
            ("bytes_received", link.map_or(Reply::Integer(0), |link| sum(&link.received))),
            ("queued_bytes", number(link.map_or(0, |link| link.queued_bytes))),
            ("sync_interval_ms", number(peer.digest_interval_ms)),
            ("address", Reply::bulk(core.network.address_of(&peer.node))),
        ])
    };
    let peers = core.node.peers();
    Reply::Array(peers.iter().filter(|peer| core.network.is_other(&peer.node)).map(peer).collect())
}

fn stats(core: &Core, door: &DoorFigures, wanted: Option<&str>) -> Reply {
    let flat = core.snapshot(door).flat();
    let wanted = flat.into_iter().filter(|(name, _)| wanted.is_none_or(|pattern| matches(pattern, name)));
    let reply = |value: f64| {
        // Whole numbers below 2^53 are told as such: RESP2 has no other numbers.
        let is_whole = value.fract() == 0.0 && value.abs() < 9e15;
        if is_whole { Reply::Integer(value as i64) } else { Reply::Double(value) }
    };
    Reply::Map(wanted.map(|(name, value)| (Reply::bulk(name), reply(value))).collect())
}

fn conflicts(core: &Core, count: usize) -> Reply {
    let keyspace = core.node.keyspace();
    // One object at a time: the whole journal may be larger than what is asked for.
    let entries = keyspace.journaled().flat_map(|key| {
        let journal = keyspace.object(&key).map_or_else(Vec::new, |object| object.journal());
        journal.into_iter().map(move |entry| conflict(&key, entry))
    });
    Reply::Array(entries.take(count.min(CONFLICTS_MAX)).collect())
}

fn conflict(key: &Key, entry: JournalEntry) -> Reply {
    let JournalEntry { path, dot, stamp, content } = entry;
    let value = match content {
        JournalContent::Value(value) => value_reply(value),
        JournalContent::Amount(amount) => i64::try_from(amount).map_or(Reply::BigNumber(amount), Reply::Integer),
    };
    map([
        ("key", Reply::Bulk(key.name.clone())),
        ("namespace", number(key.namespace.0.into())),
        ("kind", Reply::bulk(kind_name(key.kind))),
        ("path", Reply::Array(path.into_iter().map(Reply::Bulk).collect())),
        ("value", value),
        ("stamp_ms", stamp.map_or(Reply::Null, |stamp| number(stamp.millis()))),
        ("replica", Reply::bulk(replica_text(dot.replica))),
        ("seq", number(dot.seq)),
    ])
}

fn value_reply(value: Value) -> Reply {
    match value {
        Value::Null => Reply::Null,
        Value::Bool(value) => Reply::Boolean(value),
        Value::Integer(value) => {
            let value = value.get();
            i64::try_from(value).map_or(Reply::BigNumber(value), Reply::Integer)
        }
        Value::Float(value) => Reply::Double(value.get()),
        Value::Bytes(bytes) => Reply::Bulk(bytes),
    }
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Register => "register",
        Kind::GCounter => "growing counter",
        Kind::PnCounter => "counter",
        Kind::Set => "set",
        Kind::Map => "map",
        Kind::Row => "row",
    }
}

/// Names a held stream by its first batch that waits: `REPLICA:SEQ`.
pub(crate) fn held_id(held: &HeldView) -> String {
    format!("{}:{}", replica_text(held.batch.replica), held.batch.seq)
}

const fn reason_name(reason: HeldReason) -> &'static str {
    match reason {
        HeldReason::Forked => "forked",
        HeldReason::Fenced => "fenced",
        HeldReason::Quarantined => "quarantined",
        HeldReason::Blast => "blast",
    }
}

fn held(core: &mut Core, call: &HeldCall) -> Result<Reply, RequestError> {
    match call {
        HeldCall::List => Ok(Reply::Array(core.node.held().iter().map(held_reply).collect())),
        HeldCall::Release(id) => core.release(id).map(|()| Reply::OK),
        HeldCall::Discard(id) => core.discard(id).map(|()| Reply::OK),
    }
}

fn held_reply(held: &HeldView) -> Reply {
    map([
        ("id", Reply::bulk(held_id(held))),
        ("reason", Reply::bulk(reason_name(held.reason))),
        ("can_release", Reply::Boolean(held.reason != HeldReason::Forked)),
        ("replica", Reply::bulk(replica_text(held.batch.replica))),
        ("seq", number(held.batch.seq)),
    ])
}

fn collect(core: &mut Core) -> Reply {
    let (attempted, collected) = core.collect();
    map([("attempted", number(attempted)), ("collected", number(collected))])
}

fn backup(core: &mut Core, start: bool) -> Result<Reply, ErrorReply> {
    if start {
        core.begin_copy().map_err(|error| coded(&error, error.code()))?;
    }
    let CopyState { number: run, stage, totals, code, message } = core.copier.state();
    Ok(map([
        ("number", number(run)),
        ("state", Reply::bulk(stage.name())),
        ("records", number(totals.pairs)),
        ("bytes", number(totals.bytes)),
        ("file", Reply::bulk(core.copier.file().display().to_string())),
        ("code", Reply::bulk(code)),
        ("message", Reply::bulk(message)),
    ]))
}

fn config(core: &Core, wanted: Option<&str>) -> Reply {
    let settings = core.about.settings.iter();
    let wanted = settings.filter(|(key, _, _)| wanted.is_none_or(|pattern| matches(pattern, key)));
    let pair = |(key, value, origin): &(String, String, String)| {
        (Reply::bulk(key), Reply::Array(vec![Reply::bulk(value), Reply::bulk(origin)]))
    };
    Reply::Map(wanted.map(pair).collect())
}

/// What VERIFY found.
pub(crate) fn verdicts_reply(verdicts: &[Verdict]) -> Reply {
    let verdict = |verdict: &Verdict| {
        let digest = verdict.digest.map_or_else(String::new, |digest| format!("{digest:?}"));
        let fields = map([
            ("vector_equal", Reply::Boolean(verdict.vector_equal)),
            ("digest_equal", Reply::Boolean(verdict.digest_equal)),
            ("digest", Reply::bulk(digest)),
            ("fresh", Reply::Boolean(verdict.is_fresh)),
        ]);
        (Reply::bulk(&verdict.node), fields)
    };
    Reply::Map(verdicts.iter().map(verdict).collect())
}
