//! The layers whose outputs users can select, by torchvision's names of the modules.

use anyhow::{Result, bail};
use model::architecture::Architecture;
use model::plan::Tap;

/// A layer whose output is a feature map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// torchvision's name of the module, or `stem`.
    pub name: String,
    /// The tap of the plan that has the same value; `None` if only the Burn network computes it.
    pub tap: Option<Tap>,
}

impl Layer {
    /// Finds the layers of these names, each once, in their order. Without names, returns the stem and the four stages.
    ///
    /// # Errors
    /// Returns an error that lists all layers of the network if a name is unknown.
    pub fn find(names: &[String], architecture: &Architecture) -> Result<Vec<Self>> {
        if names.is_empty() {
            let taps = Tap::STEM_AND_STAGES.into_iter();
            return Ok(taps.map(|tap| Layer { name: tap.to_string(), tap: Some(tap) }).collect());
        }
        let known = known_names(architecture);
        let mut layers: Vec<Layer> = Vec::new();
        for name in names {
            if !known.contains(name) {
                bail!("unknown layer {name:?}; the layers of {architecture} are {}", known.join(", "));
            }
            let layer = Layer { name: name.clone(), tap: Tap::of_module(name, architecture) };
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        Ok(layers)
    }
}

fn known_names(architecture: &Architecture) -> Vec<String> {
    std::iter::once(Tap::Stem.to_string()).chain(architecture.module_names()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::plan::Stage;

    fn find(names: &[&str]) -> Result<Vec<Layer>> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        Layer::find(&names, &Architecture::new("resnet18", 10).unwrap())
    }

    #[test]
    fn layers_are_found_once_and_have_a_tap_if_the_plan_computes_them() {
        let layers = find(&["layer2.0.bn1", "layer2.0", "layer2.0.bn1", "maxpool"]).unwrap();
        let found: Vec<_> = layers.iter().map(|layer| (layer.name.as_str(), layer.tap)).collect();
        let block = Some(Tap::Block(Stage::Two, 0));
        assert_eq!(found, [("layer2.0.bn1", None), ("layer2.0", block), ("maxpool", Some(Tap::Stem))]);
        let defaults: Vec<_> = find(&[]).unwrap().into_iter().map(|layer| layer.name).collect();
        assert_eq!(defaults, ["stem", "layer1", "layer2", "layer3", "layer4"]);
    }

    #[test]
    fn unknown_layers_are_errors_that_list_the_known_ones() {
        for name in ["layer5", "layer1.2", "fc", "", "layer1.0.relu", "conv1.weight"] {
            let error = find(&["stem", name]).unwrap_err().to_string();
            assert!(error.contains(&format!("unknown layer {name:?}")), "{error}");
            assert!(error.contains("stem, conv1, bn1, relu, maxpool, layer1.0.conv1"), "{error}");
        }
    }
}
