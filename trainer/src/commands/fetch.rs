//! `trainer fetch`: weights by name, from the network once, and from the cache ever after.

use super::formats::{self, dtype_parser};
use crate::console;
use crate::fetch::{
    Addresses, Cache, Client, Fetcher, HUGGING_FACE_VARIABLE, Name, TORCHVISION_VARIABLE, Unreachable, WEIGHTS,
    Weights, fetch,
};
use anyhow::{Error, Result, anyhow, bail};
use clap::Args;
use comfy_table::{ContentArrangement, Table};
use model::checkpoint::{Dtype, Metadata};
use std::path::PathBuf;
use std::time::Duration;

/// Download published weights by name, check them, and import them with labels and preprocessing
///
/// NAME is ARCHITECTURE@torchvision, which means torchvision's newest weights of it (its DEFAULT); the same with -v1 or
/// -v2 behind it, which means IMAGENET1K_V1 or V2; or hf://OWNER/REPO[@REVISION][/FILE], a safetensors file on Hugging
/// Face of a ResNet under torchvision's or timm's tensor names.
///
/// What was fetched stays in the cache, and needs no network a second time. A download that broke off goes on where it
/// stopped; a file whose SHA-256 is not the published one is deleted. The last line on stdout is the checkpoint's path.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Fetch {
    /// Weights to fetch: resnet18@torchvision, hf://timm/resnet18.a1_in1k
    #[arg(value_parser = str::parse::<Name>, required_unless_present = "list")]
    name: Option<Name>,
    /// Show torchvision's weights, and what is known of them
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// Write the checkpoint to this file, too, and name that one: .safetensors
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How matrices are stored: f16 is half of what is published, f32 keeps that bit by bit, i8 is a quarter
    #[arg(long, value_parser = dtype_parser(), default_value = "f16")]
    dtype: Dtype,
    /// Ask what a name on Hugging Face means now, though the cache knows what it meant before
    #[arg(long)]
    update: bool,
    /// Folder of the cache; by default that of SHORTCUT_CACHE, or `shortcut` in XDG_CACHE_HOME or ~/.cache
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Take torchvision's files from a mirror, which SHORTCUT_TORCHVISION names as well
    #[arg(long, value_name = "URL")]
    torchvision: Option<String>,
    /// Take Hugging Face's files from a mirror, which HF_ENDPOINT names as well. HF_TOKEN holds the token for private
    /// files
    #[arg(long, value_name = "URL")]
    hugging_face: Option<String>,
    /// Give a connection up when nothing comes for so long; there is no limit on the whole
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    /// Try so often again without coming any further
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,
}

const EXAMPLES: &str = r#"Examples:
  trainer fetch --list
  trainer fetch resnet18@torchvision
  trainer predict cat.jpg --checkpoint "$(trainer fetch resnet50@torchvision-v2)"
  trainer fetch hf://timm/resnet18.a1_in1k --dtype i8 --output models/resnet18.safetensors"#;

fn seconds(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "a number of seconds above 0 is wanted";
    let seconds: f64 = text.parse().map_err(|_| EXPECTED)?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero()).ok_or(EXPECTED.to_owned())
}

impl Fetch {
    pub fn run(self) -> Result<()> {
        let Some(name) = &self.name else { return console::print_result(&list().trim_fmt()) };
        let fetcher = Fetcher {
            cache: Cache::open(self.cache)?,
            addresses: Addresses::new(self.torchvision, self.hugging_face)?,
            client: Client::new(self.timeout),
            retries: self.retries,
            update: self.update,
        };
        let (path, checkpoint) =
            fetch(name, self.dtype, &fetcher).map_err(|error| advised(error, name, self.update))?;
        let metadata = checkpoint.metadata();
        if metadata.labels == Metadata::new(metadata.architecture).labels {
            console::note(
                "the classes have no names but their index; `trainer import` gives them some with --labels FILE",
            );
        }
        console::status(format_args!("{name}: {}", formats::summary(&checkpoint)));
        let path = match self.output {
            Some(output) if output.is_dir() => bail!("{} is a folder: name a file with --output", output.display()),
            Some(output) => {
                checkpoint.save(&output)?;
                output
            }
            None => path,
        };
        console::print_result(&path.display().to_string())
    }
}

/// What somebody without a network can do.
fn advised(error: Error, name: &Name, is_update: bool) -> Error {
    if !error.is::<Unreachable>() {
        return error;
    }
    let (flag, variable) = match name {
        Name::Torchvision(_) => ("--torchvision", TORCHVISION_VARIABLE),
        Name::HuggingFace(_) => ("--hugging-face", HUGGING_FACE_VARIABLE),
    };
    let cache = if is_update { "without --update, what is in the cache is taken" } else { "not in the cache" };
    anyhow!(
        "{error:#}\n{name}: {cache}. A mirror is named by {flag} or {variable}, a proxy by HTTPS_PROXY; a file that \
         was brought here in another way is read by `trainer import`"
    )
}

/// torchvision's weights, a line each.
fn list() -> Table {
    let mut table = console::table();
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["name", "top-1 by torchvision", "resize", "file"]);
    let row = |weights: &Weights| {
        let newest =
            if weights.is_default() { format!(", {}@torchvision", weights.architecture) } else { String::new() };
        let (name, top1) = (weights.name(), weights.top1());
        [format!("{name}{newest}"), format!("{top1:.3} %"), weights.resize.to_string(), weights.file()]
    };
    table.add_rows(WEIGHTS.iter().map(row));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_above_zero() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "1e40", "soon"] {
            assert!(seconds(text).unwrap_err().contains("above 0"), "{text}");
        }
    }
}
