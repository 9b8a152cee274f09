//! `trainer report`: HTML reports of training runs.

use super::arguments::DeviceArgs;
use crate::console;
use crate::data::loader_threads;
use crate::report::{REPORT, RunReportOptions, write_comparison, write_run_report};
use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;

/// Write a report of a training run, or of several runs for comparison
///
/// The report of one run shows its curves, and evaluates its best checkpoint on the validation photos: confusion matrix,
/// figures of each class, calibration, and the most confident errors. The run may be in progress or have been interrupted. A
/// report of several runs compares their curves and recipes; `trainer compare` compares checkpoints. The report is one HTML file
/// that needs no network access. Training writes it too, at the end of a run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Report {
    /// Folders of the runs
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// File to write [default: RUN/report.html; required for several runs]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Dataset, if it has been moved since the run was started
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Leave photos out of the report
    #[arg(long)]
    no_photos: bool,
    #[command(flatten)]
    device_args: DeviceArgs,
}

const EXAMPLES: &str = "\
Examples:
  trainer report runs/finetune-1
  trainer report runs/finetune-1 --no-photos --output report.html
  trainer report runs/finetune-1 runs/finetune-2 --output comparison.html";

impl Report {
    pub fn run(self) -> Result<()> {
        let Some(output) = self.output.or_else(|| (self.runs.len() == 1).then(|| self.runs[0].join(REPORT))) else {
            bail!("--output FILE is required for a report of several runs");
        };
        match self.runs.as_slice() {
            [run] => {
                let options = RunReportOptions {
                    device: self.device_args.device,
                    options: self.device_args.into(),
                    threads: loader_threads(None)?,
                    data: self.data,
                    with_photos: !self.no_photos,
                };
                // There is nothing to save on Ctrl-C, so its default behaviour is kept.
                let notes = write_run_report(run, &output, options, || false)?;
                notes.iter().for_each(console::note);
            }
            runs => write_comparison(runs, &output)?,
        }
        console::wrote(&output);
        Ok(())
    }
}
