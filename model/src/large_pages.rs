//! Large pages for the memory of weights (Linux). Touched for the first time in pages of 4 kB, it costs more time than what
//! is done with it; and where weights stream through the caches, translating addresses limits how fast, under a hypervisor
//! above all.

/// Bytes of a large page on x86-64 and most of aarch64.
pub const LARGE_PAGE: usize = 2 << 20;

/// Asks for large pages where memory of ours, mostly untouched, holds whole ones.
#[cfg(target_os = "linux")]
pub fn prefer<T>(memory: &[T]) {
    /// What addresses of advice are multiples of, 64 kB at most.
    const PAGE: usize = 64 << 10;

    let first = memory.as_ptr().addr();
    let start = first.next_multiple_of(PAGE);
    let end = (first + size_of_val(memory)) / PAGE * PAGE;
    if start + LARGE_PAGE <= end {
        let address = memory.as_ptr().cast_mut().cast::<libc::c_void>().wrapping_byte_add(start - first);
        // SAFETY: the range is inside, and advice changes nothing of its content. If it is refused, pages stay small.
        unsafe { libc::madvise(address, end - start, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
pub fn prefer<T>(_memory: &[T]) {}
