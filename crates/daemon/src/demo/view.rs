//! What the nodes of a demonstration tell, put beside each other.

use std::collections::BTreeMap;

use super::door::{Clock, Door, PeerView};

/// One node as it answered; `None` where it did not.
pub(super) struct NodeView {
    pub(super) name: String,
    pub(super) clock: Option<Clock>,
    pub(super) peers: Vec<PeerView>,
}

impl NodeView {
    /// Asks one node.
    pub(super) fn ask(name: &str, door: Option<&mut Door>) -> Self {
        let (clock, peers) = match door {
            Some(door) => (door.clock().ok(), door.peers().unwrap_or_default()),
            None => (None, Vec::new()),
        };
        Self { name: name.to_owned(), clock, peers }
    }

    /// Operations of its own that the peer furthest behind lacks.
    pub(super) fn lag_ops(&self) -> u64 {
        self.peers.iter().map(|peer| peer.lag_ops).max().unwrap_or(0)
    }
}

/// The greatest applied sequence number of every replica.
fn union(views: &[NodeView]) -> BTreeMap<&str, u64> {
    let mut union = BTreeMap::new();
    for (replica, seq) in views.iter().filter_map(|view| view.clock.as_ref()).flat_map(|clock| &clock.applied) {
        let greatest = union.entry(replica.as_str()).or_insert(0);
        *greatest = (*greatest).max(*seq);
    }
    union
}

/// Per node, how many operations it lacks that some node has applied; `None` where it did not answer.
pub(super) fn drift_ops(views: &[NodeView]) -> Vec<Option<u64>> {
    let union = union(views);
    let lacks = |clock: &Clock| {
        let gap = |(replica, seq): (&&str, &u64)| seq.saturating_sub(clock.applied.get(*replica).copied().unwrap_or(0));
        union.iter().map(gap).sum::<u64>()
    };
    views.iter().map(|view| view.clock.as_ref().map(lacks)).collect()
}

/// The digest that all nodes have, if all answered, applied the same and have the same one.
pub(super) fn common_digest(views: &[NodeView]) -> Option<&str> {
    let is_level = drift_ops(views).into_iter().all(|drift| drift == Some(0));
    let mut digests = views.iter().filter_map(|view| view.clock.as_ref()).map(|clock| clock.digest.as_str());
    let first = digests.next().filter(|_| is_level)?;
    digests.all(|digest| digest == first).then_some(first)
}

/// Who misses whom, in words; `None` when every node has a link to each of the others.
pub(super) fn missing_links(views: &[NodeView]) -> Option<String> {
    let missing = |view: &NodeView| {
        if view.clock.is_none() {
            return Some(format!("{} does not answer", view.name));
        }
        let others = views.iter().map(|other| other.name.as_str()).filter(|other| *other != view.name);
        let is_linked = |other: &&str| view.peers.iter().any(|peer| peer.node == *other && peer.is_up);
        let without: Vec<&str> = others.filter(|other| !is_linked(other)).collect();
        (!without.is_empty()).then(|| format!("{} has no link to {}", view.name, without.join(", ")))
    };
    let complaints: Vec<String> = views.iter().filter_map(missing).collect();
    (!complaints.is_empty()).then(|| complaints.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, applied: &[(&str, u64)], digest: &str, up: &[&str]) -> NodeView {
        let applied = applied.iter().map(|&(replica, seq)| (replica.to_owned(), seq)).collect();
        let peer = |&node: &&str| PeerView { node: node.to_owned(), is_up: true, lag_ops: 3 };
        NodeView {
            name: name.to_owned(),
            clock: Some(Clock { applied, digest: digest.to_owned() }),
            peers: up.iter().map(peer).collect(),
        }
    }

    #[test]
    fn drift_counts_what_somebody_else_has() {
        let views = [view("a", &[("aa", 10), ("bb", 4)], "1", &["b"]), view("b", &[("bb", 7)], "2", &["a"])];
        assert_eq!(drift_ops(&views), [Some(3), Some(10)]);
        assert_eq!((views[0].lag_ops(), common_digest(&views)), (3, None));
    }

    #[test]
    fn equal_means_level_and_with_one_digest() {
        let level =
            |digests: [&str; 2]| [view("a", &[("aa", 10)], digests[0], &[]), view("b", &[("aa", 10)], digests[1], &[])];
        assert_eq!(common_digest(&level(["1", "1"])), Some("1"));
        assert_eq!(common_digest(&level(["1", "2"])), None);
        let mut silent = level(["1", "1"]);
        silent[1].clock = None;
        assert_eq!(common_digest(&silent), None);
    }

    #[test]
    fn missing_links_are_named() {
        let views = [view("a", &[], "", &["b"]), view("b", &[], "", &[])];
        assert_eq!(missing_links(&views).as_deref(), Some("b has no link to a"));
        assert_eq!(missing_links(&[view("a", &[], "", &["b"]), view("b", &[], "", &["a"])]), None);
    }
}
