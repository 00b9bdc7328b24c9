//! Replicas of one object of any type: they write, hear of each other's batches in any causal order, and
//! join whole states.

use std::fmt::Debug;

use crdt::pack::{DotTable, Reader, Writer};
use crdt::{BatchId, Covers, Crdt, DecodeError, Dot, Hlc, Object, Place, ReplicaId, Tally, VersionVector};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use crate::naive::Model;
use crate::picture::{Picture, Touch};
use crate::subjects::observe;

/// How many replicas a random run has: two that conflict, and one that hears of both in another order.
pub(crate) const REPLICAS: usize = 3;

/// A type under test, driven by what a user wants of it.
pub(crate) trait Subject: Clone + Debug + Sized + 'static {
    /// The type.
    type State: Crdt;
    /// What a user wants; replicas where it makes no sense do nothing.
    type Intent: Clone + Debug + 'static;
    /// What a database shows of the state; `()` for types whose users see the state itself.
    type Shadow: Clone + Default + Debug;
    /// The naive model beside it.
    type Model: Model<Intent = Self::Intent>;

    /// Draws intents.
    fn intents() -> BoxedStrategy<Self::Intent>;

    /// Changes that the intent makes, by the type's own mutators. They are applied in this order.
    fn act(author: &Author<'_, Self>, intent: &Self::Intent) -> Vec<(Hlc, DeltaOf<Self>)>;

    /// What a database that is in step with the state shows.
    fn look(_state: &Self::State) -> Self::Shadow {
        Self::Shadow::default()
    }

    /// Follows a local change in the database that made it.
    fn follow(_shadow: &mut Self::Shadow, _dot: Dot, _stamp: Hlc, _delta: &DeltaOf<Self>) {}

    /// The state as an object.
    fn wrap(state: Self::State) -> Object;

    /// The inverse of [`Subject::wrap`].
    fn unwrap(object: Object) -> Self::State;

    /// What anybody can see of a state.
    fn observe(state: &Self::State) -> Picture {
        observe(&Self::wrap(state.clone()))
    }

    /// What anybody can see in the database.
    fn observe_shadow(_shadow: &Self::Shadow) -> Picture {
        Picture::default()
    }

    /// True when state and database have nothing left to tell each other.
    fn in_step(_state: &Self::State, _shadow: &Self::Shadow) -> bool {
        true
    }

    /// True when the intent picks something from the journal.
    fn restores(_intent: &Self::Intent) -> bool {
        false
    }

    /// The values that the change's author wrote and saw, place by place.
    fn touches(author: &Author<'_, Self>, delta: &DeltaOf<Self>) -> Vec<Touch>;

    /// True when the change's dot may stand in a counter, where a removed dot stays remembered.
    fn counts(delta: &DeltaOf<Self>) -> bool;
}

/// The delta of a subject's type.
pub(crate) type DeltaOf<S> = <<S as Subject>::State as Crdt>::Delta;

/// Who acts, and what is there to be seen.
pub(crate) struct Author<'a, S: Subject> {
    pub(crate) state: &'a S::State,
    pub(crate) shadow: &'a S::Shadow,
    pub(crate) replica: ReplicaId,
    pub(crate) now: Hlc,
}

/// One thing that happens in a run. Numbers are taken modulo what there is to choose from, so that a run
/// stays valid while it is shrunk.
#[derive(Clone, Debug)]
pub(crate) enum Step<I> {
    /// One batch, made at the local time `time`.
    Write { at: usize, time: u64, intents: Vec<I>, look: bool },
    /// The pick-th batch of those that can be applied now.
    Deliver { to: usize, pick: usize, look: bool },
    /// A whole state.
    Join { from: usize, into: usize, look: bool },
}

/// Draws the steps of a run.
pub(crate) fn steps_of<I: Clone + Debug + 'static>(
    intents: BoxedStrategy<I>,
    most: usize,
) -> BoxedStrategy<Vec<Step<I>>> {
    let write = (0..REPLICAS, 0..12_u64, prop::collection::vec(intents, 1..=3), prop::bool::weighted(0.8))
        .prop_map(|(at, time, intents, look)| Step::Write { at, time, intents, look });
    let deliver = (0..REPLICAS, 0..8_usize, prop::bool::weighted(0.8)).prop_map(|(to, pick, look)| Step::Deliver {
        to,
        pick,
        look,
    });
    let join = (0..REPLICAS, 0..REPLICAS, prop::bool::weighted(0.8)).prop_map(|(from, into, look)| Step::Join {
        from,
        into,
        look,
    });
    prop::collection::vec(prop_oneof![5 => write, 6 => deliver, 1 => join], 1..most).boxed()
}

/// Holds a law for `cases` runs of up to `most` steps.
pub(crate) fn hold<S: Subject>(cases: u32, most: usize, law: fn(&[Step<S::Intent>])) {
    hold_for(cases, &steps_of(S::intents(), most), |steps| law(&steps));
}

