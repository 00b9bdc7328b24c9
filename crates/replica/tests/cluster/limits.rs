//! What has a cap stays near it.

use replica::{Limits, Report};

use crate::harness::{Cluster, name};

/// Collection runs every five seconds. In between the log grew without a bound.
#[test]
fn a_log_over_its_cap_is_cut_within_a_second() {
    const CAP: usize = 4_000;
    let mut cluster = Cluster::new(2, Limits { log_bytes_max: CAP, ..Limits::default() });
    cluster.run(5_500);
    cluster.link("node_00", "node_01", false);
    cluster.run(1_000);
    let (mut last, mut cuts) = (0, 0);
    for round in 0..400 {
        cluster.set(0, "k", &format!("round {round}"));
        let bytes = cluster.nodes[&name(0)].gauges().log_bytes;
        cuts += usize::from(bytes < last);
        last = bytes;
    }
    assert_eq!(cuts, 1, "one cut a second is enough");
    let node = &cluster.nodes[&name(0)];
    assert!(node.gauges().log_bytes > CAP);
    let due = node.poll_timeout().expect("the log is over its cap");
    assert!(due > cluster.now.mono_ms && due <= cluster.now.mono_ms + 1_000);
    cluster.run(1_000);
    let node = &cluster.nodes[&name(0)];
    assert!(node.gauges().log_bytes <= CAP, "{} bytes", node.gauges().log_bytes);
    assert!(cluster.reports.iter().any(|(node, report)| *node == name(0) && matches!(report, Report::LogCut { .. })));
    // With nothing to cut there is nothing to wake for: the link is down and collection is far away.
    let due = node.poll_timeout().expect("collection is due some time");
    assert!(due > cluster.now.mono_ms + 1_000);
}
