//! The models that are served. They can be loaded, replaced and unloaded while the server runs: a request keeps the
//! model that it has looked up until its response is complete, so changes fail no request. A checkpoint that cannot be
//! loaded never replaces the model that is served.

mod model;
mod sources;
mod watch;

pub use model::{Fingerprint, Loader, Model};
pub use sources::{ModelSource, ModelSources};
pub use watch::watch;

use crate::error::ApiError;
use crate::metrics::Metrics;
use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::spawn_blocking;

pub struct Registry {
    loader: Loader,
    sources: Arc<ModelSources>,
    options: RegistryOptions,
    metrics: Arc<Metrics>,
    models: Mutex<Arc<ModelSet>>,
    /// Serialises loading and unloading.
    change_lock: tokio::sync::Mutex<()>,
    /// Error of the last attempt to load a model, by name, if it failed.
    failures: Mutex<BTreeMap<String, String>>,
}

/// Settings of the registry.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Value of `--default`.
    pub default_name: Option<String>,
    /// Whether a checkpoint of the folder that cannot be loaded is an error at startup.
    pub strict: bool,
}

/// A snapshot of the served models.
#[derive(Default)]
pub struct ModelSet {
    /// Models, in the order in which they were loaded, starting with the order of [`ModelSources::list_at_startup`].
    list: Vec<Arc<Model>>,
    /// The model named by `--default`, otherwise the first of those with the most classes.
    default: Option<Arc<Model>>,
}

impl Registry {
    /// Loads all checkpoints. Their engines start in the background; see [`Registry::wait_until_ready`]. Unless
    /// `options.strict`, checkpoints of the folder that cannot be loaded are left out.
    ///
    /// # Errors
    /// Returns an error if there is no checkpoint, if one cannot be loaded, or if the default model does not exist.
    pub fn load_all(
        loader: Loader,
        sources: ModelSources,
        options: RegistryOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let registry = Registry::new(loader, sources, Vec::new(), options, metrics);
        let mut list = Vec::new();
        for source in registry.sources.list_at_startup()? {
            let ModelSource { name, checkpoint } = &source;
            let is_optional = registry.is_optional(name);
            let exists = if is_optional { Ok(()) } else { checkpoint.check_exists().map_err(anyhow::Error::from) };
            let model = exists.and_then(|()| registry.loader.load(&source, &registry.metrics.batching(name)));
            match model {
                Ok(model) => list.push(Arc::new(model)),
                Err(error) if is_optional => {
                    tracing::warn!("model {name:?} is not served: cannot load {checkpoint}: {error:#}");
                    registry.metrics.remove_model(name);
                    registry.record_failure(name, &error);
                }
                Err(error) => return Err(error.context(format!("cannot load model {name:?} from {checkpoint}"))),
            }
        }
        registry.change(|models| *models = list);
        registry.check_startup()?;
        Ok(registry)
    }

    /// Creates a registry of loaded models.
    pub fn new(
        loader: Loader,
        sources: ModelSources,
        list: Vec<Arc<Model>>,
        options: RegistryOptions,
        metrics: Arc<Metrics>,
    ) -> Self {
        let models = Mutex::new(Arc::new(ModelSet::new(list, options.default_name.as_deref())));
        let (change_lock, failures) = Default::default();
        Registry { loader, sources: sources.into(), options, metrics, models, change_lock, failures }
    }

    /// Returns whether the server starts without the model of this name if it cannot be loaded.
    fn is_optional(&self, name: &str) -> bool {
        !self.options.strict && !self.sources.is_named(name)
    }

    /// Checks that there is a model, and the default model if one was chosen.
    fn check_startup(&self) -> Result<()> {
        let (models, failures) = (self.current(), self.failures());
        if models.list.is_empty() {
            let reasons: Vec<_> = failures.iter().map(|(name, error)| format!("{name:?}: {error}")).collect();
            bail!("no model of the folder can be loaded: {}", reasons.join("; "));
        }
        match &self.options.default_name {
            Some(name) if models.find(name).is_none() => match failures.get(name) {
                Some(error) => bail!("--default {name}: the model cannot be loaded: {error}"),
                None => bail!("--default {name}: unknown model; available models: {}", models.names()),
            },
            _ => Ok(()),
        }
    }

    /// Returns a snapshot of the served models.
    pub fn current(&self) -> Arc<ModelSet> {
        self.models.lock().clone()
    }

