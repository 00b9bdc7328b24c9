//! `run`: the node in the foreground, until SIGTERM or Ctrl-C.

use std::fmt;
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::configured::readable_finding;
use super::failure::Failure;
use super::{Context, now_s};
use crate::config::{Config, TransportSection};
use crate::demo;
use crate::door::DoorParts;
use crate::engine::{self, EngineError, Parts, StoreParts};
use crate::exit::Exit;
use crate::folder::{FolderLock, Identity};
use crate::log::{Level, Log};
use crate::surroundings::{self, Finding};

/// The version that clients are told.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    // Before anything is started, so that nothing is left behind by a demonstration that was killed.
    let is_wanted = demo::end_with_parent()
        .map_err(|error| Failure::new("ERR_SYSTEM", format!("the wish to end with the parent was refused: {error}")))?;
    if !is_wanted {
        return Ok(Exit::Ok);
    }
    let options = context.config.log.options.clone();
    let (logs_to_stderr, logs_to_file) = (options.to_stderr, options.file.is_some());
    let (log, _guard) = Log::start(options)?;
    let Err(failure) = serve(context, &log) else { return Ok(Exit::Ok) };
    // A person at a terminal reads the sentence, and everybody else the log; nobody needs both.
    let is_terminal = io::stderr().is_terminal();
    if !is_terminal || logs_to_file {
        log.error(failure.code(), "the node does not run", &[("error", &failure)]);
    }
    match logs_to_stderr && !is_terminal {
        true => Ok(failure.exit()),
        false => Err(failure),
    }
}

fn serve(context: &Context, log: &Log) -> Result<(), Failure> {
    // Where no node lives there is nothing to lock, and the lock's file would be the wrong complaint.
    let node = context.folder.node()?;
    let lock = context.folder.lock_for_running()?;
    let identity = context.folder.load()?;
    log.info(
        "the node starts",
        &[("node", &node), ("version", &VERSION), ("folder", &context.folder.path().display())],
    );
    if let Err(error) = identity.node.check_validity(now_s()) {
        // The door is of use without links: a site does not stop because a certificate was forgotten.
        log.error(error.code(), "other members refuse this node", &[("error", &error)]);
    }
    if let Some(finding) = readable_finding(context) {
        tell(log, &finding);
    }
    look_around(log.clone());
    // From here on a signal waits until the engine can be stopped in good order.
    let (runtime, mut signals) = signals()?;
    let (handle, engine) = engine::start(parts(context, identity, lock, log.clone()))?;
    let ended = watch(engine)?;
    let outcome = runtime.block_on(async {
        let mut ended = ended;
        tokio::select! {
            outcome = &mut ended => outcome,
            name = signals.next() => {
                log.info("the node stops", &[("signal", &name)]);
                handle.stop();
                ended.await
            }
        }
    });
    outcome.unwrap_or(Err(EngineError::Panicked))?;
    log.info("the node has ended", &[("node", &node)]);
    Ok(())
}

fn parts(context: &Context, identity: Identity, lock: FolderLock, log: Log) -> Parts {
    let Config { transport, membership, store, door, http, limits, intervals, stats_enabled, peers, log: _ } =
        context.config.clone();
    let durability = store.durability;
    Parts {
        folder: context.folder.clone(),
        lock,
        identity,
        listen: transport.listen,
        listen_fallback: fallback(&transport),
        advertise: transport.told_addresses(),
        peers,
        network_threads: transport.threads,
        transport_limits: transport.limits,
        transport_timing: transport.timing,
        membership_timing: membership,
        store: match store.redis {
            None => StoreParts::Embedded { durability },
            Some(redis) => StoreParts::Redis {
                url: redis.url,
                tls: redis.tls,
                prefix: redis.prefix,
                durability,
                trust_unknown_config: redis.trust_unknown_config,
            },
        },
        door: DoorParts {
            socket: context.door(),
            socket_mode: door.socket_mode,
            tcp: door.tcp,
            connections_max: door.connections_max,
            buffers_bytes_max: door.buffers_bytes_max,
            limits: door.limits,
        },
        http: http.listen,
        limits,
        intervals,
        stats_enabled,
        settings: context.settings.shown(),
        version: VERSION.to_owned(),
        log,
    }
}

/// Every address of IPv4, where nobody chose one and the default of IPv6 may not be there.
fn fallback(transport: &TransportSection) -> Option<SocketAddr> {
    let port = transport.listen.port();
    transport.is_listen_default.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

/// SIGTERM, as systemd stops, and SIGINT, as Ctrl-C does.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Catches signals from now on, on a runtime that does nothing else.
fn signals() -> Result<(Runtime, Signals), Failure> {
    let refused = |error: io::Error| Failure::new("ERR_SYSTEM", format!("signals cannot be caught: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let entered = runtime.enter();
    let terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    drop(entered);
    Ok((runtime, Signals { terminate, interrupt }))
}

/// Waits for the engine's end on a thread of its own; an error of the channel says that the engine panicked.
fn watch(engine: JoinHandle<Result<(), EngineError>>) -> Result<oneshot::Receiver<Result<(), EngineError>>, Failure> {
    let (sender, receiver) = oneshot::channel();
    let wait = move || {
        if let Ok(outcome) = engine.join() {
            // The receiver waits until this comes.
            let _ = sender.send(outcome);
        }
    };
    let started = thread::Builder::new().name("end".to_owned()).spawn(wait);
    started.map_err(|error| Failure::new("ERR_SYSTEM", format!("a thread cannot be started: {error}")))?;
    Ok(receiver)
}

/// Looks at the machine and logs what it finds, beside the start: tools are asked, which may take seconds.
fn look_around(log: Log) {
    let told = log.clone();
    let look = move || surroundings::look().findings.iter().for_each(|finding| tell(&told, finding));
    if let Err(error) = thread::Builder::new().name("surroundings".to_owned()).spawn(look) {
        log.warn("ERR_SYSTEM", "the machine was not looked at", &[("error", &error)]);
    }
}

fn tell(log: &Log, finding: &Finding) {
    let fields: [(&str, &dyn fmt::Display); 1] = [("command", &finding.command)];
    log.event(Level::Warn, Some(finding.code), &finding.message, &fields);
}
