//! Memory for the values of a run. It is reused by later runs, so that a run in steady state allocates nothing; the
//! amount of idle memory is bounded.

use super::buffer::{AlignedBuffer, F32_BYTES};
use super::thread_pool::{ThreadPool, ThreadScratch};
use parking_lot::Mutex;

/// Maximum number of idle bytes, unless recent runs need more. Large enough to alternate between runs of common sizes.
const MAX_IDLE_BYTES: usize = 128 << 20;

/// Size of a workspace, in f32 values.
#[derive(Clone, Copy, PartialEq)]
pub struct WorkspaceSize {
    /// Shared by all threads.
    pub arena: usize,
    /// Scratch memory of each thread.
    pub scratch: usize,
}

impl WorkspaceSize {
    /// Returns the smallest size that is sufficient for both.
    pub fn max(self, other: WorkspaceSize) -> WorkspaceSize {
        WorkspaceSize { arena: self.arena.max(other.arena), scratch: self.scratch.max(other.scratch) }
    }

    fn bytes(self, threads: &ThreadPool) -> usize {
        (self.arena + threads.count() * self.scratch) * F32_BYTES
    }
}

/// Memory that one run uses. Its initial content is unspecified: it may hold values of an earlier run.
pub struct Workspace {
    pub arena: AlignedBuffer,
    pub scratch: ThreadScratch,
    size: WorkspaceSize,
}

/// Workspaces that are not in use, the most recently used one last.
#[derive(Default)]
pub struct WorkspacePool(Mutex<Vec<Workspace>>);

impl WorkspacePool {
    /// Returns the most recently released workspace, or a larger one if it is too small. A run that panics drops its
    /// workspace instead of releasing it, so workspaces in the pool are never inconsistent.
    pub fn acquire(&self, wanted: WorkspaceSize, threads: &ThreadPool) -> Workspace {
        let idle = self.0.lock().pop();
        let size = idle.as_ref().map_or(wanted, |workspace| wanted.max(workspace.size));
        match idle {
            Some(workspace) if workspace.size == size => workspace,
            too_small => {
                drop(too_small);
                let (arena, scratch) = (AlignedBuffer::zeroed(size.arena), ThreadScratch::new(threads, size.scratch));
                Workspace { arena, scratch, size }
            }
        }
    }

    /// Returns a workspace to the pool; `wanted` is the size that its run requested. If the idle workspaces exceed both
    /// [`MAX_IDLE_BYTES`] and twice the requested size, those that were idle longest are freed: the memory of large
    /// images, or of many concurrent runs, does not stay allocated after them.
    pub fn release(&self, workspace: Workspace, wanted: WorkspaceSize, threads: &ThreadPool) {
        let mut idle_workspaces = self.0.lock();
        idle_workspaces.push(workspace);
        let bound = MAX_IDLE_BYTES.max(2 * wanted.bytes(threads));
        let mut idle: usize = idle_workspaces.iter().map(|workspace| workspace.size.bytes(threads)).sum();
        while idle > bound {
            idle -= idle_workspaces.remove(0).size.bytes(threads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: WorkspaceSize = WorkspaceSize { arena: 1 << 20, scratch: 1 << 10 };

    fn idle_bytes(workspaces: &WorkspacePool, threads: &ThreadPool) -> usize {
        workspaces.0.lock().iter().map(|workspace| workspace.size.bytes(threads)).sum()
    }

    #[test]
    fn runs_of_common_sizes_share_one_workspace() {
        let (workspaces, threads) = (WorkspacePool::default(), ThreadPool::new(Some(2)).unwrap());
        let other = WorkspaceSize { arena: 1 << 18, scratch: 1 << 12 };
        for wanted in [SMALL, other] {
            workspaces.release(workspaces.acquire(wanted, &threads), wanted, &threads);
        }
        let address = workspaces.0.lock()[0].arena.as_ptr();
        for wanted in [SMALL, other, SMALL, other] {
            let workspace = workspaces.acquire(wanted, &threads);
            assert!(workspace.size == SMALL.max(other) && workspace.arena.as_ptr() == address);
            workspaces.release(workspace, wanted, &threads);
        }
        assert_eq!(idle_bytes(&workspaces, &threads), SMALL.max(other).bytes(&threads));
    }

    #[test]
    fn keeps_memory_of_large_images_until_a_smaller_run() {
        let (workspaces, threads) = (WorkspacePool::default(), ThreadPool::new(Some(2)).unwrap());
        let large = WorkspaceSize { arena: MAX_IDLE_BYTES, ..SMALL };
        for _ in 0..2 {
            workspaces.release(workspaces.acquire(large, &threads), large, &threads);
            assert_eq!(idle_bytes(&workspaces, &threads), large.bytes(&threads));
        }
        workspaces.release(workspaces.acquire(SMALL, &threads), SMALL, &threads);
        assert_eq!(idle_bytes(&workspaces, &threads), 0);
    }

    #[test]
    fn concurrent_runs_leave_at_most_the_limit() {
        let (workspaces, threads) = (WorkspacePool::default(), ThreadPool::new(Some(2)).unwrap());
        let concurrent: Vec<Workspace> = (0..100).map(|_| workspaces.acquire(SMALL, &threads)).collect();
        concurrent.into_iter().for_each(|workspace| workspaces.release(workspace, SMALL, &threads));
        let idle = idle_bytes(&workspaces, &threads);
        assert!((MAX_IDLE_BYTES - SMALL.bytes(&threads)..=MAX_IDLE_BYTES).contains(&idle), "{idle} bytes");
    }
}
