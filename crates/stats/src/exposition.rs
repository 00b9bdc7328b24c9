//! The text that Prometheus reads: the classic form (version 0.0.4) and OpenMetrics 1.0.

use core::fmt::Write;

use crate::catalogue::CATALOGUE;
use crate::metric::{Kind, Metric};
use crate::snapshot::{Sample, Snapshot, Value};

/// Forms of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// What every scraper reads.
    #[default]
    Classic,
    /// What one gets who asks for it.
    OpenMetrics,
}

impl Format {
    /// The form that an `Accept` header asks for.
    pub fn of_accept(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Classic }
    }

    /// The `Content-Type` of the form.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The text of a snapshot.
    pub fn render(self, snapshot: &Snapshot) -> String {
        let mut text = String::with_capacity(16 << 10);
        for metric in CATALOGUE {
            let mut samples = snapshot.of(metric).peekable();
            if samples.peek().is_none() {
                continue;
            }
            self.head(metric, &mut text);
            for sample in samples {
                write_sample(sample, &mut text);
            }
        }
        if self == Self::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }

    fn head(self, metric: &Metric, text: &mut String) {
        let name = match self {
            Self::Classic => metric.name,
            Self::OpenMetrics => metric.family(),
        };
        line(text, format_args!("# HELP {name} {}", escape_help(metric.help)));
        line(text, format_args!("# TYPE {name} {}", metric.kind.name()));
        if let (Self::OpenMetrics, Some(unit)) = (self, metric.unit.name()) {
            line(text, format_args!("# UNIT {name} {unit}"));
        }
    }
}

fn write_sample(sample: &Sample, text: &mut String) {
    let Sample { metric, labels, value } = sample;
    let name = metric.name;
    let plain = label_text(metric, labels, None);
    match value {
        Value::Integer(number) => line(text, format_args!("{name}{plain} {number}")),
        Value::Number(number) => line(text, format_args!("{name}{plain} {}", number_text(*number))),
        Value::Histogram(histogram) => {
            for (bound, count) in histogram.buckets() {
                let labels = label_text(metric, labels, Some(&bound_text(bound)));
                line(text, format_args!("{name}_bucket{labels} {count}"));
            }
            let all = label_text(metric, labels, Some("+Inf"));
            line(text, format_args!("{name}_bucket{all} {}", histogram.count()));
            line(text, format_args!("{name}_sum{plain} {}", number_text(histogram.sum())));
            line(text, format_args!("{name}_count{plain} {}", histogram.count()));
        }
    }
}

fn line(text: &mut String, line: core::fmt::Arguments<'_>) {
    // Writing into a String does not fail.
    let _ = text.write_fmt(line);
    text.push('\n');
}

/// `{name="value",...}`, or nothing where there are no labels. `bound` is that of a histogram's bucket.
pub(crate) fn label_text(metric: &Metric, labels: &[String], bound: Option<&str>) -> String {
    let named = metric.labels.iter().copied().zip(labels.iter().map(String::as_str));
    let all = named.chain(bound.map(|bound| ("le", bound)));
    let parts: Vec<String> = all.map(|(name, value)| format!("{name}=\"{}\"", escape_label(value))).collect();
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

/// A bound as OpenMetrics wants it: always with a point.
fn bound_text(bound: f64) -> String {
    let text = bound.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

fn number_text(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        number.to_string()
    }
}

fn escape_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn escape_label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Metric {
    /// True for a name that a scraper takes and that tells kind and unit.
    pub fn has_good_name(&self) -> bool {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let unit = self.unit.name().is_none_or(|unit| self.family().ends_with(unit));
        let total = self.name.ends_with("_total") == (self.kind == Kind::Counter);
        self.name.starts_with("crdt_") && self.name.bytes().all(fits) && unit && total
    }
}
