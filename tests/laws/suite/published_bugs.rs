//! Convergence bugs that other systems really had, and what this crate does in their place. They are good
//! systems: these bugs are known because they were looked for and told.

use std::collections::BTreeMap;

use crdt::change::{MAC_BYTES, seal};
use crdt::register::RegisterDelta;
use crdt::{
    Batch, BatchHeader, BatchId, CausalContext, Change, Content, Covers, Crdt, Dot, Envelope, Hlc, HybridClock,
    Namespace, Op, Register, ReplicaId, Tally, Value, VersionVector,
};

use crate::harness::{Network, place};
use crate::picture::{Leaf, Shown};
use crate::script::{A, B, C};
use crate::subjects::{
    CounterIntent, Input, LeafIntent, MapIntent, MapSubject, RegisterIntent, RegisterSubject, RowIntent, RowSubject,
    SetIntent, SetSubject,
};

fn set(value: &str) -> RegisterIntent {
    RegisterIntent::Set(value.into())
}

fn columns(columns: &[(&'static str, &str)]) -> BTreeMap<&'static str, Input> {
    columns.iter().map(|(name, value)| (*name, Input::Cell((*value).into()))).collect()
}

fn put(cells: &[(&'static str, &str)]) -> RowIntent {
    RowIntent::Put(columns(cells))
}

fn add(element: &str) -> SetIntent {
    SetIntent::Add(vec![element.into()])
}

fn remove(element: &str) -> SetIntent {
    SetIntent::Remove(vec![element.into()])
}

fn in_map(leaf: LeafIntent) -> MapIntent {
    MapIntent::Leaf(vec!["field"], leaf)
}

// Amnesia and sequence reuse. Riak lost acknowledged writes when a vnode forgot its counter and used it
// again (basho/riak_kv#679, 2013; fixed by #1094 in 2015 and #1643 in 2017; two vnodes with one id, #1865
// in 2023). Never to reuse a sequence is the node's duty; here stands what the crate gives it for that.

fn batch_of(value: &str) -> Vec<u8> {
    let header = BatchHeader {
        id: BatchId { replica: ReplicaId(1), seq: 1 },
        more: false,
        hlc: Hlc(5),
        context: VersionVector::new(),
    };
    let delta = RegisterDelta { write: Some(value.into()), ..RegisterDelta::default() };
    let (path, content) = (vec![b"key"[..].into()], Content::Op(Op::Register(delta)));
    let change = Change { namespace: Namespace(0), path, stamp: Hlc(5), content };
    seal(Batch { header, changes: vec![change] }.to_signed_bytes(1), [0; MAC_BYTES])
}

#[test]
fn riak_amnesia_a_reused_sequence_has_other_bytes_so_a_hash_chain_notices_it() {
    let (first, second) = (batch_of("before the crash"), batch_of("after the amnesia"));
    let id = |bytes| Envelope::parse(bytes).expect("own bytes parse").header.id;
    assert_eq!(id(&first), id(&second));
    assert_ne!(first, second);
    assert_eq!(first, batch_of("before the crash"), "a duplicate has the same bytes");
}

/// The loss itself, so that nobody takes the join for a protection against it, and the remedy: a fresh id.
#[test]
fn riak_amnesia_a_reused_dot_is_lost_in_a_join_and_a_fresh_replica_id_is_not() {
    let write = |replica: ReplicaId, value: &str| {
        let mut register = Register::default();
        let (stamp, delta) = register.set(value.into(), Hlc(5));
        register.apply(Dot::new(replica, 1, 0), stamp, &delta, place(), &mut Tally::default()).expect("no counter");
        (register, VersionVector::from_iter([(replica, 1)]))
    };
    let (peer, peer_past) = write(ReplicaId(1), "before the crash");
    let (amnesic, amnesic_past) = write(ReplicaId(1), "after the amnesia");
    let mut joined = peer.clone();
    joined.join(&peer_past, &amnesic, &amnesic_past);
    assert_eq!(joined, peer, "the second write of one dot is taken for known");

    let (reborn, reborn_past) = write(ReplicaId(2), "after the amnesia");
    let mut joined = peer.clone();
    joined.join(&peer_past, &reborn, &reborn_past);
    assert_eq!(joined.shown().map(|entry| &entry.value), Some(&"after the amnesia".into()));
    assert_eq!(joined.journal().count(), 1, "and the first is in the journal");
}

/// Riak's "doomstone" (basho/riak_kv#1094): a late tombstone subsumed a key that was written anew, because
/// the new key's counter started again at 1.
#[test]
fn riak_doomstone_a_late_delete_does_not_take_what_was_written_anew() {
    let mut network = Network::<RegisterSubject>::new();
    let first = network.does(A, 5, set("old"));
    network.hears(B, &[first]);
    let delete = network.does(B, 6, RegisterIntent::Remove);
    network.hears(A, &[delete]);
    let again = network.does(A, 1, set("new"));
    // The fallback hears of the delete last, by a join of the state that has only that.
    network.hears(C, &[first, delete, again]);
    network.joins(C, B);
    network.joins(B, C);
    assert_eq!(network.agree().value(), Some("new".into()));
}

/// Riak's set kept an element that both sides of a merge held and both had removed meanwhile
/// (basho/riak_dt#82, 2014).
#[test]
fn riak_set_an_element_on_both_sides_of_a_join_can_be_removed() {
    let mut network = Network::<SetSubject>::new();
    network.does(A, 1, add("x"));
    let at_b = network.does(B, 1, add("x"));
    network.joins(C, A);
    network.does(A, 2, remove("x"));
    network.hears(A, &[at_b]);
    network.does(B, 2, remove("x"));
    network.joins(A, C);
    network.joins(B, A);
    assert_eq!(network.sees(B).elements(), Vec::<Vec<u8>>::new());
    network.agree();
}

/// An optimised merge of Riak's set compared clocks too loosely and kept what one side had removed
/// (basho/riak_dt#78, 2014).
#[test]
fn riak_set_a_removal_without_a_new_add_is_seen_by_a_join() {
    let mut network = Network::<SetSubject>::new();
    network.does(A, 1, add("foo"));
    network.does(A, 2, add("bar"));
    network.does(B, 1, add("baz"));
    network.joins(C, A);
    network.joins(C, B);
    network.does(A, 3, remove("bar"));
    network.joins(C, A);
    assert_eq!(network.sees(C).elements(), [b"baz", b"foo"]);
}

/// In Riak's map, removing a field dropped what it held only if the field was added again (basho/riak_dt#92,
/// 2014, mended by #93): a concurrent update kept the removed elements alive.
#[test]
fn riak_map_a_removed_field_loses_what_the_remover_saw_whether_it_is_added_again_or_not() {
    for again in [false, true] {
        let mut network = Network::<MapSubject>::new();
        let first = network.does(A, 1, in_map(LeafIntent::Set(add("seen"))));
        network.hears(B, &[first]);
        network.does(B, 2, in_map(LeafIntent::Set(add("concurrent"))));
        network.does(A, 2, MapIntent::Remove(vec!["field"]));
        if again {
            network.does(A, 3, in_map(LeafIntent::Set(add("anew"))));
        }
        let expected: &[&[u8]] = if again { &[b"anew", b"concurrent"] } else { &[b"concurrent"] };
        assert_eq!(network.agree().elements(), expected);
    }
}

/// Counters inside Riak's map could not be removed: a concurrent increment brought back part of what was
/// removed (basho/riak#354 tells this run, basho/riak_dt#98 the reason; Baquero, Almeida, Lerche, "The
/// problem with embedded CRDT counters", 2016).
#[test]
fn riak_map_a_removed_counter_keeps_just_the_increments_that_the_remover_had_not_seen() {
    let mut network = Network::<MapSubject>::new();
    let count = |amount| in_map(LeafIntent::PnCounter(CounterIntent::Increment(amount)));
    let first = network.does(A, 1, count(5));
    network.hears(B, &[first]);
    network.does(B, 2, count(3));
    network.does(A, 2, count(1));
    network.does(A, 3, MapIntent::Remove(vec!["field"]));
    network.does(B, 3, count(1));
    assert_eq!(network.agree().shown, Shown::Sum(3 + 1));
}

/// Two nodes delete one row. Corrosion had a third node that never deleted it (superfly/corrosion#352, 2025);
/// with counters, a delete by a negative amount subtracts twice.
#[test]
fn corrosion_double_delete_ends_a_row_everywhere_and_subtracts_once() {
    let insert = RowIntent::Put([("title", Input::Cell("post".into())), ("views", Input::Count(10))].into());
    for heard_first in [A, B] {
        let mut network = Network::<RowSubject>::new();
        let batch = network.does(A, 1, insert.clone());
        network.hears(B, &[batch]);
        network.hears(C, &[batch]);
        let deletes = [network.does(A, 2, RowIntent::Delete), network.does(B, 2, RowIntent::Delete)];
        network.hears(C, &[deletes[heard_first]]);
        assert_eq!(network.sees(C), Leaf::default(), "one delete is enough");
        network.joins(C, B);
        assert_eq!(network.agree(), Leaf::default());
        network.does(C, 3, insert.clone());
        assert_eq!(network.agree().sum("views"), Some(10));
    }
}

/// A double reset is the same question put to a counter.
#[test]
fn double_reset_subtracts_once() {
    let mut network = Network::<RowSubject>::new();
    let insert = network.does(A, 1, RowIntent::Put([("views", Input::Count(10))].into()));
    network.hears(B, &[insert]);
    let reset = RowIntent::Replace([("views", Input::Count(0))].into());
    network.does(A, 2, reset.clone());
    network.does(B, 2, reset);
    assert_eq!(network.agree().sum("views"), Some(0));
}

/// cr-sqlite sent a proxied write under the proxy's id, so ties fell out differently by the way that a write
/// had taken (vlcn-io/cr-sqlite#30, 2022). A dot is the origin's for ever.
#[test]
fn cr_sqlite_a_write_keeps_its_origin_through_any_proxy() {
    let mut ways = Vec::new();
    for by_state in [false, true] {
        let mut network = Network::<RegisterSubject>::new();
        let of_c = network.does(C, 5, set("by C"));
        network.does(B, 5, set("by B, with the same stamp"));
        if by_state {
            network.joins(A, C);
            network.joins(B, A);
        } else {
            network.hears(B, &[of_c]);
        }
        assert_eq!(network.sees(B).value(), Some("by C".into()), "C has the greater id");
        ways.push(network.agree());
    }
    assert_eq!(ways[0], ways[1]);
}

/// Corrosion needed of cr-sqlite that also changes which are equal in every other way have one winner, by
/// their origin (superfly/corrosion#128, 2023).
#[test]
fn corrosion_equal_stamps_have_one_winner_in_every_order() {
    let mut seen = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut network = Network::<RegisterSubject>::new();
        let batches = [A, B, C].map(|at| network.does(at, 5, set(["by A", "by B", "by C"][at])));
        for at in [A, B, C] {
            let others: Vec<usize> = order.iter().filter(|of| **of != at).map(|of| batches[*of]).collect();
            network.hears(at, &others);
        }
        seen.push(network.agree());
    }
    assert!(seen.iter().all(|leaf| *leaf == seen[0]));
    assert_eq!((seen[0].value(), seen[0].journal.len()), (Some("by C".into()), 2));
}

// Partial batches at restart. Corrosion's memory of what it knew went out of step with what its database had
// buffered (superfly/corrosion#2, 2023). State and vector in one step is the node's duty; the crate makes half
// a batch something that cannot be said.

#[test]
fn corrosion_half_a_batch_is_no_batch() {
    let bytes = batch_of("whole");
    let end = bytes.len() - MAC_BYTES;
    for cut in 0..end {
        let mut half = bytes[..cut].to_vec();
        half.extend_from_slice(&bytes[end..]);
        let whole = Envelope::parse(&half).and_then(|envelope| envelope.to_batch());
        assert!(whole.is_err(), "the first {cut} bytes are taken for a batch");
    }
}

/// Each part of a split group has a sequence of its own (trap in PROTOCOL.md), and parts that arrived without
/// the one before them do not move the vector, so they are asked for again after a restart.
#[test]
fn corrosion_a_part_that_came_early_is_not_taken_for_the_group() {
    let part = |seq| BatchId { replica: ReplicaId(1), seq };
    let mut received = CausalContext::new();
    received.insert_batch(part(2));
    assert_eq!(received.vector(), &VersionVector::new());
    assert!(!received.covers(&Dot::new(ReplicaId(1), 1, 0)));
    let after_restart = CausalContext::from(received.vector().clone());
    assert!(!after_restart.contains(part(2)), "asked for again");
    received.insert_batch(part(1));
    assert_eq!(received.vector().seq(ReplicaId(1)), 2);
}

/// cr-sqlite did not move its clock on when a merge won, so the next local write lost against what its author
/// had just seen (vlcn-io/cr-sqlite#76, 2022).
#[test]
fn cr_sqlite_a_write_over_a_value_from_the_future_wins() {
    let mut network = Network::<RowSubject>::new();
    let ahead = network.does(A, 1_000_000, put(&[("title", "from the future"), ("status", "draft")]));
    network.hears(B, &[ahead]);
    network.does(B, 5, put(&[("title", "after it")]));
    let seen = network.agree();
    assert_eq!((seen.cell("title"), seen.journaled()), (Some("after it".into()), Vec::new()));
    let mut clock = HybridClock::default();
    clock.follow(Hlc::from_millis(1_000_000));
    assert!(clock.tick(5) > Hlc::from_millis(1_000_000));
}

/// ... and in mending that gave the winner of a merge a new version of its own, so that one value looked newer
/// on each node that passed it on (vlcn-io/cr-sqlite#114, 2022).
#[test]
fn cr_sqlite_a_join_does_not_stamp_values_anew() {
    let mut network = Network::<RegisterSubject>::new();
    network.does(A, 100, set("A's own"));
    let of_b = network.does(B, 7, set("of B"));
    network.hears(C, &[of_b]);
    network.joins(A, C);
    let stamps: Vec<Hlc> = network.sees(A).journal.iter().map(|entry| entry.stamp).collect();
    assert_eq!(stamps, [Hlc(7)]);
}

/// A row that was created again after a delete never came to the other database (vlcn-io/cr-sqlite#271, 2023).
#[test]
fn cr_sqlite_a_row_created_after_its_delete_exists_everywhere() {
    let mut network = Network::<RowSubject>::new();
    for (at, intent) in [(A, put(&[("title", "one")])), (A, RowIntent::Delete), (A, put(&[("title", "new")]))] {
        network.does(at, 1, intent);
        network.agree();
    }
    assert_eq!(network.agree().cell("title"), Some("new".into()));
}

/// With one version a row and merging cell by cell, cells of a deleted life came back in the next one
/// (vlcn-io/cr-sqlite#299, 2023, tells it of its own first attempt).
#[test]
fn cr_sqlite_no_cell_of_an_old_life_is_in_the_new_one() {
    for update_first in [false, true] {
        let mut network = Network::<RowSubject>::new();
        let insert = network.does(A, 1, put(&[("title", "old"), ("status", "old")]));
        network.hears(B, &[insert]);
        let delete = network.does(B, 2, RowIntent::Delete);
        let reborn = network.does(B, 3, put(&[("title", "new")]));
        let update = network.does(A, 900, put(&[("status", "late")]));
        let order = if update_first { [insert, update, delete, reborn] } else { [insert, delete, reborn, update] };
        network.hears(C, &order);
        let seen = network.agree();
        assert_eq!((seen.cell("title"), seen.cell("status")), (Some("new".into()), None));
        assert_eq!(seen.journaled(), ["late".into()], "the update is not lost unlisted");
    }
}

/// Delete against update, where the order of arrival decided: cr-sqlite's first causal lengths
/// (vlcn-io/cr-sqlite#299, 2023), and Riak, which kept a tombstone beside the updated value
/// (basho/riak_kv#1360, 2016). A row's delete wins and the update is journaled.
#[test]
fn cr_sqlite_delete_against_update_of_a_row_is_the_same_in_both_orders() {
    let mut seen = Vec::new();
    for delete_first in [false, true] {
        let mut network = Network::<RowSubject>::new();
        let insert = network.does(A, 1, put(&[("title", "old")]));
        network.hears(B, &[insert]);
        let (update, delete) =
            (network.does(A, 2, put(&[("title", "updated")])), network.does(B, 2, RowIntent::Delete));
        network.hears(C, &if delete_first { [insert, delete, update] } else { [insert, update, delete] });
        seen.push(network.sees(C));
        assert_eq!(network.agree(), seen[0]);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!((&seen[0].shown, seen[0].journaled()), (&Shown::Nothing, vec![Value::from("updated")]));
}

/// The same for the types whose writes win.
#[test]
fn riak_delete_against_update_of_a_register_or_set_is_the_same_in_both_orders() {
    for delete_first in [false, true] {
        let order =
            |first, delete, update| if delete_first { [first, delete, update] } else { [first, update, delete] };
        let mut network = Network::<RegisterSubject>::new();
        let first = network.does(A, 1, set("old"));
        network.hears(B, &[first]);
        let (update, delete) = (network.does(A, 2, set("updated")), network.does(B, 9, RegisterIntent::Remove));
        network.hears(C, &order(first, delete, update));
        let seen = network.agree();
        assert_eq!((seen.value(), seen.journal.len()), (Some("updated".into()), 0));

        let mut network = Network::<SetSubject>::new();
        let first = network.does(A, 1, add("a"));
        network.hears(B, &[first]);
        let (update, delete) = (network.does(A, 2, add("e")), network.does(B, 9, SetIntent::Clear));
        network.hears(C, &order(first, delete, update));
        assert_eq!(network.agree().elements(), [b"e"]);
    }
}

/// In rust-crdt's map, a merge changed the clock of an entry that both sides had and then used it as if it
/// had not (rust-crdt/rust-crdt#35, 2018).
#[test]
fn rust_crdt_joining_an_entry_that_both_sides_have_is_the_same_from_both_sides() {
    let deep = |intent| MapIntent::Leaf(vec!["a", "b"], LeafIntent::Set(intent));
    let mut network = Network::<MapSubject>::new();
    let first = network.does(A, 1, deep(add("shared")));
    network.hears(B, &[first]);
    network.does(A, 2, MapIntent::Remove(vec!["a"]));
    network.does(A, 3, deep(add("of A")));
    network.does(B, 2, deep(add("of B")));
    let mut other = network.clone();
    network.joins(A, B);
    other.joins(B, A);
    assert_eq!(network.nodes[A].state, other.nodes[B].state);
    assert_eq!(network.sees(A).elements(), [b"of A", b"of B"]);
}