    /// Returns the model of this name, or the default model if `name` is `None`.
    ///
    /// # Errors
    /// Returns 404 if there is no such model.
    pub fn get(&self, name: Option<&str>) -> Result<Arc<Model>, ApiError> {
        let models = self.current();
        let model = name.map_or(models.default.as_ref(), |name| models.find(name));
        model.cloned().ok_or_else(|| match name {
            Some(name) => {
                ApiError::unknown_model(format!("unknown model {name:?}; available models: {}", models.names()))
            }
            None => ApiError::unknown_model("no model is loaded"),
        })
    }

    /// Waits until the engines of all models are ready. Unless the registry is strict, models of the folder whose engines
    /// cannot start are removed.
    ///
    /// # Errors
    /// Returns an error as soon as another model is found whose engines cannot start, or if no model is left.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let models = self.current();
        try_join_all(models.list.iter().map(async |model| match wait_until_model_is_ready(model).await {
            Err(error) if self.is_optional(model.name()) => {
                self.remove_failed(model, &error).await;
                Ok(())
            }
            result => result,
        }))
        .await?;
        // Without a failure, models can be missing only because they were unloaded.
        if self.failures().is_empty() { Ok(()) } else { self.check_startup() }
    }

    /// Stops serving a model whose engines cannot start.
    async fn remove_failed(&self, failed: &Arc<Model>, error: &anyhow::Error) {
        let _guard = self.change_lock.lock().await;
        let name = failed.name();
        tracing::warn!("model {name:?} is not served: {error:#}");
        if self.current().find(name).is_some_and(|model| Arc::ptr_eq(model, failed)) {
            self.change(|list| list.retain(|model| model.name() != name));
            self.metrics.remove_model(name);
            self.record_failure(name, error);
        }
    }

    /// Returns the errors of the models that could not be loaded at the last attempt, by name.
    pub fn failures(&self) -> BTreeMap<String, String> {
        self.failures.lock().clone()
    }

    fn record_failure(&self, name: &str, error: &anyhow::Error) {
        self.failures.lock().insert(name.to_owned(), format!("{error:#}"));
    }

    /// Forgets the failures of models that `exists` does not return true for.
    fn retain_failures(&self, exists: impl Fn(&str) -> bool) {
        self.failures.lock().retain(|name, _| exists(name));
    }

    /// Loads or reloads a model, and starts to serve it when its engines are ready. Returns `None` if there is no
    /// checkpoint of this name.
    ///
    /// # Errors
    /// Returns an error if the checkpoint cannot be loaded or an engine fails to start; the models that are served do
    /// not change.
    pub async fn load(&self, name: &str) -> Result<Option<Arc<Model>>> {
        let _guard = self.change_lock.lock().await;
        self.load_locked(name).await
    }

    /// Loads a model like [`Registry::load`], unless it was already loaded from the checkpoint with this fingerprint,
    /// which an API request may have caused in the meantime.
    async fn load_if_changed(&self, name: &str, fingerprint: Fingerprint) -> Result<()> {
        let _guard = self.change_lock.lock().await;
        if self.loaded_fingerprint(name) != Some(fingerprint) {
            self.load_locked(name).await?;
        }
        Ok(())
    }

    /// Returns the fingerprint of the checkpoint from which a served model was loaded.
    fn loaded_fingerprint(&self, name: &str) -> Option<Fingerprint> {
        self.current().find(name)?.fingerprint
    }

    async fn load_locked(&self, name: &str) -> Result<Option<Arc<Model>>> {
        let (sources, wanted) = (self.sources.clone(), name.to_owned());
        let source = spawn_blocking(move || sources.find(&wanted)).await?;
        let source = source.inspect_err(|error| tracing::warn!("{error:#}"));
        // The path is logged but not included in the error, which may be sent to a client.
        let Some(source) = source.map_err(|_| anyhow!("cannot read the model folder"))? else { return Ok(None) };
        let result = self.load_source(source).await;
        match &result {
            Ok(_) => drop(self.failures.lock().remove(name)),
            Err(error) => self.record_failure(name, error),
        }
        if result.is_err() && self.current().find(name).is_none() {
            self.metrics.remove_model(name);
        }
        let model = result?;
        self.change(|list| match list.iter_mut().find(|other| other.name() == name) {
            Some(other) => *other = model.clone(),
            None => list.push(model.clone()),
        });
        tracing::info!(model = name, version = model.id.version, "loaded");
        Ok(Some(model))
    }

    async fn load_source(&self, source: ModelSource) -> Result<Arc<Model>> {
        let (loader, metrics) = (self.loader.clone(), self.metrics.batching(&source.name));
        let model = spawn_blocking(move || loader.load(&source, &metrics)).await??;
        wait_until_model_is_ready(&model).await?;
        Ok(Arc::new(model))
    }

    /// Stops serving a model; its running requests are completed. Returns false if there is no such model.
    pub async fn unload(&self, name: &str) -> bool {
        let _guard = self.change_lock.lock().await;
        let exists = self.current().find(name).is_some();
        if exists {
            self.change(|list| list.retain(|model| model.name() != name));
            self.metrics.remove_model(name);
            tracing::info!(model = name, "unloaded");
        }
        exists
    }

    /// Lists every model that is served or that has a checkpoint to load, sorted by name.
    pub async fn index(&self) -> Vec<ModelStatus> {
        let sources = self.sources.clone();
        // A folder that cannot be read counts as empty.
        let sources = spawn_blocking(move || sources.list().map_or(Vec::new(), |(sources, _)| sources)).await;
        let models = self.current();
        let mut index: BTreeMap<String, ModelStatus> = BTreeMap::new();
        let status = |name: &str, model: Option<Arc<Model>>| ModelStatus {
            name: name.to_owned(),
            model,
            failure: self.failures.lock().get(name).cloned(),
        };
        for ModelSource { name, .. } in sources.unwrap_or_default() {
            index.insert(name.clone(), status(&name, None));
        }
        for model in &models.list {
            index.insert(model.name().to_owned(), status(model.name(), Some(model.clone())));
        }
        index.into_values().collect()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Model>>)) {
        let mut list = self.current().list.clone();
        change(&mut list);
        *self.models.lock() = Arc::new(ModelSet::new(list, self.options.default_name.as_deref()));
    }
}

