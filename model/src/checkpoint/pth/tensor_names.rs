//! Conversion of the tensor names that training scripts produce to torchvision's names.

/// Prefixes that wrappers of a module add: data-parallel training, and `torch.compile`.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// Returns torchvision's name of a tensor.
pub(super) fn torchvision_name(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    // Tutorials name the projection of a block's input `shortcut`, and the classifier `linear`. A classifier after a
    // dropout is the second module of a sequence.
    let name = name.replace(".shortcut.", ".downsample.");
    for prefix in ["fc.1.", "linear."] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return format!("fc.{rest}");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::torchvision_name;

    #[test]
    fn removes_prefixes_of_wrappers_and_renames_modules_of_tutorials() {
        for (name, expected) in [
            ("layer1.0.conv1.weight", "layer1.0.conv1.weight"),
            ("module.conv1.weight", "conv1.weight"),
            ("_orig_mod.fc.bias", "fc.bias"),
            ("module._orig_mod.bn1.bias", "bn1.bias"),
            ("_orig_mod.module.bn1.bias", "bn1.bias"),
            ("layer2.0.shortcut.0.weight", "layer2.0.downsample.0.weight"),
            ("module.layer2.0.shortcut.1.running_var", "layer2.0.downsample.1.running_var"),
            ("fc.1.weight", "fc.weight"),
            ("linear.bias", "fc.bias"),
            ("fc.weight", "fc.weight"),
            ("shortcut.0.weight", "shortcut.0.weight"),
        ] {
            assert_eq!(torchvision_name(name), expected);
        }
    }
}
