//! The sub-commands, one file each. They parse arguments, call the other modules, and print results.

mod arguments;
mod bench;
mod bench_loading;
mod bench_training;
mod calibrate;
mod card;
mod class_names;
mod compare;
mod convert;
mod distill;
mod distillation_inputs;
mod doctor;
mod dtypes;
mod evaluate;
mod export;
mod export_check;
mod feature_maps;
mod fetch;
mod import;
mod inspect;
mod memory;
mod pack;
mod photo_grid;
mod predict;
mod prune;
mod report;
mod roofline;
mod train;
mod validation_photos;

pub use train::Train;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    Train(train::Train),
    Distill(distill::Distill),
    Evaluate(evaluate::Evaluate),
    Calibrate(calibrate::Calibrate),
    Compare(compare::Compare),
    Import(import::Import),
    Fetch(fetch::Fetch),
    Doctor(doctor::Doctor),
    Pack(pack::Pack),
    Convert(convert::Convert),
    Prune(prune::Prune),
    Export(export::Export),
    Card(card::Card),
    Inspect(inspect::Inspect),
    Predict(predict::Predict),
    Report(report::Report),
    FeatureMaps(feature_maps::FeatureMaps),
    Bench(bench::Bench),
    BenchLoading(bench_loading::BenchLoading),
    BenchTraining(bench_training::BenchTraining),
}

impl Command {
    pub fn run(self) -> Result<()> {
        match self {
            Command::Train(arguments) => arguments.run(),
            Command::Distill(arguments) => arguments.run(),
            Command::Evaluate(arguments) => arguments.run(),
            Command::Calibrate(arguments) => arguments.run(),
            Command::Compare(arguments) => arguments.run(),
            Command::Import(arguments) => arguments.run(),
            Command::Fetch(arguments) => arguments.run(),
            Command::Doctor(arguments) => arguments.run(),
            Command::Pack(arguments) => arguments.run(),
            Command::Convert(arguments) => arguments.run(),
            Command::Prune(arguments) => arguments.run(),
            Command::Export(arguments) => arguments.run(),
            Command::Card(arguments) => arguments.run(),
            Command::Inspect(arguments) => arguments.run(),
            Command::Predict(arguments) => arguments.run(),
            Command::Report(arguments) => arguments.run(),
            Command::FeatureMaps(arguments) => arguments.run(),
            Command::Bench(arguments) => arguments.run(),
            Command::BenchLoading(arguments) => arguments.run(),
            Command::BenchTraining(arguments) => arguments.run(),
        }
    }
}
