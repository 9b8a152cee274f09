//! WebGPU's engine, made while the weights are still coming: the device is opened and its kernels are compiled as soon as
//! the file's header tells the architecture, and each layer is uploaded when it has come.

use crate::adapter::Adapter;
use crate::clock::within;
use crate::engines::{EarlyEngine, PREPARATION_MS, PreparationError};
use futures_channel::oneshot;
use model::checkpoint::{Incoming, Metadata};
use model::engine::{AwaitingEngine, EngineError, EngineOptions};
use wasm_bindgen_futures::spawn_local;

/// What there is of the engine.
pub enum Early {
    /// Nobody asked for it.
    Unwanted,
    Unopened,
    Open {
        engine: AwaitingEngine,
        options: EngineOptions,
        compiled: oneshot::Receiver<Result<(), EngineError>>,
    },
    Failed(PreparationError),
}

impl Early {
    /// Takes what has come since. None of it is to be believed before the whole file is verified.
    pub async fn take(&mut self, weights: &Incoming) {
        if let Early::Unopened = self
            && let Some(metadata) = weights.metadata()
        {
            *self = open(metadata).await.unwrap_or_else(Early::Failed);
        }
        if let Early::Open { engine, .. } = self {
            match within(PREPARATION_MS, engine.take(weights)).await {
                Some(Ok(())) => {}
                Some(Err(error)) => *self = Early::Failed(error.into()),
                None => *self = Early::Failed(PreparationError::Late),
            }
        }
    }

    /// The engine of a file that has come as a whole, and how it computes; `None` if nobody asked for one.
    pub async fn finish(self) -> Option<EarlyEngine> {
        match self {
            Early::Unwanted => None,
            Early::Unopened => Some(Err(PreparationError::Late)),
            Early::Open { engine, options, compiled } => Some(match within(PREPARATION_MS, compiled).await {
                Some(Ok(Ok(()))) => engine.finish().map(|engine| (engine, options)).map_err(PreparationError::from),
                Some(Ok(Err(error))) => Err(error.into()),
                Some(Err(oneshot::Canceled)) | None => Err(PreparationError::Late),
            }),
            Early::Failed(error) => Some(Err(error)),
        }
    }
}

async fn open(metadata: &Metadata) -> Result<Early, PreparationError> {
    let side = metadata.preprocessing.crop as usize;
    let adapter = Adapter::look().await;
    let options = adapter.map_or_else(EngineOptions::default, |adapter| adapter.options());
    let options = EngineOptions { usual_side: Some(side), ..options };
    let opened = AwaitingEngine::open(metadata.architecture, 0, options);
    let engine = within(PREPARATION_MS, opened).await.ok_or(PreparationError::Late)??;
    let compiling = engine.expect([1, side, side]);
    let (tell, compiled) = oneshot::channel();
    // Beside the weights, and not between them.
    spawn_local(async move { drop(tell.send(compiling.await)) });
    Ok(Early::Open { engine, options, compiled })
}