/// Status of a model that is served or could be loaded.
pub struct ModelStatus {
    pub name: String,
    /// `None` if the model is not served.
    pub model: Option<Arc<Model>>,
    /// Error of the last attempt to load the model, if it failed.
    pub failure: Option<String>,
}

impl ModelSet {
    fn new(list: Vec<Arc<Model>>, default_name: Option<&str>) -> Self {
        let named = default_name.and_then(|name| list.iter().find(|model| model.name() == name));
        // Reversed, because `max_by_key` returns the last of several maxima.
        let most_classes = || list.iter().rev().max_by_key(|model| model.metadata.labels.len());
        let default = named.or_else(most_classes).cloned();
        ModelSet { list, default }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.list.iter()
    }

    pub fn is_default(&self, model: &Model) -> bool {
        self.default.as_ref().is_some_and(|default| default.name() == model.name())
    }

    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        self.list.iter().find(|model| model.name() == name)
    }

    fn names(&self) -> String {
        self.list.iter().map(|model| model.name()).collect::<Vec<_>>().join(", ")
    }
}

async fn wait_until_model_is_ready(model: &Model) -> Result<()> {
    model
        .batcher
        .wait_until_ready()
        .await
        .with_context(|| format!("cannot start the engines of model {:?}", model.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{model, registry};

    fn default(models: Vec<Model>, name: Option<&str>) -> Result<String> {
        let registry = registry(models, name);
        registry.check_startup()?;
        Ok(registry.get(None).unwrap().name().to_owned())
    }

    #[test]
    fn default_is_the_first_model_with_the_most_classes() {
        assert_eq!(default(vec![model("small", 2), model("a", 3), model("b", 3)], None).unwrap(), "a");
    }

    #[test]
    fn default_can_be_configured() {
        assert_eq!(default(vec![model("small", 2), model("large", 3)], Some("small")).unwrap(), "small");
    }

    #[test]
    fn unknown_default_is_rejected_with_the_available_models() {
        let error = default(vec![model("small", 2), model("large", 3)], Some("medium")).unwrap_err().to_string();
        assert!(error.contains("medium") && error.contains("small, large"), "{error}");
    }

    #[tokio::test]
    async fn another_model_becomes_default_after_unloading() {
        let registry = registry(vec![model("small", 2), model("large", 3)], Some("large"));
        assert!(registry.unload("large").await && !registry.unload("large").await);
        assert_eq!(registry.get(None).unwrap().name(), "small");
        assert!(registry.unload("small").await);
        assert!(registry.get(None).is_err());
    }

    #[tokio::test]
    async fn unloaded_model_remains_usable_while_referenced() {
        let registry = registry(vec![model("small", 2)], None);
        registry.wait_until_ready().await.unwrap();
        let model = registry.get(None).unwrap();
        registry.unload("small").await;
        assert!(model.batcher.is_ready());
    }
}
