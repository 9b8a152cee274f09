//! Export of a checkpoint as a state dict of plain tensors, which `torch.load(weights_only=True)` accepts.

use super::archive_writer::{ArchiveWriter, PICKLE_START, empty_ordered_dict, set_items, text};
use crate::architecture::TensorKind;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::tensor::{Elements, to_bytes};
use half::f16;
use safetensors::Dtype as FileDtype;
use std::io;

/// Returns the bytes of a `.pth` file with torchvision's state dict, in its order and with its counters
/// (`num_batches_tracked`, which are 0). Matrices are fp16 if the checkpoint stores them so, everything else is fp32.
/// Equal checkpoints give equal bytes.
///
/// The file does not contain the metadata. The caller must check that torchvision computes the same with these weights:
/// it has neither [`StridePlacement::First`](crate::architecture::StridePlacement::First) nor other stems.
///
/// # Errors
/// Returns an error if the archive cannot be written.
pub fn export(checkpoint: &Checkpoint) -> io::Result<Vec<u8>> {
    let mut archive = ArchiveWriter::new("weights");
    let mut entries = Vec::new();
    for spec in checkpoint.architecture().tensors() {
        let tensor = &checkpoint.tensors[&spec.name];
        let (dtype, bytes) = match tensor.elements() {
            Elements::F16(values) => (FileDtype::F16, to_bytes(values, f16::to_le_bytes)),
            Elements::F32(values) => (FileDtype::F32, to_bytes(values, f32::to_le_bytes)),
            Elements::I8 { .. } => (FileDtype::F32, to_bytes(&tensor.values(), f32::to_le_bytes)),
        };
        entries.push((text(&spec.name), archive.tensor(dtype, &spec.shape, &bytes)?));
        let norm = spec.name.strip_suffix(".running_var").filter(|_| spec.kind == TensorKind::Statistic);
        if let Some(norm) = norm {
            let counter = archive.tensor(FileDtype::I64, &[], &0i64.to_le_bytes())?;
            entries.push((text(&format!("{norm}.num_batches_tracked")), counter));
        }
    }
    let pickle = [PICKLE_START, &empty_ordered_dict(), &set_items(entries), b"."].concat();
    archive.finish(&pickle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::checkpoint::{Dtype, pth};
    use crate::random;

    #[test]
    fn exported_files_are_imported_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        for (name, dtype) in [("resnet18", Dtype::F32), ("resnet50", Dtype::F16)] {
            let checkpoint = random::checkpoint(Architecture::new(name, 3).unwrap()).convert(dtype).unwrap();
            let bytes = export(&checkpoint).unwrap();
            assert_eq!(bytes, export(&checkpoint).unwrap(), "equal content gives equal bytes");
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(pth::import(&path).unwrap().to_bytes(), checkpoint.to_bytes(), "{name}");
        }
    }

    #[test]
    fn int8_becomes_fp32() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap()).convert(Dtype::I8).unwrap();
        std::fs::write(&path, export(&checkpoint).unwrap()).unwrap();
        let expected = checkpoint.convert(Dtype::F32).unwrap();
        assert_eq!(pth::import(&path).unwrap().to_bytes(), expected.to_bytes());
    }
}
