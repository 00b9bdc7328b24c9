//! What all metrics said at one moment.

use crate::catalogue::CATALOGUE;
use crate::exposition::label_text;
use crate::histogram::Histogram;
use crate::metric::{Kind, Metric};

/// A value of one series.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// Any number.
    Number(f64),
    /// Counts by magnitude.
    Histogram(Histogram),
}

/// One series at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Which metric.
    pub metric: &'static Metric,
    /// Values of its labels, as many as it declares.
    pub labels: Vec<String>,
    /// What it said.
    pub value: Value,
}

/// All series at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    samples: Vec<Sample>,
}

impl Snapshot {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series with a whole number. `labels` are values, in the order in which the metric names them.
    pub fn integer(&mut self, metric: &'static Metric, labels: &[&str], value: u64) {
        self.put(metric, labels, Value::Integer(value));
    }

    /// Adds a series with a number.
    pub fn number(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        self.put(metric, labels, Value::Number(value));
    }

    /// Adds a series with counts by magnitude.
    pub fn histogram(&mut self, metric: &'static Metric, labels: &[&str], value: &Histogram) {
        self.put(metric, labels, Value::Histogram(value.clone()));
    }

    fn put(&mut self, metric: &'static Metric, labels: &[&str], value: Value) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "labels of {}", metric.name);
        debug_assert_eq!(metric.kind == Kind::Histogram, matches!(value, Value::Histogram(_)), "{}", metric.name);
        self.samples.push(Sample { metric, labels: labels.iter().map(|label| (*label).to_owned()).collect(), value });
    }

    /// The series of one metric, in the order in which they were added.
    pub fn of(&self, metric: &Metric) -> impl Iterator<Item = &Sample> {
        let name = metric.name;
        self.samples.iter().filter(move |sample| sample.metric.name == name)
    }

    /// Every series as one name and number, in the order of the catalogue: `name{label="value"}`. A histogram gives
    /// its count and its sum.
    pub fn flat(&self) -> Vec<(String, f64)> {
        let mut flat = Vec::new();
        for metric in CATALOGUE {
            for sample in self.of(metric) {
                let labels = label_text(metric, &sample.labels, None);
                let name = metric.name;
                match &sample.value {
                    Value::Integer(number) => flat.push((format!("{name}{labels}"), *number as f64)),
                    Value::Number(number) => flat.push((format!("{name}{labels}"), *number)),
                    Value::Histogram(histogram) => {
                        flat.push((format!("{name}_count{labels}"), histogram.count() as f64));
                        flat.push((format!("{name}_sum{labels}"), histogram.sum()));
                    }
                }
            }
        }
        flat
    }

    /// Metrics without labels that nobody gave: each should be there from the first moment on.
    pub fn missing(&self) -> Vec<&'static str> {
        let is_missing = |metric: &&&Metric| metric.labels.is_empty() && self.of(metric).next().is_none();
        CATALOGUE.iter().filter(is_missing).map(|metric| metric.name).collect()
    }
}
