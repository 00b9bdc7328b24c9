//! What every part of a run is given: the binary, a folder, how much to do, and how a figure becomes a claim.

use std::path::PathBuf;
use std::time::Instant;

use bench_results::{Better, Claim};

use crate::cluster::Cluster;
use crate::effort::Effort;
use crate::failure::Failure;
use crate::place::Folder;

/// One run.
pub(crate) struct Run {
    /// The binary `crdt-engine`.
    pub(crate) engine: PathBuf,
    pub(crate) folder: Folder,
    pub(crate) effort: Effort,
    /// As it calls itself.
    pub(crate) redis_version: String,
    /// Ids, or what ids begin with up to a dot; none: all.
    pub(crate) wanted: Vec<String>,
    /// Machine, disk and what else ran.
    pub(crate) place: String,
    pub(crate) begun: Instant,
}

/// A figure before it is a claim.
pub(crate) struct Figure {
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    pub(crate) peer_name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) conditions: String,
}

impl Run {
    pub(crate) fn wants(&self, id: &str) -> bool {
        let is_it = |wanted: &String| id == wanted || id.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'));
        self.wanted.is_empty() || self.wanted.iter().any(is_it)
    }

    /// Tells a person how far the run is.
    pub(crate) fn say(&self, text: &str) {
        eprintln!("[{:>6.1} s] {text}", self.begun.elapsed().as_secs_f64());
    }

    /// Plans a cluster in the folder of a part of the run.
    pub(crate) fn plan(&self, folder: &Folder, count: usize) -> Result<Cluster, Failure> {
        Cluster::plan(&self.engine, folder.path(), count)
    }

    /// What Redis is called as a peer.
    pub(crate) fn redis(&self) -> String {
        format!("redis {}", self.redis_version)
    }

    pub(crate) fn claim(&self, figure: Figure) -> Claim {
        let Figure { id, what, ours, peer, peer_name, unit, better, conditions } = figure;
        let ratio = ours / peer;
        self.say(&format!("{id}: {ours:.3} {unit}, {peer_name} {peer:.3}, ratio {ratio:.3}"));
        let conditions = format!("{conditions}; {}", self.place);
        Claim { id, what, ours, peer, peer_name, unit, better, ratio, conditions }
    }
}
