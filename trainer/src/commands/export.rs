//! `trainer export`: conversion of a checkpoint for other programs.

use super::export_check::CheckArgs;
use crate::console;
use crate::export::{Format, write_hub, write_timm};
use crate::output_folder;
use crate::training::BEST;
use crate::weights_file::{check_output, open_weights};
use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use checkpoints::CheckpointSource;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use model::checkpoint::{Checkpoint, Dtype, pth, write_atomically};
use model::onnx::{self, OnnxInput, OnnxOptions, OnnxWeights};
use model::torchscript;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Export a checkpoint for other programs: ONNX, TorchScript, PyTorch, timm, Hugging Face
///
/// Formats that contain only weights (pth, safetensors, timm) are refused for networks that the loading program would compute
/// differently. int8 matrices are exported as floats. The checkpoint is not modified; an existing output file is replaced.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// Checkpoint to export: a file, a folder of a training run (its best.safetensors), or name of a bundled checkpoint
    #[arg(value_name = "CHECKPOINT|RUN")]
    input: CheckpointSource,
    /// Format of the output
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Format,
    /// File to write or, for timm and hub, folder, new or empty
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
    /// Number format of the matrices
    #[arg(long, value_parser = dtype_parser(), default_value = "f32")]
    dtype: Dtype,
    #[command(flatten)]
    onnx: OnnxArgs,
    #[command(flatten)]
    check: CheckArgs,
}

/// Options of the format `onnx`.
#[derive(Args)]
struct OnnxArgs {
    /// onnx: fixed size of the batch [default: any size]
    #[arg(long, value_name = "N")]
    batch: Option<NonZero<u32>>,
    /// onnx: accept images of any height and width, not only of the checkpoint's crop
    #[arg(long)]
    dynamic_size: bool,
    /// onnx: keep batch norms as operations, instead of folding them into the convolutions
    #[arg(long)]
    keep_batch_norms: bool,
    /// onnx: include normalisation: the input is the cropped photo, u8 [batch, height, width, 3]
    #[arg(long)]
    preprocessing: bool,
    /// onnx: output probabilities, with the checkpoint's temperature, instead of logits
    #[arg(long)]
    softmax: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer export runs/finetune-1 --format onnx --output model.onnx
  trainer export resnet50_v1-imagenet --format onnx --output model.onnx --preprocessing --softmax --dtype f16
  trainer export resnet18-imagenette --format pth --output resnet18.pth
  trainer export resnet18-imagenette --format timm --output resnet18 --check photos --max-drop 0.5
  trainer export runs/finetune-1 --format hub --output upload";

/// Returns a parser of the number formats that other programs read.
fn dtype_parser() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new([Dtype::F32, Dtype::F16].map(Dtype::name)).try_map(|name| name.parse::<Dtype>())
}

impl Export {
    pub fn run(self) -> Result<()> {
        let input = checkpoint_of(&self.input);
        let checkpoint = open_weights(&input)?;
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        self.format.check(&checkpoint.architecture())?;
        self.check_options()?;
        check_output(&input, &self.output)?;
        if self.format.is_folder() {
            output_folder::create_empty(&self.output, "--output")?;
        }
        match self.check.prepare(self.format)? {
            None => self.write(&checkpoint, &self.output)?,
            Some(check) => {
                // An existing file stays until the new one has passed the check.
                let folder = self.output.parent().filter(|folder| !folder.as_os_str().is_empty());
                let staging =
                    tempfile::Builder::new().prefix(".export-").tempdir_in(folder.unwrap_or(Path::new(".")))?;
                let staged = staging.path().join(self.output.file_name().context("--output has no file name")?);
                if self.format.is_folder() {
                    fs::create_dir(&staged)?;
                }
                self.write(&checkpoint, &staged)?;
                check.run(&checkpoint, &staged, self.onnx.softmax)?;
                self.publish(&staged)?;
            }
        }
        let (format, architecture, dtype) = (self.format.name(), checkpoint.architecture(), self.dtype);
        let (output, classes) = (self.output.display(), architecture.classes);
        let size = ByteSize(byte_count(&self.output)?).display().si();
        console::print_result(&format!("{output}: {format}, {architecture}, {classes} classes, {dtype}, {size}"))
    }

    /// Writes the file, or the content of the existing folder, at `path`.
    fn write(&self, checkpoint: &Checkpoint, path: &Path) -> Result<()> {
        let converted = || checkpoint.convert(self.dtype);
        let bytes = match self.format {
            Format::Timm => return write_timm(&converted()?, path),
            Format::Hub => return write_hub(&self.input.name(), checkpoint, path),
            Format::Onnx => onnx::export(checkpoint, &self.onnx_options())?,
            Format::TorchScript => torchscript::export(checkpoint)?,
            Format::Pth => pth::export(&converted()?)?,
            Format::Safetensors => converted()?.to_bytes(),
        };
        write_atomically(path, &bytes).with_context(|| path.display().to_string())
    }

    /// Moves a file or folder that has passed its check to the output.
    fn publish(&self, staged: &Path) -> Result<()> {
        let context = || format!("cannot write {}", self.output.display());
        if self.format.is_folder() {
            // Not every system replaces an empty folder.
            fs::remove_dir(&self.output).with_context(context)?;
        }
        fs::rename(staged, &self.output).with_context(context)
    }

    /// Checks that every option has an effect.
    fn check_options(&self) -> Result<()> {
        let OnnxArgs { batch, dynamic_size, keep_batch_norms, preprocessing, softmax } = self.onnx;
        let format = self.format.name();
        for (given, name) in [
            (batch.is_some(), "--batch"),
            (dynamic_size, "--dynamic-size"),
            (keep_batch_norms, "--keep-batch-norms"),
            (preprocessing, "--preprocessing"),
            (softmax, "--softmax"),
        ] {
            ensure!(!given || self.format == Format::Onnx, "{name} applies to --format onnx, not to {format}");
        }
        ensure!(
            self.dtype == Dtype::F32 || !keep_batch_norms,
            "--dtype f16 requires folded batch norms, because fp16 cannot represent small variances; leave out \
             --keep-batch-norms"
        );
        ensure!(
            self.dtype == Dtype::F32 || !matches!(self.format, Format::TorchScript | Format::Hub),
            "--dtype f16 does not apply to {format}, whose programs choose the precision when they load it"
        );
        Ok(())
    }

    fn onnx_options(&self) -> OnnxOptions {
        let OnnxArgs { batch, dynamic_size, keep_batch_norms, preprocessing, softmax } = self.onnx;
        OnnxOptions {
            weights: match (self.dtype, keep_batch_norms) {
                (Dtype::F16, _) => OnnxWeights::F16,
                (_, true) => OnnxWeights::F32WithBatchNorms,
                (_, false) => OnnxWeights::F32,
            },
            input: if preprocessing { OnnxInput::Pixels } else { OnnxInput::Normalised },
            batch,
            dynamic_size,
            softmax,
        }
    }
}

/// Returns the best checkpoint of a run if `source` is its folder, and otherwise `source`.
fn checkpoint_of(source: &CheckpointSource) -> CheckpointSource {
    match source {
        CheckpointSource::File(path) if path.is_dir() => CheckpointSource::File(path.join(BEST)),
        source => source.clone(),
    }
}

/// Returns the size of a file, or of the files of a folder, in bytes.
fn byte_count(path: &Path) -> Result<u64> {
    let metadata = path.metadata()?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}
