//! A run of the CPU engine allocates nothing but its answer. A test of its own, since it counts the whole program's
//! allocations.

use model::architecture::Architecture;
use model::engine::{Device, Engine, EngineOptions, Input};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;
use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it is the system's allocator, counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_run_allocates_no_more_than_its_logits_and_the_handing_over_of_work() {
    let classes = 10;
    let small = vec![[1, 64], [3, 64]];
    // In two pieces, the second of which wants more memory than the first.
    let uneven = [small.clone(), vec![[19, 68]]].concat();
    for (name, shapes) in [("resnet18", &uneven), ("resnet50", &small), ("resnext50_32x4d", &small)] {
        let plan = Plan::new(&random::checkpoint(Architecture::new(name, classes).unwrap()));
        let options = EngineOptions { threads: NonZero::new(2), ..EngineOptions::default() };
        let engine = block_on(Engine::prepare_with(plan, Device::Cpu, options)).unwrap();
        for &[batch, side] in shapes {
            let pixels = vec![90; batch * side * side * 3];
            let images = ImageBatch::new(pixels, [batch, side, side], [0.5; 3], [0.2; 3]).unwrap();
            let input = Input::Pixels(images);
            let warm = block_on(engine.run(&input, &[])).unwrap();
            let before = BYTES.load(Ordering::Relaxed);
            let runs = 20;
            for _ in 0..runs {
                assert_eq!(block_on(engine.run(&input, &[])).unwrap(), warm);
            }
            let bytes = (BYTES.load(Ordering::Relaxed) - before) / runs;
            // The queues of the thread pool grow by blocks now and then.
            let allowed = batch * classes * size_of::<f32>() + 1024;
            assert!(bytes <= allowed, "{name}, batch {batch}, side {side}: {bytes} bytes a run");
        }
    }
}
