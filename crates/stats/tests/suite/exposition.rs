//! The text as scrapers read it.

use stats::catalogue::{
    DOOR_COMMIT_SECONDS, DOOR_COMMITS_TOTAL, LINK_UP, LOG_BYTES, REPORTS_TOTAL, RTT_SECONDS, UNREPLICATED_OPS,
};
use stats::{CATALOGUE, Format, Histogram, Snapshot};

fn snapshot() -> Snapshot {
    let mut commits = Histogram::new(&[0.001, 1.0]);
    commits.record(0.000_5);
    commits.record(3.0);
    let mut snapshot = Snapshot::new();
    snapshot.integer(&UNREPLICATED_OPS, &[], 0);
    snapshot.number(&RTT_SECONDS, &["node_02"], 0.0415);
    snapshot.integer(&DOOR_COMMITS_TOTAL, &["accepted"], 7);
    snapshot.integer(&REPORTS_TOTAL, &["a\"b\\c\nd"], 1);
    snapshot.histogram(&DOOR_COMMIT_SECONDS, &[], &commits);
    snapshot
}

#[test]
fn the_classic_form() {
    let text = Format::Classic.render(&snapshot());
    for line in [
        "# TYPE crdt_unreplicated_ops gauge",
        "crdt_unreplicated_ops 0",
        "crdt_rtt_seconds{peer=\"node_02\"} 0.0415",
        "# TYPE crdt_door_commits_total counter",
        "crdt_door_commits_total{result=\"accepted\"} 7",
        "crdt_reports_total{code=\"a\\\"b\\\\c\\nd\"} 1",
        "crdt_door_commit_seconds_bucket{le=\"0.001\"} 1",
        "crdt_door_commit_seconds_bucket{le=\"1.0\"} 1",
        "crdt_door_commit_seconds_bucket{le=\"+Inf\"} 2",
        "crdt_door_commit_seconds_sum 3.0005",
        "crdt_door_commit_seconds_count 2",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    assert!(!text.contains(LINK_UP.name), "a metric without a series has no head");
}

#[test]
fn the_open_form() {
    let text = Format::OpenMetrics.render(&snapshot());
    for line in [
        "# TYPE crdt_door_commits counter",
        "crdt_door_commits_total{result=\"accepted\"} 7",
        "# UNIT crdt_rtt_seconds seconds",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn who_asks_for_the_open_form_gets_it() {
    assert_eq!(Format::of_accept("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"), Format::OpenMetrics);
    assert_eq!(Format::of_accept("text/plain"), Format::Classic);
    assert_eq!(Format::of_accept(""), Format::Classic);
}

#[test]
fn flat_names_are_in_the_order_of_the_catalogue() {
    let flat = snapshot().flat();
    let names: Vec<&str> = flat.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "crdt_unreplicated_ops",
            "crdt_reports_total{code=\"a\\\"b\\\\c\\nd\"}",
            "crdt_rtt_seconds{peer=\"node_02\"}",
            "crdt_door_commits_total{result=\"accepted\"}",
            "crdt_door_commit_seconds_count",
            "crdt_door_commit_seconds_sum",
        ]
    );
    assert!(flat.contains(&("crdt_door_commit_seconds_count".to_owned(), 2.0)));
}

#[test]
fn what_nobody_gave_is_named() {
    let missing = snapshot().missing();
    assert!(missing.contains(&LOG_BYTES.name) && !missing.contains(&UNREPLICATED_OPS.name));
    assert!(missing.iter().all(|name| CATALOGUE.iter().any(|metric| metric.name == *name && metric.labels.is_empty())));
}
