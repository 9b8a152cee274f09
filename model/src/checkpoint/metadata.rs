//! What a checkpoint says of itself.

use super::CheckpointError;
use crate::architecture::Architecture;
use crate::preprocess::Preprocessing;
use serde::{Deserialize, Serialize};

/// The JSON document under the key `shortcut` of a checkpoint's `__metadata__`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Of this schema: [`Metadata::VERSION`].
    pub version: u32,
    pub architecture: Architecture,
    /// Identifiers by index, as the training folders were named: `n02123045`. As many as the architecture has classes.
    pub classes: Vec<String>,
    /// Readable names by index, not always unique: `tabby cat`. As many as there are classes.
    pub labels: Vec<String>,
    pub preprocessing: Preprocessing,
    /// Where the weights come from and on what terms, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// The resolved training recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<serde_json::Value>,
    /// What was measured of the weights, by name: `top1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<serde_json::Value>,
}

impl Metadata {
    /// The version of the schema that is written, and the only one that is read.
    pub const VERSION: u32 = 1;

    /// Of weights about which nothing else is known: classes and labels are their index, preprocessing is torchvision's.
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

    /// From the JSON document. The version is looked at first: of an unknown one, nothing else can be judged.
    pub(super) fn from_json(json: &str) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } = serde_json::from_str(json).map_err(CheckpointError::Metadata)?;
        if version != u64::from(Self::VERSION) {
            return Err(CheckpointError::MetadataVersion { found: version });
        }
        let metadata: Self = serde_json::from_str(json).map_err(CheckpointError::Metadata)?;
        metadata.check_counts()?;
        Ok(metadata)
    }

    /// The JSON document: equal content gives equal text.
    pub(super) fn to_json(&self) -> Result<String, CheckpointError> {
        let mut sorted = self.clone();
        // The order of a JSON object's keys depends on a feature of serde_json that any crate can switch on.
        for value in [&mut sorted.recipe, &mut sorted.metrics].into_iter().flatten() {
            value.sort_all_objects();
        }
        serde_json::to_string(&sorted).map_err(CheckpointError::Metadata)
    }

    /// What was put together in memory must pass what a file must pass: JSON has no NaN, for one.
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
