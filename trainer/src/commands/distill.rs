//! `trainer distill`: training of a student with the predictions of a frozen teacher.

use super::distillation_inputs::DistillationArgs;
use super::train::Train;
use anyhow::Result;
use clap::Args;

/// Train a network with the predictions of a larger one
///
/// The loss mixes the cross-entropy with the labels and the divergence from the predictions of the teacher for the same augmented
/// images (Hinton et al., 2015); the recipe keys distillation-temperature and distillation-weight control it. All other flags and
/// recipe keys are those of `trainer train`, and so is the output folder. Classes are matched by identifier; a teacher with more
/// classes than the photos is restricted to theirs. At the end, teacher and student are compared on the validation photos.
#[derive(Args)]
#[command(
    after_help = EXAMPLES,
    mut_arg("recipe", |recipe| recipe.default_value("distill")),
    mut_arg("checkpoint", |checkpoint| checkpoint.help_heading("Student")),
    mut_arg("architecture", |architecture| architecture.help_heading("Student"))
)]
pub struct Distill {
    #[command(flatten)]
    distillation: DistillationArgs,
    #[command(flatten)]
    train: Train,
}

const EXAMPLES: &str = "\
Examples:
  trainer distill --teacher resnet50_v1-imagenet --architecture resnet18 --data imagenet
  trainer distill --teacher teacher.safetensors --recipe finetune --checkpoint resnet18-imagenette --data photos --output runs/small
  trainer distill --teacher teacher.safetensors --architecture resnet18 --data photos --unlabelled more-photos \\
      --set distillation-temperature=4 --set distillation-weight=0.9
  trainer --resume runs/small";

impl Distill {
    pub fn run(self) -> Result<()> {
        self.train.with_distillation(self.distillation).run()
    }
}
