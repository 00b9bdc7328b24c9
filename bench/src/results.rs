//! The claims of a run and the file that keeps them.

use bench_results::{Better, Claim};

use crate::failure::Failure;
use crate::growth::{Growth, OPERATIONS, Operation, Point};
use crate::measure::{AtBatchSize, Figures};
use crate::report::machine;

/// The name that our own replica takes in the list of libraries. Without a library of this name a
/// run has no claims.
const OURS: &str = "ours";

/// The peer of the apply and memory ratios: the fastest and smallest of those that converge.
const REGISTERS: &str = "crdts";

/// The peer of the ratio on the wire: the smallest of those that keep causality.
const SMALLEST_ON_THE_WIRE: &str = "yrs-v2";

/// A figure that both sides have: how it is called, read and judged.
struct Subject<'a> {
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    better: Better,
    /// The peer whose entry carries the bare id; the others' carry their name behind it.
    main_peer: &'static str,
    goal: &'static str,
    figure: &'a dyn Fn(&Figures) -> f64,
    counted: &'a dyn Fn(&Figures) -> String,
}

/// Every claim: ours beside each other library of the same run.
pub(crate) fn claims(all_figures: &[Figures]) -> Vec<Claim> {
    let Some(ours) = all_figures.iter().find(|figures| figures.name == OURS) else {
        return Vec::new();
    };
    let mut claims = Vec::new();
    for subject in &subjects() {
        for peer in all_figures.iter().filter(|figures| figures.name != OURS) {
            claims.push(subject.claim(ours, peer));
        }
    }
    claims
}

fn subjects() -> [Subject<'static>; 4] {
    const APPLY_GOAL: &str = "goal: no slower than crdts, 10 times the best of yrs, loro and automerge";
    [
        Subject {
            id: "core.apply.b1",
            what: "remote one-cell updates decoded and applied, one a batch",
            unit: "ops/s",
            better: Better::Higher,
            main_peer: REGISTERS,
            goal: APPLY_GOAL,
            figure: &|figures| figures.at[0].applied_per_second,
            counted: &|figures| clocked(&figures.at[0]),
        },
        Subject {
            id: "core.apply.b100",
            what: "remote one-cell updates decoded and applied, 100 a batch",
            unit: "ops/s",
            better: Better::Higher,
            main_peer: REGISTERS,
            goal: APPLY_GOAL,
            figure: &|figures| figures.at[1].applied_per_second,
            counted: &|figures| clocked(&figures.at[1]),
        },
        Subject {
            id: "core.wire_metadata",
            what: "bytes on the wire for a one-cell update beside key and value, \
                   three writers in turn, 100 a batch",
            unit: "B/op",
            better: Better::Lower,
            main_peer: SMALLEST_ON_THE_WIRE,
            goal: "goal: 8 B or less",
            figure: &|figures| figures.at[1].three_writers_metadata_bytes,
            counted: &|figures| format!("{} updates", figures.at[1].three_writers_update_count),
        },
        Subject {
            id: "core.cell_memory",
            what: "resident bytes of a cell beside key and value, each key written once",
            unit: "B/cell",
            better: Better::Lower,
            main_peer: REGISTERS,
            goal: "goal: 48 B or less",
            figure: &|figures| figures.loaded_cell_bytes,
            counted: &|figures| {
                let AtBatchSize { update_count, .. } = figures.at[1];
                format!("{:.0} B after {update_count} updates more", figures.updated_cell_bytes)
            },
        },
    ]
}

impl Subject<'_> {
    fn claim(&self, ours: &Figures, peer: &Figures) -> Claim {
        let id = if peer.name == self.main_peer { self.id.to_owned() } else { format!("{}.{}", self.id, peer.name) };
        let (our_figure, peer_figure) = ((self.figure)(ours), (self.figure)(peer));
        Claim {
            id,
            what: self.what.to_owned(),
            ours: our_figure,
            peer: peer_figure,
            peer_name: peer.name.to_owned(),
            unit: self.unit,
            better: self.better,
            ratio: our_figure / peer_figure,
            conditions: format!(
                "{}; ours: {} ({}); {}: {} ({}); {}",
                self.goal,
                ours.conditions,
                (self.counted)(ours),
                peer.name,
                peer.conditions,
                (self.counted)(peer),
                machine(),
            ),
        }
    }
}

fn clocked(at: &AtBatchSize) -> String {
    let [slowest, fastest] = at.spread_per_second;
    format!("{} updates, rounds from {slowest:.0} to {fastest:.0} ops/s", at.update_count)
}

