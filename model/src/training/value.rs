//! Values in blocks of channels, and what executes a pass over them.

use crate::engine::cpu::blocked_shape::BlockedShape;
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::simd::InstructionSet;
use crate::engine::cpu::thread_pool::ThreadPool;

/// A value that is read.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    pub values: &'a [f32],
    pub shape: &'a BlockedShape,
}

/// A value that several threads write.
#[derive(Clone, Copy)]
pub struct ValueMut<'a> {
    pub values: SharedMutSlice<'a>,
    pub shape: &'a BlockedShape,
}

impl<'a> Value<'a> {
    pub fn new(values: &'a [f32], shape: &'a BlockedShape) -> Self {
        Value { values: &values[..shape.len()], shape }
    }
}

impl<'a> ValueMut<'a> {
    pub fn new(values: &'a mut [f32], shape: &'a BlockedShape) -> Self {
        ValueMut { values: SharedMutSlice::new(&mut values[..shape.len()]), shape }
    }
}

/// Instruction set and threads of a pass. Passes must be run within [`ThreadPool::install`].
#[derive(Clone, Copy)]
pub struct Execution<'a> {
    pub set: InstructionSet,
    pub threads: &'a ThreadPool,
}
