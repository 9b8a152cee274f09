//! The names of torchvision's modules.

use super::Architecture;

impl Architecture {
    /// Returns torchvision's names of all modules whose output has the shape `[batch, channels, height, width]`, in the
    /// order in which they are computed, such as `conv1`, `bn1`, `relu`, `maxpool`, `layer1.0.conv1` and `layer1.0`.
    ///
    /// The ReLU of a block is not included: torchvision calls it several times, so it has no single output.
    pub fn module_names(&self) -> Vec<String> {
        let stem = self.stem();
        let mut names = vec![stem.convolution.name, stem.convolution.norm, "relu".to_owned()];
        names.extend(stem.max_pool.map(|_| "maxpool".to_owned()));
        for (stage, blocks) in self.stages().into_iter().enumerate() {
            for block in blocks {
                let downsample = block.downsample.as_ref().map(|_| format!("{}.downsample", block.name));
                let layers = block.convolutions.into_iter().chain(block.downsample);
                names.extend(layers.flat_map(|layer| [layer.name, layer.norm]).chain(downsample));
                names.push(block.name);
            }
            names.push(format!("layer{}", stage + 1));
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Stem;

    #[test]
    fn names_are_those_of_torchvision() {
        let names = Architecture::new("resnet50", 10).unwrap().module_names();
        let start = ["conv1", "bn1", "relu", "maxpool", "layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2"];
        assert_eq!(names[..7], start);
        let end = ["layer1.0.downsample.0", "layer1.0.downsample.1", "layer1.0.downsample", "layer1.0"];
        assert_eq!(names[10..14], end);
        assert_eq!(names.last().unwrap(), "layer4");
        let small = Architecture { stem: Stem::Small, ..Architecture::new("resnet18", 10).unwrap() };
        assert!(!small.module_names().contains(&"maxpool".to_owned()));
    }
}