/// What a thousandfold of keys does to the cost of each operation, beside the goal: no more than to the
/// logarithm of their number.
pub(crate) fn growth_claims(growth: &Growth) -> Vec<Claim> {
    let Some((fewest, most)) = growth.ends() else { return Vec::new() };
    let goal = (most.shape.key_count as f64).ln() / (fewest.shape.key_count as f64).ln();
    let claim = |operation: &Operation| {
        let cost = |point: &Point| (operation.cost_us)(&point.medians);
        let ours = cost(most) / cost(fewest);
        Claim {
            id: "core.growth".to_owned(),
            what: operation.what.to_owned(),
            ours,
            peer: goal,
            peer_name: "O(log n)".to_owned(),
            unit: "times",
            better: Better::Lower,
            ratio: ours / goal,
            conditions: format!(
                "goal: no more than the logarithm of the number of keys; {}; two nodes without a database in one \
                 process: HMAC-SHA-256, chain hash, records for the disk made and acknowledged at once; timers do \
                 not run, no log is cut; medians of {} writes, median of {} rounds; {}",
                curves(growth, operation),
                growth.write_count,
                growth.rounds,
                machine(),
            ),
        }
    };
    OPERATIONS.iter().map(claim).collect()
}

/// Both curves of an operation in words.
fn curves(growth: &Growth, operation: &Operation) -> String {
    let by_keys = growth.by_keys.iter().map(|point| (point, point.shape.key_count, "keys"));
    let by_replicas = growth.by_replicas.iter().map(|point| (point, point.shape.replica_count, "replica ids"));
    let points = by_keys
        .chain(by_replicas)
        .map(|(point, count, unit)| format!("{count} {unit}: {:.3} us", (operation.cost_us)(&point.medians)));
    points.collect::<Vec<_>>().join(", ")
}

/// Writes the claims, or nothing at all if there are none: an empty file would look like a run that
/// claims nothing and not like one without our side.
pub(crate) fn write(claims: &[Claim]) -> Result<(), Failure> {
    if claims.is_empty() {
        println!("No library here is called {OURS}: results.json was not written.");
        return Ok(());
    }
    let is_ours = |id: &str| id.starts_with("core.");
    bench_results::write(&bench_results::path(), is_ours, claims).map_err(Failure::io("write results.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::growth::{Medians, Shape};
    use crate::replica::BATCH_SIZES;

    fn figures(name: &'static str, factor: f64) -> Figures {
        let at = |batch_size| AtBatchSize {
            batch_size,
            update_count: 10,
            applied_per_second: 100.0 * factor,
            spread_per_second: [90.0, 110.0],
            one_writer_metadata_bytes: factor,
            three_writers_metadata_bytes: 2.0 * factor,
            three_writers_update_count: 10,
        };
        Figures {
            name,
            conditions: "made up",
            at: BATCH_SIZES.map(at),
            loaded_cell_bytes: 10.0 * factor,
            updated_cell_bytes: 20.0 * factor,
        }
    }

    #[test]
    fn a_run_without_our_side_claims_nothing() {
        assert!(claims(&[figures(REGISTERS, 1.0), figures(SMALLEST_ON_THE_WIRE, 1.0)]).is_empty());
    }

    #[test]
    fn the_bare_ids_carry_the_main_peers_and_the_ratio_is_ours_by_theirs() {
        let all = [figures(OURS, 3.0), figures(REGISTERS, 2.0), figures(SMALLEST_ON_THE_WIRE, 4.0)];
        let claims = claims(&all);
        let peer_and_ratio = |id: &str| {
            let claim = claims.iter().find(|claim| claim.id == id).expect("claimed");
            (claim.peer_name.as_str(), claim.ratio)
        };
        assert_eq!(peer_and_ratio("core.apply.b1"), (REGISTERS, 1.5));
        assert_eq!(peer_and_ratio("core.apply.b100.yrs-v2"), (SMALLEST_ON_THE_WIRE, 0.75));
        assert_eq!(peer_and_ratio("core.wire_metadata"), (SMALLEST_ON_THE_WIRE, 0.75));
        assert_eq!(peer_and_ratio("core.cell_memory"), (REGISTERS, 1.5));
    }

    #[test]
    fn growth_is_the_cost_at_most_keys_by_that_at_fewest_beside_the_logarithms() {
        let point = |key_count, cost_us| Point {
            shape: Shape { key_count, replica_count: 2 },
            medians: Medians { commit_us: cost_us, apply_us: 2.0 * cost_us, digest_us: 1.0 },
        };
        let by_keys = vec![point(1_000, 4.0), point(10_000, 5.0), point(1_000_000, 6.0)];
        let claims = growth_claims(&Growth { by_keys, by_replicas: Vec::new(), write_count: 1, rounds: 1 });
        let ours: Vec<f64> = claims.iter().map(|claim| claim.ours).collect();
        assert_eq!(ours, [1.5, 1.5, 1.0]);
        assert!(claims.iter().all(|claim| claim.id == "core.growth" && (claim.peer - 2.0).abs() < 1e-9));
        assert!(claims[0].conditions.contains("10000 keys: 5.000 us"));
    }
}
