//! Views of rows as a disk brings them: what decodes can be written again, and deltas can be derived from it.
#![no_main]

use crdt::{Dot, Hlc, ReplicaId, RowView};
use fuzz::within;
use libfuzzer_sys::fuzz_target;

/// A share of a counter takes 6 bytes on the wire and 96 in a list that doubles as it grows (old and new at
/// once: 288): 48 for each byte. A cell takes 4 bytes and 72 in a node of a tree that may be half empty.
const MEMORY_FACTOR: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Ok(view) = within(input, MEMORY_FACTOR, RowView::from_bytes) else { return };
    assert_eq!(RowView::from_bytes(&view.to_bytes()).as_ref(), Ok(&view));

    let replica = ReplicaId(1);
    assert!(view.delete().is_some() == view.exists());
    let mut next = view.clone();
    for (place, (stamp, delta)) in view.replace(replica, Hlc(9), view.values()).into_iter().enumerate() {
        // A sum may leave its range; the view is then somewhere in between, and must still hold together.
        let _overflow = next.follow(Dot::new(replica, 9, place as u32), stamp, &delta);
    }
    assert_eq!(RowView::from_bytes(&next.to_bytes()), Ok(next));
});
