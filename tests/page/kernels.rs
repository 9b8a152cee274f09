//! The CPU engine's kernels as a browser compiles them. Predictions would not show an error of one in a thousand.

use crate::browser::with_small_model;
use anyhow::{Context, Result, ensure};
use tests::workspace;

/// All logits of all runs. The module asks JavaScript for nothing but the time, which no logit depends on: every question
/// is answered by 0.
const RUN: &str = r#"
    const [module, runs, done] = arguments;
    (async () => {
        const nothing = new Proxy({}, { get: () => () => 0 });
        const imports = new Proxy({}, { get: () => nothing });
        const { run, memory } = (await WebAssembly.instantiate(Uint8Array.from(module), imports)).instance.exports;
        const logits = Array.from({ length: runs }, (_, index) => {
            const at = run(index);
            const [length] = new Float32Array(memory.buffer, at, 1);
            return Array.from(new Float32Array(memory.buffer, at + 4, length));
        });
        done(logits);
    })().catch((error) => done(String(error)));
"#;

/// As near as native instruction sets are.
pub fn agree_with_the_plain_ones() -> Result<()> {
    let module = std::fs::read(workspace::module()?)?;
    with_small_model(|browser| async move {
        browser.visit().await?;
        let arguments = vec![module.into(), simd128::RUNS.len().into()];
        let answer = browser.client.execute_async(RUN, arguments).await?;
        let answer: Vec<Vec<f32>> = serde_json::from_value(answer.clone()).with_context(|| answer.to_string())?;
        ensure!(answer.len() == simd128::RUNS.len(), "{} runs", answer.len());
        let plain = "scalar".parse()?;
        for (run, logits) in answer.iter().enumerate() {
            let expected = simd128::logits(run, plain);
            ensure!(logits.len() == expected.len(), "{} logits instead of {}", logits.len(), expected.len());
            let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let difference = logits.iter().zip(&expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            ensure!(largest > 1e-3 && difference < 1e-5 * largest, "run {run}: {difference} of {largest}");
        }
        Ok(())
    })
}
