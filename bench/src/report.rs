//! What a person reads at the end of a run.

use std::fmt::Write as _;

use crate::growth::{Growth, OPERATIONS, Operation, Point};
use crate::measure::Figures;
use crate::workload::{KEY_BYTES, LIVE_KEYS, VALUE_BYTES};

/// All measured figures, a line for each library.
pub(crate) fn table(all_figures: &[Figures]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{}; {LIVE_KEYS} live keys of {KEY_BYTES} B, values of {VALUE_BYTES} B\n", machine());
    let _ = writeln!(
        text,
        "{:<15} {:>11} {:>11}  {:>8} {:>8}  {:>8} {:>8}  {:>8} {:>8}",
        "", "apply b1", "apply b100", "wire b1", "b100", "3 w. b1", "b100", "memory", "updated"
    );
    let _ = writeln!(
        text,
        "{:<15} {:>11} {:>11}  {:>17}  {:>17}  {:>17}",
        "", "ops/s", "ops/s", "B/op beside k+v", "B/op beside k+v", "B/cell beside k+v"
    );
    for figures in all_figures {
        let [single, hundred] = &figures.at;
        let _ = writeln!(
            text,
            "{:<15} {:>11.0} {:>11.0}  {:>8.1} {:>8.1}  {:>8.1} {:>8.1}  {:>8.0} {:>8.0}",
            figures.name,
            single.applied_per_second,
            hundred.applied_per_second,
            single.one_writer_metadata_bytes,
            hundred.one_writer_metadata_bytes,
            single.three_writers_metadata_bytes,
            hundred.three_writers_metadata_bytes,
            figures.loaded_cell_bytes,
            figures.updated_cell_bytes,
        );
    }
    let _ = writeln!(text);
    for figures in all_figures {
        let _ = writeln!(text, "{}: {}", figures.name, figures.conditions);
        for at in &figures.at {
            let [slowest, fastest] = at.spread_per_second;
            let _ = writeln!(
                text,
                "  batches of {}: {} updates clocked, {slowest:.0} to {fastest:.0} ops/s; \
                 {} updates from three writers",
                at.batch_size, at.update_count, at.three_writers_update_count
            );
        }
    }
    text
}

/// The curves of `core.growth`, a bar for each point, to scale within an operation.
pub(crate) fn growth(growth: &Growth) -> String {
    let Growth { by_keys, by_replicas, write_count, rounds } = growth;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\ncore.growth: one write through whole nodes; medians of {write_count} writes, median of {rounds} rounds; {}",
        machine()
    );
    for operation in &OPERATIONS {
        let _ = writeln!(text, "\n{}, us", operation.name);
        bars(&mut text, operation, by_keys, |point| format!("{} keys", point.shape.key_count));
        bars(&mut text, operation, by_replicas, |point| {
            format!("{} replica ids, {} keys", point.shape.replica_count, point.shape.key_count)
        });
    }
    text
}

fn bars(text: &mut String, operation: &Operation, points: &[Point], name: impl Fn(&Point) -> String) {
    const WIDTH: f64 = 40.0;
    let cost = |point: &Point| (operation.cost_us)(&point.medians);
    let greatest = points.iter().map(cost).fold(f64::MIN_POSITIVE, f64::max);
    for point in points {
        let bar = "#".repeat((cost(point) / greatest * WIDTH).round() as usize);
        let _ = writeln!(text, "{:>28} {:>10.3} {bar}", name(point), cost(point));
    }
}

/// The machine, since an absolute figure means nothing without it.
pub(crate) fn machine() -> String {
    format!("{}, one used", bench_results::machine())
}
