//! What the machine gives: kernel, socket buffers, clock. A finding names the command that mends it; none stops the
//! engine.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Oldest kernel that the engine is tested with: Debian 11's. Older ones lack UDP segmentation offload that works.
const KERNEL_LEAST: (u32, u32) = (5, 10);
/// Socket buffers that links ask for: a burst of one round trip at 100 Mbit/s and 150 ms.
const SOCKET_BUFFER_BYTES: u64 = 2 << 20;
/// Room for ancillary data of a socket: packets that are sent many at a time carry some. 20 KiB was the default before
/// Linux 6.7, and is too small for full batches.
const OPTMEM_BYTES: u64 = 80 << 10;
/// How long a tool may take to tell about the clock; timedatectl may have to start a service first.
const TOOL_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at a tool.
const TOOL_LOOK_EVERY: Duration = Duration::from_millis(10);
/// Most bytes of a tool's answer, and of a file of the system, that are read.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The stable code.
    pub code: &'static str,
    /// What was found, and what it costs.
    pub message: String,
    /// The command that mends it.
    pub command: String,
}

/// What the machine gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// Release of the kernel.
    pub kernel: String,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// Asks a tool of the system; `None` when it is missing, fails or takes too long.
type Ask<'a> = &'a dyn Fn(&str, &[&str]) -> Option<String>;

/// Looks at this machine. Takes up to a few seconds, because tools are asked about the clock: not for the hot path.
pub fn look() -> Surroundings {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    look_at(Path::new("/"), kernel, &ask)
}

fn look_at(root: &Path, kernel: String, ask: Ask<'_>) -> Surroundings {
    let mut findings = Vec::new();
    findings.extend(kernel_finding(&kernel));
    findings.extend(buffer_finding(root));
    findings.extend(clock_finding(root, ask));
    Surroundings { kernel, findings }
}

fn kernel_finding(release: &str) -> Option<Finding> {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    // A release that does not read as numbers says nothing.
    let found = (numbers.next()??, numbers.next()??);
    let (major, minor) = KERNEL_LEAST;
    (found < KERNEL_LEAST).then(|| Finding {
        code: "ERR_KERNEL_OLD",
        message: format!("the kernel is {release}, older than {major}.{minor}, and not tested with this engine"),
        command: "apt full-upgrade && reboot".to_owned(),
    })
}

fn buffer_finding(root: &Path) -> Option<Finding> {
    let wanted = [
        ("net.core.rmem_max", SOCKET_BUFFER_BYTES),
        ("net.core.wmem_max", SOCKET_BUFFER_BYTES),
        ("net.core.optmem_max", OPTMEM_BYTES),
    ];
    // Where a value cannot be read, as in some containers, nothing can be said about it.
    let read = |name: &str| read_text(&root.join("proc/sys").join(name.replace('.', "/")))?.trim().parse::<u64>().ok();
    let low: Vec<(&str, u64, u64)> = wanted
        .into_iter()
        .filter_map(|(name, least)| read(name).filter(|found| *found < least).map(|found| (name, found, least)))
        .collect();
    if low.is_empty() {
        return None;
    }
    let found: Vec<String> = low.iter().map(|(name, found, least)| format!("{name} is {found} of {least}")).collect();
    let settings: Vec<String> = low.iter().map(|(name, _, least)| format!("{name}={least}")).collect();
    Some(Finding {
        code: "ERR_SOCKET_BUFFERS",
        message: format!("socket buffers are small, which costs speed over long ways: {}", found.join(", ")),
        command: format!("sysctl -w {}", settings.join(" ")),
    })
}

fn clock_finding(root: &Path, ask: Ask<'_>) -> Option<Finding> {
    let is_synchronised = match root.join("run/systemd/timesync/synchronized").exists() {
        true => Some(true),
        // timedatectl says no for a while after chrony has the time, so a no is not the last word.
        false => match of_timedatectl(ask) {
            Some(true) => Some(true),
            other => of_chrony(ask).or(other),
        },
    };
    let message = match is_synchronised {
        Some(true) => return None,
        Some(false) => "the clock is not synchronised, and conflicts are shown by clocks",
        None => "nobody tells whether the clock is synchronised, and conflicts are shown by clocks",
    };
    let is_container = ["run/systemd/container", ".dockerenv", "run/.containerenv"].iter();
    let command = match is_container.map(|name| root.join(name)).any(|path| path.exists()) {
        true => "timedatectl set-ntp true   (on the host: a container has its clock)",
        false => "apt install systemd-timesyncd && timedatectl set-ntp true",
    };
    Some(Finding { code: "ERR_CLOCK_UNSYNCHRONISED", message: message.to_owned(), command: command.to_owned() })
}

