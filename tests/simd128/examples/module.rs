//! The module that the browser loads. It is linked and optimised like the worker of the page.

use model::engine::cpu::InstructionSet;

/// Computes run number `index` of [`simd128::RUNS`]. Returns the address of an array of f32 that holds the number of
/// logits, followed by the logits.
#[unsafe(no_mangle)]
pub extern "C" fn run(index: usize) -> *const f32 {
    let logits = simd128::logits(index, InstructionSet::best());
    let length = logits.len() as f32;
    let output: &[f32] = [vec![length], logits].concat().leak();
    output.as_ptr()
}
