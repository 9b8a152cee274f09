//! Values of the recipe keys that select one of several options.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Layers that are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainedLayers {
    #[default]
    All,
    /// Only the classifier. Features of the other layers are computed once, with the preprocessing of `predict`, and
    /// cached.
    Head,
}

/// Number format of the operands of convolutions. Weights, batch norms, the classifier, the loss and the state of
/// the optimiser are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingPrecision {
    #[default]
    F32,
    Bf16,
    /// IEEE 754 half precision, with dynamic loss scaling as in `torch.amp.GradScaler`.
    F16,
}

impl fmt::Display for TrainingPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrainingPrecision::F32 => "f32",
            TrainingPrecision::Bf16 => "bf16",
            TrainingPrecision::F16 => "f16",
        })
    }
}

/// Optimisation algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserKind {
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019, <https://arxiv.org/abs/1711.05101>).
    Adamw,
    /// LAMB (You et al., 2019, <https://arxiv.org/abs/1904.00962>).
    Lamb,
}

/// Learning-rate schedule after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    Constant,
    /// `torch.optim.lr_scheduler.CosineAnnealingLR`, which reaches 0 at the end of the last epoch.
    Cosine,
    /// `torch.optim.lr_scheduler.StepLR`.
    Step,
}

/// Weights of the classes in the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"balanced\" or a list of numbers, one per class")]
pub enum ClassWeights {
    Named(NamedClassWeights),
    /// One weight per class, in the order of the classes.
    Each(Vec<f64>),
}

/// Class weights that are computed from the training set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedClassWeights {
    /// Inversely proportional to the number of training photos of the class, with a mean of 1 over all photos.
    Balanced,
}

/// Automatic augmentation policy without search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoAugment {
    /// `torchvision.transforms.TrivialAugmentWide` (Müller and Hutter, 2021, <https://arxiv.org/abs/2103.10158>).
    TrivialaugmentWide,
    /// `torchvision.transforms.RandAugment` with its defaults, two operations of magnitude 9 (Cubuk et al., 2019,
    /// <https://arxiv.org/abs/1909.13719>).
    Randaugment,
}
