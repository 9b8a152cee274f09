//! Decides whether WebGPU replaces the CPU engine, for [`EngineChoice::Auto`](crate::message::EngineChoice::Auto).
//! While the CPU engine answers, WebGPU is prepared and tested in the background; it takes over if it is clearly
//! faster and its results are correct. The trial only proceeds while no request is pending, so a request waits for at
//! most one step of it.

use crate::adapter::AdapterDescription;
use crate::engine_selection::{RUNS, SelectedEngine, SelectionRecord, logits_agree, median, select_by_time};
use crate::engines::{Engines, EnginesError, RUN_TIMEOUT_MS};
use crate::message::WeightsFile;
use crate::timeout::timeout;
use model::checkpoint::Metadata;
use model::classifier::Classifier;
use model::engine::{EngineError, Input};
use model::preprocess::ImageBatch;
use model::random;
use std::rc::Rc;
use web_sys::console;
use web_time::Instant;

/// Number of coloured squares along each side of the test image.
const SQUARES: usize = 8;

/// Why WebGPU is not used.
#[derive(Debug, thiserror::Error)]
enum WebGpuRejected {
    #[error("the browser offers no adapter")]
    NoAdapter,
    #[error("adapter {0} is emulated in software")]
    Software(AdapterDescription),
    #[error("the CPU was selected on an earlier visit")]
    CpuSelectedEarlier,
    #[error(transparent)]
    Engines(#[from] EnginesError),
    #[error(transparent)]
    Run(#[from] EngineError),
    #[error("a run did not finish within {} s", RUN_TIMEOUT_MS / 1000)]
    Timeout,
    #[error("logits differ from the CPU's")]
    WrongLogits,
    #[error("WebGPU takes {webgpu:.1} ms per photo, the CPU {cpu:.1} ms")]
    Slow { webgpu: f64, cpu: f64 },
}

impl WebGpuRejected {
    /// Returns whether another trial on a later visit would have the same outcome.
    fn is_permanent(&self) -> bool {
        matches!(self, WebGpuRejected::WrongLogits | WebGpuRejected::Slow { .. })
    }
}

/// Switches to WebGPU if it passes the trial, and logs the outcome to the console.
pub async fn run_trial(engines: Rc<Engines>, weights: WeightsFile) {
    match try_webgpu(&engines, &weights).await {
        Ok(webgpu) => {
            engines.use_webgpu(webgpu);
            console::info_1(&"switched to WebGPU".into());
        }
        Err(reason) => console::info_1(&format!("WebGPU is not used: {reason}").into()),
    }
    engines.release_weights();
}

/// Returns the WebGPU engine, warmed up, if it is the better one.
async fn try_webgpu(engines: &Engines, weights: &WeightsFile) -> Result<Classifier, WebGpuRejected> {
    let adapter = AdapterDescription::query().await.ok_or(WebGpuRejected::NoAdapter)?;
    if adapter.is_software() {
        return Err(WebGpuRejected::Software(adapter));
    }
    let record = SelectionRecord::open(weights, &adapter).await;
    let recorded = record.load().await;
    if recorded == Some(SelectedEngine::Cpu) {
        return Err(WebGpuRejected::CpuSelectedEarlier);
    }
    engines.wait_idle().await;
    let webgpu = engines.prepare_webgpu(adapter.options()).await?;
    match compare(engines, &webgpu, recorded).await {
        Ok(()) => {
            record.store(SelectedEngine::WebGpu).await;
            Ok(webgpu)
        }
        Err(reason) => {
            if reason.is_permanent() {
                record.store(SelectedEngine::Cpu).await;
            }
            Err(reason)
        }
    }
}

/// Checks that WebGPU computes the same logits as the CPU and, unless an earlier visit recorded it, that it is faster.
async fn compare(
    engines: &Engines,
    webgpu: &Classifier,
    recorded: Option<SelectedEngine>,
) -> Result<(), WebGpuRejected> {
    let cpu = engines.cpu().await?;
    let image = test_image(engines.metadata());
    engines.wait_idle().await;
    let expected = cpu.logits(&image).await?;
    engines.wait_idle().await;
    let actual = timeout(RUN_TIMEOUT_MS, webgpu.logits(&image)).await.ok_or(WebGpuRejected::Timeout)??;
    if !logits_agree(&expected.values, &actual.values) {
        return Err(WebGpuRejected::WrongLogits);
    }
    if recorded == Some(SelectedEngine::WebGpu) {
        return Ok(());
    }
    let [mut cpu_ms, mut webgpu_ms] = [[0.0; RUNS]; 2];
    for run in 0..RUNS {
        cpu_ms[run] = time_run(engines, &cpu, &image).await?;
        webgpu_ms[run] = time_run(engines, webgpu, &image).await?;
    }
    match select_by_time(cpu_ms, webgpu_ms) {
        SelectedEngine::WebGpu => Ok(()),
        SelectedEngine::Cpu => Err(WebGpuRejected::Slow { webgpu: median(webgpu_ms), cpu: median(cpu_ms) }),
    }
}

/// Returns the duration of a run from pixels to logits, in milliseconds. Runs during which a request arrives are
/// repeated.
async fn time_run(engines: &Engines, classifier: &Classifier, image: &Input) -> Result<f64, WebGpuRejected> {
    loop {
        engines.wait_idle().await;
        let (requests, start) = (engines.request_count(), Instant::now());
        timeout(RUN_TIMEOUT_MS, classifier.logits(image)).await.ok_or(WebGpuRejected::Timeout)??;
        let elapsed = start.elapsed();
        if engines.request_count() == requests {
            return Ok(elapsed.as_secs_f64() * 1e3);
        }
    }
}

/// Returns an image of the model's input size, made of coloured squares: networks are more certain about shapes than
/// about noise.
fn test_image(metadata: &Metadata) -> Input {
    let preprocessing = &metadata.preprocessing;
    let side = preprocessing.crop as usize;
    let colours = random::pixels(SQUARES as u64, SQUARES * SQUARES * 3);
    let pixels = (0..side * side * 3).map(|index| {
        let (y, x, channel) = (index / 3 / side, index / 3 % side, index % 3);
        colours[((y * SQUARES / side) * SQUARES + x * SQUARES / side) * 3 + channel]
    });
    let image = ImageBatch::new(pixels.collect(), [1, side, side], preprocessing.mean, preprocessing.std);
    Input::Pixels(image.expect("a crop has pixels"))
}
