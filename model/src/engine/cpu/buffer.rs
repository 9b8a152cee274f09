//! Memory for kernels: buffers aligned to cache lines, and slices that several threads write at disjoint positions.

use crate::large_pages::{self, LARGE_PAGE};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Size of an f32 value, in bytes.
pub const F32_BYTES: usize = size_of::<f32>();
/// Size of a cache line and of the widest vector, in bytes.
const CACHE_LINE: usize = 64;

/// A buffer of f32 values that starts at a cache line, or at a large page if it fills one.
#[derive(Default)]
pub struct AlignedBuffer {
    values: Vec<f32>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// Allocates a buffer of zeros.
    pub fn zeroed(length: usize) -> Self {
        let bytes = length * F32_BYTES;
        let alignment = if bytes >= LARGE_PAGE { LARGE_PAGE } else { CACHE_LINE };
        // The operating system provides zeroed memory on first use, so the values skipped for alignment cost nothing.
        let values = vec![0.0; length + alignment / F32_BYTES];
        let start = values.as_ptr().align_offset(alignment);
        if alignment == LARGE_PAGE {
            large_pages::advise(&values[start..][..length]);
        }
        AlignedBuffer { values, start, length }
    }
}

impl Deref for AlignedBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..][..self.length]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..][..self.length]
    }
}

/// A slice whose elements several threads write at the same time. Writing is unsafe: no element may be accessed by two
/// threads.
#[derive(Clone, Copy)]
pub struct SharedMutSlice<'a> {
    start: *mut f32,
    length: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: all access goes through `as_mut_ptr`, whose users must ensure that no two threads access the same element.
unsafe impl Send for SharedMutSlice<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedMutSlice<'_> {}

impl<'a> SharedMutSlice<'a> {
    pub fn new(slice: &'a mut [f32]) -> Self {
        SharedMutSlice { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    pub fn len(self) -> usize {
        self.length
    }

    pub fn as_mut_ptr(self) -> *mut f32 {
        self.start
    }
}
