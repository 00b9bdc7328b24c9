//! Every metric has a name that tells what it is, and stands there once.

use std::collections::BTreeSet;

use stats::{CATALOGUE, Kind};

/// Labels that collide with those that a scrape adds (STATS.md), or that would hold content.
const LABELS_FORBIDDEN: [&str; 6] = ["region", "zone", "cluster", "type", "key", "job"];

#[test]
fn names_tell_kind_and_unit_and_are_there_once() {
    let mut names = BTreeSet::new();
    for metric in CATALOGUE {
        assert!(metric.has_good_name(), "{}", metric.name);
        assert!(names.insert(metric.name), "{} is declared twice", metric.name);
        assert!(metric.help.ends_with('.'), "{} is explained by sentences", metric.name);
        for label in metric.labels {
            assert!(!LABELS_FORBIDDEN.contains(label), "{} has the label {label}", metric.name);
        }
    }
}

#[test]
fn parts_of_a_histogram_are_no_metrics_of_their_own() {
    let names: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    for metric in CATALOGUE.iter().filter(|metric| metric.kind == Kind::Histogram) {
        for part in ["_bucket", "_sum", "_count"] {
            assert!(!names.contains(format!("{}{part}", metric.name).as_str()), "{}", metric.name);
        }
    }
}
