//! Prepares the WebGPU engine while the weights are still being downloaded. The device is opened and the kernels are
//! compiled as soon as the file's header, which names the architecture, has arrived. Each layer is uploaded as soon as
//! its weights have arrived.

use crate::adapter::AdapterDescription;
use crate::engines::{EnginesError, LoadedWebGpu, PREPARE_TIMEOUT_MS};
use crate::timeout::timeout;
use futures_channel::oneshot;
use model::checkpoint::{CheckpointStream, Metadata};
use model::engine::{EngineError, EngineOptions, StreamingEngine};
use wasm_bindgen_futures::spawn_local;

/// The state of the preparation.
pub enum WebGpuLoader {
    /// The engine is not needed.
    Disabled,
    /// The file's header has not arrived yet.
    AwaitingHeader,
    /// Weights are being uploaded and kernels compiled.
    Loading {
        engine: StreamingEngine,
        options: EngineOptions,
        /// The outcome of compiling the kernels.
        compiled: oneshot::Receiver<Result<(), EngineError>>,
    },
    Failed(EnginesError),
}

impl WebGpuLoader {
    /// Processes the bytes that have arrived since the last call. They must not be trusted until the whole file is
    /// verified.
    pub async fn update(&mut self, weights: &CheckpointStream) {
        if let WebGpuLoader::AwaitingHeader = self
            && let Some(metadata) = weights.metadata()
        {
            *self = open(metadata).await.unwrap_or_else(WebGpuLoader::Failed);
        }
        if let WebGpuLoader::Loading { engine, .. } = self {
            match timeout(PREPARE_TIMEOUT_MS, engine.upload_available(weights)).await {
                Some(Ok(())) => {}
                Some(Err(error)) => *self = WebGpuLoader::Failed(error.into()),
                None => *self = WebGpuLoader::Failed(EnginesError::Timeout),
            }
        }
    }

    /// Returns the engine and its options once the file is complete, or `None` if the loader is disabled.
    pub async fn finish(self) -> Option<LoadedWebGpu> {
        match self {
            WebGpuLoader::Disabled => None,
            // Unreachable, since a complete file has a header.
            WebGpuLoader::AwaitingHeader => Some(Err(EnginesError::Timeout)),
            WebGpuLoader::Loading { engine, options, compiled } => {
                Some(match timeout(PREPARE_TIMEOUT_MS, compiled).await {
                    Some(Ok(Ok(()))) => engine.finish().map(|engine| (engine, options)).map_err(EnginesError::from),
                    Some(Ok(Err(error))) => Err(error.into()),
                    Some(Err(oneshot::Canceled)) | None => Err(EnginesError::Timeout),
                })
            }
            WebGpuLoader::Failed(error) => Some(Err(error)),
        }
    }
}

async fn open(metadata: &Metadata) -> Result<WebGpuLoader, EnginesError> {
    let side = metadata.preprocessing.crop as usize;
    let adapter = AdapterDescription::query().await;
    let options = adapter.map_or_else(EngineOptions::default, |adapter| adapter.options());
    let options = EngineOptions { nominal_side: Some(side), ..options };
    let opening = StreamingEngine::open(metadata.architecture, 0, options);
    let engine = timeout(PREPARE_TIMEOUT_MS, opening).await.ok_or(EnginesError::Timeout)??;
    let compilation = engine.precompile([1, side, side]);
    let (sender, compiled) = oneshot::channel();
    // Spawned, so that kernels are compiled while weights arrive.
    spawn_local(async move { drop(sender.send(compilation.await)) });
    Ok(WebGpuLoader::Loading { engine, options, compiled })
}
