//! The CPU engine's kernels as compiled by a browser. Predictions would not reveal an error of one in a thousand, so
//! the logits are compared.

use crate::browser::with_small_model;
use anyhow::{Context, Result, ensure};
use tests::workspace;

/// Returns the logits of all runs. The module imports nothing but the clock, which does not affect logits: every
/// imported function returns 0.
const RUN: &str = r#"
    const [module, runs, done] = arguments;
    (async () => {
        const functions = new Proxy({}, { get: () => () => 0 });
        const imports = new Proxy({}, { get: () => functions });
        const { run, memory } = (await WebAssembly.instantiate(Uint8Array.from(module), imports)).instance.exports;
        const logits = Array.from({ length: runs }, (_, index) => {
            const offset = run(index);
            const [length] = new Float32Array(memory.buffer, offset, 1);
            return Array.from(new Float32Array(memory.buffer, offset + 4, length));
        });
        done(logits);
    })().catch((error) => done(String(error)));
"#;

/// The tolerance is that of the native instruction sets.
pub fn simd128_agrees_with_scalar() -> Result<()> {
    let module = std::fs::read(workspace::module()?)?;
    with_small_model(|browser| async move {
        browser.open().await?;
        let arguments = vec![module.into(), simd128::RUNS.len().into()];
        let answer = browser.client.execute_async(RUN, arguments).await?;
        let answer: Vec<Vec<f32>> = serde_json::from_value(answer.clone()).with_context(|| answer.to_string())?;
        ensure!(answer.len() == simd128::RUNS.len(), "{} runs", answer.len());
        let scalar = "scalar".parse()?;
        for (run, logits) in answer.iter().enumerate() {
            let expected = simd128::logits(run, scalar);
            ensure!(logits.len() == expected.len(), "{} logits instead of {}", logits.len(), expected.len());
            let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let difference = logits.iter().zip(&expected).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs()));
            ensure!(
                largest > 1e-3 && difference < 1e-5 * largest,
                "run {run}: logits up to {largest} differ by {difference}"
            );
        }
        Ok(())
    })
}
