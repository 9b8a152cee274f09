//! Augmentation of batches: `RandomErasing`, then `MixUp` or `CutMix` with a preceding sample, as in
//! `torchvision.transforms.v2`. It runs on the device of the network, after normalisation.
//!
//! Unlike torchvision, which draws parameters once per batch, each sample has its own, a function of the seed and of
//! the sample, so that they do not depend on how a batch is divided into parts (micro-batches of replicas). A sample is
//! blended with a preceding one of the same part.

mod beta;
mod erasing;
mod preview;
mod rectangle;

use crate::data::{CounterRng, EpochItem, Purpose};
use crate::recipe::Recipe;
use beta::beta;
use burn::tensor::{Device, Tensor};
use model::engine::{Input, Normalised};
use model::network::normalise;
use model::preprocess::ImageBatch;
use rectangle::{PixelRect, mask};

/// Configuration of erasing, mixup and CutMix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixing {
    /// Probability that a rectangle of a sample is erased.
    erasing: f64,
    /// Parameter of the beta distribution of mixup's ratio; 0 disables mixup.
    mixup_alpha: f64,
    /// Parameter of the beta distribution of CutMix's ratio; 0 disables CutMix.
    cutmix_alpha: f64,
    /// Distance, within a part, between a sample and the preceding one that it is blended with: the number of
    /// repetitions of a sample in a part, so that a sample is not blended with a repetition of itself.
    distance: usize,
}

/// Parameters drawn for the samples of a batch. An empty plan leaves any batch unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MixingPlan {
    samples: Vec<SampleMixing>,
    distance: usize,
}

/// Parameters drawn for one sample.
#[derive(Clone, Debug, PartialEq)]
struct SampleMixing {
    /// Rectangle to set to 0, which after normalisation is the mean colour.
    erased: Option<PixelRect>,
    blend: Option<Blend>,
}

/// Blending of a sample with the preceding one, in which a rectangle may already be erased.
#[derive(Clone, Debug, PartialEq)]
enum Blend {
    /// Weighted mean of both images, in which the sample has weight `lambda`.
    Mixup { lambda: f64 },
    /// Replaces a rectangle, which may be empty, by that of the other image; `lambda` is the fraction of pixels that
    /// remain.
    Cutmix { rect: PixelRect, lambda: f64 },
}

impl Mixing {
    /// Creates the configuration for batches that are divided into `parts` parts. Returns `None` if the recipe enables
    /// neither erasing nor mixup nor CutMix.
    pub fn new(recipe: &Recipe, parts: usize) -> Option<Self> {
        let Recipe { random_erasing: erasing, mixup_alpha, cutmix_alpha, .. } = *recipe;
        let enabled = [erasing, mixup_alpha, cutmix_alpha].iter().any(|&value| value > 0.0);
        let distance = recipe.repetitions.div_ceil(parts);
        enabled.then_some(Mixing { erasing, mixup_alpha, cutmix_alpha, distance })
    }

    /// Draws parameters for samples of `side` by `side` pixels in an epoch.
    pub fn draw(&self, seed: u64, epoch: usize, items: &[EpochItem], side: usize) -> MixingPlan {
        let samples = items.iter().map(|&EpochItem { index, repetition }| {
            let indices = [epoch, index, repetition].map(|number| number as u64);
            self.draw_sample(side, &mut CounterRng::new(seed, Purpose::Mixing, &indices))
        });
        MixingPlan { samples: samples.collect(), distance: self.distance }
    }

    fn draw_sample(&self, side: usize, rng: &mut CounterRng) -> SampleMixing {
        let erased = if rng.next_f64() < self.erasing { erasing::draw(side, rng) } else { None };
        let (mixup, cutmix) = (self.mixup_alpha > 0.0, self.cutmix_alpha > 0.0);
        let blend = if mixup && (!cutmix || rng.below(2) == 0) {
            Some(Blend::Mixup { lambda: beta(self.mixup_alpha, rng) })
        } else if cutmix {
            let lambda = beta(self.cutmix_alpha, rng);
            let [x, y] = [0; 2].map(|_| rng.below(side as u64) as usize);
            Some(cutmix_blend(side, lambda, x, y))
        } else {
            None
        };
        SampleMixing { erased, blend }
    }
}

/// `CutMix.make_params` of torchvision: a square around `x` and `y` that covers the fraction `1 - lambda` of the image.
/// It is clipped at the edges, and lambda is adjusted to the remaining area.
fn cutmix_blend(side: usize, lambda: f64, x: usize, y: usize) -> Blend {
    let half = (0.5 * (1.0 - lambda).sqrt() * side as f64) as usize;
    let around = |middle: usize| middle.saturating_sub(half)..(middle + half).min(side);
    let rect = PixelRect { rows: around(y), columns: around(x) };
    let lambda = 1.0 - (rect.rows.len() * rect.columns.len()) as f64 / (side * side) as f64;
    Blend::Cutmix { rect, lambda }
}

