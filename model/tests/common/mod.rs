//! Helper functions of the engine tests; each test uses some of them.
#![allow(dead_code)]

pub mod instruction_sets;

use model::architecture::{Architecture, ChannelGroup, Convolution, Widths};
use model::engine::{Engine, Input, Normalised, Output};
use model::plan::Tap;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;

/// Returns random images `[batch, height, width, 3]` with ImageNet's mean and standard deviation.
pub fn images(shape: [usize; 3]) -> Input {
    let pixels = random::pixels(3, shape.iter().product::<usize>() * 3);
    Input::Pixels(ImageBatch::new(pixels, shape, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap())
}

/// Normalises images to planes of floats, `[batch, 3, height, width]`.
pub fn normalised(images: &ImageBatch) -> Normalised {
    let [batch, height, width] = images.shape();
    let mut planes = vec![0.0; images.pixels().len()];
    for (index, &pixel) in images.pixels().iter().enumerate() {
        let (position, channel) = (index / 3, index % 3);
        let (image, position) = (position / (height * width), position % (height * width));
        let value = (f32::from(pixel) / 255.0 - images.mean()[channel]) / images.std()[channel];
        planes[(image * 3 + channel) * height * width + position] = value;
    }
    Normalised::new(planes, [batch, height, width]).unwrap()
}

/// Runs an engine and returns the logits and the activations at all taps.
pub fn run(engine: &Engine, input: &Input) -> Output {
    block_on(engine.run(input, &Tap::STEM_AND_STAGES)).unwrap()
}

/// Returns `max|difference| / max|reference|`.
pub fn relative_difference(values: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(values.len(), reference.len());
    let largest = reference.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    assert!(largest > 1e-3 && largest.is_finite(), "the reference is degenerate: {largest}");
    values.iter().zip(reference).fold(0.0f32, |difference, (a, b)| difference.max((a - b).abs())) / largest
}

/// Asserts that logits and all activations differ by less than `tolerance`; the message starts with `what`.
pub fn assert_near(output: &Output, reference: &Output, tolerance: f32, what: &str) {
    let difference = relative_difference(&output.logits.values, &reference.logits.values);
    assert!(difference < tolerance, "{what}: logits differ by {difference}");
    assert_eq!(output.activations.len(), reference.activations.len());
    for (ours, reference) in output.activations.iter().zip(&reference.activations) {
        assert_eq!(ours.shape, reference.shape);
        let (tap, difference) = (ours.tap, relative_difference(&ours.values, &reference.values));
        assert!(difference < tolerance, "{what}: {tap:?} differs by {difference}");
    }
}

/// Returns architectures that together have every layer of all architectures. The others only repeat blocks more often.
pub fn architectures_with_all_layers(classes: usize) -> Vec<Architecture> {
    let names = Architecture::names().into_iter();
    let mut architectures: Vec<_> = names.map(|name| Architecture::new(&name, classes).unwrap()).collect();
    architectures.sort_by_key(Architecture::parameter_count);
    let mut layers: Vec<Convolution> = Vec::new();
    architectures.retain(|architecture| {
        let known = layers.len();
        for layer in architecture.convolutions() {
            let layer = Convolution { name: String::new(), norm: String::new(), ..layer };
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        layers.len() > known
    });
    architectures
}

/// Returns an architecture with fewer channels in every group: odd and even numbers of blocks, down to a single one.
pub fn pruned(name: &str, classes: usize) -> Architecture {
    let architecture = Architecture::new(name, classes).unwrap();
    let mut widths = architecture.widths();
    for (index, group) in architecture.channel_groups().into_iter().enumerate() {
        let blocks = widths.get(group) / Widths::MULTIPLE;
        widths.set(group, [blocks / 2 + 1, blocks / 2, 1, 3][index % 4] * Widths::MULTIPLE);
        if group == ChannelGroup::Stage(0) && !architecture.channel_groups().contains(&ChannelGroup::Stem) {
            widths.set(ChannelGroup::Stem, widths.get(group));
        }
    }
    architecture.with_widths(widths).unwrap()
}
