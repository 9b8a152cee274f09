//! The models that are served. What the clients of a model get is what was read once at start: the file may change since.

use crate::content::Content;
use crate::engine_thread::EngineThread;
use crate::error::ApiError;
use crate::model_files::ModelFile;
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::try_join_all;
use model::checkpoint::{Checkpoint, Metadata};
use model::classifier::Classifier;
use model::engine::{Device, EngineError, EngineOptions};
use model::preprocess::{ImageBatch, Preprocessing};
use sha2::{Digest, Sha256};
use std::sync::Arc;

pub struct Model {
    pub name: String,
    pub metadata: Arc<Metadata>,
    /// Of the weights, in hexadecimal.
    pub sha256: String,
    /// The checkpoint, byte by byte.
    pub weights: Content,
    pub engine: EngineThread,
}

impl Model {
    /// Reads and checks a checkpoint; its engine gets ready behind.
    pub fn load(file: &ModelFile, device: Device, options: EngineOptions) -> Result<Self> {
        let ModelFile { name, path } = file;
        let about = || format!("model {name:?}, {}", path.display());
        let bytes = std::fs::read(path).with_context(about)?;
        let checkpoint = Checkpoint::from_bytes(&bytes).with_context(about)?;
        if let Some(assumption) = checkpoint.assumption() {
            tracing::warn!("{}: {assumption}", about());
        }
        let metadata = checkpoint.metadata().clone();
        let engine = EngineThread::start(name, {
            let name = name.clone();
            move || {
                let classifier = pollster::block_on(Classifier::new(&name, checkpoint, device, options, warn))?;
                if let Some(adapter) = classifier.adapter() {
                    tracing::info!("{name}: {device} is {adapter}");
                }
                warm_up(&classifier)?;
                Ok(classifier)
            }
        })?;
        Ok(Model::new(name, metadata, bytes.into(), engine))
    }

    pub fn new(name: &str, metadata: Metadata, bytes: Bytes, engine: EngineThread) -> Self {
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let weights = Content::immutable(bytes, "application/octet-stream", &sha256);
        Model { name: name.to_owned(), metadata: Arc::new(metadata), sha256, weights, engine }
    }
}

fn warn(error: &EngineError, device: Device) {
    tracing::warn!("{error}; {device} answers now");
}

/// The first run of an engine takes longer than all others, so it is nobody's photo.
fn warm_up(classifier: &Classifier) -> Result<()> {
    let Preprocessing { crop, mean, std, .. } = classifier.metadata().preprocessing;
    let side = crop as usize;
    let image = ImageBatch::new(vec![128; side * side * 3], [1, side, side], mean, std)?;
    pollster::block_on(classifier.classify(image.into(), 0.0, 1))?;
    Ok(())
}

pub struct Registry {
    models: Vec<Model>,
    /// An index of `models`.
    default: usize,
}

impl Registry {
    /// At least one model. The default is the one of that name, else the first of those with the most classes.
    pub fn new(models: Vec<Model>, default: Option<&str>) -> Result<Self> {
        let classes = |index: &usize| (models[*index].metadata.labels.len(), std::cmp::Reverse(*index));
        let default = match default {
            Some(name) => {
                let known = names(&models);
                let index = models.iter().position(|model| model.name == name);
                index.with_context(|| format!("--default {name}: there is no such model; there are {known}"))?
            }
            None => (0..models.len()).max_by_key(classes).context("there is no model to serve")?,
        };
        Ok(Registry { models, default })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Model> {
        self.models.iter()
    }

    pub fn default(&self) -> &Model {
        &self.models[self.default]
    }

    /// The model of this name, or the default.
    pub fn get(&self, name: Option<&str>) -> Result<&Model, ApiError> {
        let Some(name) = name else { return Ok(self.default()) };
        self.iter().find(|model| model.name == name).ok_or_else(|| {
            ApiError::unknown_model(format!("there is no model {name:?}; there are {}", names(&self.models)))
        })
    }

    /// Waits until every engine is warm, or until one cannot get so.
    pub async fn prepared(&self) -> Result<()> {
        let each = self.iter().map(async |model| {
            model.engine.prepared().await.with_context(|| format!("model {:?} cannot be prepared", model.name))
        });
        try_join_all(each).await?;
        Ok(())
    }
}

fn names(models: &[Model]) -> String {
    models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::model;

    fn default(models: Vec<Model>, name: Option<&str>) -> Result<String> {
        Ok(Registry::new(models, name)?.default().name.clone())
    }

    #[test]
    fn the_default_is_the_first_with_the_most_classes() {
        assert_eq!(default(vec![model("small", 2), model("a", 3), model("b", 3)], None).unwrap(), "a");
    }

    #[test]
    fn the_default_can_be_chosen() {
        assert_eq!(default(vec![model("small", 2), model("large", 3)], Some("small")).unwrap(), "small");
    }

    #[test]
    fn an_unknown_default_is_refused_with_those_there_are() {
        let error = default(vec![model("small", 2), model("large", 3)], Some("medium")).unwrap_err().to_string();
        assert!(error.contains("medium") && error.contains("small, large"), "{error}");
    }
}
