//! What every test of links needs, and the conformance suite that every [`Transport`] passes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;
use transport::{Bytes, Delivery, Event, Events, Kind, Lane, LinkEnd, NodeId, Peer, SendError, Transport};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// One node of a test.
pub(crate) struct End {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) events: Events,
    pub(crate) address: Vec<String>,
}

impl End {
    pub(crate) fn peer(&self) -> Peer {
        Peer::new(self.transport.node().clone(), self.address.clone())
    }

    /// Waits for an event that `wanted` takes; what comes before is dropped.
    pub(crate) async fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let name = self.transport.node().clone();
        let found = timeout(PATIENCE, async {
            loop {
                let event = self.events.next().await.expect("the transport lives");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("{name} waited in vain for {what}"))
    }

    pub(crate) async fn wait_up(&mut self, wanted: &NodeId) {
        self.wait("a link", |event| matches!(event, Event::LinkUp { peer } if peer == *wanted).then_some(())).await;
    }

    pub(crate) async fn wait_down(&mut self, wanted: &NodeId) -> LinkEnd {
        self.wait("the end of a link", |event| match event {
            Event::LinkDown { peer, end } if peer == *wanted => Some(end),
            _ => None,
        })
        .await
    }

    pub(crate) async fn wait_message(&mut self) -> (NodeId, Lane, Bytes) {
        self.wait("a message", |event| match event {
            Event::Received { from, lane, bytes } => Some((from, lane, bytes)),
            _ => None,
        })
        .await
    }
}

/// Makes everybody a member at everybody, and waits until all links are up.
pub(crate) async fn connect(ends: &mut [End]) {
    let peers: Vec<Peer> = ends.iter().map(End::peer).collect();
    for end in ends.iter() {
        end.transport.set_peers(peers.clone()).unwrap();
    }
    for end in ends.iter_mut() {
        let own = end.transport.node().clone();
        let mut missing: Vec<NodeId> = peers.iter().map(|peer| peer.node.clone()).filter(|peer| *peer != own).collect();
        while !missing.is_empty() {
            let up = end.wait("links", |event| match event {
                Event::LinkUp { peer } => Some(peer),
                _ => None,
            });
            let up = up.await;
            missing.retain(|peer| *peer != up);
        }
    }
}

/// Sends numbered messages from each to each, and checks that each stream comes in order and whole.
pub(crate) async fn exchange(ends: &mut [End], messages: u32) {
    let names: Vec<NodeId> = ends.iter().map(|end| end.transport.node().clone()).collect();
    let mut next: Vec<BTreeMap<NodeId, u32>> = vec![BTreeMap::new(); ends.len()];
    for number in 0..messages {
        for end in ends.iter() {
            for to in names.iter().filter(|name| *name != end.transport.node()) {
                let bytes = Bytes::copy_from_slice(&number.to_be_bytes());
                end.transport.send(to, Lane::Replica, Delivery::InOrder, bytes).unwrap();
            }
        }
        // Let the other side take what was sent, as a daemon does between two writes.
        if number % 256 == 255 {
            tokio::task::yield_now().await;
        }
    }
    for (place, end) in ends.iter_mut().enumerate() {
        for _ in 0..messages as usize * (names.len() - 1) {
            let (from, lane, bytes) = end.wait_message().await;
            let expected = next[place].entry(from).or_default();
            assert_eq!((lane, bytes.as_ref()), (Lane::Replica, expected.to_be_bytes().as_slice()));
            *expected += 1;
        }
        assert!(next[place].values().all(|count| *count == messages));
    }
}

/// The conformance suite. `make` gives fresh nodes of these names that can reach each other; messages may have up to
/// 64 KiB.
pub(crate) async fn conforms(mut make: impl FnMut(&[&str]) -> Vec<End>) {
    let mut ends = make(&["a", "b"]);
    let (a, b) = (node("a"), node("b"));
    let none = ends[0].transport.send(&b, Lane::Replica, Delivery::Auto, Bytes::new());
    assert_eq!(none, Err(SendError::NoLink), "nobody is a member before set_peers");
    connect(&mut ends).await;
    exchange(&mut ends, 1_000).await;

    let large = Bytes::from(vec![7; 60 << 10]);
    ends[0].transport.send(&b, Lane::Replica, Delivery::Auto, large.clone()).unwrap();
    assert_eq!(ends[1].wait_message().await, (a.clone(), Lane::Replica, large));
    ends[1].transport.send(&a, Lane::Membership, Delivery::Auto, Bytes::from_static(b"ping")).unwrap();
    assert_eq!(ends[0].wait_message().await, (b.clone(), Lane::Membership, Bytes::from_static(b"ping")));

    let too_large = Bytes::from(vec![0; (64 << 10) + 1]);
    let refused = ends[0].transport.send(&b, Lane::Replica, Delivery::Auto, too_large);
    assert_eq!(refused, Err(SendError::TooLarge { bytes: (64 << 10) + 1, bytes_max: 64 << 10 }));
    exchange(&mut ends, 10).await;

    let figures = ends[0].transport.figures();
    assert_eq!(figures.len(), 1);
    assert_eq!((&figures[0].peer, figures[0].links_up), (&b, 1));
    assert_eq!(figures[0].received[Kind::Membership.index()].bytes, 4);
    assert!(figures[0].path.is_some());

    ends[0].transport.set_peers(Vec::new()).unwrap();
    assert_eq!(ends[0].wait_down(&b).await, LinkEnd::Removed);
    ends[1].wait_down(&a).await;
    assert_eq!(ends[0].transport.send(&b, Lane::Replica, Delivery::Auto, Bytes::new()), Err(SendError::NoLink));
    let peers = vec![ends[0].peer(), ends[1].peer()];
    ends[0].transport.set_peers(peers).unwrap();
    ends[0].wait_up(&b).await;
    ends[1].wait_up(&a).await;

    ends[0].transport.close().await;
    ends[1].wait_down(&a).await;

    let mut three = make(&["n_1", "n_2", "n_3"]);
    connect(&mut three).await;
    exchange(&mut three, 200).await;
}
