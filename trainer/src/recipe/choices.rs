//! What a recipe chooses between.

use serde::{Deserialize, Serialize};

/// Which weights learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainedLayers {
    #[default]
    All,
    /// The classifier alone. Photos are seen once, as `predict` sees them, and what the other layers make of them is kept.
    Head,
}

/// What is multiplied. Weights, batch norms, the classifier, the loss and the optimiser's state are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    #[default]
    F32,
    Bf16,
    /// With a loss that is scaled up as far as gradients stay finite.
    F16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserKind {
    #[default]
    Sgd,
    /// Loshchilov and Hutter, 2019, <https://arxiv.org/abs/1711.05101>.
    Adamw,
    /// You et al., 2019, <https://arxiv.org/abs/1904.00962>.
    Lamb,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    Constant,
    Cosine,
    Step,
}

/// How much a photo of each class counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"balanced\" or a list of numbers, one for each class")]
pub enum ClassWeights {
    Named(NamedClassWeights),
    /// One for each class, in their order.
    Each(Vec<f64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedClassWeights {
    /// In inverse proportion to the class's photos; 1 on average over them.
    Balanced,
}

/// Augmentation by a policy that needs no tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoAugment {
    /// torchvision's `TrivialAugmentWide` (Müller and Hutter, 2021, <https://arxiv.org/abs/2103.10158>).
    TrivialaugmentWide,
    /// torchvision's `RandAugment` with its default two operations of magnitude 9 (Cubuk et al., 2019,
    /// <https://arxiv.org/abs/1909.13719>).
    Randaugment,
}
