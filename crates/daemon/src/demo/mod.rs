//! `crdt-engine demo`: a whole cluster on this machine in one go, with nothing but the binary.
//!
//! It calls the same binary as a person would (`init`, `invite`, `join`, `run`) for each node, in a temporary folder and
//! on free loopback ports; writes through every door at once; shows each second how far the nodes are apart; and on
//! Ctrl-C, or after some seconds, stops the traffic, waits until all nodes are equal, shows what converged, drains the
//! nodes and removes everything.

mod children;
mod door;
mod error;
mod load;
mod parent;
mod stop;
mod view;

use std::io::Write;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use children::{Node, TemporaryFolder};
use door::Door;
use load::Writer;
use stop::Stop;
use view::NodeView;

pub use error::DemoError;
pub use parent::{PARENT_VARIABLE, end_with_parent};

/// Fewest nodes: one alone replicates nothing.
pub const NODES_MIN: usize = 2;
/// Most nodes: each is a daemon with a store and a runtime of its own, and they share this machine.
pub const NODES_MAX: usize = 7;
/// Operations a second and node unless another pace is wished for: lively, and cheap for a laptop.
pub const OPS_PER_SECOND_DEFAULT: u32 = 500;

/// How long the nodes may take to answer and to find each other.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the nodes may take to become equal after the last write.
const CONVERGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at the nodes while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two lines about the traffic.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What shall be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DemoOptions {
    /// How many nodes, [`NODES_MIN`] to [`NODES_MAX`].
    pub nodes: usize,
    /// For how long there is traffic, in seconds; `None`: until Ctrl-C.
    pub seconds: Option<u64>,
    /// Operations a second through each door, at most.
    pub ops_per_second: u32,
    /// The binary to start, which is `std::env::current_exe()` but in tests.
    pub program: PathBuf,
}

/// Shows a cluster; returns when its nodes have become equal and are gone.
///
/// # Errors
/// [`DemoError`] says what went wrong, and with which node. Processes and files are gone then too.
/// [`DemoError::Interrupted`] is no failure: somebody pressed Ctrl-C while the cluster was being built.
pub fn run(options: &DemoOptions, out: &mut dyn Write) -> Result<(), DemoError> {
    if !(NODES_MIN..=NODES_MAX).contains(&options.nodes) {
        return Err(DemoError::Nodes { asked: options.nodes, range: (NODES_MIN, NODES_MAX) });
    }
    let stop = Stop::watch()?;
    let folder = TemporaryFolder::new()?;
    let mut show = Show { nodes: Vec::new(), doors: Vec::new(), stop: &stop, out };
    show.say(&format!("{} nodes on this machine, in {}", options.nodes, folder.path().display()))?;
    show.build(options, &folder)?;
    show.invitation()?;
    let mut writers = show.traffic(options)?;
    show.watch(options, &writers)?;
    writers.iter_mut().for_each(Writer::stop);
    show.converge(&writers)?;
    show.end()
}

/// The nodes, a connection to each, and where all is told.
struct Show<'a> {
    nodes: Vec<Node>,
    doors: Vec<Option<Door>>,
    stop: &'a Stop,
    out: &'a mut dyn Write,
}

