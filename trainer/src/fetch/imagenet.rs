//! The names of ImageNet's 1000 classes, taken from the bundled ResNet-50 by `build.rs`.

/// Number of classes of ImageNet-1k.
pub const CLASSES: usize = 1000;

/// Returns the identifiers and the readable names, in order: `n01440764` and `tench`.
pub fn names() -> (Vec<String>, Vec<String>) {
    let lines = include_str!(concat!(env!("OUT_DIR"), "/imagenet.txt")).lines();
    lines.filter_map(|line| line.split_once('\t')).map(|(class, label)| (class.to_owned(), label.to_owned())).unzip()
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
