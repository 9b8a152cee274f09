//! Shapes of all activations and division of all layers into tasks, for batches of one shape.

use super::convolution::{ConvolutionInput, ConvolutionSchedule, ConvolutionShapes, ScratchSize};
use super::layers::{BlockLayers, Layer};
use super::memory::StoredValue;
use super::pooling::NormMaxPool;
use super::value::Execution;
use crate::engine::cpu::blocked_shape::BlockedShape;
use crate::engine::cpu::padded_image::PaddedImage;

/// A network for batches of one shape.
pub struct ShapedNetwork {
    /// `[batch, height, width]`.
    pub shape: [usize; 3],
    pub image: PaddedImage,
    pub image_slot: usize,
    pub layers: Vec<ShapedLayer>,
    /// Output of the stem, which the first block reads.
    pub stem_output: StoredValue,
    /// Output of each block.
    pub block_outputs: Vec<StoredValue>,
    /// Number of values of each slot.
    pub slot_lengths: Vec<usize>,
    /// Temporary memory of the convolutions.
    pub scratch_size: ScratchSize,
}

/// A layer for batches of one shape.
pub struct ShapedLayer {
    /// Input of the convolution; `None` for the stem.
    pub input: Option<StoredValue>,
    /// Output of the convolution.
    pub convolved: StoredValue,
    /// Output of batch norm and ReLU, unless it is the output of the stem or of a block.
    pub normalised: Option<StoredValue>,
    /// Shape of the gradient of the convolution's output.
    pub gradient: BlockedShape,
    /// Shape of the gradient of its input.
    pub input_gradient: BlockedShape,
    pub schedule: ConvolutionSchedule,
}

impl ShapedNetwork {
    pub fn new(
        layers: &mut [Layer],
        blocks: &[BlockLayers],
        pool: Option<&NormMaxPool>,
        [batch, height, width]: [usize; 3],
        gradient_checkpointing: bool,
        execution: Execution,
    ) -> Self {
        let mut slots = SlotAllocator::default();
        let image = PaddedImage { batch, height, width, border: layers[0].convolution.layer.padding };
        let image_slot = slots.add(image.len());
        let borders: Vec<usize> = blocks.iter().map(|block| block.input_border(layers)).chain([0]).collect();

        let shape = BlockedShape { channels: 0, batch, height, width, border: 0 };
        let stem = ShapedLayer::new(&mut layers[0], None, &image, shape, shape, &mut slots, execution);
        let pooled = match pool {
            Some(pool) => pool.output_shape(&stem.convolved.shape, borders[0]),
            None => BlockedShape { border: borders[0], ..stem.convolved.shape },
        };
        let stem_output = slots.store(pooled);
        let mut shaped_layers = vec![stem];
        let mut block_outputs: Vec<StoredValue> = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            let block_input = *block_outputs.last().unwrap_or(&stem_output);
            slots.share(gradient_checkpointing);
            let input_gradient = BlockedShape { border: 0, ..block_input.shape };
            let (mut input, mut gradient) = (block_input, input_gradient);
            for layer in block.convolutions.clone() {
                let mut shaped = ShapedLayer::new(
                    &mut layers[layer],
                    Some(input),
                    &image,
                    input.shape,
                    gradient,
                    &mut slots,
                    execution,
                );
                gradient = shaped.gradient;
                if layer + 1 < block.convolutions.end {
                    let border = layers[layer + 1].convolution.layer.padding;
                    input = slots.store(BlockedShape { border, ..shaped.convolved.shape });
                    shaped.normalised = Some(input);
                }
                shaped_layers.push(shaped);
            }
            if let Some(layer) = block.downsample {
                let input = Some(block_input);
                let shaped = ShapedLayer::new(
                    &mut layers[layer],
                    input,
                    &image,
                    block_input.shape,
                    input_gradient,
                    &mut slots,
                    execution,
                );
                shaped_layers.push(shaped);
            }
            slots.share(false);
            let last = &shaped_layers[block.convolutions.end - 1].convolved.shape;
            block_outputs.push(slots.store(BlockedShape { border: borders[index + 1], ..*last }));
        }
        let scratch_sizes = shaped_layers.iter().map(|layer| layer.schedule.scratch_size());
        ShapedNetwork {
            shape: [batch, height, width],
            image,
            image_slot,
            stem_output,
            block_outputs,
            slot_lengths: slots.lengths,
            scratch_size: scratch_sizes.fold(ScratchSize::default(), ScratchSize::max),
            layers: shaped_layers,
        }
    }

    /// Returns the input of a block.
    pub fn block_input(&self, block: usize) -> &StoredValue {
        if block == 0 { &self.stem_output } else { &self.block_outputs[block - 1] }
    }
}

impl ShapedLayer {
    fn new(
        layer: &mut Layer,
        input: Option<StoredValue>,
        image: &PaddedImage,
        input_shape: BlockedShape,
        input_gradient: BlockedShape,
        slots: &mut SlotAllocator,
        execution: Execution,
    ) -> Self {
        let convolution = &mut layer.convolution;
        let [height, width] = [input_shape.height, input_shape.width].map(|side| convolution.layer.output_size(side));
        let channels = convolution.layer.out_channels;
        let output = BlockedShape { channels, height, width, border: 0, batch: input_shape.batch };
        let gradient = BlockedShape { border: convolution.gradient_border(), ..output };
        let shapes = ConvolutionShapes {
            input: input.as_ref().map_or(ConvolutionInput::Image(image), |input| ConvolutionInput::Value(&input.shape)),
            output: &output,
            output_gradient: &gradient,
            input_gradient: &input_gradient,
        };
        let schedule = convolution.prepare(shapes, execution);
        ShapedLayer { input, convolved: slots.store(output), normalised: None, gradient, input_gradient, schedule }
    }
}

/// Assigns slots to activations.
#[derive(Default)]
struct SlotAllocator {
    lengths: Vec<usize>,
    /// Slots that one block after the other uses.
    shared: Vec<usize>,
    /// Number of shared slots that the current block uses; `None` if its activations are kept.
    used: Option<usize>,
}

impl SlotAllocator {
    /// Sets whether the following activations share their slots with those of other blocks.
    fn share(&mut self, is_shared: bool) {
        self.used = is_shared.then_some(0);
    }

    fn store(&mut self, shape: BlockedShape) -> StoredValue {
        StoredValue { slot: self.add(shape.len()), shape }
    }

    /// Returns a slot with room for this number of values.
    fn add(&mut self, length: usize) -> usize {
        if let Some(used) = &mut self.used {
            *used += 1;
            if let Some(&slot) = self.shared.get(*used - 1) {
                self.lengths[slot] = self.lengths[slot].max(length);
                return slot;
            }
            self.shared.push(self.lengths.len());
        }
        self.lengths.push(length);
        self.lengths.len() - 1
    }
}
