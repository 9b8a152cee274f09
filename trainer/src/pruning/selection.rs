//! Choice of the channels to remove: those that matter least for what they cost, until the network is within a budget.

use super::channel_importance::GroupImportance;
use super::narrowing::KeptChannels;
use anyhow::{Result, bail};
use model::architecture::{Architecture, ChannelGroup, Widths};
use model::checkpoint::{Checkpoint, Metadata};
use model::engine::{Device, Engine, EngineOptions, Input};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Number of channels that are removed together. The kernels compute 32 channels at a time.
const STEP: usize = 2 * Widths::MULTIPLE;
/// Divisor of the width of the variant that gives the smallest width of a group.
const MAX_NARROWING: usize = 4;

/// Runs with which the time of a network is measured, after those that warm up.
const TIMED_RUNS: usize = 15;
const WARM_UP_RUNS: usize = 3;

/// What the pruned network may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Fraction of the multiply-adds of the original network.
    Macs(f64),
    /// Fraction of the parameters of the original network.
    Params(f64),
    /// Time for one photo with the CPU engine on this machine, in milliseconds.
    Milliseconds(f64),
}

impl Budget {
    /// Returns the budget after a round, counted from 1: every round reduces the cost by the same factor.
    pub fn of_round(self, round: usize, rounds: usize, original: &Checkpoint) -> Result<Budget> {
        let progress = round as f64 / rounds as f64;
        Ok(match self {
            Budget::Macs(fraction) => Budget::Macs(fraction.powf(progress)),
            Budget::Params(fraction) => Budget::Params(fraction.powf(progress)),
            Budget::Milliseconds(_) if round == rounds => self,
            Budget::Milliseconds(target) => {
                let start = measured_milliseconds(original.architecture(), original.metadata())?;
                Budget::Milliseconds(start * (target / start).min(1.0).powf(progress))
            }
        })
    }
}

/// Returns the channels that stay when the network is within the budget. `original` is the architecture to which fractions
/// refer.
///
/// # Errors
/// Returns an error if the budget cannot be reached with at least a quarter of the channels of each group, or if the engine
/// fails.
pub fn select_channels(
    checkpoint: &Checkpoint,
    importance: &GroupImportance,
    budget: Budget,
    original: &Architecture,
) -> Result<KeptChannels> {
    let (architecture, metadata) = (checkpoint.architecture(), checkpoint.metadata());
    let side = metadata.preprocessing.crop as usize;
    let macs = |architecture: &Architecture| architecture.multiply_adds(side) as f64;
    let params = |architecture: &Architecture| architecture.parameter_count() as f64;
    let widths = match budget {
        Budget::Macs(fraction) => {
            let limit = fraction * macs(original);
            let path = removal_path(&architecture, importance, macs, limit);
            check_reached(path, macs, limit, |cost| format!("--macs {:.3}", cost / macs(original)))?
        }
        Budget::Params(fraction) => {
            let limit = fraction * params(original);
            let path = removal_path(&architecture, importance, params, limit);
            check_reached(path, params, limit, |cost| format!("--params {:.3}", cost / params(original)))?
        }
        Budget::Milliseconds(limit) => {
            let path = removal_path(&architecture, importance, macs, 0.0);
            first_within_time(&path, limit, metadata)?
        }
    };
    let keep = |group: ChannelGroup| {
        let order = importance.order(group);
        let mut kept = order[order.len() - widths.get(group)..].to_vec();
        kept.sort();
        (group, kept)
    };
    Ok(architecture.channel_groups().into_iter().map(keep).collect())
}

/// Returns the architectures from the given one on, each with [`STEP`] channels fewer than the one before, until the cost is at
/// most `limit` or no channels can be removed. A step removes the channels of the group with the least importance per
/// saved cost.
fn removal_path(
    architecture: &Architecture,
    importance: &GroupImportance,
    cost: impl Fn(&Architecture) -> f64,
    limit: f64,
) -> Vec<Architecture> {
    let unpruned = Widths::of_variant(architecture.variant);
    // Sums of the importance of the least important channels, by their number.
    let groups: Vec<(ChannelGroup, Vec<f64>)> = architecture
        .channel_groups()
        .into_iter()
        .map(|group| {
            let sums = importance.order(group).into_iter().scan(0.0, |sum, channel| {
                *sum += importance.of(group)[channel];
                Some(*sum)
            });
            (group, std::iter::once(0.0).chain(sums).collect())
        })
        .collect();
    let mut path = vec![*architecture];
    loop {
        let current = path[path.len() - 1];
        let current_cost = cost(&current);
        if current_cost <= limit {
            return path;
        }
        let candidates = groups.iter().filter_map(|(group, sums)| {
            let width = current.widths().get(*group);
            let narrower = narrower(width, unpruned.get(*group))?;
            let removed = architecture.widths().get(*group) - width;
            let lost = sums[removed + width - narrower] - sums[removed];
            let next = with_width(&current, *group, narrower);
            Some((lost / (current_cost - cost(&next)), next))
        });
        match candidates.min_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((_, next)) => path.push(next),
            None => return path,
        }
    }
}

/// Returns the next smaller width of a group, or `None` if it has the smallest one.
fn narrower(width: usize, unpruned: usize) -> Option<usize> {
    let smallest = (unpruned / MAX_NARROWING).max(STEP).min(unpruned);
    let narrower = (width - 1) / STEP * STEP;
    (narrower >= smallest).then_some(narrower)
}

