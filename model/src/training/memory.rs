//! Memory for activations and their gradients.

use super::value::{Value, ValueMut};
use crate::engine::cpu::blocked_shape::BlockedShape;
use crate::engine::cpu::buffer::AlignedBuffer;

/// An activation and where it is kept.
#[derive(Clone, Copy, Debug)]
pub struct StoredValue {
    pub slot: usize,
    pub shape: BlockedShape,
}

/// Buffers for activations. A slot holds one activation after the other.
#[derive(Default)]
pub struct Slots {
    buffers: Vec<AlignedBuffer>,
    /// Shape of the activation that was written last. Its border is zero.
    shapes: Vec<Option<BlockedShape>>,
}

impl Slots {
    /// Provides a slot for each of the lengths.
    pub fn resize(&mut self, lengths: &[usize]) {
        self.shapes = vec![None; lengths.len()];
        self.buffers.resize_with(lengths.len(), AlignedBuffer::default);
        for (buffer, &length) in self.buffers.iter_mut().zip(lengths) {
            if buffer.len() < length {
                // Free the old buffer first.
                *buffer = AlignedBuffer::default();
                *buffer = AlignedBuffer::zeroed(length);
            }
        }
    }

    /// Returns the memory of a slot.
    pub fn raw(&self, slot: usize) -> &[f32] {
        &self.buffers[slot]
    }

    /// Returns the memory of a slot, to write a value that has no blocks of channels.
    pub fn raw_mut(&mut self, slot: usize) -> &mut [f32] {
        &mut self.buffers[slot]
    }

    pub fn value<'a>(&'a self, stored: &'a StoredValue) -> Value<'a> {
        Value::new(&self.buffers[stored.slot], &stored.shape)
    }

    /// Calls `write` with the other slots and with the memory of `stored`, whose border is zero.
    pub fn write(&mut self, stored: &StoredValue, write: impl FnOnce(&Slots, ValueMut)) {
        let mut buffer = std::mem::take(&mut self.buffers[stored.slot]);
        if self.shapes[stored.slot].replace(stored.shape) != Some(stored.shape) {
            clear_border(&mut buffer, &stored.shape);
        }
        write(self, ValueMut::new(&mut buffer, &stored.shape));
        self.buffers[stored.slot] = buffer;
    }
}

/// Buffers for the gradients of activations, which are reused as soon as they are no longer needed.
#[derive(Default)]
pub struct GradientBuffers {
    free: Vec<AlignedBuffer>,
}

/// The gradient of an activation.
pub struct Gradient {
    buffer: AlignedBuffer,
    shape: BlockedShape,
}

impl GradientBuffers {
    /// Returns a gradient of this shape with a border of zeros and unspecified values.
    pub fn take(&mut self, shape: BlockedShape) -> Gradient {
        let sufficient = self.free.iter().enumerate().filter(|(_, buffer)| buffer.len() >= shape.len());
        let smallest = sufficient.min_by_key(|(_, buffer)| buffer.len()).map(|(index, _)| index);
        let mut buffer = match smallest {
            Some(index) => self.free.swap_remove(index),
            None => AlignedBuffer::zeroed(shape.len()),
        };
        clear_border(&mut buffer, &shape);
        Gradient { buffer, shape }
    }

    /// Returns the memory of a gradient.
    pub fn release(&mut self, gradient: Gradient) {
        self.free.push(gradient.buffer);
    }
}

impl Gradient {
    pub fn value(&self) -> Value<'_> {
        Value::new(&self.buffer, &self.shape)
    }

    pub fn value_mut(&mut self) -> ValueMut<'_> {
        ValueMut::new(&mut self.buffer, &self.shape)
    }
}

fn clear_border(values: &mut [f32], shape: &BlockedShape) {
    values[..shape.len()].chunks_exact_mut(shape.block_stride()).for_each(|block| shape.clear_border(block));
}
