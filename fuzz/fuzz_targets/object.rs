//! Objects as a disk or a snapshot brings them: one state has one form, and every read of it holds.
//!
//! The first byte is the type, the rest is [`Object::to_bytes`].
#![no_main]

use std::collections::BTreeSet;

use crdt::{Dot, Kind, Object, Place, RowView, VersionVector};
use fuzz::within;
use libfuzzer_sys::fuzz_target;

/// The greatest amplification is meant: one byte of a cell says that it hangs on all of up to 16 lives,
/// which are 512 bytes in memory. Such a cell takes 5 bytes or more on the wire and 96 in a list that doubles
/// as it grows (old and new at once: 288): 160 for each byte.
const MEMORY_FACTOR: usize = 160;

fuzz_target!(|input: &[u8]| {
    let Some((code, bytes)) = input.split_first() else { return };
    let Some(kind) = Kind::from_code(*code) else { return };
    let Ok(object) = within(bytes, MEMORY_FACTOR, |bytes| Object::from_bytes(kind, bytes)) else { return };
    assert_eq!(object.to_bytes(), bytes, "one state has one form: {object:?}");

    let journal = object.journal();
    let written: BTreeSet<_> = journal.iter().map(|entry| (&entry.path, entry.dot, entry.stamp.is_some())).collect();
    assert_eq!(written.len(), journal.len(), "one dot wrote two values: {object:?}");

    let place = Place::root(b"key");
    assert_eq!(object.tally(place).journal_entries, object.journal().len() as u64);
    let nothing_else = !object.exists() && object.journal().is_empty() && object.removals().is_empty();
    assert!(!object.is_bottom() || nothing_else, "a bottom shows something: {object:?}");

    let mut past = VersionVector::new();
    object.dots(&mut |dot: Dot| past.advance(dot.replica, dot.seq));
    let mut joined = object.clone();
    joined.join(&past, &object, &past);
    assert_eq!(joined, object, "a join with itself changed an object");
    let mut fresh = Object::new(kind);
    fresh.join(&VersionVector::new(), &object, &past);
    assert_eq!(fresh, object, "a join into nothing lost something");

    let mut rest = object.clone();
    let journal = rest.journal();
    journal.iter().for_each(|entry| _ = rest.forget(&entry.path, entry.dot));
    rest.collect();
    assert_eq!(Object::from_bytes(kind, &rest.to_bytes()), Ok(rest));

    if let Object::Row(row) = &object
        && let Ok(view) = row.view()
    {
        assert_eq!(RowView::from_bytes(&view.to_bytes()), Ok(view));
    }
});