/// Holds a law for `cases` inputs from a fixed seed; `CRDT_LAWS_FACTOR` asks for more, from fresh seeds.
pub(crate) fn hold_for<V: Debug>(cases: u32, strategy: &BoxedStrategy<V>, law: impl Fn(V)) {
    let factor: Option<u32> = std::env::var("CRDT_LAWS_FACTOR").ok().and_then(|factor| factor.parse().ok());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: cases * factor.unwrap_or(1),
        failure_persistence: None,
        rng_seed: if factor.is_some() { RngSeed::Random } else { RngSeed::Fixed(2_026) },
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(strategy, |input| {
        law(input);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// One change as it travels.
#[derive(Debug, Clone)]
pub(crate) struct Sent<S: Subject> {
    pub(crate) dot: Dot,
    pub(crate) stamp: Hlc,
    pub(crate) delta: DeltaOf<S>,
    pub(crate) touches: Vec<Touch>,
}

/// One batch as it travels.
#[derive(Debug, Clone)]
pub(crate) struct Shipment<S: Subject> {
    pub(crate) id: BatchId,
    /// What its author had applied.
    pub(crate) context: VersionVector,
    pub(crate) changes: Vec<Sent<S>>,
    /// Per intent: the intent, its time, and how many of the changes are its own.
    pub(crate) acts: Vec<(S::Intent, Hlc, usize)>,
}

/// One replica.
#[derive(Debug, Clone)]
pub(crate) struct Node<S: Subject> {
    pub(crate) id: ReplicaId,
    pub(crate) state: S::State,
    pub(crate) applied: VersionVector,
    /// Kept change by change; counted anew after a join.
    pub(crate) tally: Tally,
    pub(crate) shadow: S::Shadow,
}

/// What a step did, for whoever watches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Batch `batch` was made at `at`.
    Wrote { at: usize, batch: usize },
    /// Batch `batch` was applied at `to`.
    Delivered { to: usize, batch: usize },
    /// The whole state of `from` was joined into that of `into`.
    Joined { from: usize, into: usize },
    /// The database of `at` was brought in step with the state.
    Looked { at: usize },
}

impl Event {
    /// The replica that changed.
    pub(crate) fn at(self) -> usize {
        match self {
            Self::Wrote { at, .. } | Self::Looked { at } => at,
            Self::Delivered { to, .. } => to,
            Self::Joined { into, .. } => into,
        }
    }
}

/// All replicas and all batches.
#[derive(Debug, Clone)]
pub(crate) struct Network<S: Subject> {
    pub(crate) nodes: Vec<Node<S>>,
    pub(crate) batches: Vec<Shipment<S>>,
}

/// The place at which the object of a run stands.
pub(crate) fn place() -> Place {
    Place::root(b"object")
}

impl<S: Subject> Network<S> {
    pub(crate) fn new() -> Self {
        let node = |number: usize| Node {
            // The second replica has the smallest id, so that ids and the order of first writes disagree.
            id: ReplicaId([5 << 96, 1 << 96, 9 << 96][number]),
            state: S::State::default(),
            applied: VersionVector::new(),
            tally: Tally::default(),
            shadow: S::Shadow::default(),
        };
        Self { nodes: (0..REPLICAS).map(node).collect(), batches: Vec::new() }
    }

    /// Does the step; `visit` sees the network after each event of it.
    pub(crate) fn run(&mut self, step: &Step<S::Intent>, visit: &mut dyn FnMut(&Self, Event)) {
        let (event, look) = match step {
            Step::Write { at, time, intents, look } => (self.write(*at, *time, intents), *look),
            Step::Deliver { to, pick, look } => (self.deliver(*to, *pick), *look),
            Step::Join { from, into, look } => (self.join(*from, *into), *look),
        };
        let Some(event) = event else { return };
        visit(self, event);
        if look {
            let at = event.at();
            self.nodes[at].shadow = S::look(&self.nodes[at].state);
            visit(self, Event::Looked { at });
        }
    }

    /// Does all steps, then delivers everything everywhere.
    pub(crate) fn run_all(steps: &[Step<S::Intent>], visit: &mut dyn FnMut(&Self, Event)) -> Self {
        let mut network = Self::new();
        steps.iter().for_each(|step| network.run(step, visit));
        network.settle(visit);
        network
    }

    /// Delivers everything everywhere.
    pub(crate) fn settle(&mut self, visit: &mut dyn FnMut(&Self, Event)) {
        while let Some(event) = (0..REPLICAS).find_map(|to| self.deliver(to, 0)) {
            visit(self, event);
        }
    }

    /// Batches that the replica has not applied, and of which it has applied the past.
    pub(crate) fn applicable(&self, to: usize) -> Vec<usize> {
        let applied = &self.nodes[to].applied;
        let fits = |batch: &Shipment<S>| !applied.contains(batch.id) && applied.dominates(&batch.context);
        (0..self.batches.len()).filter(|batch| fits(&self.batches[*batch])).collect()
    }

    pub(crate) fn write(&mut self, at: usize, time: u64, intents: &[S::Intent]) -> Option<Event> {
        let node = &mut self.nodes[at];
        let id = BatchId { replica: node.id, seq: node.applied.seq(node.id) + 1 };
        let mut batch = Shipment {
            id,
            context: node.applied.clone(),
            changes: Vec::new(),
            acts: Vec::with_capacity(intents.len()),
        };
        for intent in intents {
            let now = Hlc(time);
            let author = Author::<S> { state: &node.state, shadow: &node.shadow, replica: node.id, now };
            let made: Vec<_> = S::act(&author, intent)
                .into_iter()
                .map(|(stamp, delta)| (stamp, S::touches(&author, &delta), delta))
                .collect();
            batch.acts.push((intent.clone(), now, made.len()));
            for (stamp, touches, delta) in made {
                let dot = Dot::new(id.replica, id.seq, batch.changes.len() as u32);
                node.apply(dot, stamp, &delta);
                S::follow(&mut node.shadow, dot, stamp, &delta);
                batch.changes.push(Sent { dot, stamp, delta, touches });
            }
        }
        if batch.changes.is_empty() {
            return None;
        }
        node.applied.advance(id.replica, id.seq);
        self.batches.push(batch);
        Some(Event::Wrote { at, batch: self.batches.len() - 1 })
    }

    fn deliver(&mut self, to: usize, pick: usize) -> Option<Event> {
        let applicable = self.applicable(to);
        let batch = *applicable.get(pick % applicable.len().max(1))?;
        self.nodes[to].receive(&self.batches[batch]);
        Some(Event::Delivered { to, batch })
    }

    pub(crate) fn join(&mut self, from: usize, into: usize) -> Option<Event> {
        let other = self.nodes[from].clone();
        self.nodes[into].join(&other.state, &other.applied);
        Some(Event::Joined { from, into })
    }
}

impl<S: Subject> Node<S> {
    fn apply(&mut self, dot: Dot, stamp: Hlc, delta: &DeltaOf<S>) {
        self.state.apply(dot, stamp, delta, place(), &mut self.tally).expect("amounts are small");
    }

    /// Applies a batch whose past is applied.
    pub(crate) fn receive(&mut self, batch: &Shipment<S>) {
        for sent in &batch.changes {
            S::State::named(&sent.delta, &mut |dot| {
                let own = dot.batch() == batch.id && dot.index < sent.dot.index;
                assert!(own || batch.context.covers(&dot), "{dot} is named and not in the past of {}", sent.dot);
            });
            self.apply(sent.dot, sent.stamp, &sent.delta);
        }
        self.applied.advance(batch.id.replica, batch.id.seq);
    }

    /// Joins a whole state.
    pub(crate) fn join(&mut self, other: &S::State, theirs: &VersionVector) {
        self.state.join(&self.applied, other, theirs);
        self.applied.join(theirs);
        self.tally = self.state.tally(place());
    }

    /// Drops what retention and stability allow to drop, as if both had come.
    pub(crate) fn clean(&mut self) {
        let mut object = S::wrap(self.state.clone());
        for entry in object.journal() {
            object.forget(&entry.path, entry.dot);
        }
        object.collect();
        self.state = S::unwrap(object);
        self.tally = self.state.tally(place());
    }
}

/// The canonical bytes of a state: a table, then the state.
pub(crate) fn state_bytes<T: Crdt>(state: &T) -> Vec<u8> {
    let table = DotTable::gather(|visit| state.dots(visit));
    let mut writer = Writer::new();
    writer.table(&table);
    state.encode(&mut writer, &table);
    writer.into_bytes()
}

/// The inverse of [`state_bytes`].
pub(crate) fn state_from_bytes<T: Crdt>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let table = reader.table()?;
    let state = T::decode(&mut reader, &table)?;
    reader.finish()?;
    Ok(state)
}

/// The bytes of a delta: a table, then the delta.
pub(crate) fn delta_bytes<T: Crdt>(delta: &T::Delta) -> Vec<u8> {
    let table = DotTable::gather(|visit| T::named(delta, visit));
    let mut writer = Writer::new();
    writer.table(&table);
    T::encode_delta(delta, &mut writer, &table);
    writer.into_bytes()
}

/// The inverse of [`delta_bytes`].
pub(crate) fn delta_from_bytes<T: Crdt>(bytes: &[u8]) -> Result<T::Delta, DecodeError> {
    let mut reader = Reader::new(bytes);
    let table = reader.table()?;
    let delta = T::decode_delta(&mut reader, &table)?;
    reader.finish()?;
    Ok(delta)
}
