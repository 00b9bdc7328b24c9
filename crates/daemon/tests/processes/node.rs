//! One real daemon: its folder, its configuration and its process.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::RedisResult;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::client::Client;
use crate::patience::{SOON, wait_for};
use crate::places::Place;
use crate::settings;

/// How long `init`, `invite`, `join` and their like may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);

/// One node; its process is killed with this value.
pub(crate) struct Daemon {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// What its log and the outputs of its commands are named after; not on a disk that a test fills.
    beside: PathBuf,
    pub(crate) place: Place,
    /// Key -> value as TOML writes it.
    settings: BTreeMap<String, String>,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
    /// The most memory that any of its processes had, as far as it was looked at.
    peak_kib: u64,
}

impl Daemon {
    /// Plans a node at a place.
    pub(crate) fn plan(folder: PathBuf, name: &str, place: Place) -> Self {
        let (udp, http) = (place.udp, place.http);
        let mut daemon = Self {
            name: name.to_owned(),
            beside: folder.clone(),
            folder,
            place,
            settings: BTreeMap::new(),
            environment: Vec::new(),
            child: None,
            peak_kib: 0,
        };
        daemon.set(settings::LISTEN, format!("\"{udp}\""));
        daemon.set(settings::ADVERTISE, format!("[\"{udp}\"]"));
        daemon.set(settings::HTTP, format!("\"{http}\""));
        daemon
    }

    /// Another node with the same identity and state in a folder of its own: what a copied machine is.
    pub(crate) fn twin(&self, folder: PathBuf) -> Self {
        copy_folder(&self.folder, &folder);
        let mut twin = Self::plan(folder, &self.name, self.place.beside());
        let mut settings = self.settings.clone();
        settings.append(&mut twin.settings);
        twin.settings = settings;
        twin.environment.clone_from(&self.environment);
        twin.configure();
        twin
    }

    /// Sets a key to a value that is written as TOML writes it.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.settings.insert(key.to_owned(), value.into());
    }

    /// Sets a variable of its daemon's environment.
    pub(crate) fn set_variable(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.push((name, value.into()));
    }

    /// Writes its configuration, before `init` or `join`, which leave one that is there, or before a start.
    pub(crate) fn configure(&self) {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).unwrap();
        let lines: String = self.settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        fs::write(self.folder.join("config.toml"), lines).unwrap();
    }

    /// Runs a command on its folder: what it wrote to standard output, or, if it failed, to standard error.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<String, String> {
        let paths = [self.beside.with_extension("out"), self.beside.with_extension("err")];
        let [out, err] = paths.clone().map(|path| fs::File::create(path).unwrap());
        let child = self.command(arguments).stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        let mut child = Guard(child);
        let status = wait_for(&format!("ended: {arguments:?} of {}", self.name), COMMAND_PATIENCE, || {
            child.0.try_wait().unwrap().ok_or("it runs")
        });
        let [out, err] = paths.map(|path| fs::read_to_string(path).unwrap());
        if status.success() { Ok(out) } else { Err(format!("{err}{out}({status})")) }
    }

    /// A token for another node.
    pub(crate) fn invite(&self, node: &str) -> String {
        let output = self.call(&["invite", "--node-id", node]).unwrap();
        let token = output.split_whitespace().find(|word| word.starts_with("crdt1_"));
        token.unwrap_or_else(|| panic!("no token in: {output}")).to_owned()
    }

    /// Starts its daemon, without waiting for it.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let errors = log.try_clone().unwrap();
        self.child = Some(self.command(&["run"]).stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap());
    }

    /// Waits until its door answers.
    pub(crate) fn answering(&mut self) -> Client {
        wait_for(&format!("answering: {}", self.name), SOON, || {
            assert!(self.is_running(), "{} has ended; its log:\n{}", self.name, self.log());
            self.client().and_then(|mut client| client.ask::<String>(&["PING"]).map(|_| client))
        })
    }

    /// A connection to its door.
    pub(crate) fn client(&self) -> RedisResult<Client> {
        Client::open(&self.socket())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("door.sock")
    }

    /// False when it was never started, was stopped, or has ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.look_at_memory();
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }

    /// SIGTERM, and the wait for a clean end.
    pub(crate) fn stop(&mut self) {
        self.look_at_memory();
        let mut child = Guard(self.child.take().expect("it was started"));
        kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
        let what = format!("ended after SIGTERM: {}", self.name);
        let status = wait_for(&what, SOON, || child.0.try_wait().unwrap().ok_or("it runs"));
        assert!(status.success(), "{} ended with {status}; its log:\n{}", self.name, self.log());
    }

    /// Stops its process where it is, until [`Daemon::resume`].
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("it was started")), signal).unwrap();
    }

    /// Everything that its daemons wrote.
    pub(crate) fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.beside.with_extension("log")
    }

    /// The most memory that any of its processes had, in KiB (`VmHWM`).
    pub(crate) fn peak_memory_kib(&mut self) -> u64 {
        self.look_at_memory();
        self.peak_kib
    }

    fn look_at_memory(&mut self) {
        let Some(child) = &self.child else { return };
        // A process that has ended shows no memory.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|text| text.trim().strip_suffix(" kB")).and_then(|text| text.trim().parse().ok());
        self.peak_kib = self.peak_kib.max(kib.unwrap_or(0));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(env!("CARGO_BIN_EXE_crdt-engine"));
        command.args(arguments).arg("--folder").arg(&self.folder);
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"CRDT_")) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command.env(daemon::demo::PARENT_VARIABLE, std::process::id().to_string()).process_group(0);
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let is_failure = std::thread::panicking();
        if let Some(child) = &mut self.child {
            end(child);
        }
        if is_failure {
            let log = self.log();
            let from = log.lines().count().saturating_sub(40);
            let tail: Vec<&str> = log.lines().skip(from).collect();
            eprintln!("--- the end of the log of {} ---\n{}", self.name, tail.join("\n"));
        }
    }
}

/// A process that ends with this value.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            end(&mut self.0);
        }
    }
}

/// Kills a process, with all that it started, and takes its remains away.
fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        let _ = child.wait();
    }
}

/// Copies files and folders; sockets stay behind.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    DirBuilder::new().recursive(true).mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