impl Show<'_> {
    /// Makes the cluster, node by node, and waits until all are linked.
    fn build(&mut self, options: &DemoOptions, folder: &TemporaryFolder) -> Result<(), DemoError> {
        for number in 1..=options.nodes {
            self.stop.check()?;
            let name = format!("node_{number:02}");
            let mut node = Node::plan(&options.program, folder.path(), name.clone())?;
            node.configure()?;
            let how = match self.nodes.first() {
                None => {
                    node.init()?;
                    "made the cluster".to_owned()
                }
                Some(first) => {
                    node.join(&first.invite(&name)?)?;
                    format!("joined by a token of {}", first.name)
                }
            };
            node.run()?;
            self.nodes.push(node);
            self.doors.push(None);
            // The first must answer before it can be joined; the others may take their time together.
            let seconds = self.ready(READY_TIMEOUT)?.as_secs_f32();
            self.say(&format!("[{number}/{}] {name} {how}, linked after {seconds:.1} s", options.nodes))?;
        }
        Ok(())
    }

    /// Waits until every node that runs takes a write and has a link to each of the others; tells how long it took.
    fn ready(&mut self, at_most: Duration) -> Result<Duration, DemoError> {
        let begun = Instant::now();
        loop {
            let views = self.look()?;
            let missing = view::missing_links(&views).or_else(|| self.refused_write());
            match missing {
                None => return Ok(begun.elapsed()),
                Some(missing) if begun.elapsed() >= at_most => {
                    return Err(DemoError::NotReady { missing, waited_s: at_most.as_secs() });
                }
                Some(_) if self.stop.wait(LOOK_EVERY) => return Err(DemoError::Interrupted),
                Some(_) => {}
            }
        }
    }

    /// Which node refuses a write, and why. A node that has just started listens to the others first.
    fn refused_write(&mut self) -> Option<String> {
        let mut doors = self.nodes.iter().zip(&mut self.doors);
        doors.find_map(|(node, door)| {
            let error = door.as_mut()?.ask(&["SADD", "demo:nodes", &node.name]).err()?;
            Some(format!("{} takes no write: {error}", node.name))
        })
    }

    /// Tells what can be tried while the traffic runs.
    fn invitation(&mut self) -> Result<(), DemoError> {
        self.say("\nEvery node takes reads and writes. Try, in another terminal:")?;
        let socket = |node: Option<&Node>| node.map(|node| node.socket().display().to_string()).unwrap_or_default();
        let (first, last) = (socket(self.nodes.first()), socket(self.nodes.last()));
        let lines = [
            format!("  redis-cli -s {first} SET greeting hello"),
            format!("  redis-cli -s {last} GET greeting"),
            format!("  redis-cli -s {last} GET {}", load::COUNTER),
            format!("  redis-cli -s {first} HGETALL {}7", load::PAGE),
            format!("  redis-cli -s {first} CRDT.PEERS"),
        ];
        lines.iter().try_for_each(|line| self.say(line))?;
        self.say("\nThe nodes:")?;
        let nodes = self.nodes.iter();
        let lines: Vec<String> = nodes
            .map(|node| {
                format!("  {}  {}  udp {}  http {}", node.name, node.socket().display(), node.address, node.http)
            })
            .collect();
        lines.iter().try_for_each(|line| self.say(line))?;
        self.say("\nA line a second: operations/s; lag: ours that a peer lacks; drift: others' that we lack.")
    }

    fn traffic(&self, options: &DemoOptions) -> Result<Vec<Writer>, DemoError> {
        self.nodes.iter().map(|node| Writer::start(&node.name, node.socket(), options.ops_per_second)).collect()
    }

    /// One line a second until somebody stops it or the time is over.
    fn watch(&mut self, options: &DemoOptions, writers: &[Writer]) -> Result<(), DemoError> {
        let begun = Instant::now();
        let mut before = vec![0; writers.len()];
        let mut last_line = begun;
        loop {
            let left = options.seconds.map(|seconds| Duration::from_secs(seconds).saturating_sub(begun.elapsed()));
            if left == Some(Duration::ZERO) || self.stop.wait(left.unwrap_or(LINE_EVERY).min(LINE_EVERY)) {
                return Ok(());
            }
            let views = self.look()?;
            let drifts = view::drift_ops(&views);
            let seconds = last_line.elapsed().as_secs_f64().max(0.001);
            last_line = Instant::now();
            let mut line = format!("{:>4} s", begun.elapsed().as_secs());
            for (((view, drift), writer), before) in views.iter().zip(drifts).zip(writers).zip(&mut before) {
                let now = writer.figures().acknowledged.load(Ordering::Relaxed);
                let rate = (now - *before) as f64 / seconds;
                *before = now;
                line.push_str(&format!("  | {} {rate:>5.0} ops/s", view.name));
                match drift {
                    Some(drift) => line.push_str(&format!("  lag {:>4}  drift {drift:>4}", view.lag_ops())),
                    None => line.push_str("  does not answer"),
                }
            }
            self.say(&line)?;
            for (node, failure) in
                self.nodes.iter().map(|node| node.name.clone()).zip(failures(writers)).collect::<Vec<_>>()
            {
                if let Some(failure) = failure {
                    self.say(&format!("       {node}: {failure}"))?;
                }
            }
        }
    }

    /// Waits until all nodes are equal, and shows what they agree on.
    fn converge(&mut self, writers: &[Writer]) -> Result<(), DemoError> {
        self.say("\nThe traffic has ended; waiting until all nodes are equal ...")?;
        let begun = Instant::now();
        let views = loop {
            let views = self.look()?;
            if view::common_digest(&views).is_some() {
                break views;
            }
            if begun.elapsed() >= CONVERGE_TIMEOUT || self.stop.requests() > 1 {
                return Err(DemoError::NotConverged { state: state(&views), waited_s: begun.elapsed().as_secs() });
            }
            // Not `stop.wait`: it returns at once when the traffic was ended by Ctrl-C.
            std::thread::sleep(LOOK_EVERY);
        };
        let digest = view::common_digest(&views).unwrap_or_default();
        for view in &views {
            self.say(&format!("  {}  digest {digest}", view.name))?;
        }
        let sum = |read: fn(&load::Figures) -> u64| writers.iter().map(|writer| read(writer.figures())).sum::<u64>();
        let operations = sum(|figures| figures.acknowledged.load(Ordering::Relaxed));
        let counted = sum(|figures| figures.counted.load(Ordering::Relaxed));
        let uncertain = sum(|figures| figures.uncertain.load(Ordering::Relaxed));
        self.say(&format!("\nEqual after {:.1} s. What converged:", begun.elapsed().as_secs_f32()))?;
        self.say(&format!("  {operations} acknowledged operations, written on {} nodes at once", views.len()))?;
        let shown = self.number(&["GET", load::COUNTER]);
        if let Some(shown) = shown {
            let range = (counted, counted + uncertain);
            if !u64::try_from(shown).is_ok_and(|shown| (range.0..=range.1).contains(&shown)) {
                return Err(DemoError::WrongSum { shown, range });
            }
            self.say(&format!(
                "  counter  {}: {shown} on every node; acknowledged increments: {counted}",
                load::COUNTER
            ))?;
        }
        if let Some(members) = self.number(&["SCARD", load::SET]) {
            self.say(&format!("  set      {}: {members} members", load::SET))?;
        }
        self.say(&format!("  hashes   {}*: views per page and node", load::PAGE))?;
        self.say(&format!(
            "  registers {}*: the last writer's value; what it hid stands in CRDT.CONFLICTS",
            load::REGISTER
        ))
    }

    /// Drains the nodes.
    fn end(&mut self) -> Result<(), DemoError> {
        self.doors.clear();
        self.nodes.iter().for_each(Node::ask_to_stop);
        let mut harsh = Vec::new();
        for node in &mut self.nodes {
            if !node.ended_well() {
                harsh.push(node.name.clone());
            }
        }
        match harsh.as_slice() {
            [] => self.say("\nAll nodes have ended; the folder is gone."),
            names => self.say(&format!("\nNot all nodes ended by themselves: {}.", names.join(", "))),
        }
    }

    /// Asks every node; an error if a daemon has ended.
    fn look(&mut self) -> Result<Vec<NodeView>, DemoError> {
        let mut views = Vec::with_capacity(self.nodes.len());
        for (node, door) in self.nodes.iter_mut().zip(&mut self.doors) {
            node.check()?;
            if door.is_none() {
                *door = node.door();
            }
            let view = NodeView::ask(&node.name, door.as_mut());
            if view.clock.is_none() {
                *door = None;
            }
            views.push(view);
        }
        Ok(views)
    }

    /// What the last node shows.
    fn number(&mut self, words: &[&str]) -> Option<i64> {
        self.doors.last_mut()?.as_mut()?.number(words).ok()
    }

    fn say(&mut self, line: &str) -> Result<(), DemoError> {
        let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        written.map_err(DemoError::system("cannot write to standard output"))
    }
}

/// The errors that the writers met since they were last asked.
fn failures(writers: &[Writer]) -> impl Iterator<Item = Option<String>> {
    writers.iter().map(|writer| writer.figures().failure.lock().unwrap_or_else(PoisonError::into_inner).take())
}

/// Digest and drift of every node, in one line.
fn state(views: &[NodeView]) -> String {
    let one = |(view, drift): (&NodeView, Option<u64>)| match (&view.clock, drift) {
        (Some(clock), Some(drift)) => format!("{}: digest {}, lacks {drift}", view.name, clock.digest),
        _ => format!("{}: does not answer", view.name),
    };
    views.iter().zip(view::drift_ops(views)).map(one).collect::<Vec<_>>().join("; ")
}
