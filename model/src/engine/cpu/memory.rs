//! What runs work in. It is left for the next run, so that a steady run allocates nothing; how much may lie idle is bounded.

use super::buffer::{Buffer, F32};
use super::lock;
use super::threads::{Scratch, Threads};
use std::sync::Mutex;

/// Bytes that may lie idle, whatever runs come: enough to go from one to another of the usual sizes.
const IDLE: usize = 128 << 20;

/// How much memory, in values.
#[derive(Clone, Copy, PartialEq)]
pub struct Size {
    /// For all threads.
    pub arena: usize,
    /// For each thread.
    pub scratch: usize,
}

impl Size {
    /// What is enough for both.
    pub fn max(self, other: Size) -> Size {
        Size { arena: self.arena.max(other.arena), scratch: self.scratch.max(other.scratch) }
    }

    fn bytes(self, threads: &Threads) -> usize {
        (self.arena + threads.count() * self.scratch) * F32
    }
}

/// What a run works in. What it holds before is whatever another run has left.
pub struct Memory {
    pub arena: Buffer,
    pub scratch: Scratch,
    size: Size,
}

/// The memory that no run holds, the one that was used last at the end.
#[derive(Default)]
pub struct Memories(Mutex<Vec<Memory>>);

impl Memories {
    /// What another run has left, if it is large enough. A run that panics takes it along, so what is left is whole.
    pub fn take(&self, wanted: Size, threads: &Threads) -> Memory {
        let left = lock(&self.0).pop();
        let size = left.as_ref().map_or(wanted, |memory| wanted.max(memory.size));
        match left {
            Some(memory) if memory.size == size => memory,
            left => {
                drop(left);
                Memory { arena: Buffer::zeroed(size.arena), scratch: Scratch::new(threads, size.scratch), size }
            }
        }
    }

    /// Leaves memory for the next run. If more lies idle than [`IDLE`] and twice what the run wanted, what was idle for
    /// longest goes: large images, or many runs at once, do not keep their memory when they are over.
    pub fn leave(&self, memory: Memory, wanted: Size, threads: &Threads) {
        let mut left = lock(&self.0);
        left.push(memory);
        let bound = IDLE.max(2 * wanted.bytes(threads));
        let mut idle: usize = left.iter().map(|memory| memory.size.bytes(threads)).sum();
        while idle > bound {
            idle -= left.remove(0).size.bytes(threads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { arena: 1 << 20, scratch: 1 << 10 };

    fn idle(memories: &Memories, threads: &Threads) -> usize {
        lock(&memories.0).iter().map(|memory| memory.size.bytes(threads)).sum()
    }

    #[test]
    fn runs_of_usual_sizes_take_turns_in_one_memory() {
        let (memories, threads) = (Memories::default(), Threads::new(Some(2)).unwrap());
        let other = Size { arena: 1 << 18, scratch: 1 << 12 };
        for wanted in [SMALL, other] {
            memories.leave(memories.take(wanted, &threads), wanted, &threads);
        }
        let place = lock(&memories.0)[0].arena.as_ptr();
        for wanted in [SMALL, other, SMALL, other] {
            let memory = memories.take(wanted, &threads);
            assert!(memory.size == SMALL.max(other) && memory.arena.as_ptr() == place);
            memories.leave(memory, wanted, &threads);
        }
        assert_eq!(idle(&memories, &threads), SMALL.max(other).bytes(&threads));
    }

    #[test]
    fn what_large_images_took_stays_for_more_of_them_and_goes_with_smaller_ones() {
        let (memories, threads) = (Memories::default(), Threads::new(Some(2)).unwrap());
        let large = Size { arena: IDLE, ..SMALL };
        for _ in 0..2 {
            memories.leave(memories.take(large, &threads), large, &threads);
            assert_eq!(idle(&memories, &threads), large.bytes(&threads));
        }
        memories.leave(memories.take(SMALL, &threads), SMALL, &threads);
        assert_eq!(idle(&memories, &threads), 0);
    }

    #[test]
    fn many_runs_at_once_leave_no_more_than_the_bound() {
        let (memories, threads) = (Memories::default(), Threads::new(Some(2)).unwrap());
        let at_once: Vec<Memory> = (0..100).map(|_| memories.take(SMALL, &threads)).collect();
        at_once.into_iter().for_each(|memory| memories.leave(memory, SMALL, &threads));
        let idle = idle(&memories, &threads);
        assert!((IDLE - SMALL.bytes(&threads)..=IDLE).contains(&idle), "{idle} bytes");
    }
}
