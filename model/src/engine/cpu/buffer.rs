//! Memory for kernels: aligned to cache lines, and shared for writing between threads that keep out of each other's way.

use crate::large_pages::{self, LARGE_PAGE};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Values to bytes.
pub const F32: usize = size_of::<f32>();
/// Bytes of a cache line, and of the widest vector.
const CACHE_LINE: usize = 64;

/// `f32`s, zero at first, the first of them at the start of a cache line.
pub struct Buffer {
    values: Vec<f32>,
    start: usize,
    length: usize,
}

impl Buffer {
    pub fn zeroed(length: usize) -> Self {
        let bytes = length * F32;
        let alignment = if bytes >= LARGE_PAGE { LARGE_PAGE } else { CACHE_LINE };
        // Zeroed memory comes untouched from the operating system, so what alignment leaves over costs nothing.
        let values = vec![0.0; length + alignment / F32];
        let start = values.as_ptr().align_offset(alignment);
        if alignment == LARGE_PAGE {
            large_pages::prefer(&values[start..][..length]);
        }
        Buffer { values, start, length }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..][..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..][..self.length]
    }
}

/// A slice that several threads write, each its own elements. The writes are unsafe, and say so.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    start: *mut f32,
    length: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: writing through it is unsafe, and asks that no two threads touch the same element.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    pub fn new(slice: &'a mut [f32]) -> Self {
        Target { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    pub fn len(self) -> usize {
        self.length
    }

    pub fn as_mut_ptr(self) -> *mut f32 {
        self.start
    }
}
