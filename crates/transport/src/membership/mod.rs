//! Who is alive: SWIM (Das, Gupta, Motivala 2002, with suspicion) by `foca`, inside the authenticated links.
//!
//! It does no I/O and reads no clock: links, packets and time go in, [`Output`]s come out. Being alive is a hint for
//! people and metrics; who *is* a member says the epoch record alone.

mod codec;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{AccumulatingRuntime, Codec, Config, Foca, NoCustomBroadcast, OwnedNotification, PeriodicParams, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::codec::{Life, PacketCodec};
use crate::node_id::NodeId;

/// Fits a datagram on every path that carries QUIC (1,200 bytes), with its framing.
const PACKET_BYTES_MAX: NonZeroUsize = NonZeroUsize::new(1_100).expect("not zero");
/// Members that are asked to probe in our place.
const INDIRECT_PROBES: NonZeroUsize = NonZeroUsize::new(3).expect("not zero");
/// Members that are told again who is there.
const ANNOUNCE_TO: NonZeroUsize = NonZeroUsize::new(1).expect("not zero");
/// Times that news are passed on: 4 log10 of 64 members, rounded up.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(8).expect("not zero");

/// Times of membership, in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MembershipTiming {
    /// Between two probes. Each costs two packets of about 60 bytes; an idle cluster pays little else.
    pub probe_ms: u32,
    /// A probe that is not answered in this time is asked of others. Below half of `probe_ms`.
    pub probe_rtt_ms: u32,
    /// A suspect that does not answer for itself in this time is down.
    pub suspect_ms: u32,
    /// An isolated node announces itself again after this, to everybody it has a link to.
    pub announce_ms: u32,
}

impl Default for MembershipTiming {
    fn default() -> Self {
        Self { probe_ms: 2_000, probe_rtt_ms: 800, suspect_ms: 6_000, announce_ms: 5_000 }
    }
}

/// What comes out, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a packet on [`crate::Lane::Membership`]. Without a link to that member it is dropped.
    Send {
        /// The member.
        to: NodeId,
        /// The packet.
        bytes: Bytes,
    },
    /// A member is alive.
    Alive(NodeId),
    /// A member is down, as far as the cluster knows.
    Down(NodeId),
    /// No other member is known to be alive.
    Isolated,
    /// At least one other member is known to be alive.
    Connected,
}

/// Why membership was not started, or a packet not taken.
#[derive(Debug)]
pub enum MembershipError {
    /// The generation could not be stored: this node stays silent, because others might take it for its former life.
    NotStored(io::Error),
    /// A packet does not decode. Nothing has changed.
    Malformed,
    /// A packet names another sender than the link it came over. Nothing has changed.
    OtherSender,
}

/// Stores the generation durably before it returns. Called at the start and after each time that the cluster took
/// this node for dead; what it stored last is given to [`Membership::new`] at the next start.
pub type StoreGeneration = Box<dyn FnMut(u64) -> io::Result<()> + Send>;

/// One node's view of who is alive.
pub struct Membership {
    foca: Foca<Life, PacketCodec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Life>,
    timers: BTreeMap<(u64, u64), Timer<Life>>,
    timers_made: u64,
    links: BTreeSet<NodeId>,
    outputs: VecDeque<Output>,
    announce_ms: u64,
    announce_at_ms: Option<u64>,
    generation: u64,
    store: StoreGeneration,
    is_silent: bool,
}

impl Membership {
    /// Begins a new life of `node`: its generation is `last_generation` + 1, stored before anything is said.
    /// `seed` is random; `now_ms` of all methods is one monotonic clock.
    ///
    /// # Errors
    /// [`MembershipError::NotStored`].
    pub fn new(
        node: NodeId,
        last_generation: u64,
        timing: &MembershipTiming,
        seed: [u8; 32],
        mut store: StoreGeneration,
    ) -> Result<Self, MembershipError> {
        let generation = last_generation.saturating_add(1);
        store(generation).map_err(MembershipError::NotStored)?;
        let life = Life { node, generation };
        Ok(Self {
            foca: Foca::new(life, config(timing), StdRng::from_seed(seed), PacketCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            links: BTreeSet::new(),
            outputs: VecDeque::new(),
            announce_ms: timing.announce_ms.into(),
            announce_at_ms: None,
            generation,
            store,
            is_silent: false,
        })
    }

    /// A link is up or down.
    pub fn handle_link(&mut self, now_ms: u64, peer: &NodeId, up: bool) {
        if up {
            self.links.insert(peer.clone());
            self.announce(peer);
        } else {
            self.links.remove(peer);
        }
        self.settle(now_ms);
    }

    /// A packet that came over the link of `from`.
    ///
    /// # Errors
    /// [`MembershipError::Malformed`], [`MembershipError::OtherSender`], and [`MembershipError::NotStored`] when it
    /// made a new life necessary that could not be stored.
    pub fn handle_packet(&mut self, now_ms: u64, from: &NodeId, bytes: &[u8]) -> Result<(), MembershipError> {
        let header = PacketCodec.decode_header(bytes).map_err(|_| MembershipError::Malformed)?;
        if header.src.node != *from {
            return Err(MembershipError::OtherSender);
        }
        let taken = self.foca.handle_data(bytes, &mut self.runtime).map_err(|_| MembershipError::Malformed);
        self.keep_generation()?;
        self.settle(now_ms);
        taken
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`MembershipError::NotStored`], as for [`Membership::handle_packet`].
    pub fn handle_timeout(&mut self, now_ms: u64) -> Result<(), MembershipError> {
        let later = self.timers.split_off(&(now_ms.saturating_add(1), 0));
        let mut due: Vec<Timer<Life>> = std::mem::replace(&mut self.timers, later).into_values().collect();
        // Foca's own order sets right what a late call brought together.
        due.sort();
        for timer in due {
            // An error here says that a timer came out of turn; foca goes on.
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
        }
        if self.announce_at_ms.is_some_and(|at| at <= now_ms) {
            self.announce_at_ms = None;
            for peer in self.links.clone() {
                self.announce(&peer);
            }
        }
        self.keep_generation()?;
        self.settle(now_ms);
        Ok(())
    }

    /// The next moment at which [`Membership::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<u64> {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        timer.into_iter().chain(self.announce_at_ms).min()
    }