/// What the kernel's own flag says, which every time service sets.
fn of_timedatectl(ask: Ask<'_>) -> Option<bool> {
    match ask("timedatectl", &["show", "--property=NTPSynchronized", "--value"])?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// The last of the comma-separated values is the leap status.
fn of_chrony(ask: Ask<'_>) -> Option<bool> {
    match ask("chronyc", &["-c", "tracking"])?.trim().rsplit(',').next()? {
        "Not synchronised" => Some(false),
        "Normal" | "Insert second" | "Delete second" => Some(true),
        _ => None,
    }
}

fn ask(tool: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let until = Instant::now() + TOOL_PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(TOOL_LOOK_EVERY),
            Ok(None) | Err(_) => break None,
        }
    };
    if status.is_none() {
        // Both fail only when it has ended meanwhile.
        let _ = child.kill();
        let _ = child.wait();
    }
    let mut answer = String::new();
    // These tools write one line, which a pipe holds, so it can be read after the end.
    child.stdout.take()?.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).ok()?;
    status.filter(std::process::ExitStatus::success).map(|_| answer)
}

fn read_text(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(ANSWER_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; run: {} ({})", self.message, self.command, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(_: &str, _: &[&str]) -> Option<String> {
        None
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn codes(found: &Surroundings) -> Vec<&'static str> {
        found.findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_good_machine_has_no_findings() {
        let root = tree(&[
            ("proc/sys/net/core/rmem_max", "2500000\n"),
            ("proc/sys/net/core/wmem_max", "2097152\n"),
            ("proc/sys/net/core/optmem_max", "131072\n"),
            ("run/systemd/timesync/synchronized", ""),
        ]);
        let found = look_at(root.path(), "6.1.0-13-amd64".into(), &silent);
        assert!(found.findings.is_empty(), "{found:?}");
    }

    #[test]
    fn each_finding_names_the_command_that_mends_it() {
        let root = tree(&[
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("proc/sys/net/core/wmem_max", "2097152\n"),
            ("proc/sys/net/core/optmem_max", "20480\n"),
        ]);
        let found = look_at(root.path(), "4.19.0".into(), &silent);
        assert_eq!(codes(&found), ["ERR_KERNEL_OLD", "ERR_SOCKET_BUFFERS", "ERR_CLOCK_UNSYNCHRONISED"]);
        let command = "sysctl -w net.core.rmem_max=2097152 net.core.optmem_max=81920";
        assert_eq!(found.findings[1].command, command);
        assert!(found.findings.iter().all(|finding| finding.to_string().contains(&finding.command)));
    }

    #[test]
    fn whichever_service_keeps_the_clock_is_heard() {
        let root = tree(&[]);
        let clock = |answers: &[(&str, &str)]| {
            let ask = |tool: &str, _: &[&str]| {
                answers.iter().find(|(name, _)| *name == tool).map(|(_, answer)| (*answer).to_owned())
            };
            codes(&look_at(root.path(), "6.1".into(), &ask))
        };
        assert!(clock(&[("timedatectl", "yes\n")]).is_empty());
        assert!(clock(&[("chronyc", "A,B,1,0.1,Normal\n")]).is_empty());
        assert!(clock(&[("timedatectl", "no\n"), ("chronyc", "A,B,1,0.1,Normal\n")]).is_empty());
        assert_eq!(clock(&[("timedatectl", "no\n")]), ["ERR_CLOCK_UNSYNCHRONISED"]);
        assert_eq!(clock(&[("chronyc", "7F7F0101,,0,Not synchronised\n")]), ["ERR_CLOCK_UNSYNCHRONISED"]);
    }

    #[test]
    fn a_tool_that_hangs_is_given_up() {
        let begun = Instant::now();
        assert_eq!(ask("sleep", &["60"]), None);
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(ask("echo", &["yes"]), Some("yes\n".to_owned()));
        assert_eq!(ask("no-such-tool-here", &[]), None);
    }
}
