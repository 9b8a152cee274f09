//! `trainer`: the command line for training, evaluation, calibration, import, export, conversion and inspection of
//! ResNets, for classification of photos, and for benchmarks. This file parses the command line; `commands` holds the
//! sub-commands.

mod command_line;
mod commands;
mod comparison;
mod console;
mod data;
mod distillation;
mod evaluation;
mod export;
mod feature_maps;
mod fetch;
mod full_screen;
mod grid_layout;
mod html_page;
mod learning;
mod number_text;
mod output_folder;
mod photos;
mod progress;
mod pruning;
mod recipe;
mod replicas;
mod report;
mod thumbnail;
mod training;
mod weights_file;

use clap::{CommandFactory, Parser};
use commands::{Command, Train};
use std::process::ExitCode;

/// Train, evaluate, import, convert and run ResNets that classify photos
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
// Options without a sub-command are those of `train`.
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: Option<Train>,
}

const EXAMPLES: &str = "\
Examples:
  Fine-tune a pretrained network on photos in folders train and val with one folder per class
    trainer --data photos --recipe finetune
  Check the photos for problems before training
    trainer doctor --data photos
  Pack the photos into shards, resized to what training needs
    trainer pack --data photos --output shards
  Evaluate the trained network
    trainer evaluate --checkpoint runs/finetune-1/best.safetensors --data photos
  Make the probabilities of the trained network match its accuracy
    trainer calibrate runs/finetune-1/best.safetensors --data photos --output calibrated.safetensors
  Compare two networks on the same photos
    trainer compare runs/finetune-1/best.safetensors runs/finetune-2/best.safetensors --data photos
  Train a small network with the predictions of a large one
    trainer distill --teacher runs/finetune-1/best.safetensors --architecture resnet18 --data photos
  Import PyTorch weights, with the names of the classes
    trainer import resnet18.pth resnet18.safetensors --labels names.txt
  Download published weights, with labels and preprocessing
    trainer fetch resnet50@torchvision
  Export a checkpoint for ONNX Runtime and other programs
    trainer export runs/finetune-1 --format onnx --output model.onnx
  Quantise a checkpoint to a quarter of its size, for a web page
    trainer convert resnet18.safetensors small.safetensors --dtype i8
  Remove channels until the network needs half of the multiply-adds, and fine-tune it
    trainer prune resnet18.safetensors --data photos --structured --macs 0.5 --epochs 10 --output pruned.safetensors
  Show the contents of a checkpoint
    trainer inspect small.safetensors
  Classify a photo
    trainer predict cat.jpg --checkpoint small.safetensors
  Show what the layers compute for a photo
    trainer feature-maps cat.jpg --checkpoint small.safetensors --output maps
  Measure the inference speed
    trainer bench --checkpoint small.safetensors";

fn main() -> ExitCode {
    let result = match CommandLine::parse() {
        CommandLine { command: Some(command), .. } => command.run(),
        CommandLine { train: Some(train), .. } => train.run(),
        _ => CommandLine::command().print_help().map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&error);
            ExitCode::FAILURE
        }
    }
}
