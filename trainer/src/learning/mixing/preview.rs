//! Single images of a mixed batch as pixels, to look at them.

use super::{MixingPlan, SampleMixing};
use burn::tensor::Device;
use model::network::normalise;
use model::preprocess::ImageBatch;

impl MixingPlan {
    /// Returns the mixed image `index` of a batch, u8 RGB `[side, side, 3]`. This is the input of the network before
    /// normalisation, rounded. It is computed on the CPU from two images, however large the batch is.
    ///
    /// # Panics
    /// Panics if the batch has no image `index`, or if the plan is for a batch of another size.
    pub fn mixed_image(&self, images: &ImageBatch, index: usize) -> Vec<u8> {
        let [batch, height, width] = images.shape();
        if self.is_empty() {
            return images.image(index).pixels().to_vec();
        }
        let preceding = self.preceding(index, batch);
        let pair = [preceding, index].map(|index| images.image(index));
        let pair = ImageBatch::stack(pair).expect("images of a batch have the same size");
        let preceding = SampleMixing { blend: None, ..self.samples[preceding].clone() };
        let plan = MixingPlan { samples: vec![preceding, self.samples[index].clone()], distance: 1 };
        let mixed: Vec<f32> = plan.apply(normalise(&pair, &Device::flex())).into_data().iter().collect();
        let planes: Vec<_> = mixed.chunks_exact(height * width).skip(3).collect();
        let pixel = |at: usize| {
            let value = |channel: usize| planes[channel][at] * images.std()[channel] + images.mean()[channel];
            [0, 1, 2].map(|channel| (255.0 * value(channel)).round() as u8)
        };
        (0..height * width).flat_map(pixel).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Blend, PixelRect, cutmix_blend};
    use super::*;

    const SIDE: usize = 6;

    fn images() -> ImageBatch {
        let pixels = (0..3 * SIDE * SIDE * 3).map(|index| (index * 37 % 256) as u8).collect();
        ImageBatch::new(pixels, [3, SIDE, SIDE], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap()
    }

    #[test]
    fn images_without_mixing_are_unchanged() {
        let unchanged = MixingPlan { samples: vec![SampleMixing { erased: None, blend: None }; 3], distance: 1 };
        for plan in [MixingPlan::default(), unchanged] {
            for index in 0..3 {
                assert_eq!(plan.mixed_image(&images(), index), images().image(index).pixels());
            }
        }
    }

    /// Compares with the plan applied to the whole batch.
    #[test]
    fn single_images_equal_those_of_the_batch() {
        let erased = Some(PixelRect { rows: 1..4, columns: 2..5 });
        for distance in [1, 2] {
            let samples = vec![
                SampleMixing { erased: None, blend: Some(Blend::Mixup { lambda: 0.3 }) },
                SampleMixing { erased: erased.clone(), blend: Some(cutmix_blend(SIDE, 0.5, 2, 4)) },
                SampleMixing { erased: erased.clone(), blend: None },
            ];
            let plan = MixingPlan { samples, distance };
            let all: Vec<f32> = plan.apply(normalise(&images(), &Device::flex())).into_data().iter().collect();
            for (index, expected) in all.chunks_exact(3 * SIDE * SIDE).enumerate() {
                let pixels = plan.mixed_image(&images(), index);
                let image = ImageBatch::new(pixels, [1, SIDE, SIDE], images().mean(), images().std()).unwrap();
                let actual: Vec<f32> = normalise(&image, &Device::flex()).into_data().iter().collect();
                // Rounding changes a pixel by at most 0.5 / 255, divided by the standard deviation.
                let near = actual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.51 / 255.0 / 0.224);
                assert!(near, "image {index}, distance {distance}: {actual:?}, not {expected:?}");
            }
        }
    }
}
