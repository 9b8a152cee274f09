//! Result of listing the [`folders`](super::folders) or [`shards`](super::shards) of a data folder.

use super::Sample;
use std::collections::HashMap;

/// Samples of a data folder, before a validation set is split off.
pub(super) struct Listing {
    /// Names of the classes, by index; each has a photo in `train`.
    pub(super) classes: Vec<String>,
    pub(super) train: Vec<Sample>,
    pub(super) val: Option<Vec<Sample>>,
}

/// Maps the names of classes to their indices.
pub(super) fn class_indices(classes: &[String]) -> HashMap<&str, usize> {
    classes.iter().enumerate().map(|(index, class)| (class.as_str(), index)).collect()
}

/// Error for a `name` that is not among `classes`.
pub(super) fn unknown_class(name: &impl std::fmt::Display, classes: &[String]) -> anyhow::Error {
    const SHOWN: usize = 5;
    let shown = classes.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if classes.len() > SHOWN { ", ..." } else { "" };
    anyhow::anyhow!("{name}: unknown class; expected one of {shown}{more}")
}
