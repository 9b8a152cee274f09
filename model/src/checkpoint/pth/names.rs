//! Names of tensors as people's training scripts leave them, turned into torchvision's.

/// What wrappers of a module put in front: data-parallel training, and `torch.compile`.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// torchvision's name.
pub(super) fn canonical(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    // Tutorials call the projection of a block's input its shortcut, and the classifier its linear layer;
    // a classifier behind a dropout is the second of a sequence.
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
    use super::canonical;

    #[test]
    fn wrappers_and_tutorials_are_undone() {
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
            assert_eq!(canonical(name), expected);
        }
    }
}
