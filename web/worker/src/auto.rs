//! [`Engine::Auto`](crate::message::Engine::Auto): while the CPU answers, WebGPU is prepared behind it and tried, and takes
//! over if it is clearly faster and right. No request waits for more than the one step that is just being taken.

use crate::adapter::Adapter;
use crate::clock::within;
use crate::engines::{Engines, PreparationError, RUN_MS};
use crate::message::Weights;
use crate::verdict::{RUNS, Record, Verdict, agree, by_time, median};
use model::checkpoint::Metadata;
use model::classifier::Classifier;
use model::engine::{EngineError, Input};
use model::preprocess::ImageBatch;
use model::random;
use std::rc::Rc;
use web_sys::console;
use web_time::Instant;

/// Along each side of the picture that the engines are tried with, coloured fields.
const FIELDS: usize = 8;

/// Why the CPU goes on answering.
#[derive(Debug, thiserror::Error)]
enum NotUsed {
    #[error("the browser names no adapter for it")]
    NoAdapter,
    #[error("the adapter {0} is software")]
    Software(Adapter),
    #[error("the CPU was chosen on an earlier visit")]
    Remembered,
    #[error(transparent)]
    Preparation(#[from] PreparationError),
    #[error(transparent)]
    Run(#[from] EngineError),
    #[error("a run had not ended after {} s", RUN_MS / 1000)]
    Late,
    #[error("its logits are not those of the CPU")]
    Wrong,
    #[error("it takes {webgpu:.1} ms for a photo, the CPU {cpu:.1} ms")]
    Slow { webgpu: f64, cpu: f64 },
}

impl NotUsed {
    /// Whether it would be the same on the next visit.
    fn is_for_good(&self) -> bool {
        matches!(self, NotUsed::Wrong | NotUsed::Slow { .. })
    }
}

/// Has WebGPU take over, or finds out why not, and says so on the console.
pub async fn consider_webgpu(engines: Rc<Engines>, weights: Weights) {
    match try_webgpu(&engines, &weights).await {
        Ok(webgpu) => {
            engines.answer_on_webgpu(webgpu);
            console::info_1(&"WebGPU answers from now on".into());
        }
        Err(reason) => console::info_1(&format!("WebGPU is not used: {reason}").into()),
    }
    engines.settle();
}

/// WebGPU's engine if it is the better one, warmed up.
async fn try_webgpu(engines: &Engines, weights: &Weights) -> Result<Classifier, NotUsed> {
    let adapter = Adapter::look().await.ok_or(NotUsed::NoAdapter)?;
    if adapter.is_software() {
        return Err(NotUsed::Software(adapter));
    }
    let record = Record::open(weights, &adapter).await;
    let remembered = record.read().await;
    if remembered == Some(Verdict::Cpu) {
        return Err(NotUsed::Remembered);
    }
    engines.quiet().await;
    let webgpu = engines.webgpu(adapter.options()).await?;
    match compare(engines, &webgpu, remembered).await {
        Ok(()) => {
            record.keep(Verdict::WebGpu).await;
            Ok(webgpu)
        }
        Err(reason) => {
            if reason.is_for_good() {
                record.keep(Verdict::Cpu).await;
            }
            Err(reason)
        }
    }
}

/// Whether WebGPU computes what the CPU does, and whether it is faster, unless that is known.
async fn compare(engines: &Engines, webgpu: &Classifier, remembered: Option<Verdict>) -> Result<(), NotUsed> {
    let cpu = engines.cpu().await?;
    let picture = picture(engines.metadata());
    engines.quiet().await;
    let expected = cpu.logits(&picture).await?;
    engines.quiet().await;
    let found = within(RUN_MS, webgpu.logits(&picture)).await.ok_or(NotUsed::Late)??;
    if !agree(&expected.values, &found.values) {
        return Err(NotUsed::Wrong);
    }
    if remembered == Some(Verdict::WebGpu) {
        return Ok(());
    }
    let [mut cpu_ms, mut webgpu_ms] = [[0.0; RUNS]; 2];
    for run in 0..RUNS {
        cpu_ms[run] = time(engines, &cpu, &picture).await?;
        webgpu_ms[run] = time(engines, webgpu, &picture).await?;
    }
    match by_time(cpu_ms, webgpu_ms) {
        Verdict::WebGpu => Ok(()),
        Verdict::Cpu => Err(NotUsed::Slow { webgpu: median(webgpu_ms), cpu: median(cpu_ms) }),
    }
}

/// Milliseconds of a run from pixels to logits that no request came in between of.
async fn time(engines: &Engines, classifier: &Classifier, picture: &Input) -> Result<f64, NotUsed> {
    loop {
        engines.quiet().await;
        let (arrivals, start) = (engines.arrivals(), Instant::now());
        within(RUN_MS, classifier.logits(picture)).await.ok_or(NotUsed::Late)??;
        let elapsed = start.elapsed();
        if engines.arrivals() == arrivals {
            return Ok(elapsed.as_secs_f64() * 1e3);
        }
    }
}

/// Of the size that the model's photos have: coloured fields, for a network is surer of shapes than of noise.
fn picture(metadata: &Metadata) -> Input {
    let preprocessing = &metadata.preprocessing;
    let side = preprocessing.crop as usize;
    let colours = random::pixels(FIELDS as u64, FIELDS * FIELDS * 3);
    let pixels = (0..side * side * 3).map(|at| {
        let (y, x, channel) = (at / 3 / side, at / 3 % side, at % 3);
        colours[((y * FIELDS / side) * FIELDS + x * FIELDS / side) * 3 + channel]
    });
    let image = ImageBatch::new(pixels.collect(), [1, side, side], preprocessing.mean, preprocessing.std);
    Input::Pixels(image.expect("a crop has pixels"))
}
