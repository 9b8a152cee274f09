//! The CPU engine's kernels as compiled by a browser. The tests compare logits, since predictions would not reveal an
//! error of 0.1 %.

use crate::browser::Environment;
use anyhow::{Context, Result, ensure};
use tests::workspace;

/// Returns the logits of all runs. The only function that the module imports is the clock, which does not affect logits
/// and is replaced by one that returns 0.
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

/// Uses the same tolerance as the comparison of the native instruction sets in `model/tests/cpu.rs`.
pub fn simd128_agrees_with_scalar(environment: &Environment) -> Result<()> {
    let module = std::fs::read(workspace::module()?)?;
    environment.with_small_model(|browser| async move {
        browser.open().await?;
        let arguments = vec![module.into(), simd128::RUNS.len().into()];
        let answer = browser.client.execute_async(RUN, arguments).await?;
        let answer: Vec<Vec<f32>> = serde_json::from_value(answer.clone()).with_context(|| answer.to_string())?;
        ensure!(answer.len() == simd128::RUNS.len(), "{} runs instead of {}", answer.len(), simd128::RUNS.len());
        let scalar = "scalar".parse()?;
        for (run, logits) in answer.iter().enumerate() {
            let expected = simd128::logits(run, scalar);
            ensure!(logits.len() == expected.len(), "{} logits instead of {}", logits.len(), expected.len());
            let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let difference = logits.iter().zip(&expected).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs()));
            ensure!(
                largest > 1e-3 && difference < 1e-5 * largest,
                "run {run}: the largest logit is {largest}, the largest difference {difference}"
            );
        }
        Ok(())
    })
}
