//! Figures: which there are, how they are counted, how they are told.
//!
//! | module | what it answers |
//! |---|---|
//! | [`catalogue`] | which metrics exist, and what does each mean? |
//! | [`histogram`] | how are durations gathered? |
//! | [`snapshot`] | what did all metrics say at one moment? |
//! | [`exposition`] | how does Prometheus read them? |
//! | [`document`] | `docs/metrics.md` |
//!
//! The crate is pure: no I/O, no clock, no atomics. Whoever counts owns plain numbers on its own thread, and makes a
//! [`Snapshot`] of them when somebody asks; so counting costs an addition, and what is shown belongs to one moment.

pub mod catalogue;
pub mod document;
pub mod exposition;
pub mod histogram;
pub mod metric;
pub mod snapshot;

pub use catalogue::CATALOGUE;
pub use exposition::Format;
pub use histogram::Histogram;
pub use metric::{Kind, Metric, Unit};
pub use snapshot::{Sample, Snapshot, Value};
