//! A disk that is full.

use crate::client::Outcome;
use crate::cluster::Cluster;
use crate::oracle::{Oracle, Write};
use crate::tmpfs::Tmpfs;
use crate::writers::{Pace, Writers, filled};

/// The store's own journal is a sparse file of 64 MiB, of which what is written counts.
const DISK_MIB: u32 = 24;

#[test]
fn a_full_disk_refuses_writes_and_loses_none() {
    let Some(disk) = Tmpfs::mount(DISK_MIB) else { return };
    let mut cluster = Cluster::plan(3);
    cluster.nodes[2].folder = disk.path().join("node_03");
    cluster.found();
    let mut oracle = Oracle::default();
    let mut client = cluster.nodes[2].client().unwrap();
    let refusal = (0..1_000).find_map(|number| {
        let write = Write::Set { key: format!("fill:{number}"), value: filled(&format!("fill {number}"), 100_000) };
        let outcome = write.send(&mut client);
        oracle.note("fill", &write, &outcome);
        match outcome {
            Outcome::Done => None,
            Outcome::Refused(told) | Outcome::Uncertain(told) => Some(told),
        }
    });
    let refusal = refusal.expect("24 MiB do not hold 100 MB");
    assert!(refusal.contains("ERR_STORE_"), "{refusal}");
    // It says so again, and goes on to answer what needs no disk.
    let again = client.write(&["SET", "fill:again", "small"]);
    assert!(matches!(&again, Outcome::Uncertain(told) if told.contains("ERR_STORE_")), "{again:?}");
    let first: Option<String> = client.ask(&["GET", "fill:0"]).unwrap();
    assert!(first.is_some());
    // The others go on.
    let writers = Writers::start(&cluster.nodes[..2], Pace::default());
    writers.wait_for_more_on_each(50);
    oracle.absorb(writers.finish());
    // Somebody makes room, and starts it again.
    cluster.nodes[2].kill();
    disk.grow(512);
    cluster.restart(2);
    cluster.linked();
    cluster.assert_sound(&oracle);
    // Its folder is on the disk: it ends before the disk is unmounted.
    drop(cluster);
}
