//! Each type beside its naive model: after every step both must show and journal the same.

use std::collections::BTreeMap;

use crdt::Dot;

use crate::harness::{Event, Network, REPLICAS, Step, Subject, hold};
use crate::naive::{Model, Past, Record, Scene};
use crate::picture::Touch;
use crate::subjects::{GCounterSubject, MapSubject, PnCounterSubject, RegisterSubject, RowSubject, SetSubject};

/// Watches a run: keeps the model, what each replica has applied, and what each database shows.
pub(crate) struct Witness<S: Subject> {
    model: S::Model,
    pasts: Vec<Past>,
    shadows: Vec<<S::Model as Model>::Shadow>,
    /// Per change, what happened before it and what it did to values.
    touches: BTreeMap<Dot, (Past, Vec<Touch>)>,
}

impl<S: Subject> Witness<S> {
    pub(crate) fn new() -> Self {
        Self {
            model: S::Model::default(),
            pasts: vec![Past::new(); REPLICAS],
            shadows: vec![<S::Model as Model>::Shadow::default(); REPLICAS],
            touches: BTreeMap::new(),
        }
    }

    /// Follows what happened, and compares the replica to which it did.
    pub(crate) fn check(&mut self, network: &Network<S>, event: Event) {
        match event {
            Event::Wrote { at, batch } => self.plan(network, at, batch),
            Event::Delivered { to, batch } => {
                self.pasts[to].extend(network.batches[batch].changes.iter().map(|sent| sent.dot));
            }
            Event::Joined { from, into } => {
                let others = self.pasts[from].clone();
                self.pasts[into].extend(others);
            }
            Event::Looked { at } => self.shadows[at] = self.model.look(&self.pasts[at]),
        }
        self.compare(network, event.at());
        self.nothing_is_lost(network, event.at());
    }

    /// Does in the model what the users wanted, and compares which changes that takes.
    fn plan(&mut self, network: &Network<S>, at: usize, batch: usize) {
        let batch = &network.batches[batch];
        let mut sent = batch.changes.iter();
        for (intent, now, count) in &batch.acts {
            let past = self.pasts[at].clone();
            let planned = self.model.plan(&Scene { past: &past, shadow: &self.shadows[at], now: *now }, intent);
            assert_eq!(planned.len(), *count, "changes that {intent:?} takes");
            for (stamp, op) in planned {
                let sent = sent.next().expect("the counts add up to the batch");
                assert_eq!(sent.stamp, stamp, "stamp of {intent:?}");
                self.model.follow(&mut self.shadows[at], sent.dot, stamp, &op);
                self.model.record(sent.dot, Record { stamp, past: past.clone(), op });
                self.touches.insert(sent.dot, (past.clone(), sent.touches.clone()));
                self.pasts[at].insert(sent.dot);
            }
        }
    }

    fn compare(&self, network: &Network<S>, at: usize) {
        let (node, past) = (&network.nodes[at], &self.pasts[at]);
        assert_eq!(S::observe(&node.state), self.model.picture(past), "state of replica {at}");
        let journal = S::wrap(node.state.clone()).journal();
        assert_eq!(journal.len() as u64, node.tally.journal_entries, "journal of replica {at}");
        let shadow = &self.shadows[at];
        assert_eq!(S::observe_shadow(&node.shadow), self.model.picture_of_shadow(shadow), "database of replica {at}");
        if *shadow == self.model.look(past) {
            assert!(S::in_step(&node.state, &node.shadow), "{:?} and {:?} are in step", node.state, node.shadow);
        }
    }

    /// No lost update: a value is there until somebody who saw it, or wrote it again, put another in its
    /// place. Uses what the real type showed to the authors, not the model.
    fn nothing_is_lost(&self, network: &Network<S>, at: usize) {
        let (past, picture) = (&self.pasts[at], S::observe(&network.nodes[at].state));
        let written = |(dot, (_, touches)): (&Dot, &(Past, Vec<Touch>))| {
            let values = touches.iter().filter_map(|touch| Some((touch.spot.clone(), touch.wrote.clone()?)));
            values.map(|(spot, value)| (*dot, spot, value)).collect::<Vec<_>>()
        };
        let applied = || self.touches.iter().filter(|(dot, _)| past.contains(dot));
        for (dot, spot, value) in applied().flat_map(written) {
            let overwritten = || {
                let later = applied().filter(|(_, (before, _))| before.contains(&dot));
                let mut there = later.flat_map(|(_, (_, touches))| touches).filter(|touch| touch.spot == spot);
                there.any(|touch| touch.saw.as_ref() == Some(&value) || touch.wrote.as_ref() == Some(&value))
            };
            let kept = picture.values_at(&spot).contains(&value);
            assert!(kept || overwritten(), "{value:?} of {dot} at {spot:?} is gone, and nobody who saw it replaced it");
        }
    }
}

/// Runs the steps, then delivers everything, and compares all along.
pub(crate) fn check<S: Subject>(steps: &[Step<S::Intent>]) {
    let mut witness = Witness::<S>::new();
    Network::<S>::run_all(steps, &mut |network, event| witness.check(network, event));
}

macro_rules! models {
    ($($name:ident: $subject:ty, $cases:expr;)*) => {
        $(
            #[test]
            fn $name() {
                hold::<$subject>($cases, 40, check::<$subject>);
            }
        )*
    };
}

models! {
    a_register_does_what_its_rules_say: RegisterSubject, 300;
    a_growing_counter_does_what_its_rules_say: GCounterSubject, 200;
    a_counter_does_what_its_rules_say: PnCounterSubject, 300;
    a_set_does_what_its_rules_say: SetSubject, 300;
    a_map_does_what_its_rules_say: MapSubject, 300;
    a_row_does_what_its_rules_say: RowSubject, 250;
}
