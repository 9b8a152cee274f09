//! Writes feature maps, filters and class activation maps as PNG files, and raw values as a safetensors file.

use super::file_names;
use super::outputs::{LayerOutput, NetworkOutputs};
use anyhow::{Context, Result};
use model::checkpoint::Checkpoint;
use model::explain::{ActivationMap, ClassifierWeights, Scaling, image_grid, overlay};
use model::prediction::ClassScore;
use model::preprocess::ImageBatch;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The tensor with the filters of the first layer.
const FILTERS: &str = "conv1.weight";

/// Name of the file with raw values.
const VALUES: &str = "values.safetensors";

/// A PNG file that was written.
#[derive(Serialize)]
pub struct WrittenFile {
    pub file: String,
    #[serde(flatten)]
    pub content: Content,
    /// Shape of the values that the file shows.
    pub shape: Vec<usize>,
    pub minimum: f32,
    pub maximum: f32,
}

/// The values that a file shows.
#[derive(Serialize)]
#[serde(tag = "content", rename_all = "kebab-case")]
pub enum Content {
    /// The output of a layer, `[channels, height, width]`.
    FeatureMaps {
        layer: String,
        /// The device that computed the output.
        device: String,
    },
    /// The filters of the first layer, `[filters, 3, height, width]`.
    Filters { tensor: &'static str },
    /// The contribution of each position to the logit of a class, `[height, width]`. The file shows the positive ones.
    ClassActivationMap {
        rank: usize,
        #[serde(flatten)]
        class: ClassScore,
    },
}

/// The folder to which files are written, and what was written.
pub struct MapFolder {
    folder: PathBuf,
    pub written: Vec<WrittenFile>,
    /// The written values by name, each with its shape.
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl MapFolder {
    /// Writes to an existing folder.
    pub fn new(folder: &Path) -> Self {
        MapFolder { folder: folder.to_owned(), written: Vec::new(), tensors: BTreeMap::new() }
    }

    /// Writes the channels of a layer as a grid of grey images, each scaled from its minimum to its maximum.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write_layer(&mut self, output: &LayerOutput) -> Result<()> {
        let LayerOutput { name, device, values, shape: [channels, height, width] } = output;
        let grid = image_grid(values, [*channels, 1, *height, *width], Scaling::EachImage);
        let content = Content::FeatureMaps { layer: name.clone(), device: device.to_string() };
        let shape = vec![*channels, *height, *width];
        self.tensors.insert(name.clone(), ([&[1][..], &shape].concat(), values.clone()));
        self.write_png(&file_names::layer(name), &grid.to_png(), content, shape, values)
    }

    /// Writes the filters of the first layer as a grid of RGB images, scaled together.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write_filters(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let values = checkpoint.values(FILTERS);
        let shape = checkpoint.architecture().stem().convolution.weight_shape();
        let grid = image_grid(&values, shape, Scaling::AllImages);
        let content = Content::Filters { tensor: FILTERS };
        self.write_png(&file_names::layer(FILTERS), &grid.to_png(), content, shape.to_vec(), &values)?;
        self.tensors.insert(FILTERS.to_owned(), (shape.to_vec(), values));
        Ok(())
    }

    /// Writes the class activation map of each of these classes, which are in descending order of probability, painted on
    /// the image.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn write_activation_maps(
        &mut self,
        image: &ImageBatch,
        outputs: &NetworkOutputs,
        weights: &ClassifierWeights,
        classes: Vec<ClassScore>,
    ) -> Result<()> {
        for (index, class) in classes.into_iter().enumerate() {
            let (rank, tensor) = (index + 1, format!("cam.{}", class.index));
            let map = weights.cam(&outputs.last_stage, 0, class.index);
            let ActivationMap { values, height, width } = map.clone();
            let photo = overlay(image, &map.relu_normalised());
            let file = file_names::activation_map(rank, &class);
            let content = Content::ClassActivationMap { rank, class };
            self.write_png(&file, &photo.to_png(), content, vec![height, width], &values)?;
            self.tensors.insert(tensor, (vec![height, width], values));
        }
        Ok(())
    }

    /// Writes all values that were written as PNG, the normalised input `[1, 3, height, width]` as `input` and the logits
    /// `[1, classes]` as `logits` to a safetensors file, in f32. Returns its path.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write_values(&self, image: &ImageBatch, outputs: &NetworkOutputs) -> Result<PathBuf> {
        let ([batch, height, width], input) = (image.shape(), normalised(image));
        let logits = &outputs.logits;
        let tensors = self.tensors.iter().map(|(name, (shape, values))| (name.as_str(), shape.clone(), values));
        let tensors = tensors.chain([
            ("input", vec![batch, 3, height, width], &input),
            ("logits", vec![logits.batch, logits.classes], &logits.values),
        ]);
        let encoded: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
            .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let mut views = Vec::with_capacity(encoded.len());
        for (name, shape, bytes) in &encoded {
            views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
        }
        let path = self.folder.join(VALUES);
        fs::write(&path, serialize(views, None)?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn write_png(&mut self, name: &str, png: &[u8], content: Content, shape: Vec<usize>, values: &[f32]) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, png).with_context(|| format!("cannot write {}", file.display()))?;
        let minimum = values.iter().copied().fold(f32::INFINITY, f32::min);
        let maximum = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let file = file.display().to_string();
        self.written.push(WrittenFile { file, content, shape, minimum, maximum });
        Ok(())
    }
}

/// Normalises an image as the engine does, to planes `[3, height, width]`.
fn normalised(image: &ImageBatch) -> Vec<f32> {
    let plane = |channel: usize| {
        let (mean, std) = (image.mean()[channel], image.std()[channel]);
        image.pixels().chunks_exact(3).map(move |pixel| (f32::from(pixel[channel]) / 255.0 - mean) / std)
    };
    (0..3).flat_map(plane).collect()
}
