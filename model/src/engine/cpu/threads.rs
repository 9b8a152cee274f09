//! The threads of the engine: a pool of its own natively, the calling thread in WebAssembly.

use super::buffer::Buffer;
use std::sync::Mutex;

/// Runs tasks, and gives each the scratch memory of its thread.
pub struct Threads {
    #[cfg(not(target_arch = "wasm32"))]
    pool: rayon::ThreadPool,
}

#[cfg(not(target_arch = "wasm32"))]
impl Threads {
    /// `count` threads, or as many as there are cores.
    ///
    /// # Errors
    /// If the operating system refuses to start them.
    pub fn new(count: Option<usize>) -> Result<Self, String> {
        let builder = rayon::ThreadPoolBuilder::new().thread_name(|index| format!("cpu-engine-{index}"));
        let builder = builder.num_threads(count.unwrap_or(0));
        Ok(Threads { pool: builder.build().map_err(|error| error.to_string())? })
    }

    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool, so that the loops in it need not be handed over one by one.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// Calls `task` for every index below `count`, on all threads. To be called within [`enter`](Self::enter).
    pub fn for_each(&self, count: usize, task: impl Fn(usize) + Sync) {
        use rayon::prelude::*;
        if count == 1 {
            return task(0);
        }
        (0..count).into_par_iter().with_max_len(1).for_each(&task);
    }

    fn current(&self) -> usize {
        rayon::current_thread_index().expect("tasks run on the pool")
    }
}

#[cfg(target_arch = "wasm32")]
impl Threads {
    pub fn new(_count: Option<usize>) -> Result<Self, String> {
        Ok(Threads {})
    }

    pub fn count(&self) -> usize {
        1
    }

    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    pub fn for_each(&self, count: usize, task: impl Fn(usize)) {
        (0..count).for_each(task);
    }

    fn current(&self) -> usize {
        0
    }
}

impl Threads {
    /// As [`for_each`](Self::for_each), with scratch memory whose content is what the last task of the thread left.
    pub fn for_each_with(&self, scratch: &Scratch, count: usize, task: impl Fn(usize, &mut [f32]) + Sync) {
        self.for_each(count, |index| {
            // Nobody else asks for the memory of this thread, so this never waits.
            let mut memory = scratch.0[self.current()].lock().expect("a task panicked");
            task(index, &mut memory);
        });
    }
}

/// Memory for each thread.
pub struct Scratch(Vec<Mutex<Buffer>>);

impl Scratch {
    pub fn new(threads: &Threads, length: usize) -> Self {
        Scratch((0..threads.count()).map(|_| Mutex::new(Buffer::zeroed(length))).collect())
    }
}
