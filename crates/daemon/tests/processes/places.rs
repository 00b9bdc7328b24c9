//! Where the nodes of a cluster live: each in a network namespace of its own where root is there, and else all on one
//! loopback address.
//!
//! ```text
//! harness, relays: 198.18.x.14 ===bridge=== veth === eth0 198.18.x.1  in the namespace of node_01
//!                                      +=== veth === eth0 198.18.x.2  in the namespace of node_02
//! ```
//! In a namespace a node has ports of its own, so it runs on the default ones, and packets have the size that a real
//! link allows. The addresses are those that are set aside for measurements between networks (RFC 2544).

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::geteuid;

/// Names of namespaces, bridges and links begin with it.
const PREFIX: &str = "crdt";
/// Blocks of 16 addresses in 198.18.0.0/15.
const BLOCKS: u32 = 8_192;
/// The harness within its block; nodes count from 1.
const HARNESS: u32 = 14;
/// Nodes that a block has room for.
const NODES_MAX: u32 = 13;
/// The ports of a node that has all of them for itself.
const PORTS: (u16, u16) = (8888, 9100);

/// Counts the clusters of this process.
static CLUSTERS: AtomicU32 = AtomicU32::new(0);

/// Where one node lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    namespace: Option<String>,
    pub(crate) udp: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Place {
    /// Free ports of a loopback address.
    fn on_loopback(address: Ipv4Addr) -> Self {
        let udp = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap();
        let http = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap();
        Self { namespace: None, udp, http }
    }

    /// A place for a second process beside the one of this place.
    pub(crate) fn beside(&self) -> Self {
        let SocketAddr::V4(address) = self.udp else { panic!("nodes of tests have IPv4 addresses") };
        if self.namespace.is_none() {
            return Self::on_loopback(*address.ip());
        }
        let next = |at: SocketAddr| SocketAddr::new(at.ip(), at.port() + 1);
        Self { namespace: self.namespace.clone(), udp: next(self.udp), http: next(self.http) }
    }

    /// A command that runs there, without its arguments.
    pub(crate) fn command(&self, program: &str) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        // It becomes the program, so the process that is started is the program's.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }
}

/// Where the nodes of one cluster live; what was made for them goes with this value.
pub(crate) struct Places {
    pub(crate) nodes: Vec<Place>,
    /// Where relays between the nodes live.
    pub(crate) relays: Ipv4Addr,
    /// What `ip` takes away again.
    made: Vec<String>,
}

impl Places {
    /// Makes places for so many nodes.
    pub(crate) fn make(count: usize) -> Self {
        let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        if !geteuid().is_root() || Command::new("ip").arg("-V").output().is_err() {
            eprintln!("SKIPPED: network namespaces need root and iproute2; the nodes share a loopback address instead");
            return Self::on_loopback(count, cluster);
        }
        Self::in_namespaces(u32::try_from(count).unwrap(), cluster)
    }

    fn on_loopback(count: usize, cluster: u32) -> Self {
        // An address of this cluster's own, so that no other test's ports are in its way.
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 1 + high % 250, low, 1 + (cluster % 250) as u8);
        let nodes = (0..count).map(|_| Place::on_loopback(address)).collect();
        Self { nodes, relays: Ipv4Addr::LOCALHOST, made: Vec::new() }
    }

    fn in_namespaces(count: u32, cluster: u32) -> Self {
        assert!(count <= NODES_MAX, "{count} nodes do not fit into a block of addresses");
        forget_the_dead();
        let process = std::process::id();
        let block = process.wrapping_mul(31).wrapping_add(cluster) % BLOCKS;
        let address = |host: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + block * 16 + host);
        let name = format!("{PREFIX}{process}-{}", cluster % 100);
        let relays = address(HARNESS);
        let mut made = Self { nodes: Vec::new(), relays, made: vec![format!("link del {name}")] };
        let mut commands = vec![
            format!("link add {name} type bridge"),
            format!("addr add {relays}/28 dev {name}"),
            format!("link set {name} up"),
        ];
        for host in 1..=count {
            let own = address(host);
            let node = format!("{name}{}", char::from(b'a' + (host - 1) as u8));
            ip(&[format!("netns add {node}")]);
            made.made.push(format!("netns del {node}"));
            commands.extend([
                format!("link add {node} type veth peer name eth0 netns {node}"),
                format!("link set {node} master {name} up"),
            ]);
            let udp = SocketAddr::from((own, PORTS.0));
            let http = SocketAddr::from((own, PORTS.1));
            made.nodes.push(Place { namespace: Some(node), udp, http });
        }
        ip(&commands);
        for place in &made.nodes {
            let namespace = place.namespace.as_deref().expect("it was just given one");
            let inside = [
                format!("addr add {}/28 dev eth0", place.udp.ip()),
                "link set eth0 up".to_owned(),
                "link set lo up".to_owned(),
            ];
            ip_in(Some(namespace), &inside);
        }
        made
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        // A namespace takes its end of the link with it, and that end the other one.
        for command in self.made.iter().rev() {
            let _ = Command::new("ip").args(command.split(' ')).stderr(Stdio::null()).status();
        }
    }
}

/// Takes away what processes left that were killed.
fn forget_the_dead() {
    let output = Command::new("ip").args(["-o", "link", "show", "type", "bridge"]).output().unwrap();
    let links = String::from_utf8_lossy(&output.stdout).into_owned();
    let bridges = links.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned);
    let namespaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let namespaces = namespaces.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let left = bridges.map(|name| ("link", name)).chain(namespaces.map(|name| ("netns", name)));
    for (kind, name) in left {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = Command::new("ip").args([kind, "del", &name]).stderr(Stdio::null()).status();
        }
    }
}

fn ip(commands: &[String]) {
    ip_in(None, commands);
}

/// Runs commands of `ip`, in a namespace if there is one.
fn ip_in(namespace: Option<&str>, commands: &[String]) {
    let mut ip = Command::new("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    let mut child = ip.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().expect("it is piped").write_all(commands.join("\n").as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "ip ended with {status} on: {commands:?}");
}
