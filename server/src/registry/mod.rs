//! The models that are served, which may come, change and go meanwhile. Who has found one keeps it until its answer is
//! there, so a change fails no request; and a checkpoint that cannot be prepared takes no other's place.

mod files;
mod model;
mod watch;

pub use files::{ModelFile, ModelFiles};
pub use model::{Loader, Model, Stamp};
pub use watch::watch;

use crate::error::ApiError;
use crate::metrics::Metrics;
use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::try_join_all;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::spawn_blocking;

pub struct Registry {
    loader: Loader,
    files: Arc<ModelFiles>,
    /// The name of the default, if one was chosen.
    chosen: Option<String>,
    metrics: Arc<Metrics>,
    models: Mutex<Arc<Models>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// Why a model could not be loaded when it was last tried, by name.
    failures: Mutex<BTreeMap<String, String>>,
}

/// The models at a moment.
#[derive(Default)]
pub struct Models {
    /// In the order in which they were named, then came.
    list: Vec<Arc<Model>>,
    /// The chosen one, else the first of those with the most classes.
    default: Option<Arc<Model>>,
}

impl Registry {
    /// Reads all that there are; at least one. Their engines get ready behind.
    pub fn load_all(loader: Loader, files: ModelFiles, chosen: Option<String>, metrics: Arc<Metrics>) -> Result<Self> {
        let load = |file: &ModelFile| {
            let loaded = loader.load(file, &metrics.batching(&file.name)).map(Arc::new);
            loaded.with_context(|| format!("model {:?}, {}", file.name, file.path.display()))
        };
        let list = files.list_at_start()?.iter().map(load).collect::<Result<Vec<_>>>()?;
        Registry::new(loader, files, list, chosen, metrics)
    }

    pub fn new(
        loader: Loader,
        files: ModelFiles,
        list: Vec<Arc<Model>>,
        chosen: Option<String>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let models = Models::new(list, chosen.as_deref());
        if let Some(name) = &chosen
            && models.find(name).is_none()
        {
            bail!("--default {name}: there is no such model; there are {}", models.names());
        }
        let (models, changing, failures) = (Mutex::new(Arc::new(models)), Default::default(), Default::default());
        Ok(Registry { loader, files: files.into(), chosen, metrics, models, changing, failures })
    }

    pub fn current(&self) -> Arc<Models> {
        lock(&self.models).clone()
    }

    /// The model of this name, or the default.
    pub fn get(&self, name: Option<&str>) -> Result<Arc<Model>, ApiError> {
        let models = self.current();
        let model = name.map_or(models.default.as_ref(), |name| models.find(name));
        model.cloned().ok_or_else(|| match name {
            Some(name) => ApiError::unknown_model(format!("there is no model {name:?}; there are {}", models.names())),
            None => ApiError::unknown_model("there is no model at the moment"),
        })
    }

    /// Waits until every engine is warm, or until one cannot get so.
    pub async fn prepared(&self) -> Result<()> {
        let models = self.current();
        try_join_all(models.list.iter().map(|model| prepared(model))).await?;
        Ok(())
    }

    /// Loads a model anew, or for the first time; it takes over when it is warm. One that cannot be prepared changes nothing.
    ///
    /// # Errors
    /// Why it cannot be loaded, and `None` if there is no checkpoint of the name.
    pub async fn load(&self, name: &str) -> Result<Option<Arc<Model>>> {
        let _changing = self.changing.lock().await;
        self.load_now(name).await
    }

    /// The same, unless the file of this stamp is served already: somebody else may have had it loaded meanwhile.
    async fn load_file(&self, name: &str, stamp: Stamp) -> Result<()> {
        let _changing = self.changing.lock().await;
        if self.served(name) != Some(stamp) {
            self.load_now(name).await?;
        }
        Ok(())
    }

    /// The stamp of the file that a model was read from.
    fn served(&self, name: &str) -> Option<Stamp> {
        self.current().find(name)?.stamp
    }

