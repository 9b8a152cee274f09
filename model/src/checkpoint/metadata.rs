//! What a checkpoint says of itself.

use crate::architecture::Architecture;
use crate::preprocess::Preprocessing;
use serde::{Deserialize, Serialize};

/// The JSON document under the key `shortcut` of a checkpoint's `__metadata__`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Of this schema: 1.
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
