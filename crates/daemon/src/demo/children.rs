//! The nodes of the demonstration: the same binary as child processes, through the commands that a person would type.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::door::Door;
use super::error::DemoError;
use super::parent::PARENT_VARIABLE;

/// Setting: the address for other nodes, on UDP.
const LISTEN: &str = "transport.listen";
/// Setting: where other nodes are told to find it.
const ADVERTISE: &str = "transport.advertise";
/// Setting: the address of metrics, on TCP.
const HTTP: &str = "http.listen";
/// Longest path of a Unix socket: `sun_path` less its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How long `init`, `invite` or `join` may take: a join waits for a handshake and a few fsyncs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a daemon may take to drain before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Of a log that is shown when its daemon ended.
const LOG_TAIL_LINES: usize = 15;
/// Folders of demonstrations of one process that may be in the way.
const FOLDER_ATTEMPTS_MAX: u32 = 16;

/// A folder of our own that goes away with this value.
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes one that nobody else may look into.
    pub(super) fn new() -> Result<Self, DemoError> {
        let mut attempt = 0;
        loop {
            let path = env::temp_dir().join(format!("crdt-demo-{}-{attempt}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < FOLDER_ATTEMPTS_MAX => {
                    attempt += 1;
                }
                Err(error) => return Err(DemoError::file("cannot make the folder", path)(error)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's folder for temporary files, which is swept.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One node: its folder, its addresses and, while it runs, its process.
pub(super) struct Node {
    /// Its node id.
    pub(super) name: String,
    program: PathBuf,
    folder: PathBuf,
    /// UDP, for the other nodes.
    pub(super) address: SocketAddr,
    /// TCP, for metrics.
    pub(super) http: SocketAddr,
    child: Option<Child>,
}

impl Node {
    /// Plans a node below `root`, on free ports of the loopback interface.
    pub(super) fn plan(program: &Path, root: &Path, name: String) -> Result<Self, DemoError> {
        let folder = root.join(&name);
        let socket = folder.join("door.sock");
        if socket.as_os_str().as_bytes().len() > SOCKET_PATH_BYTES_MAX {
            return Err(DemoError::PathTooLong { path: socket, bytes_max: SOCKET_PATH_BYTES_MAX });
        }
        let any = (Ipv4Addr::LOCALHOST, 0);
        let udp = UdpSocket::bind(any).and_then(|socket| socket.local_addr());
        let tcp = TcpListener::bind(any).and_then(|socket| socket.local_addr());
        Ok(Self {
            name,
            program: program.to_owned(),
            folder,
            address: udp.map_err(DemoError::system("cannot find a free UDP port on 127.0.0.1"))?,
            http: tcp.map_err(DemoError::system("cannot find a free TCP port on 127.0.0.1"))?,
            child: None,
        })
    }

    /// Its door.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("door.sock")
    }

    /// Writes its configuration. `init` and `join` write theirs only where there is none.
    pub(super) fn configure(&self) -> Result<(), DemoError> {
        let made = fs::DirBuilder::new().mode(0o700).create(&self.folder);
        made.map_err(DemoError::file("cannot make the folder", &self.folder))?;
        let (address, http) = (self.address, self.http);
        let text = format!("{LISTEN} = \"{address}\"\n{ADVERTISE} = [\"{address}\"]\n{HTTP} = \"{http}\"\n");
        let path = self.folder.join("config.toml");
        fs::write(&path, text).map_err(DemoError::file("cannot write", path))
    }

    /// Makes it the first of a cluster.
    pub(super) fn init(&self) -> Result<(), DemoError> {
        self.call("init", &["init", "--node-id", &self.name]).map(drop)
    }

    /// Asks it for a token with which `other` may join.
    pub(super) fn invite(&self, other: &str) -> Result<String, DemoError> {
        let output = self.call("invite", &["invite", "--node-id", other])?;
        let token = output.split_whitespace().find(|word| word.starts_with("crdt1_"));
        token.map(str::to_owned).ok_or_else(|| DemoError::Command {
            node: self.name.clone(),
            name: "invite",
            output: format!("it printed no token, but: {output}"),
        })
    }

    /// Makes it a member.
    pub(super) fn join(&self, token: &str) -> Result<(), DemoError> {
        self.call("join", &["join", token]).map(drop)
    }

    /// Starts its daemon.
    pub(super) fn run(&mut self) -> Result<(), DemoError> {
        let path = self.log();
        let log = File::create(&path).map_err(DemoError::file("cannot make the log", path))?;
        let errors = log.try_clone().map_err(DemoError::system("cannot share the log"))?;
        let mut command = self.command(&["run"]);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(command.spawn().map_err(DemoError::file("cannot start", &self.program))?);
        Ok(())
    }

    /// A connection to its door; `None` while it does not answer.
    pub(super) fn door(&self) -> Option<Door> {
        Door::open(&self.socket()).ok()
    }

    /// An error if its daemon has ended.
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait().map_err(DemoError::system("cannot look at a child process"))? {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                Err(DemoError::Ended { node: self.name.clone(), status: status.to_string(), log: self.log_tail() })
            }
        }
    }

    /// Asks its daemon to drain and end, without waiting.
    pub(super) fn ask_to_stop(&self) {
        if let Some(child) = &self.child {
            // A process that has ended meanwhile needs no signal.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
    }

    /// Waits until its daemon has ended, behind [`Node::ask_to_stop`], and kills it when that takes too long. Tells
    /// whether it ended by itself and without an error.
    pub(super) fn ended_well(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return true };
        match wait(&mut child, STOP_TIMEOUT) {
            Ok(Some(status)) => status.success(),
            Ok(None) | Err(_) => {
                end(&mut child);
                false
            }
        }
    }

    /// The file with what its daemon writes, beside its folder.
    fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.len().saturating_sub(LOG_TAIL_LINES);
        lines.iter().skip(tail).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }

    /// The binary with this node's folder and addresses.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--folder").arg(&self.folder);
        // Settings of the machine's own engine must not reach the demonstration: it would write to its Redis.
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"CRDT_")) {
            command.env_remove(name);
        }
        // SUBTLE: a group of its own, because Ctrl-C in a terminal reaches the whole group, and the daemons shall live
        // until they are equal.
        command.env(PARENT_VARIABLE, std::process::id().to_string()).process_group(0);
        command
    }

    /// Runs a command to its end, and gives its output.
    fn call(&self, name: &'static str, arguments: &[&str]) -> Result<String, DemoError> {
        let failed = |output: String| DemoError::Command { node: self.name.clone(), name, output };
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(DemoError::file("cannot start", &self.program))?;
        let status = wait(&mut child, COMMAND_TIMEOUT);
        if !matches!(status, Ok(Some(_))) {
            end(&mut child);
        }
        // SUBTLE: read after the end. These commands write a few lines, which a pipe holds.
        let output = child.stdout.take().map_or_else(|| Ok(String::new()), read);
        let errors = child.stderr.take().map_or_else(|| Ok(String::new()), read);
        let reading = DemoError::system("cannot read what a command wrote");
        match (status, output, errors) {
            (Ok(Some(status)), Ok(output), _) if status.success() => Ok(output),
            (Ok(Some(status)), _, Ok(errors)) => Err(failed(format!("{} ({status})", errors.trim()))),
            (Ok(None), _, _) => Err(failed(format!("it did not end within {} s", COMMAND_TIMEOUT.as_secs()))),
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => Err(reading(error)),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

/// Waits for the end of a process; `None` when it did not come in time.
fn wait(child: &mut Child, at_most: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + at_most;
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= until => return Ok(None),
            None => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Kills a process with all that it started, and takes its remains away.
fn end(child: &mut Child) {
    // Both fail only when the process is gone, which is what is wanted.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

fn read(mut pipe: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
