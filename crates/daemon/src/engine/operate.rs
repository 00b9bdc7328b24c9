//! What operators and other threads ask of the core.

use std::net::SocketAddr;

use replica::{HeldReason, HeldView};

use super::core::Core;
use super::error::RequestError;
use super::figures::lag_of;
use super::handle::{Collected, Held, PeerStatus, Request, Status};
use super::waits::Asker;
use crate::calls::held_id;
use crate::door::DoorFigures;

impl Core {
    /// Answers a request of another thread. Who asked may have given up, so nobody minds an answer that is not taken.
    pub(crate) fn take_request(&mut self, request: Request, door: &DoorFigures, door_tcp: Option<SocketAddr>) {
        match request {
            Request::Status(answer) => drop(answer.send(self.status(door, door_tcp))),
            Request::Metrics(answer) => drop(answer.send(self.snapshot(door))),
            Request::Epoch(epoch) => {
                self.node.handle_epoch(self.at.now, epoch);
                self.drive();
                self.follow_epoch();
            }
            Request::Learn(entries) => self.network.learn(entries, None),
            Request::Held(answer) => {
                let held = self.node.held();
                let held = held.iter().map(|held| Held { id: held_id(held), reason: held.reason }).collect();
                drop(answer.send(held));
            }
            Request::Release(id, answer) => drop(answer.send(self.release(&id))),
            Request::Discard(id, answer) => drop(answer.send(self.discard(&id))),
            Request::Collect(answer) => {
                let (attempted, collected) = self.collect();
                let _ = answer.send(Collected { attempted, collected });
            }
            Request::Verify(node, answer) => {
                if let Err((error, Asker::Handle(answer))) = self.begin_check(node.as_deref(), Asker::Handle(answer)) {
                    drop(answer.send(Err(error)));
                }
            }
            Request::Exchange(node, answer) => drop(answer.send(self.exchange(node.as_deref()))),
            Request::SetPeers(peers, answer) => {
                self.network.set_overrides(peers);
                let _ = answer.send(());
            }
        }
    }

    fn status(&self, door: &DoorFigures, door_tcp: Option<SocketAddr>) -> Status {
        let peers = self.node.peers();
        let (own, replicated) = self.replicated(&peers);
        let others = peers.iter().filter(|peer| self.network.is_other(&peer.node));
        let peer_status = |peer: &replica::PeerView| PeerStatus {
            node: peer.node.clone(),
            state: self.network.state_of(&peer.node),
            is_up: self.network.is_up(&peer.node),
            lag_ops: lag_of(&self.node, peer),
            address: self.network.address_of(&peer.node).to_owned(),
        };
        Status {
            node: self.node.id().to_owned(),
            cluster: self.about.cluster,
            epoch: self.node.epoch().number,
            unready: self.unreadiness(),
            unreplicated_ops: own - replicated,
            held: self.node.gauges().held,
            clients: door.clients,
            door_tcp,
            peers: others.map(peer_status).collect(),
        }
    }

    /// Lets a held stream go on, or sends a held commit.
    pub(crate) fn release(&mut self, id: &str) -> Result<(), RequestError> {
        let held = self.find_held(id)?;
        if held.reason == HeldReason::Forked {
            return Err(RequestError::Forked { id: id.to_owned() });
        }
        self.node.release(self.at.now, held.batch).map_err(RequestError::Held)?;
        self.drive();
        self.log.info("an operator has released what was held", &[("id", &id)]);
        Ok(())
    }

    /// Takes a held commit back. A stream of another node the node cannot drop: a batch that is left out must be left out
    /// everywhere.
    pub(crate) fn discard(&mut self, id: &str) -> Result<(), RequestError> {
        let held = self.find_held(id)?;
        if held.reason != HeldReason::Blast {
            return Err(RequestError::NotBuilt { what: "dropping a held stream" });
        }
        self.node.discard(self.at.now, held.batch).map_err(RequestError::Held)?;
        self.drive();
        self.log.info("an operator has discarded what was held", &[("id", &id)]);
        Ok(())
    }

    fn find_held(&self, id: &str) -> Result<HeldView, RequestError> {
        let found = self.node.held().into_iter().find(|held| held_id(held) == id);
        found.ok_or_else(|| RequestError::NotHeld { id: id.to_owned() })
    }

    /// Runs a slice of collection; remains that waited, and that went.
    pub(crate) fn collect(&mut self) -> (u64, u64) {
        self.collected = (0, 0);
        self.node.collect_now(self.at.now);
        self.drive();
        self.collected
    }
}
