//! Memory for kernels: aligned to cache lines, and shared for writing between threads that keep out of each other's way.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Values to bytes.
pub const F32: usize = size_of::<f32>();
/// Bytes of a cache line, and of the widest vector.
const CACHE_LINE: usize = 64;
/// Bytes of a large page on x86-64 and most of aarch64.
const LARGE_PAGE: usize = 2 << 20;

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
            prefer_large_pages(&values[start..][..length]);
        }
        Buffer { values, start, length }
    }
}

/// Asks for large pages. Weights stream through the caches once a run, and with pages of 4 kB it is the translation of
/// addresses that limits how fast, under a hypervisor above all.
#[cfg(target_os = "linux")]
fn prefer_large_pages(values: &[f32]) {
    let whole = size_of_val(values) / LARGE_PAGE * LARGE_PAGE;
    // SAFETY: the range is memory of ours, and advice changes nothing of its content. If it is refused, pages stay small.
    unsafe { libc::madvise(values.as_ptr().cast_mut().cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn prefer_large_pages(_values: &[f32]) {}

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
