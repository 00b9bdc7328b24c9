//! Child processes that end with this one, however it ends, and what the kernel knows of them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::failure::Failure;
use crate::patience::{STOP, wait_for};

/// Of a log that is shown when its process ended.
const LOG_TAIL_LINES: usize = 20;

/// A server; killed with this value.
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
}

/// Memory of a process in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// The most there was since the process began, or since [`Process::forget_peak`].
    pub(crate) peak: u64,
}

/// A command that the kernel kills when this program ends. `crdt-engine` sees to that by itself; for others
/// `setpriv` of util-linux asks the kernel.
pub(crate) fn ending_with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

impl Process {
    /// Starts a server whose output goes into a log.
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self, Failure> {
        let out = File::options().create(true).append(true).open(&log);
        let out = out.map_err(Failure::io(format!("make the log {}", log.display())))?;
        let errors = out.try_clone().map_err(Failure::io("share a log"))?;
        // A group of its own, so that Ctrl-C in a terminal ends this program alone, and the rest with it.
        command.stdin(Stdio::null()).stdout(out).stderr(errors).process_group(0);
        let child = command.spawn().map_err(Failure::io(format!("start {name}")))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        let looked = self.child.try_wait().map_err(Failure::io(format!("look at {}", self.name)))?;
        looked.map_or(Ok(()), |status| Err(self.ended(status)))
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        let log = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
        Failure::Ended { who: self.name.clone(), status: status.to_string(), log: tail }
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.check()?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|error| Failure::io(format!("stop {}", self.name))(error.into()))?;
        let what = format!("ended after SIGTERM: {}", self.name);
        let status = wait_for(&what, STOP, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(Ok(status)),
            Ok(None) => Ok(Err("it runs".to_owned())),
            Err(error) => Err(Failure::io(format!("look at {}", self.name))(error)),
        })?;
        if status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).map_err(Failure::io(format!("read {path}")))?;
        let field = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = text.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok());
            kib.ok_or_else(|| Failure::Answer {
                who: self.name.clone(),
                asked: path.clone(),
                answered: format!("no line {name}"),
            })
        };
        Ok(Memory { resident: field("VmRSS")?, peak: field("VmHWM")? })
    }

    /// Lets the kernel count the peak from now on.
    pub(crate) fn forget_peak(&self) -> Result<(), Failure> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&path, "5").map_err(Failure::io(format!("write {path}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Both fail only when the process is gone, which is what is wanted.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end within a time: its standard output, or, if it failed, everything that it wrote. `place`
/// names the files that its output goes to meanwhile, which any amount fits in.
pub(crate) fn output(who: &str, mut command: Command, place: &Path, at_most: Duration) -> Result<String, Failure> {
    spawn_captured(who, &mut command, place)?.output(at_most)
}

/// A command under way whose output is wanted; killed with this value.
pub(crate) struct Captured {
    who: String,
    command: String,
    child: Child,
    files: [PathBuf; 2],
}

/// Starts a command whose output goes to files named after `place`.
pub(crate) fn spawn_captured(who: &str, command: &mut Command, place: &Path) -> Result<Captured, Failure> {
    let told = format!("{command:?}").replace('"', "");
    let files = [place.with_extension("out"), place.with_extension("err")];
    let [out, err] =
        files.each_ref().map(|path| File::create(path).map_err(Failure::io(format!("make {}", path.display()))));
    command.stdin(Stdio::null()).stdout(out?).stderr(err?).process_group(0);
    let child = command.spawn().map_err(Failure::io(format!("start `{told}`")))?;
    Ok(Captured { who: who.to_owned(), command: told, child, files })
}

impl Captured {
    /// Waits for its end.
    pub(crate) fn output(mut self, at_most: Duration) -> Result<String, Failure> {
        let until = Instant::now() + at_most;
        let status = loop {
            match self.child.try_wait().map_err(Failure::io(format!("look at `{}`", self.command)))? {
                Some(status) => break status,
                None if Instant::now() >= until => {
                    let output = format!("it did not end within {} s", at_most.as_secs());
                    return Err(Failure::Command { who: self.who.clone(), command: self.command.clone(), output });
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        let read = |path: &PathBuf| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let [out, err] = self.files.each_ref().map(|path| read(path).unwrap_or_default());
        if status.success() {
            return Ok(out);
        }
        let output = format!("{}{} ({status})", err.trim_end(), out.trim_end());
        Err(Failure::Command { who: self.who.clone(), command: self.command.clone(), output })
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
