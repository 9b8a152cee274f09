//! The table of `trainer bench --layers`: the time of each layer, and its throughput compared with the processor's
//! peak.

use crate::console;
use comfy_table::ColumnConstraint;
use model::engine::{OperationProfile, Precision};
use serde::Serialize;
use std::time::Duration;

/// Times of a layer over several runs. It is serialised by `trainer bench --json`.
#[derive(Serialize)]
pub struct LayerTiming {
    name: String,
    algorithm: String,
    /// Median time, in microseconds.
    median_us: f64,
    /// Billions of multiply-adds per second.
    gmacs: f64,
    /// `gmacs` as a fraction of the measured peak in f32; only for layers computed in f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_peak: Option<f64>,
    /// Billions of multiply-adds per second that a direct convolution would need in order to take the same time.
    direct_gmacs: f64,
    /// Size of the packed weights, which are read at least once per run.
    weight_megabytes: f64,
    /// Size of everything read and written, each counted once.
    #[serde(skip_serializing_if = "Option::is_none")]
    megabytes: Option<f64>,
}

/// Computes the median of each layer over the runs. `peak` is the peak in f32, in multiply-adds per second, if known.
pub fn layers(runs: &[Vec<OperationProfile>], peak: Option<f64>) -> Vec<LayerTiming> {
    let Some(first) = runs.first() else { return Vec::new() };
    let layer = |(index, operation): (usize, &OperationProfile)| {
        let mut times: Vec<Duration> = runs.iter().map(|run| run[index].time).collect();
        times.sort();
        let seconds = times[times.len() / 2].as_secs_f64();
        let per_second = operation.executed_multiply_adds as f64 / seconds;
        LayerTiming {
            name: operation.name.clone(),
            algorithm: operation.algorithm.clone(),
            median_us: seconds * 1e6,
            gmacs: per_second / 1e9,
            of_peak: peak.filter(|_| operation.precision == Precision::F32).map(|peak| per_second / peak),
            direct_gmacs: operation.multiply_adds as f64 / seconds / 1e9,
            weight_megabytes: operation.weight_bytes as f64 / 1e6,
            megabytes: operation.moved_bytes.map(|bytes| bytes as f64 / 1e6),
        }
    };
    first.iter().enumerate().map(layer).collect()
}

/// Formats the layers as a table.
pub fn table(layers: &[LayerTiming], peak: Option<f64>) -> String {
    let mut table = console::table();
    table.set_header(["layer", "algorithm", "us", "GMAC/s", "of peak", "as direct GMAC/s", "weights MB", "moved MB"]);
    for layer in layers {
        let LayerTiming { name, algorithm, median_us, gmacs, of_peak, direct_gmacs, weight_megabytes, megabytes } =
            layer;
        // Pools have no multiplications.
        let products = |cell: String| if *gmacs > 0.0 { cell } else { String::new() };
        table.add_row([
            name.clone(),
            algorithm.clone(),
            format!("{median_us:.0}"),
            products(format!("{gmacs:.1}")),
            products(of_peak.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0))),
            products(format!("{direct_gmacs:.1}")),
            products(format!("{weight_megabytes:.1}")),
            megabytes.map_or_else(String::new, |megabytes| format!("{megabytes:.1}")),
        ]);
    }
    console::align_right(&mut table, 2..8);
    // Hide columns without values.
    let is_empty = [(4, peak.is_none()), (7, layers.iter().all(|layer| layer.megabytes.is_none()))];
    for (index, _) in is_empty.into_iter().filter(|(_, is_empty)| *is_empty) {
        table.column_mut(index).expect("the header has this column").set_constraint(ColumnConstraint::Hidden);
    }
    let peak = peak.map(|peak| format!("peak of the multiply-add units in f32, measured: {:.1} GMAC/s\n", peak / 1e9));
    peak.unwrap_or_default() + &table.to_string()
}
