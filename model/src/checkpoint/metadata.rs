//! The metadata of a checkpoint.

use super::error::CheckpointError;
use crate::architecture::Architecture;
use crate::preprocess::Preprocessing;
use serde::{Deserialize, Serialize};

/// The JSON document under the key `shortcut` of a checkpoint's `__metadata__`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of this schema: [`Metadata::VERSION`].
    pub version: u32,
    pub architecture: Architecture,
    /// Identifier of each class, by index: the name of its training folder, such as `n02123045`.
    pub classes: Vec<String>,
    /// Readable name of each class, by index, such as `tabby cat`; not necessarily unique.
    pub labels: Vec<String>,
    pub preprocessing: Preprocessing,
    /// Origin and licence of the weights, as free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// The resolved training recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<serde_json::Value>,
    /// Metrics of the weights by name, such as `top1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<serde_json::Value>,
}

impl Metadata {
    /// The schema version that is written, and the only one that is read.
    pub const VERSION: u32 = 1;

    /// Creates the metadata of weights about which nothing else is known: classes are named by their index,
    /// preprocessing is torchvision's.
    pub fn new(architecture: Architecture) -> Self {
        let names: Vec<String> = (0..architecture.classes).map(|index| index.to_string()).collect();
        Metadata {
            version: Self::VERSION,
            architecture,
            classes: names.clone(),
            labels: names,
            preprocessing: Preprocessing::default(),
            provenance: None,
            recipe: None,
            metrics: None,
        }
    }

    /// Parses the JSON document. The version is checked first, since the rest of an unknown version cannot be
    /// validated.
    pub(super) fn from_json(json: &str) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } = serde_json::from_str(json).map_err(CheckpointError::InvalidMetadata)?;
        if version != u64::from(Self::VERSION) {
            return Err(CheckpointError::MetadataVersion { found: version, supported: Self::VERSION });
        }
        let metadata: Self = serde_json::from_str(json).map_err(CheckpointError::InvalidMetadata)?;
        metadata.check_counts()?;
        Ok(metadata)
    }

    /// Returns the JSON document. Equal content gives equal text.
    pub(super) fn to_json(&self) -> Result<String, CheckpointError> {
        let mut sorted = self.clone();
        // The order of keys depends on a feature of serde_json that any crate in the build can enable.
        for value in [&mut sorted.recipe, &mut sorted.metrics].into_iter().flatten() {
            value.sort_all_objects();
        }
        serde_json::to_string(&sorted).map_err(CheckpointError::InvalidMetadata)
    }

    /// Applies the checks of [`from_json`](Self::from_json) to metadata created in memory; for example, JSON has no
    /// NaN.
    pub(super) fn validate(&self) -> Result<(), CheckpointError> {
        Self::from_json(&self.to_json()?).map(drop)
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
