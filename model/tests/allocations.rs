//! Tests that a run of the CPU engine allocates nothing but its output. This is a separate test binary, since it counts
//! the allocations of the whole process.

use model::architecture::Architecture;
use model::engine::{Device, Engine, EngineOptions, Input};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;
use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, which also counts the bytes that are allocated.
struct CountingAllocator;

/// Number of bytes that were allocated so far.
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls are forwarded to the system's allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller meets the requirements of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` was allocated by `System` with this layout, since `alloc` forwards to it.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_run_allocates_only_its_logits() {
    let classes = 10;
    let small = vec![[1, 64], [3, 64]];
    // This batch runs in two chunks, the second of which needs more memory than the first.
    let uneven = [small.clone(), vec![[19, 68]]].concat();
    for (name, shapes) in [("resnet18", &uneven), ("resnet50", &small), ("resnext50_32x4d", &small)] {
        let plan = Plan::new(&random::checkpoint(Architecture::new(name, classes).unwrap()));
        let options = EngineOptions { threads: NonZero::new(2), ..EngineOptions::default() };
        let engine = block_on(Engine::prepare_with(plan, Device::Cpu, options)).unwrap();
        for &[batch, side] in shapes {
            let pixels = vec![90; batch * side * side * 3];
            let images = ImageBatch::new(pixels, [batch, side, side], [0.5; 3], [0.2; 3]).unwrap();
            let input = Input::Pixels(images);
            let expected = block_on(engine.run(&input, &[])).unwrap();
            let before = BYTES.load(Ordering::Relaxed);
            let runs = 20;
            for _ in 0..runs {
                assert_eq!(block_on(engine.run(&input, &[])).unwrap(), expected);
            }
            let bytes = (BYTES.load(Ordering::Relaxed) - before) / runs;
            // The queues of the thread pool occasionally allocate blocks.
            let allowed = batch * classes * size_of::<f32>() + 1024;
            assert!(bytes <= allowed, "{name}, batch {batch}, side {side}: {bytes} bytes per run");
        }
    }
}
