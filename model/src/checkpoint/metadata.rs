//! The metadata of a checkpoint.

use super::error::CheckpointError;
use crate::architecture::Architecture;
use crate::preprocess::Preprocessing;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::RangeInclusive;

/// The JSON document under the key `shortcut` of a checkpoint's `__metadata__`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of the schema: 2 if a field of version 2 is present, otherwise 1. Checkpoints set it when they are
    /// created, and when their metadata is replaced.
    pub version: u32,
    pub architecture: Architecture,
    /// Identifier of each class, by index: the name of its training folder, such as `n02123045`.
    pub classes: Vec<String>,
    /// Readable name of each class, by index, such as `tabby cat`; not necessarily unique.
    pub labels: Vec<String>,
    pub preprocessing: Preprocessing,
    /// Number by which logits are divided before softmax, so that probabilities match the accuracy of predictions; 1 if
    /// absent. A field of version 2. Must be in [`Metadata::TEMPERATURES`].
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Probability of the most likely class below which a prediction is not to be trusted. A field of version 2. Must be
    /// from 0 to 1.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub rejection_threshold: Option<f32>,
    /// Origin and licence of the weights, as free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// The resolved training recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Value>,
    /// Metrics of the weights by name, such as `top1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Value>,
}

impl Metadata {
    /// The newest schema version that is read and written.
    const NEWEST_VERSION: u32 = 2;

    /// Valid temperatures.
    pub const TEMPERATURES: RangeInclusive<f32> = 0.05..=20.0;

    /// Creates the metadata of weights about which nothing else is known: classes are named by their index,
    /// preprocessing is torchvision's.
    pub fn new(architecture: Architecture) -> Self {
        let names: Vec<String> = (0..architecture.classes).map(|index| index.to_string()).collect();
        Metadata {
            version: 1,
            architecture,
            classes: names.clone(),
            labels: names,
            preprocessing: Preprocessing::default(),
            temperature: None,
            rejection_threshold: None,
            provenance: None,
            recipe: None,
            metrics: None,
        }
    }

    /// Parses the JSON document. The version is checked first, since the rest of an unknown version cannot be
    /// validated.
    pub(crate) fn from_json(json: &str) -> Result<Self, CheckpointError> {
        let mut document: Value = serde_json::from_str(json).map_err(CheckpointError::InvalidMetadata)?;
        let version = document.get("version").and_then(Value::as_u64).ok_or_else(|| {
            CheckpointError::InvalidMetadata(serde::de::Error::custom("`version` is missing, or not a number"))
        })?;
        if !(1..=u64::from(Self::NEWEST_VERSION)).contains(&version) {
            return Err(CheckpointError::MetadataVersion { found: version, newest: Self::NEWEST_VERSION });
        }
        // Version 1 ignores the fields of version 2.
        if let Some(architecture) = document.get_mut("architecture").and_then(Value::as_object_mut)
            && version == 1
        {
            architecture.remove("widths");
        }
        let mut metadata = Self::deserialize(&document).map_err(CheckpointError::InvalidMetadata)?;
        if version > 1 {
            metadata.read_version_2(&document)?;
        }
        metadata.version = metadata.required_version();
        metadata.check_counts()?;
        Ok(metadata)
    }

    /// Reads the fields of version 2, and rejects unknown ones, which may change answers. Version 1 ignores both.
    fn read_version_2(&mut self, document: &Value) -> Result<(), CheckpointError> {
        const VERSION_1: [&str; 8] =
            ["version", "architecture", "classes", "labels", "preprocessing", "provenance", "recipe", "metrics"];
        const ARCHITECTURE: [&str; 4] = ["name", "stem", "classes", "widths"];

        for (name, value) in document.as_object().into_iter().flatten() {
            match name.as_str() {
                "temperature" => self.temperature = Some(number_in(Self::TEMPERATURES, name, value)?),
                "rejection_threshold" => self.rejection_threshold = Some(number_in(0.0..=1.0, name, value)?),
                name => check_known(name, &VERSION_1)?,
            }
        }
        let architecture = document.get("architecture").and_then(Value::as_object);
        for (name, _) in architecture.into_iter().flatten() {
            check_known(name, &ARCHITECTURE)?;
        }
        Ok(())
    }

    /// Returns the oldest version that has all fields that are present.
    fn required_version(&self) -> u32 {
        let has_version_2 =
            self.temperature.is_some() || self.rejection_threshold.is_some() || self.architecture.is_pruned();
        if has_version_2 { 2 } else { 1 }
    }

    /// Returns the JSON document. Equal content gives equal text.
    pub(crate) fn to_json(&self) -> Result<String, CheckpointError> {
        let mut sorted = Metadata { version: self.required_version(), ..self.clone() };
        // The order of keys depends on a feature of serde_json that any crate in the build can enable.
        for value in [&mut sorted.recipe, &mut sorted.metrics].into_iter().flatten() {
            value.sort_all_objects();
        }
        serde_json::to_string(&sorted).map_err(CheckpointError::InvalidMetadata)
    }

    /// Applies the checks of [`from_json`](Self::from_json) to metadata created in memory; for example, JSON has no
    /// NaN. Sets the version.
    pub(super) fn validated(self) -> Result<Self, CheckpointError> {
        Self::from_json(&self.to_json()?)?;
        Ok(Metadata { version: self.required_version(), ..self })
    }

    fn check_counts(&self) -> Result<(), CheckpointError> {
        let expected = self.architecture.classes;
        for (what, names) in [("classes", &self.classes), ("labels", &self.labels)] {
            if names.len() != expected {
                return Err(CheckpointError::ClassCount { what, found: names.len(), expected });
            }
        }
        Ok(())
    }
}

fn number_in(range: RangeInclusive<f32>, name: &str, value: &Value) -> Result<f32, CheckpointError> {
    let number = value.as_f64().map(|number| number as f32).filter(|number| range.contains(number));
    number.ok_or_else(|| CheckpointError::MetadataRange { name: name.to_owned(), range })
}

fn check_known(name: &str, known: &[&str]) -> Result<(), CheckpointError> {
    if known.contains(&name) { Ok(()) } else { Err(CheckpointError::UnknownMetadataField { name: name.to_owned() }) }
}
