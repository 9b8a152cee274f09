//! `trainer`: brings checkpoints in, changes how they are stored, tells what they are, classifies photos with them, and
//! measures how fast.
//!
//! Results go to stdout, remarks and errors to stderr.

mod commands;

use clap::{CommandFactory, Parser};
use commands::Command;
use std::process::ExitCode;

/// Residual networks for photos: checkpoints in, out and told apart, photos classified, and how fast.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
// Sub-commands are optional, so that training can be what happens without one.
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  Bring in weights that PyTorch saved, and name their classes
    trainer import resnet18.pth resnet18.safetensors --labels names.txt
  A quarter of the size for the browser
    trainer convert resnet18.safetensors small.safetensors --dtype i8
  What is in a file
    trainer inspect small.safetensors
  What a photo shows
    trainer predict cat.jpg --checkpoint small.safetensors
  How fast that is here
    trainer bench --checkpoint small.safetensors";

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Some(command) => command.run(),
        None => CommandLine::command().print_help().map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