    /// What is to be done or told next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The other members that are known to be alive.
    pub fn alive(&self) -> BTreeSet<NodeId> {
        self.foca.iter_members().map(|member| member.id().node.clone()).collect()
    }

    /// The generation of this life.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Any generation does: an announcement is taken by the node of that name in whichever life it is.
    fn announce(&mut self, peer: &NodeId) {
        let life = Life { node: peer.clone(), generation: 0 };
        // It fails only where a packet has no room for two node ids.
        let _ = self.foca.announce(life, &mut self.runtime);
    }

    /// Stores the generation of a new life before anything of it is said.
    fn keep_generation(&mut self) -> Result<(), MembershipError> {
        let generation = self.foca.identity().generation;
        if generation != self.generation {
            self.generation = generation;
            if let Err(error) = (self.store)(generation) {
                self.is_silent = true;
                return Err(MembershipError::NotStored(error));
            }
        }
        Ok(())
    }

    /// Takes over what foca wants.
    fn settle(&mut self, now_ms: u64) {
        while let Some((to, bytes)) = self.runtime.to_send() {
            if !self.is_silent && self.links.contains(&to.node) {
                self.outputs.push_back(Output::Send { to: to.node, bytes });
            }
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            let at = now_ms.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            self.timers_made += 1;
            self.timers.insert((at, self.timers_made), timer);
        }
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::MemberUp(life) => self.outputs.push_back(Output::Alive(life.node)),
                OwnedNotification::MemberDown(life) => self.outputs.push_back(Output::Down(life.node)),
                OwnedNotification::Active => self.outputs.push_back(Output::Connected),
                OwnedNotification::Idle | OwnedNotification::Defunct => self.outputs.push_back(Output::Isolated),
                OwnedNotification::Rename(..) | OwnedNotification::Rejoin(_) => {}
            }
        }
        if self.foca.num_members() > 0 || self.links.is_empty() {
            self.announce_at_ms = None;
        } else if self.announce_at_ms.is_none() {
            self.announce_at_ms = Some(now_ms.saturating_add(self.announce_ms));
        }
    }
}

fn config(timing: &MembershipTiming) -> Config {
    let milliseconds = |value: u32| Duration::from_millis(value.into());
    Config {
        probe_period: milliseconds(timing.probe_ms),
        probe_rtt: milliseconds(timing.probe_rtt_ms),
        num_indirect_probes: INDIRECT_PROBES,
        max_transmissions: TRANSMISSIONS,
        suspect_to_down_after: milliseconds(timing.suspect_ms),
        remove_down_after: Some(Duration::from_secs(3_600)),
        max_packet_size: PACKET_BYTES_MAX,
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams { frequency: Duration::from_secs(60), num_members: ANNOUNCE_TO }),
        periodic_announce_to_down_members: Some(PeriodicParams {
            frequency: Duration::from_secs(65),
            num_members: ANNOUNCE_TO,
        }),
        // Probes carry the news; gossip of its own would make an idle cluster talk.
        periodic_gossip: None,
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Membership");
        shown.field("identity", self.foca.identity()).field("links", &self.links).finish_non_exhaustive()
    }
}

impl MembershipError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotStored(_) => "ERR_STORE_FAILED",
            Self::Malformed | Self::OtherSender => "ERR_PEER_MALFORMED",
        }
    }
}

impl fmt::Display for MembershipError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStored(error) => write!(formatter, "the generation of this node could not be stored: {error}"),
            Self::Malformed => formatter.write_str("a membership packet does not decode"),
            Self::OtherSender => formatter.write_str("a membership packet names another sender than its link"),
        }
    }
}

impl std::error::Error for MembershipError {}
