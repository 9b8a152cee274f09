//! `trainer fetch`: published weights by name, downloaded once and cached.

use super::dtypes::{self, dtype_parser};
use crate::console;
use crate::fetch::{
    Client, DownloadCache, Endpoints, Fetcher, HUGGING_FACE_VARIABLE, TORCHVISION_VARIABLE, TORCHVISION_WEIGHTS,
    TorchvisionWeights, Unreachable, WeightsName, fetch,
};
use anyhow::{Error, Result, anyhow, bail};
use clap::Args;
use comfy_table::{ContentArrangement, Table};
use model::checkpoint::{Dtype, Metadata};
use std::path::PathBuf;
use std::time::Duration;

/// Download published weights, verify them, and import them with labels and preprocessing
///
/// NAME is ARCHITECTURE@torchvision for torchvision's newest weights (DEFAULT), ARCHITECTURE@torchvision-v1 or -v2 for
/// IMAGENET1K_V1 or V2, or hf://OWNER/REPO[@REVISION][/FILE] for a safetensors file on Hugging Face: a ResNet with
/// torchvision's or timm's tensor names.
///
/// Fetched weights are cached and need no network the next time. Interrupted downloads are resumed; a file whose SHA-256
/// differs from the published one is deleted. The path of the checkpoint is printed to stdout, everything else to stderr.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Fetch {
    /// Name of the weights, such as resnet18@torchvision or hf://timm/resnet18.a1_in1k
    #[arg(value_parser = str::parse::<WeightsName>, required_unless_present = "list")]
    name: Option<WeightsName>,
    /// List torchvision's weights
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// Also write the checkpoint to this .safetensors file, and print its path instead
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Format of the matrices: f32 preserves the published weights exactly, f16 takes half of their size, i8 a quarter
    #[arg(long, value_parser = dtype_parser(), default_value = "f16")]
    dtype: Dtype,
    /// Ask Hugging Face again which commit a name refers to, even if it is cached
    #[arg(long)]
    update: bool,
    /// Folder of the cache [default: $SHORTCUT_CACHE, or shortcut in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Base URL of a mirror of torchvision's files [env: SHORTCUT_TORCHVISION]
    #[arg(long, value_name = "URL")]
    torchvision: Option<String>,
    /// Base URL of a mirror of Hugging Face [env: HF_ENDPOINT]. Private files need an access token in HF_TOKEN
    #[arg(long, value_name = "URL")]
    hugging_face: Option<String>,
    /// Reconnect if no data arrives for this time; the duration of the whole download is not limited
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    /// Maximum number of retries in a row without progress
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,
}

const EXAMPLES: &str = r#"Examples:
  trainer fetch --list
  trainer fetch resnet18@torchvision
  trainer predict cat.jpg --checkpoint "$(trainer fetch resnet50@torchvision-v2)"
  trainer fetch hf://timm/resnet18.a1_in1k --dtype i8 --output models/resnet18.safetensors"#;

fn seconds(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a number of seconds above 0";
    let seconds: f64 = text.parse().map_err(|_| EXPECTED)?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero()).ok_or(EXPECTED.to_owned())
}

impl Fetch {
    pub fn run(self) -> Result<()> {
        let Some(name) = &self.name else { return console::print_result(&weights_table().trim_fmt()) };
        let fetcher = Fetcher {
            cache: DownloadCache::open(self.cache)?,
            endpoints: Endpoints::new(self.torchvision, self.hugging_face)?,
            client: Client::new(self.timeout),
            retries: self.retries,
            update: self.update,
        };
        let (path, checkpoint) =
            fetch(name, self.dtype, &fetcher).map_err(|error| with_advice(error, name, self.update))?;
        let metadata = checkpoint.metadata();
        if metadata.labels == Metadata::new(metadata.architecture).labels {
            console::note("classes have no labels except their indices; set them with `trainer import --labels FILE`");
        }
        console::status(format_args!("{name}: {}", dtypes::summary(&checkpoint)));
        let path = match self.output {
            Some(output) if output.is_dir() => bail!("{} is a folder; choose a file with --output", output.display()),
            Some(output) => {
                checkpoint.save(&output)?;
                output
            }
            None => path,
        };
        console::print_result(&path.display().to_string())
    }
}

/// Adds advice (mirror, proxy, import) to the error of an unreachable server.
fn with_advice(error: Error, name: &WeightsName, is_update: bool) -> Error {
    if !error.is::<Unreachable>() {
        return error;
    }
    let (flag, variable) = match name {
        WeightsName::Torchvision(_) => ("--torchvision", TORCHVISION_VARIABLE),
        WeightsName::HuggingFace(_) => ("--hugging-face", HUGGING_FACE_VARIABLE),
    };
    let cache = match is_update {
        true => "run without --update to use the cache",
        false => "not in the cache",
    };
    anyhow!(
        "{error:#}\n{name}: {cache}. To use a mirror, set {flag} or {variable}; to use a proxy, set HTTPS_PROXY; to use \
         a file obtained in another way, run `trainer import`"
    )
}

/// Lists torchvision's weights, one per line.
fn weights_table() -> Table {
    let mut table = console::table();
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["name", "top-1 (torchvision)", "resize", "file"]);
    let row = |weights: &TorchvisionWeights| {
        let default =
            if weights.is_default() { format!(", {}@torchvision", weights.architecture) } else { String::new() };
        let (name, top1) = (weights.name(), weights.top1());
        [format!("{name}{default}"), format!("{top1:.3} %"), weights.resize.to_string(), weights.file()]
    };
    table.add_rows(TORCHVISION_WEIGHTS.iter().map(row));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_must_be_positive() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "1e40", "soon"] {
            assert!(seconds(text).unwrap_err().contains("above 0"), "{text}");
        }
    }
}
