//! Threads of the engine: a dedicated rayon pool natively, the calling thread in WebAssembly.

use super::buffer::AlignedBuffer;
#[cfg(not(target_arch = "wasm32"))]
use super::flush_to_zero;
use parking_lot::Mutex;

/// Runs tasks, and passes each of them the scratch memory of its thread.
pub struct ThreadPool {
    #[cfg(not(target_arch = "wasm32"))]
    pool: rayon::ThreadPool,
}

#[cfg(not(target_arch = "wasm32"))]
impl ThreadPool {
    /// Starts `count` threads, by default one per core.
    ///
    /// # Errors
    /// Returns an error if the operating system cannot start them.
    pub fn new(count: Option<usize>) -> Result<Self, String> {
        let builder = rayon::ThreadPoolBuilder::new().thread_name(|index| format!("cpu-engine-{index}"));
        // Otherwise, images or weights with many subnormal numbers would take more than ten times as long.
        let builder = builder.num_threads(count.unwrap_or(0)).start_handler(|_| flush_to_zero::enable());
        Ok(ThreadPool { pool: builder.build().map_err(|error| error.to_string())? })
    }

    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool, so that its loops are not handed over to the pool one by one.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// Calls `task` for every index below `count`, on all threads. Must be called within [`install`](Self::install).
    pub fn for_each(&self, count: usize, task: impl Fn(usize) + Sync) {
        use rayon::prelude::*;
        if count == 1 {
            return task(0);
        }
        (0..count).into_par_iter().with_max_len(1).for_each(&task);
    }

    /// Returns the index of the current thread.
    fn current(&self) -> usize {
        rayon::current_thread_index().expect("tasks run on the pool")
    }
}

#[cfg(target_arch = "wasm32")]
impl ThreadPool {
    pub fn new(_count: Option<usize>) -> Result<Self, String> {
        Ok(ThreadPool {})
    }

    pub fn count(&self) -> usize {
        1
    }

    pub fn install<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    pub fn for_each(&self, count: usize, task: impl Fn(usize)) {
        (0..count).for_each(task);
    }

    fn current(&self) -> usize {
        0
    }
}

impl ThreadPool {
    /// Calls `task` like [`for_each`](Self::for_each), with scratch memory that holds what an earlier task of the
    /// thread left.
    pub fn for_each_with_scratch(
        &self,
        scratch: &ThreadScratch,
        count: usize,
        task: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.for_each(count, |index| {
            // Only this thread locks its memory, so this never blocks.
            let mut memory = scratch.0[self.current()].lock();
            task(index, &mut memory);
        });
    }
}

/// Scratch memory of each thread.
pub struct ThreadScratch(Vec<Mutex<AlignedBuffer>>);

impl ThreadScratch {
    pub fn new(threads: &ThreadPool, length: usize) -> Self {
        ThreadScratch((0..threads.count()).map(|_| Mutex::new(AlignedBuffer::zeroed(length))).collect())
    }
}
