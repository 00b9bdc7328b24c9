//! A clock that is wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::cluster::Cluster;
use crate::patience::{EVENTUALLY, wait_for};
use crate::settings;
use crate::writers::{Pace, Writers};

const AHEAD_MS: i64 = 10_000;
/// What two clocks on one machine may seem to differ by, under load.
const TOLERANCE_MS: i64 = 1_000;
/// Offset above which a clock is not followed.
const BOUND_MS: u64 = 5_000;

#[test]
fn a_clock_ten_seconds_ahead_is_seen_and_drags_nobody() {
    let mut cluster = Cluster::plan(3);
    cluster.nodes[2].set_variable(settings::CLOCK_OFFSET_VARIABLE, AHEAD_MS.to_string());
    cluster.found();
    for (node, others) in [(0, vec![("node_03", AHEAD_MS)]), (2, vec![("node_01", -AHEAD_MS), ("node_02", -AHEAD_MS)])]
    {
        let mut client = cluster.nodes[node].client().unwrap();
        wait_for("the right offset", EVENTUALLY, || {
            let peers = client.peers().map_err(|error| error.to_string())?;
            let is_right = |name: &str, offset_ms: i64| {
                let seen = peers.iter().find(|peer| peer.node == name).map(|peer| peer.skew_ms);
                seen.is_some_and(|seen| (seen - offset_ms).abs() <= TOLERANCE_MS)
            };
            if others.iter().all(|&(name, offset_ms)| is_right(name, offset_ms)) {
                Ok(())
            } else {
                Err(format!("{peers:?}"))
            }
        });
    }
    let writers = Writers::start(&cluster.nodes, Pace::default());
    writers.wait_for_more_on_each(200);
    let oracle = writers.finish();
    cluster.converged();

    // Who has seen a write of the fast clock writes after it.
    cluster.nodes[2].client().unwrap().ask::<()>(&["SET", "skewed", "ahead"]).unwrap();
    let mut first = cluster.nodes[0].client().unwrap();
    wait_for("heard", EVENTUALLY, || match first.ask::<Option<String>>(&["GET", "skewed"]) {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    first.ask::<()>(&["SET", "skewed", "later"]).unwrap();
    cluster.assert_sound(&oracle);
    for node in &cluster.nodes {
        let shown: String = node.client().unwrap().ask(&["GET", "skewed"]).unwrap();
        assert_eq!(shown, "later", "on {}", node.name);
    }
    // The clocks of the others were not dragged along.
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    for node in &cluster.nodes[..2] {
        let hlc_ms = node.client().unwrap().clock().unwrap().hlc_ms;
        assert!(hlc_ms < now_ms + BOUND_MS, "{} is {} ms ahead", node.name, hlc_ms.saturating_sub(now_ms));
    }
}
