//! Redis 7 as the peer: one primary, and replicas.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::door::Door;
use crate::failure::Failure;
use crate::patience::{APPLIED, START, wait_for};
use crate::place;
use crate::process::{Process, ending_with_us};

/// What `redis-server` was told, for the conditions.
pub(crate) const SETTINGS: &str = "appendonly yes, appendfsync everysec on all, no save points, no AOF rewrites, \
                                   diskless resync without delay";

/// One `redis-server`.
pub(crate) struct Redis {
    pub(crate) process: Process,
    folder: PathBuf,
    port: u16,
    door: Door,
}

impl Redis {
    /// Starts one on an empty folder, as a replica if there is a primary, and waits until it answers.
    pub(crate) fn start(root: &Path, name: &str, primary: Option<&Self>) -> Result<Self, Failure> {
        let folder = root.join(name);
        place::make(&folder)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let port = port.map_err(Failure::io("find a free TCP port"))?.port();
        let mut command = ending_with_us("redis-server");
        command.arg("--dir").arg(&folder).arg("--unixsocket").arg(socket(&folder));
        let port_text = port.to_string();
        command.args(["--port", &port_text, "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"]);
        command.args(["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
        if let Some(primary) = primary {
            command.args(["--replicaof", "127.0.0.1", &primary.port.to_string()]);
        }
        let mut process = Process::start(name, command, folder.with_extension("log"))?;
        let door = wait_for(&format!("answering: {name}"), START, || {
            process.check()?;
            let opened = Door::open(name, &socket(&folder));
            Ok(opened
                .and_then(|mut door| door.ask::<String>(&["PING"]).map(|_| door))
                .map_err(|error| error.to_string()))
        })?;
        Ok(Self { process, folder, port, door })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    pub(crate) fn door(&mut self) -> &mut Door {
        &mut self.door
    }

    /// Waits until it is in step with its primary and holds so many keys.
    pub(crate) fn synced(&mut self, keys: u64) -> Result<(), Failure> {
        wait_for(&format!("synced: {}", self.process.name), APPLIED, || {
            self.process.check()?;
            let info: String = self.door.ask(&["INFO", "replication"])?;
            if !info.contains("master_link_status:up") || !info.contains("master_sync_in_progress:0") {
                return Ok(Err("the link to the primary is down".to_owned()));
            }
            let count: u64 = self.door.ask(&["DBSIZE"])?;
            Ok(if count == keys { Ok(()) } else { Err(format!("{count} keys of {keys}")) })
        })
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// A primary with two replicas.
pub(crate) struct Trio {
    pub(crate) primary: Redis,
    _replicas: [Redis; 2],
}

impl Trio {
    pub(crate) fn start(root: &Path) -> Result<Self, Failure> {
        let primary = Redis::start(root, "redis_01", None)?;
        let mut second = Redis::start(root, "redis_02", Some(&primary))?;
        let mut third = Redis::start(root, "redis_03", Some(&primary))?;
        second.synced(0)?;
        third.synced(0)?;
        Ok(Self { primary, _replicas: [second, third] })
    }

    /// Waits until both replicas have everything that was written, and gives how long it took.
    pub(crate) fn replicated(&mut self) -> Result<Duration, Failure> {
        let begun = Instant::now();
        // WAIT looks at the last write of its own connection.
        self.primary.door.ask::<String>(&["SET", "bench:end", "1"])?;
        let milliseconds = APPLIED.as_millis().to_string();
        let replicas: i64 = self.primary.door.ask(&["WAIT", "2", &milliseconds])?;
        if replicas == 2 {
            return Ok(begun.elapsed());
        }
        let last = format!("{replicas} replicas have it");
        Err(Failure::NotInTime { what: "replicated by Redis".to_owned(), waited: APPLIED, last })
    }
}
