//! Sensitivity of the layers: accuracy without half of the channels of one group, all others being whole.

use super::channel_importance::GroupImportance;
use super::narrowing::{KeptChannels, narrow};
use crate::data::{DataLoader, LoaderThreads, Sample};
use crate::evaluation::{Evaluation, EvaluationSums, classify_samples};
use anyhow::{Result, ensure};
use model::architecture::ChannelGroup;
use model::checkpoint::Checkpoint;
use model::engine::{Device, Engine, EngineOptions};
use pollster::block_on;
use serde::Serialize;
use std::sync::Arc;

/// Number of photos in a batch.
const BATCH: usize = 16;

/// Accuracy without the less important half of the channels of a group.
#[derive(Serialize)]
pub struct GroupSensitivity {
    #[serde(serialize_with = "as_text")]
    pub group: ChannelGroup,
    /// Number of channels of the group.
    pub channels: usize,
    /// Fraction of the network's multiply-adds that the removal saves.
    pub saved: f64,
    pub metrics: Evaluation,
}

fn as_text<S: serde::Serializer>(group: &ChannelGroup, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(group)
}

/// Evaluates the whole network, and the network without half of the channels of each group, on the CPU engine. Returns the
/// metrics of the whole network, and the sensitivities in the order of the network.
///
/// # Errors
/// Returns an error if no photo can be decoded, or if `should_stop` returns true.
pub fn sensitivities(
    checkpoint: &Checkpoint,
    importance: &GroupImportance,
    samples: &Arc<[Sample]>,
    threads: &LoaderThreads,
    should_stop: impl Fn() -> bool,
) -> Result<(Evaluation, Vec<GroupSensitivity>)> {
    let architecture = checkpoint.architecture();
    let side = checkpoint.metadata().preprocessing.crop as usize;
    let evaluate = |checkpoint: &Checkpoint| -> Result<Evaluation> {
        let metadata = checkpoint.metadata();
        let engine = block_on(Engine::prepare_from(checkpoint, Device::Cpu, EngineOptions::default()))?;
        let loader = DataLoader::for_evaluation(samples.clone(), &metadata.preprocessing, BATCH, threads.clone());
        let mut sums = EvaluationSums::default();
        let skipped =
            classify_samples(&engine, loader, &should_stop, |_, logits, class| sums.add(metadata, logits, class))?;
        ensure!(!should_stop(), "interrupted");
        sums.skipped = skipped.len() as f64;
        sums.means()
    };
    let whole = evaluate(checkpoint)?;
    let macs = architecture.multiply_adds(side) as f64;
    let mut sensitivities = Vec::new();
    for group in architecture.channel_groups() {
        let order = importance.order(group);
        let channels = order.len();
        let half = (channels / 2).next_multiple_of(model::architecture::Widths::MULTIPLE).min(channels);
        let mut kept = order[channels - half..].to_vec();
        kept.sort();
        let narrowed = narrow(checkpoint, &KeptChannels::from([(group, kept)]))?;
        let saved = 1.0 - narrowed.architecture().multiply_adds(side) as f64 / macs;
        sensitivities.push(GroupSensitivity { group, channels, saved, metrics: evaluate(&narrowed)? });
    }
    Ok((whole, sensitivities))
}
