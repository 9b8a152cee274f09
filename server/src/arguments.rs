//! The command line as it was typed; [`crate::model_files`] makes files of it.

use clap::Parser;
use model::engine::{self, Device, Precision};
use std::num::NonZero;
use std::path::PathBuf;

/// Where checkpoints are looked for when none is named.
pub const DEFAULT_FOLDER: &str = "checkpoints";

/// Classifies photos over HTTP, and shows a page that does so in the browser.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Arguments {
    /// A checkpoint (safetensors) and the name that answers give it; may be repeated
    #[arg(long = "model", value_name = "NAME=PATH", value_parser = named_path)]
    pub models: Vec<(String, PathBuf)>,

    /// A folder whose every *.safetensors is served under its file's name; `checkpoints` if no model is named
    #[arg(long = "models", value_name = "FOLDER")]
    pub folder: Option<PathBuf>,

    /// The model that answers when a request names none, and on which the page opens; else the one with the most classes
    #[arg(long, value_name = "NAME")]
    pub default: Option<String>,

    /// Where to listen; port 0 takes a free one, 0.0.0.0 opens the server to the network
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// What computes: cpu, or if they were built in, flex, webgpu[:N], wgpu[:N] and cuda[:N] (the N-th GPU)
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Device,

    /// Threads for each model on the device cpu; by default as many as there are cores
    #[arg(long, value_name = "N", value_parser = engine::threads)]
    pub threads: Option<NonZero<usize>>,

    /// What is multiplied: f32; bf16 on the device cpu, if the processor has AVX512-BF16; f16 on the device webgpu (both
    /// faster, answers differ a little)
    #[arg(long, value_name = "NAME", default_value_t)]
    pub precision: Precision,
}

const EXAMPLES: &str = "\
Examples:
  server                                      the bundled models, on http://127.0.0.1:8080
  server --model birds=birds.safetensors      a model of your own
  server --models /srv/models --listen 0.0.0.0:80

  curl -F file=@photo.jpg http://127.0.0.1:8080/predict                   a photo; several with more -F
  curl --data-binary @photo.jpg 'http://127.0.0.1:8080/predict?top_k=3'   a photo as it is
  curl http://127.0.0.1:8080/models                                       what is served

The log goes to stderr; RUST_LOG=warn makes it quiet.";

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("expected NAME=PATH, such as birds=checkpoints/birds.safetensors".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_path_may_hold_an_equals_sign() {
        assert_eq!(named_path("a=b=c"), Ok(("a".to_owned(), PathBuf::from("b=c"))));
    }

    #[test]
    fn name_and_path_are_both_needed() {
        for text in ["birds", "=birds.safetensors", "birds="] {
            assert!(named_path(text).unwrap_err().contains("NAME=PATH"), "{text}");
        }
    }
}
