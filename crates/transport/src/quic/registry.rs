//! Which links there are: at most one a member.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::link::Link;
use super::tls::CloseCode;
use crate::error::LinkEnd;
use crate::node_id::NodeId;

/// The links by member.
#[derive(Debug, Default)]
pub(super) struct Registry {
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    changed: Notify,
}

/// What became of a connection that would be a link.
pub(super) enum Admission {
    /// It is the link now. The one before it, if there was one, was ended.
    Admitted(Option<Arc<Link>>),
    /// Another one is kept.
    Duplicate,
}

impl Registry {
    /// Decides between a new connection and the link that is there, so that both ends decide alike: the one that the
    /// smaller node id dialled is kept; of two from the same dialler the newer one, because a dialler only dials when
    /// it knows of no link.
    pub(super) fn admit(&self, link: &Arc<Link>) -> Admission {
        let mut links = self.lock();
        if let Some(present) = links.get(&link.peer)
            && present.is_preferred
            && !link.is_preferred
        {
            return Admission::Duplicate;
        }
        let older = links.insert(link.peer.clone(), link.clone());
        if let Some(older) = &older {
            older.end(LinkEnd::Replaced, CloseCode::Replaced);
        }
        Admission::Admitted(older)
    }

    pub(super) fn find(&self, peer: &NodeId) -> Option<Arc<Link>> {
        self.lock().get(peer).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.lock().values().cloned().collect()
    }

    /// Forgets a link that was told as down, unless another one has its place already.
    pub(super) fn remove(&self, link: &Arc<Link>) {
        let mut links = self.lock();
        if links.get(&link.peer).is_some_and(|present| Arc::ptr_eq(present, link)) {
            links.remove(&link.peer);
        }
        drop(links);
        self.changed.notify_waiters();
    }

    /// Waits until there is no link to a member.
    pub(super) async fn wait_without(&self, peer: &NodeId) {
        loop {
            // SUBTLE: it hears of changes from its creation on, so it is made before the look.
            let changed = self.changed.notified();
            if !self.lock().contains_key(peer) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Link>>> {
        // A panic elsewhere leaves no half-made change: each method changes the map in one step.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
