//! Questions whose answer is with other members: who has a write, and whose state is the same.

use crdt::{BatchId, Fingerprint};
use replica::PeerView;
use replica::message::Message;
use resp::{ErrorReply, Reply, Ticket};
use tokio::sync::oneshot;

use super::core::Core;
use super::error::RequestError;
use crate::calls;
use crate::door::ClientId;

/// While somebody waits, peers are asked this often what they have. A digest has some hundred bytes.
const ASK_AGAIN_MS: u64 = 20;
/// A peer whose link is up and that has not told its state after this is told of as it was known before.
const CHECK_PATIENCE_MS: u64 = 2_000;

/// What is known of a peer's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The peer.
    pub node: String,
    /// It has applied exactly what we have.
    pub vector_equal: bool,
    /// Its state is ours, bit by bit; only known on equal vectors, and false otherwise.
    pub digest_equal: bool,
    /// The digest of its state, when it last told one.
    pub digest: Option<Fingerprint>,
    /// It told so after it was asked; else this is what it last told.
    pub is_fresh: bool,
}

/// Who wants verdicts.
pub(crate) enum Asker {
    Client(ClientId, Ticket),
    Handle(oneshot::Sender<Result<Vec<Verdict>, RequestError>>),
}

/// A client that waits for members to have a write.
struct Wait {
    client: ClientId,
    ticket: Ticket,
    batch: BatchId,
    members: usize,
    /// `None`: for ever.
    until_ms: Option<u64>,
}

/// Verdicts that are gathered.
struct Check {
    asker: Asker,
    /// Peers, and how many digests they had sent before they were asked.
    nodes: Vec<(String, u64)>,
    until_ms: u64,
}

/// All that waits. Each client waits at most once, so there are no more than clients and requests.
#[derive(Default)]
pub(crate) struct Waits {
    waits: Vec<Wait>,
    checks: Vec<Check>,
    ask_at_ms: u64,
    /// Some peer said something since the last look.
    pub(crate) is_news: bool,
    /// The engine stops: nobody is let wait any longer.
    is_ending: bool,
}

impl Waits {
    pub(crate) fn is_empty(&self) -> bool {
        self.waits.is_empty() && self.checks.is_empty()
    }

    /// Lets nobody wait from now on: what is known is answered.
    pub(crate) fn end(&mut self) {
        self.is_ending = true;
        self.is_news = true;
    }

    /// A client has gone.
    pub(crate) fn forget(&mut self, client: ClientId) {
        self.waits.retain(|wait| wait.client != client);
    }

    /// The next moment at which [`Core::settle_waits`] is wanted.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let ends = self.waits.iter().filter_map(|wait| wait.until_ms);
        let ends = ends.chain(self.checks.iter().map(|check| check.until_ms));
        let asks = (!self.waits.is_empty()).then_some(self.ask_at_ms);
        ends.chain(asks).min()
    }
}

impl Core {
    /// Answers WAIT, at once where that is possible.
    pub(crate) fn begin_wait(
        &mut self,
        client: ClientId,
        ticket: Ticket,
        members: usize,
        timeout_ms: u64,
        after: Option<BatchId>,
    ) -> Option<Result<Reply, ErrorReply>> {
        let count = match after {
            Some(batch) => self.members_with(batch),
            None => self.network.others().count(),
        };
        let Some(batch) = after.filter(|_| count < members && self.may_wait()) else {
            return Some(Ok(Reply::count(count)));
        };
        let until_ms = (timeout_ms > 0).then(|| self.at.now.mono_ms.saturating_add(timeout_ms));
        self.waits.waits.push(Wait { client, ticket, batch, members, until_ms });
        None
    }

    /// False where no answer of a peer can come any more.
    fn may_wait(&self) -> bool {
        !self.waits.is_ending && self.storage.failure().is_none()
    }

    /// Other members that have told to have a batch.
    fn members_with(&self, batch: BatchId) -> usize {
        let has = |peer: &PeerView| peer.row.as_ref().is_some_and(|row| row.received.contains(batch));
        self.node.peers().iter().filter(|peer| self.network.is_other(&peer.node) && has(peer)).count()
    }

