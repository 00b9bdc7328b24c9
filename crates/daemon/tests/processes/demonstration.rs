//! `crdt-engine demo`, as a person would try it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::node::Guard;
use crate::patience::wait_for;

/// For three nodes to be made, to run, and to end.
const DEMONSTRATION: Duration = Duration::from_secs(50);

/// Starts a demonstration with its output in a file.
fn start(arguments: &[&str], output: &Path) -> Guard {
    let out = File::create(output).unwrap();
    let errors = out.try_clone().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_crdt-engine"));
    command.arg("demo").args(arguments).stdin(Stdio::null()).stdout(out).stderr(errors);
    // Its daemons end with it: see `daemon::demo::PARENT_VARIABLE`.
    Guard(command.env(daemon::demo::PARENT_VARIABLE, std::process::id().to_string()).spawn().unwrap())
}

fn assert_it_ended_well(mut demo: Guard, output: &Path) {
    let read = || fs::read_to_string(output).unwrap();
    let status = wait_for("ended: the demonstration", DEMONSTRATION, || {
        demo.0.try_wait().unwrap().ok_or_else(|| format!("it has said:\n{}", read()))
    });
    let said = read();
    assert!(status.success(), "{status}:\n{said}");
    for expected in
        ["redis-cli -s ", "ops/s", "digest", "Equal after", "acknowledged increments", "All nodes have ended"]
    {
        assert!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
    let folder = said.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap();
    assert!(folder.contains("crdt-demo-") && !Path::new(folder).exists(), "{folder} is left");
}

#[test]
fn a_demonstration_of_some_seconds_ends_with_equal_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    assert_it_ended_well(start(&["--nodes", "3", "--seconds", "3"], &output), &output);
}

#[test]
fn ctrl_c_ends_a_demonstration_with_equal_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let demo = start(&["--nodes", "2"], &output);
    wait_for("traffic", DEMONSTRATION, || {
        let said = fs::read_to_string(&output).unwrap();
        if said.contains("| node_01") { Ok(()) } else { Err(said) }
    });
    kill_process(Pid::from_child(&demo.0), Signal::INT).unwrap();
    assert_it_ended_well(demo, &output);
}
