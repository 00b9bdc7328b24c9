//! A real `redis-server` of a test's own, on a Unix socket in a temporary folder.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running server; it ends with this value.
pub(crate) struct RedisServer {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one with append-only file and without snapshots; `arguments` come on top.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self { folder, arguments, child: None };
        server.run();
        server
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }

    /// A connection of the test's own.
    pub(crate) fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// A command whose answer does not matter.
    pub(crate) fn command(&self, words: &[&str]) {
        let (name, arguments) = words.split_first().unwrap();
        redis::cmd(name).arg(arguments).exec(&mut self.connection()).unwrap();
    }

    /// Kills the server, lets `between` happen to its files, and starts it again.
    pub(crate) fn restart(&mut self, between: impl FnOnce(&std::path::Path)) {
        self.kill();
        between(self.folder.path());
        self.run();
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn run(&mut self) {
        let folder = self.folder.path();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"])
            .arg("--unixsocket")
            .arg(folder.join("redis.sock"))
            .arg("--dir")
            .arg(folder)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn();
        let child = child.expect("this test needs redis-server 7 in PATH: apt-get install redis-server");
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let client = redis::Client::open(self.url()).unwrap();
            let answers = client.get_connection().and_then(|mut connection| redis::cmd("PING").exec(&mut connection));
            match answers {
                Ok(()) => return,
                Err(error) => assert!(Instant::now() < until, "redis-server does not answer: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