    /// Begins to gather verdicts, of one peer or of all.
    pub(crate) fn begin_check(&mut self, node: Option<&str>, asker: Asker) -> Result<(), (RequestError, Asker)> {
        if let Some(node) = node.filter(|node| !self.network.is_other(node)) {
            return Err((RequestError::NotMember { node: node.to_owned() }, asker));
        }
        let others = self.network.others().filter(|other| node.is_none_or(|node| node == *other));
        let nodes: Vec<(String, u64)> =
            others.map(|other| (other.to_owned(), self.network.digests_of(other))).collect();
        for (node, _) in &nodes {
            self.ask_digest(node);
        }
        let until_ms = self.at.now.mono_ms + CHECK_PATIENCE_MS;
        self.waits.checks.push(Check { asker, nodes, until_ms });
        self.waits.is_news = true;
        Ok(())
    }

    /// Exchanges digests now, with one peer or with all.
    pub(crate) fn exchange(&mut self, node: Option<&str>) -> Result<(), RequestError> {
        if let Some(node) = node.filter(|node| !self.network.is_other(node)) {
            return Err(RequestError::NotMember { node: node.to_owned() });
        }
        self.node.exchange_now(self.at.now, node);
        let others: Vec<String> = self.network.others().map(str::to_owned).collect();
        for other in others.iter().filter(|other| node.is_none_or(|node| node == other.as_str())) {
            self.ask_digest(other);
        }
        self.drive();
        Ok(())
    }

    /// Asks a peer for its digest, which in a quiet cluster is due only after [`replica::Intervals::digest_max_ms`].
    fn ask_digest(&mut self, node: &str) {
        if self.storage.failure().is_some() || !self.network.is_up(node) {
            return;
        }
        self.network.send(node, Message::WantDigest.to_bytes());
    }

    /// Answers whom it can, and asks again where it is time.
    pub(crate) fn settle_waits(&mut self) {
        if self.waits.is_empty() {
            return;
        }
        let is_news = std::mem::take(&mut self.waits.is_news);
        if !is_news && self.waits.poll_timeout().is_none_or(|at| at > self.at.now.mono_ms) {
            return;
        }
        self.settle_members();
        self.settle_checks();
    }

    fn settle_members(&mut self) {
        let (now_ms, may_wait) = (self.at.now.mono_ms, self.may_wait());
        for wait in std::mem::take(&mut self.waits.waits) {
            let count = self.members_with(wait.batch);
            if count >= wait.members || !may_wait || wait.until_ms.is_some_and(|until| until <= now_ms) {
                self.answers.push((wait.client, wait.ticket, Ok(Reply::count(count))));
            } else {
                self.waits.waits.push(wait);
            }
        }
        if !self.waits.waits.is_empty() && self.waits.ask_at_ms <= now_ms {
            self.waits.ask_at_ms = now_ms + ASK_AGAIN_MS;
            let others: Vec<String> = self.network.others().map(str::to_owned).collect();
            others.iter().for_each(|other| self.ask_digest(other));
        }
    }

    fn settle_checks(&mut self) {
        let now_ms = self.at.now.mono_ms;
        for check in std::mem::take(&mut self.waits.checks) {
            let is_heard = |(node, before): &(String, u64)| self.network.digests_of(node) > *before;
            let is_done = check.nodes.iter().all(|node| is_heard(node) || !self.network.is_up(&node.0));
            if !is_done && check.until_ms > now_ms && self.may_wait() {
                self.waits.checks.push(check);
                continue;
            }
            let peers = self.node.peers();
            let verdict = |node: &(String, u64)| {
                let peer = peers.iter().find(|peer| peer.node == node.0);
                self.verdict(&node.0, peer, is_heard(node))
            };
            let verdicts: Vec<Verdict> = check.nodes.iter().map(verdict).collect();
            match check.asker {
                Asker::Client(client, ticket) => {
                    self.answers.push((client, ticket, Ok(calls::verdicts_reply(&verdicts))));
                }
                // Who asked may have given up.
                Asker::Handle(sender) => drop(sender.send(Ok(verdicts))),
            }
        }
    }

    fn verdict(&self, node: &str, peer: Option<&PeerView>, is_fresh: bool) -> Verdict {
        let applied = self.node.applied();
        let settled = peer.and_then(|peer| peer.settled.as_ref());
        let shown = peer.and_then(|peer| peer.row.as_ref()).is_some_and(|row| row.shown == *applied);
        let vector_equal = settled.map_or(shown, |(vector, _)| vector == applied);
        let digest = settled.map(|(_, digest)| *digest);
        let digest_equal = vector_equal && digest == Some(self.node.fingerprint());
        Verdict { node: node.to_owned(), vector_equal, digest_equal, digest, is_fresh }
    }
}