impl MixingPlan {
    /// Returns whether the plan leaves any batch unchanged.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Applies the plan to normalised images `[batch, 3, side, side]`, in the order of the plan.
    ///
    /// # Panics
    /// Panics if the plan is not empty and has a different number of samples.
    pub fn apply(&self, images: Tensor<4>) -> Tensor<4> {
        let MixingPlan { samples, distance } = self;
        let [batch, _, height, width] = images.dims();
        assert!(
            samples.is_empty() || samples.len() == batch,
            "the plan is for {} images, but the batch has {batch}",
            samples.len()
        );
        let mut images = images;
        if samples.iter().any(|sample| sample.erased.is_some()) {
            let rects = samples.iter().map(|sample| sample.erased.clone().map(|rect| (rect, 1.0)));
            let erased = mask(rects, [height, width], &images);
            images = images * (1.0 - erased);
        }
        if samples.iter().any(|sample| sample.blend.is_some()) {
            let rects = samples.iter().map(|sample| match sample.blend.clone()? {
                Blend::Mixup { lambda } => Some((PixelRect { rows: 0..height, columns: 0..width }, 1.0 - lambda)),
                Blend::Cutmix { rect, .. } => Some((rect, 1.0)),
            });
            let other = mask(rects, [height, width], &images);
            images = images.clone() * (1.0 - other.clone()) + images.roll_dim((*distance % batch) as i64, 0) * other;
        }
        images
    }

    /// Returns the input of an engine or a network on the CPU: the images, mixed on the CPU if the plan is not empty.
    pub fn engine_input(&self, images: &ImageBatch) -> Input {
        if self.is_empty() {
            return Input::Pixels(images.clone());
        }
        let values = self.apply(normalise(images, &Device::flex())).into_data().iter().collect();
        Input::Normalised(Normalised::new(values, images.shape()).expect("mixing preserves the shape"))
    }

    /// Returns target probabilities `[batch, count]` for the images' `classes`, where `count` is the number of classes.
    /// Each row sums to 1, or is zero if the image, or the one that is blended into it, has no label.
    pub fn targets(&self, classes: &[Option<usize>], count: usize) -> Vec<f32> {
        let mut targets = vec![0.0; classes.len() * count];
        for (index, row) in targets.chunks_exact_mut(count).enumerate() {
            let [(class, share), (other, other_share)] = self.class_shares(classes, index);
            let Some(class) = class else { continue };
            match other {
                Some(other) => {
                    row[class] += share as f32;
                    row[other] += other_share as f32;
                }
                None if share == 1.0 => row[class] = 1.0,
                None => {}
            }
        }
        targets
    }

    /// Returns the class of image `index` and that of the image with which it is blended, which may be the same, with the
    /// share of each. `classes` are those of all images, `None` without a label.
    pub fn class_shares(&self, classes: &[Option<usize>], index: usize) -> [(Option<usize>, f64); 2] {
        let lambda =
            self.samples.get(index).and_then(|sample| sample.blend.as_ref()).map_or(1.0, |blend| match blend {
                Blend::Mixup { lambda } | Blend::Cutmix { lambda, .. } => *lambda,
            });
        [(classes[index], lambda), (classes[self.preceding(index, classes.len())], 1.0 - lambda)]
    }

    /// Returns the position of the image with which image `index` of `batch` images is blended.
    fn preceding(&self, index: usize, batch: usize) -> usize {
        (index + batch - self.distance % batch) % batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use serde::Deserialize;

    /// Written by `tests/golden/augmentation.py`.
    #[derive(Deserialize)]
    struct Golden {
        erased: Vec<f32>,
        /// Images and targets.
        mixup: [Vec<f32>; 2],
        cutmix: [Vec<f32>; 2],
        boxes: Vec<Cut>,
    }

    #[derive(Deserialize)]
    struct Cut {
        side: usize,
        lambda: f64,
        x: usize,
        y: usize,
        /// Left, top, right, bottom.
        #[serde(rename = "box")]
        area: [usize; 4],
        adjusted: f64,
    }

    const CLASSES: [Option<usize>; 3] = [Some(2), Some(0), Some(3)];

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../../../tests/golden/augmentation/mixing.json")).unwrap()
    }

    fn images() -> Tensor<4> {
        let values: Vec<f32> = (0..3 * 3 * 6 * 6).map(|index| (index % 23) as f32 - 11.0).collect();
        Tensor::from_data(TensorData::new(values, [3, 3, 6, 6]), &Device::flex())
    }

    fn plan(samples: Vec<SampleMixing>) -> MixingPlan {
        MixingPlan { samples, distance: 1 }
    }

    fn apply_to_all(sample: SampleMixing) -> Vec<f32> {
        plan(vec![sample; 3]).apply(images()).into_data().iter().collect()
    }