    async fn load_now(&self, name: &str) -> Result<Option<Arc<Model>>> {
        let (files, sought) = (self.files.clone(), name.to_owned());
        let file = spawn_blocking(move || files.find(&sought)).await?.inspect_err(|error| tracing::warn!("{error:#}"));
        // Whoever asks is not told where it lies.
        let Some(file) = file.map_err(|_| anyhow!("the folder of models cannot be read"))? else { return Ok(None) };
        let loaded = self.prepare(file).await;
        match &loaded {
            Ok(_) => lock(&self.failures).remove(name),
            Err(error) => lock(&self.failures).insert(name.to_owned(), format!("{error:#}")),
        };
        if loaded.is_err() && self.current().find(name).is_none() {
            self.metrics.forget(name);
        }
        let model = loaded?;
        self.change(|list| match list.iter_mut().find(|other| other.name() == name) {
            Some(other) => *other = model.clone(),
            None => list.push(model.clone()),
        });
        tracing::info!(model = name, version = model.id.version, "loaded");
        Ok(Some(model))
    }

    async fn prepare(&self, file: ModelFile) -> Result<Arc<Model>> {
        let (loader, metrics) = (self.loader.clone(), self.metrics.batching(&file.name));
        let model = spawn_blocking(move || loader.load(&file, &metrics)).await??;
        prepared(&model).await?;
        Ok(Arc::new(model))
    }

    /// Takes a model out of service; what it has begun it finishes. False if there is none of the name.
    pub async fn unload(&self, name: &str) -> bool {
        let _changing = self.changing.lock().await;
        let known = self.current().find(name).is_some();
        if known {
            self.change(|list| list.retain(|model| model.name() != name));
            self.metrics.forget(name);
            tracing::info!(model = name, "unloaded");
        }
        known
    }

    /// Every model that is served or could be, by name: with why it could not, if that was tried.
    pub async fn index(&self) -> Vec<Entry> {
        let files = self.files.clone();
        // A folder that cannot be read has no models.
        let listed = spawn_blocking(move || files.list().map_or(Vec::new(), |(files, _)| files)).await;
        let models = self.current();
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let entry = |name: &str, model: Option<Arc<Model>>| Entry {
            name: name.to_owned(),
            model,
            failure: lock(&self.failures).get(name).cloned(),
        };
        for file in listed.unwrap_or_default() {
            entries.insert(file.name.clone(), entry(&file.name, None));
        }
        for model in &models.list {
            entries.insert(model.name().to_owned(), entry(model.name(), Some(model.clone())));
        }
        entries.into_values().collect()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Model>>)) {
        let mut list = self.current().list.clone();
        change(&mut list);
        *lock(&self.models) = Arc::new(Models::new(list, self.chosen.as_deref()));
    }
}

/// What is known of a name.
pub struct Entry {
    pub name: String,
    pub model: Option<Arc<Model>>,
    pub failure: Option<String>,
}

impl Models {
    fn new(list: Vec<Arc<Model>>, chosen: Option<&str>) -> Self {
        let chosen = chosen.and_then(|name| list.iter().find(|model| model.name() == name));
        // Of equals, `max_by_key` takes the last.
        let largest = || list.iter().rev().max_by_key(|model| model.metadata.labels.len());
        let default = chosen.or_else(largest).cloned();
        Models { list, default }
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

async fn prepared(model: &Model) -> Result<()> {
    model.batcher.prepared().await.with_context(|| format!("model {:?} cannot be prepared", model.name()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{model, registry};

    fn default(models: Vec<Model>, name: Option<&str>) -> Result<String> {
        let registry = registry(models, name)?;
        Ok(registry.get(None).unwrap().name().to_owned())
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

    #[tokio::test]
    async fn the_default_that_is_gone_has_a_successor() {
        let registry = registry(vec![model("small", 2), model("large", 3)], Some("large")).unwrap();
        assert!(registry.unload("large").await && !registry.unload("large").await);
        assert_eq!(registry.get(None).unwrap().name(), "small");
        assert!(registry.unload("small").await);
        assert!(registry.get(None).is_err());
    }

    #[tokio::test]
    async fn who_has_found_a_model_keeps_it() {
        let registry = registry(vec![model("small", 2)], None).unwrap();
        registry.prepared().await.unwrap();
        let found = registry.get(None).unwrap();
        registry.unload("small").await;
        assert!(found.batcher.is_ready());
    }
}
