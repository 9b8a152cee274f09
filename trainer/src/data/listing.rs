//! What [`folders`](super::folders) and [`shards`](super::shards) find in a data folder.

use super::Sample;
use std::collections::HashMap;

/// What lies in a folder, before anybody decided how to validate.
pub(super) struct Listing {
    /// Names by index; each has a photo in `train`.
    pub(super) classes: Vec<String>,
    pub(super) train: Vec<Sample>,
    pub(super) val: Option<Vec<Sample>>,
}

/// Indices by name.
pub(super) fn class_indices(classes: &[String]) -> HashMap<&str, usize> {
    classes.iter().enumerate().map(|(index, class)| (class.as_str(), index)).collect()
}

/// `name` is none of `classes`, in words.
pub(super) fn unknown_class(name: &impl std::fmt::Display, classes: &[String]) -> anyhow::Error {
    let some = classes.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    anyhow::anyhow!("{name}: none of the {} classes is called so ({some} ...)", classes.len())
}
