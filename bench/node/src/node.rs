//! One node: the shipped binary as child processes, through the commands that a person would type.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::door::Door;
use crate::failure::Failure;
use crate::patience::{COMMAND, START, wait_for};
use crate::place;
use crate::process::{self, Process};
use crate::wire::Wire;

/// Tells the engine to end with the process of this id, so that a killed run leaves nothing behind.
const PARENT_VARIABLE: &str = "CRDT_END_WITH_PARENT";

/// Its folder, its configuration and, while it runs, its process.
pub(crate) struct Node {
    pub(crate) name: String,
    program: PathBuf,
    folder: PathBuf,
    /// UDP, for the other nodes.
    pub(crate) address: SocketAddr,
    /// Key -> value as TOML writes it.
    settings: BTreeMap<String, String>,
    process: Option<Process>,
    door: Option<Door>,
}

impl Node {
    /// Plans a node below `root`, on free ports of the loopback interface.
    pub(crate) fn plan(program: &Path, root: &Path, name: String) -> Result<Self, Failure> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let udp = UdpSocket::bind(any).and_then(|socket| socket.local_addr());
        let udp = udp.map_err(Failure::io("find a free UDP port"))?;
        let tcp = TcpListener::bind(any).and_then(|socket| socket.local_addr());
        let tcp = tcp.map_err(Failure::io("find a free TCP port"))?;
        let folder = root.join(&name);
        let mut node = Self {
            name,
            program: program.to_owned(),
            folder,
            address: udp,
            settings: BTreeMap::new(),
            process: None,
            door: None,
        };
        node.set("transport.listen", format!("\"{udp}\""));
        node.set("transport.advertise", format!("[\"{udp}\"]"));
        node.set("http.listen", format!("\"{tcp}\""));
        Ok(node)
    }

    /// Sets a key to a value that is written as TOML writes it.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.settings.insert(key.to_owned(), value.into());
    }

    /// Writes its configuration. `init` and `join` write theirs only where there is none.
    fn configure(&self) -> Result<(), Failure> {
        place::make(&self.folder)?;
        let lines: String = self.settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let path = self.folder.join("config.toml");
        fs::write(&path, lines).map_err(Failure::io(format!("write {}", path.display())))
    }

    /// Makes it the first of a cluster.
    pub(crate) fn init(&self) -> Result<(), Failure> {
        self.configure()?;
        self.call(&["init", "--node-id", &self.name]).map(drop)
    }

    /// Makes it a member by a token of `host`, which must run.
    pub(crate) fn join(&self, host: &Self) -> Result<(), Failure> {
        let command = ["invite", "--node-id", &self.name];
        let output = host.call(&command)?;
        let token = output.split_whitespace().find(|word| word.starts_with("crdt1_"));
        let token = token.ok_or_else(|| Failure::Answer {
            who: host.name.clone(),
            asked: command.join(" "),
            answered: output.clone(),
        })?;
        self.configure()?;
        self.call(&["join", token]).map(drop)
    }

    /// Starts its daemon, without waiting for it.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let log = self.folder.with_extension("log");
        self.process = Some(Process::start(&self.name, self.command(&["run"]), log)?);
        Ok(())
    }

    /// Asks its daemon to drain and end.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        self.door = None;
        self.process.take().map_or(Ok(()), Process::stop)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("door.sock")
    }

    /// Waits until its door answers; then the connection is kept.
    pub(crate) fn answering(&mut self) -> Result<&mut Door, Failure> {
        wait_for(&format!("answering: {}", self.name), START, || {
            self.check()?;
            let opened = Door::open(&self.name, &self.socket());
            Ok(opened
                .and_then(|mut door| door.ask::<String>(&["PING"]).map(|_| door))
                .map_err(|error| error.to_string()))
        })
        .map(|door| self.door.insert(door))
    }

    /// The connection to its door for questions.
    pub(crate) fn door(&mut self) -> Result<&mut Door, Failure> {
        match self.door {
            Some(ref mut door) => Ok(door),
            None => self.answering(),
        }
    }

    /// A connection to its door for what is measured.
    pub(crate) fn wire(&self) -> Result<Wire, Failure> {
        Wire::open(&self.name, &self.socket())
    }

    /// An error if its daemon has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        self.process.as_mut().map_or(Ok(()), Process::check)
    }

    pub(crate) fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Its process, which must have been started.
    pub(crate) fn process(&self) -> Result<&Process, Failure> {
        self.process.as_ref().ok_or_else(|| Failure::Ended {
            who: self.name.clone(),
            status: "never started".to_owned(),
            log: String::new(),
        })
    }

    fn call(&self, arguments: &[&str]) -> Result<String, Failure> {
        let place = self.folder.with_extension("command");
        process::output(&self.name, self.command(arguments), &place, COMMAND)
    }

    /// The binary with this node's folder.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--folder").arg(&self.folder);
        // Settings of the machine's own engine must not reach a figure.
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"CRDT_")) {
            command.env_remove(name);
        }
        command.env(PARENT_VARIABLE, std::process::id().to_string());
        command
    }
}

/// How long something took, in words.
pub(crate) fn told_seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}
