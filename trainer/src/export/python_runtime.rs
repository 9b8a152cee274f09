//! A Python process that runs an exported file in the program that the format is for.

use super::Format;
use anyhow::{Context, Result, bail};
use model::checkpoint::Metadata;
use serde_json::json;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = include_str!("check.py");

/// A Python interpreter that has the packages that a format needs.
pub struct PythonRuntime {
    python: PathBuf,
    format: Format,
}

impl PythonRuntime {
    /// Returns the packages that run files of a format.
    const fn packages(format: Format) -> &'static str {
        match format {
            Format::Onnx | Format::Hub => "numpy, onnxruntime",
            Format::TorchScript => "numpy, torch",
            Format::Pth => "numpy, torch, torchvision",
            Format::Safetensors => "numpy, torch, torchvision, safetensors",
            Format::Timm => "numpy, torch, timm",
        }
    }

    /// Finds out whether the interpreter has the packages that the format needs.
    ///
    /// # Errors
    /// Returns an error that names the interpreter and the packages otherwise.
    pub fn find(python: &Path, format: Format) -> Result<Self> {
        let packages = Self::packages(format);
        let advice = format!("choose a Python with the packages {packages} with --python PROGRAM");
        let mut command = Command::new(python);
        command.args(["-c", &format!("import {packages}")]).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("cannot start {}; {advice}", python.display()))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            let reason = message.lines().last().unwrap_or("no message").trim().to_owned();
            bail!("{} cannot run {} files ({reason}); {advice}", python.display(), format.name());
        }
        Ok(PythonRuntime { python: python.to_owned(), format })
    }

    /// Starts to run an exported file.
    ///
    /// # Errors
    /// Returns an error if the interpreter cannot be started.
    pub fn start(&self, exported: &Path, metadata: &Metadata) -> Result<RunningExport> {
        let settings = json!({
            "architecture": metadata.architecture.name(),
            "classes": metadata.architecture.classes,
            "crop": metadata.preprocessing.crop,
            "mean": metadata.preprocessing.mean,
            "std": metadata.preprocessing.std,
        });
        let mut command = Command::new(&self.python);
        command.args(["-c", SCRIPT, self.format.name()]).arg(exported).arg(settings.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = (input.context("stdin is piped")?, output.context("stdout is piped")?);
        Ok(RunningExport { child, input, output, classes: metadata.architecture.classes })
    }
}

/// A process that runs an exported file. It ends when this is dropped.
pub struct RunningExport {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    classes: usize,
}

impl RunningExport {
    /// Returns the outputs of the network for these photos, `[photos, classes]`. `pixels` is u8
    /// `[photos, crop, crop, 3]`.
    ///
    /// # Errors
    /// Returns an error if the runtime fails; it has printed the reason to stderr.
    pub fn run(&mut self, pixels: &[u8], photos: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; photos * self.classes * size_of::<f32>()];
        let count = (photos as u32).to_le_bytes();
        let sent = self.input.write_all(&count).and_then(|()| self.input.write_all(pixels));
        let received = sent.and_then(|()| self.input.flush()).and_then(|()| self.output.read_exact(&mut bytes));
        received.context("the runtime cannot run the exported file; see its message above")?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

impl Drop for RunningExport {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
