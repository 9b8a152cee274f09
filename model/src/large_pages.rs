//! Large pages for the memory of weights (Linux). Touching memory for the first time in pages of 4 kB takes longer than
//! the computation on it, and address translation limits the rate at which weights stream through the caches,
//! especially under a hypervisor.

/// Size of a large page on x86-64 and most aarch64 systems, in bytes.
pub const LARGE_PAGE: usize = 2 << 20;

/// Advises the kernel to back `memory`, mostly untouched so far, with large pages, if it contains whole ones.
#[cfg(target_os = "linux")]
pub fn advise<T>(memory: &[T]) {
    /// The address passed to `madvise` must be a multiple of the page size, which is at most 64 kB.
    const PAGE: usize = 64 << 10;

    let first = memory.as_ptr().addr();
    let start = first.next_multiple_of(PAGE);
    let end = (first + size_of_val(memory)) / PAGE * PAGE;
    if start + LARGE_PAGE <= end {
        let address = memory.as_ptr().cast_mut().cast::<libc::c_void>().wrapping_byte_add(start - first);
        // SAFETY: the range lies within `memory`, and the advice does not change its content. On failure, pages stay
        // small.
        unsafe { libc::madvise(address, end - start, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
pub fn advise<T>(_memory: &[T]) {}
