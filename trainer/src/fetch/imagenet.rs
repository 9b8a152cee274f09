//! The names of ImageNet's 1000 classes, taken from the bundled ResNet-50, so that there is only one list of them.

use checkpoints::BundledCheckpoint;
use model::checkpoint::{Checkpoint, Metadata};

/// Number of classes of ImageNet-1k.
pub const CLASSES: usize = 1000;

/// Returns the identifiers and the readable names, in order: `n01440764` and `tench`.
pub fn names() -> (Vec<String>, Vec<String>) {
    let checkpoint = Checkpoint::from_bytes(BundledCheckpoint::ResNet50V1Imagenet.bytes());
    let Metadata { classes, labels, .. } = checkpoint.expect("bundled checkpoints are valid").metadata().clone();
    (classes, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_names() {
        let (classes, labels) = names();
        assert_eq!((classes.len(), labels.len()), (CLASSES, CLASSES));
        assert_eq!((classes[281].as_str(), labels[281].as_str()), ("n02123045", "tabby"));
        assert!(classes.is_sorted(), "torchvision and timm sort classes by identifier");
    }
}