    fn assert_near(actual: &[f32], expected: &[f32]) {
        let near = actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6);
        assert!(near, "{actual:?}, not {expected:?}");
    }

    #[test]
    fn erasing_matches_torchvision() {
        let actual = apply_to_all(SampleMixing { erased: Some(PixelRect { rows: 1..4, columns: 2..4 }), blend: None });
        assert_eq!(actual, golden().erased);
    }

    #[test]
    fn mixup_and_cutmix_match_torchvision() {
        let Golden { mixup, cutmix, .. } = golden();
        for (blend, [images, targets]) in [(Blend::Mixup { lambda: 0.3 }, mixup), (cutmix_blend(6, 0.3, 2, 4), cutmix)]
        {
            let sample = SampleMixing { erased: None, blend: Some(blend) };
            assert_near(&plan(vec![sample.clone(); 3]).targets(&CLASSES, 4), &targets);
            assert_near(&apply_to_all(sample), &images);
        }
    }

    #[test]
    fn cutmix_rectangles_match_torchvision() {
        for Cut { side, lambda, x, y, area: [left, top, right, bottom], adjusted } in golden().boxes {
            let rect = PixelRect { rows: top..bottom, columns: left..right };
            assert_eq!(cutmix_blend(side, lambda, x, y), Blend::Cutmix { rect, lambda: adjusted });
        }
    }

    /// The second image is blended with the first, whose rectangle is erased; the third does not change.
    #[test]
    fn samples_have_separate_parameters_and_erasing_comes_first() {
        let erased = PixelRect { rows: 0..6, columns: 0..3 };
        let plan = plan(vec![
            SampleMixing { erased: Some(erased), blend: None },
            SampleMixing { erased: None, blend: Some(Blend::Mixup { lambda: 0.25 }) },
            SampleMixing { erased: None, blend: None },
        ]);
        let before: Vec<f32> = images().into_data().iter().collect();
        let after: Vec<f32> = plan.apply(images()).into_data().iter().collect();
        let first = |index: usize| if index % 6 < 3 { 0.0 } else { before[index] };
        let expected = (0..3 * 108).map(|index| match index / 108 {
            0 => first(index),
            1 => 0.25 * before[index] + 0.75 * first(index - 108),
            _ => before[index],
        });
        assert_near(&after, &expected.collect::<Vec<_>>());
        let targets = [0.0, 0.0, 1.0, 0.0, 0.25, 0.0, 0.75, 0.0, 0.0, 0.0, 0.0, 1.0];
        assert_near(&plan.targets(&CLASSES, 4), &targets);
    }

    #[test]
    fn empty_plan_changes_nothing() {
        assert_eq!(MixingPlan::default().apply(images()).into_data(), images().into_data());
        assert_eq!(MixingPlan::default().targets(&[Some(1), Some(0)], 3), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }

    /// The second image is blended with the first, the third with the second, and the first is not blended.
    #[test]
    fn images_that_contain_an_unlabelled_one_have_no_target() {
        let blended = SampleMixing { erased: None, blend: Some(Blend::Mixup { lambda: 0.75 }) };
        let plan = plan(vec![SampleMixing { erased: None, blend: None }, blended.clone(), blended]);
        assert_eq!(plan.targets(&[None, Some(1), Some(0)], 2), [0.0, 0.0, 0.0, 0.0, 0.75, 0.25]);
        assert_eq!(plan.targets(&[Some(1), Some(1), None], 2), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn repetitions_are_not_blended_with_each_other() {
        let distance = |parts| {
            let recipe = Recipe::finetune_with(&["repetitions=4", "mixup-alpha=0.2"]);
            Mixing::new(&recipe, parts).unwrap().draw(0, 1, &[EpochItem { index: 0, repetition: 0 }], 32).distance
        };
        assert_eq!([1, 2, 3, 4, 8].map(distance), [4, 2, 2, 1, 1]);
        let sample = SampleMixing { erased: None, blend: Some(Blend::Mixup { lambda: 0.75 }) };
        let plan = MixingPlan { samples: vec![sample; 3], distance: 2 };
        assert_near(
            &plan.targets(&[Some(2), Some(0), Some(1)], 3),
            &[0.25, 0.0, 0.75, 0.75, 0.25, 0.0, 0.0, 0.75, 0.25],
        );
    }

    #[test]
    fn parameters_do_not_depend_on_the_division_into_parts() {
        let mixing = |overrides: &[&str]| Mixing::new(&Recipe::finetune_with(overrides), 1);
        assert_eq!(mixing(&[]), None);
        let mixing = mixing(&["random-erasing=0.1", "mixup-alpha=0.2", "cutmix-alpha=1.0"]).unwrap();
        let samples: Vec<_> = (0..2000).map(|index| EpochItem { index: index / 2, repetition: index % 2 }).collect();
        let MixingPlan { samples: all, .. } = mixing.draw(7, 1, &samples, 176);
        let parts = samples.chunks(300).flat_map(|part| mixing.draw(7, 1, part, 176).samples);
        assert!(parts.eq(all.iter().cloned()));
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
        assert_ne!(mixing.draw(7, 2, &samples, 176).samples, all);

        let erased = all.iter().filter(|sample| sample.erased.is_some()).count();
        assert!((150..250).contains(&erased), "{erased} of 2000 samples are erased");
        let mixup = all.iter().filter(|sample| matches!(sample.blend, Some(Blend::Mixup { .. }))).count();
        let cutmix = all.iter().filter(|sample| matches!(sample.blend, Some(Blend::Cutmix { .. }))).count();
        assert!((900..1100).contains(&mixup) && mixup + cutmix == 2000, "{mixup} and {cutmix} of 2000");
    }
}
