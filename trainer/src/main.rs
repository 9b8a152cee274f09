//! `trainer`: trains networks and evaluates them, brings checkpoints in, changes how they are stored, tells what they are,
//! classifies photos with them, and measures how fast.
//!
//! Results go to stdout, remarks and errors to stderr.

mod commands;
mod console;
mod data;
mod fetch;
mod learning;
mod output_folder;
mod photos;
mod progress;
mod recipe;
mod replicas;
mod training;

use clap::{CommandFactory, Parser};
use commands::{Command, Train};
use std::process::ExitCode;

/// Residual networks for photos: trained, evaluated, brought in, told apart, used, and how fast.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
// Options without a command are those of `train`.
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: Option<Train>,
}

const EXAMPLES: &str = "\
Examples:
  Train a network that knows photos already on others, in folders train and val with a folder for each class
    trainer --data photos --recipe finetune
  What is wrong with the photos, before a night is spent on them
    trainer doctor --data photos
  Photos in few large files, none larger than training needs
    trainer pack --data photos --output shards
  How well it does
    trainer evaluate --checkpoint runs/finetune-1/best.safetensors --data photos
  Bring in weights that PyTorch saved, and name their classes
    trainer import resnet18.pth resnet18.safetensors --labels names.txt
  Weights that others published, by name, with their labels
    trainer fetch resnet50@torchvision
  A quarter of the size for the browser
    trainer convert resnet18.safetensors small.safetensors --dtype i8
  What is in a file
    trainer inspect small.safetensors
  What a photo shows
    trainer predict cat.jpg --checkpoint small.safetensors
  How fast that is here
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