fn with_width(architecture: &Architecture, group: ChannelGroup, channels: usize) -> Architecture {
    let mut widths = architecture.widths();
    widths.set(group, channels);
    if architecture.convolution_channels()[0].output == group {
        widths.set(ChannelGroup::Stem, channels);
    }
    architecture.with_widths(widths).expect("widths are multiples of the step, and tied ones change together")
}

/// Returns the widths at the end of the path, if they are within the limit.
fn check_reached(
    path: Vec<Architecture>,
    cost: impl Fn(&Architecture) -> f64,
    limit: f64,
    describe: impl Fn(f64) -> String,
) -> Result<Widths> {
    let last = &path[path.len() - 1];
    let reached = cost(last);
    if reached > limit {
        bail!(
            "the network cannot become this small with a quarter of the channels in each layer; the smallest is {}",
            describe(reached)
        );
    }
    Ok(last.widths())
}

/// Finds the first architecture of the path that is fast enough, by bisection.
fn first_within_time(path: &[Architecture], limit: f64, metadata: &Metadata) -> Result<Widths> {
    let (mut slow, mut fast) = (0, path.len() - 1);
    if measured_milliseconds(path[0], metadata)? <= limit {
        return Ok(path[0].widths());
    }
    let smallest = measured_milliseconds(path[fast], metadata)?;
    if smallest > limit {
        bail!(
            "the network cannot become this fast with a quarter of the channels in each layer; the smallest takes \
             {smallest:.2} milliseconds"
        );
    }
    while fast - slow > 1 {
        let middle = (slow + fast) / 2;
        let is_fast = measured_milliseconds(path[middle], metadata)? <= limit;
        if is_fast { fast = middle } else { slow = middle }
    }
    Ok(path[fast].widths())
}

/// Returns the median time of a network for one photo on the CPU engine, in milliseconds.
pub fn measured_milliseconds(architecture: Architecture, metadata: &Metadata) -> Result<f64> {
    let plan = Plan::from(random::checkpoint(architecture));
    let engine = block_on(Engine::prepare_with(plan, Device::Cpu, EngineOptions::default()))?;
    let side = metadata.preprocessing.crop as usize;
    let pixels = random::pixels(1, side * side * 3);
    let images = ImageBatch::new(pixels, [1, side, side], metadata.preprocessing.mean, metadata.preprocessing.std)?;
    let input = Input::Pixels(images);
    let mut times = Vec::new();
    for run in 0..WARM_UP_RUNS + TIMED_RUNS {
        let start = Instant::now();
        block_on(engine.run(&input, &[]))?;
        if run >= WARM_UP_RUNS {
            times.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::super::channel_importance::Criterion;
    use super::super::narrowing::narrow;
    use super::*;

    fn importance(checkpoint: &Checkpoint) -> GroupImportance {
        GroupImportance::compute(checkpoint, Criterion::L2, || unreachable!()).unwrap()
    }

    fn pruned(name: &str, budget: Budget) -> Result<Architecture> {
        let checkpoint = random::checkpoint(Architecture::new(name, 10).unwrap());
        let original = checkpoint.architecture();
        let kept = select_channels(&checkpoint, &importance(&checkpoint), budget, &original)?;
        Ok(narrow(&checkpoint, &kept)?.architecture())
    }

    #[test]
    fn budgets_are_met_closely_with_widths_that_the_kernels_prefer() {
        for name in ["resnet18", "resnet50"] {
            let original = Architecture::new(name, 10).unwrap();
            let macs = pruned(name, Budget::Macs(0.5)).unwrap();
            let fraction = macs.multiply_adds(224) as f64 / original.multiply_adds(224) as f64;
            assert!((0.45..=0.5).contains(&fraction), "{name}: {fraction}");
            let params = pruned(name, Budget::Params(0.4)).unwrap();
            let fraction = params.parameter_count() as f64 / original.parameter_count() as f64;
            assert!((0.37..=0.4).contains(&fraction), "{name}: {fraction}");
            for group in macs.channel_groups() {
                assert!(macs.widths().get(group).is_multiple_of(STEP), "{name}, {group}");
            }
        }
    }

    #[test]
    fn budgets_that_no_network_meets_are_errors_with_the_smallest_one() {
        let error = pruned("resnet18", Budget::Macs(0.01)).unwrap_err().to_string();
        assert!(error.contains("the smallest is --macs 0."), "{error}");
        let error = pruned("resnet18", Budget::Milliseconds(1e-6)).unwrap_err().to_string();
        assert!(error.contains("the smallest takes"), "{error}");
        assert!(!pruned("resnet18", Budget::Milliseconds(1e6)).unwrap().is_pruned());
    }

    #[test]
    fn unimportant_channels_go_first() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
        let metadata = checkpoint.metadata().clone();
        let mut tensors = checkpoint.into_values();
        let weight = tensors.get_mut("layer3.1.conv1.weight").unwrap();
        let row = weight.len() / 256;
        weight[..64 * row].fill(0.0);
        let checkpoint = Checkpoint::new(metadata, tensors).unwrap();
        let original = checkpoint.architecture();
        let kept = select_channels(&checkpoint, &importance(&checkpoint), Budget::Macs(0.97), &original).unwrap();
        let kept = &kept[&ChannelGroup::Inner { stage: 2, block: 1, convolution: 0 }];
        assert_eq!((kept[0], kept.len()), (64, 192));
    }

    #[test]
    fn rounds_reduce_the_cost_by_equal_factors() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
        let of_round = |round| Budget::Macs(0.25).of_round(round, 2, &checkpoint).unwrap();
        assert_eq!([of_round(1), of_round(2)], [Budget::Macs(0.5), Budget::Macs(0.25)]);
    }
}
