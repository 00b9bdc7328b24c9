//! A node that is told anything by a peer whose hello it took: it never panics, never runs in a circle, and
//! what it writes to its disk opens again to the same state.
//!
//! The first byte says whether a database stands behind the node (odd); the rest is a script of events, see
//! [`fuzz::event`].
#![no_main]

use fuzz::event::Event;
use fuzz::machine::Machine;
use fuzz::script::Script;
use libfuzzer_sys::fuzz_target;
use replica::message::Message;
use replica::{Continuity, Effect, Report};

/// Longer scripts find nothing that shorter ones do not, and take the time of many.
const EVENTS_MAX: usize = 100;

fuzz_target!(|input: &[u8]| {
    let mut script = Script::new(input);
    let Some(first) = script.byte() else { return };
    let mut machine = Machine::new(0, first % 2 == 1);
    for _ in 0..EVENTS_MAX {
        let Some(event) = Event::read(&mut script) else { break };
        event.happen(&mut machine);
    }
    for (_, bytes) in &machine.sent {
        let message = Message::from_bytes(bytes).expect("own messages decode");
        assert_eq!(message.to_bytes(), *bytes);
    }
    assert!(machine.reports.iter().all(|report| !is_own_damage(report)), "{:?}", machine.reports);
    let counted = machine.node.keyspace().recount();
    assert_eq!(counted.fingerprint, machine.node.keyspace().fingerprint());
    assert_eq!(counted.journal_entries, machine.node.keyspace().journal_entries());

    let mut reopened = machine.reopened(Continuity::Proven);
    assert_eq!(reopened.applied(), machine.node.applied());
    assert_eq!(reopened.keyspace().fingerprint(), machine.node.keyspace().fingerprint());
    assert_eq!(reopened.keyspace().journal_entries(), machine.node.keyspace().journal_entries());
    while let Some(effect) = reopened.poll_effect() {
        assert!(!matches!(&effect, Effect::Report(report) if is_own_damage(report)), "{effect:?}");
    }
});

/// True for a report that says that what the node itself wrote does not read.
fn is_own_damage(report: &Report) -> bool {
    matches!(report, Report::StoreCorrupt { .. } | Report::DatabaseRestored { .. })
}
