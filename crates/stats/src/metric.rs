//! What a metric is.

/// How a metric behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only goes up, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often something took how much.
    Histogram,
}

/// What is counted. Base units only, as Prometheus wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One metric, as it is declared in [`crate::catalogue`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Begins with `crdt_`; ends with its unit, and `_total` for a counter.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What is counted.
    pub unit: Unit,
    /// Names of its labels, in the order in which samples give them.
    pub labels: &'static [&'static str],
    /// What it means, as one sentence.
    pub help: &'static str,
}

impl Kind {
    /// As `# TYPE` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// As a name ends and as `# UNIT` says it; `None` for things.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Count => None,
            Self::Bytes => Some("bytes"),
            Self::Seconds => Some("seconds"),
        }
    }
}

impl Metric {
    /// The name without `_total`: what OpenMetrics calls the family.
    pub fn family(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }
}
