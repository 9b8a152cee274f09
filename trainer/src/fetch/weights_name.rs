//! Names of published weights: `resnet18@torchvision`, `hf://timm/resnet18.a1_in1k`.

use super::torchvision::{self, TorchvisionWeights};
use std::fmt;
use std::str::FromStr;

/// Name of published weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightsName {
    Torchvision(&'static TorchvisionWeights),
    HuggingFace(Repository),
}

/// A file in a repository on Hugging Face. Its parts are validated, since URLs and file names are composed of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub owner: String,
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    pub file: String,
}

const DEFAULT_REVISION: &str = "main";
const DEFAULT_FILE: &str = "model.safetensors";

const SCHEME: &str = "hf://";
const EXPECTED: &str = "expected a name such as resnet18@torchvision or hf://OWNER/REPO; `trainer fetch --list` shows \
                        torchvision's weights";

impl WeightsName {
    /// Returns the unique file name, without extension, of the checkpoint in the cache. It contains no slash; `--`
    /// separates its parts, since owners on Hugging Face cannot contain it.
    pub fn stem(&self) -> String {
        match self {
            WeightsName::Torchvision(weights) => weights.name(),
            WeightsName::HuggingFace(Repository { owner, name, revision, file }) => {
                let file = file.strip_suffix(".safetensors").unwrap_or(file).replace('/', "--");
                let file = if file == "model" { String::new() } else { format!("--{file}") };
                format!("{owner}--{name}@{revision}{file}")
            }
        }
    }
}

impl fmt::Display for WeightsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightsName::Torchvision(weights) => f.write_str(&weights.name()),
            WeightsName::HuggingFace(repository) => repository.fmt(f),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repository { owner, name, revision, file } = self;
        write!(f, "{SCHEME}{owner}/{name}")?;
        if revision != DEFAULT_REVISION {
            write!(f, "@{revision}")?;
        }
        if file != DEFAULT_FILE {
            write!(f, "/{file}")?;
        }
        Ok(())
    }
}

impl FromStr for WeightsName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(SCHEME) {
            return parse_repository(path).map(WeightsName::HuggingFace);
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(format!("URLs are not supported, because their hash is unknown; {EXPECTED}"));
        }
        match text.split_once('@') {
            Some((architecture, source)) => torchvision::find(architecture, source).map(WeightsName::Torchvision),
            None => Err(format!("{text:?} does not name a source; {EXPECTED}")),
        }
    }
}

/// Parses `OWNER/REPO[@REVISION][/FILE]`.
fn parse_repository(path: &str) -> Result<Repository, String> {
    let expected = |problem: &str| format!("{problem}; expected hf://OWNER/REPO[@REVISION][/FILE]");
    let (owner, rest) = path.split_once('/').ok_or_else(|| expected("repository is missing"))?;
    let (repository, file) = rest.split_once('/').unwrap_or((rest, DEFAULT_FILE));
    let (name, revision) = repository.split_once('@').unwrap_or((repository, DEFAULT_REVISION));
    for part in [owner, name, revision].into_iter().chain(file.split('/')) {
        // A slash in a revision is written as %2F.
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-%".contains(letter);
        if part.is_empty() || part.starts_with('.') || !part.chars().all(is_allowed) {
            return Err(expected(&format!("invalid part {part:?}")));
        }
    }
    if !file.ends_with(".safetensors") {
        return Err(format!("{file}: only .safetensors files are fetched from Hugging Face"));
    }
    let [owner, name, revision, file] = [owner, name, revision, file].map(str::to_owned);
    Ok(Repository { owner, name, revision, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<WeightsName, String> {
        text.parse()
    }

    #[test]
    fn names_are_displayed_as_parsed_and_have_unique_stems() {
        for (text, stem) in [
            ("resnet18@torchvision-v1", "resnet18@torchvision-v1"),
            ("resnet50@torchvision-v2", "resnet50@torchvision-v2"),
            ("hf://timm/resnet18.a1_in1k", "timm--resnet18.a1_in1k@main"),
            ("hf://me/birds@v1.0", "me--birds@v1.0"),
            ("hf://me/birds@refs%2Fpr%2F1/last/ema.safetensors", "me--birds@refs%2Fpr%2F1--last--ema"),
        ] {
            let name = parse(text).unwrap();
            assert_eq!((name.to_string(), name.stem()), (text.to_owned(), stem.to_owned()));
        }
    }

    #[test]
    fn omitted_parts_have_defaults() {
        assert_eq!(parse("hf://me/birds@main/model.safetensors"), parse("hf://me/birds"));
        assert_eq!(parse("resnet18@torchvision"), parse("resnet18@torchvision-v1"), "the newest version");
        assert_eq!(parse("resnet50@torchvision"), parse("resnet50@torchvision-v2"), "the newest version");
    }

    #[test]
    fn invalid_names_are_rejected_with_what_is_expected() {
        for (text, reason) in [
            ("resnet18", "resnet18@torchvision"),
            ("https://download.pytorch.org/models/resnet18-f37072fd.pth", "resnet18@torchvision"),
            ("resnet19@torchvision", "resnet18, resnet34"),
            ("resnet18@torchvision-v2", "resnet18@torchvision-v1"),
            ("resnet50_v1@torchvision", "resnet18, resnet34"),
            ("resnet18@timm", "hf://timm/"),
            ("resnet18@keras", "torchvision-v1"),
            ("hf://timm", "hf://OWNER/REPO"),
            ("hf://timm/", "hf://OWNER/REPO"),
            ("hf://../../etc/passwd", "\"..\""),
            ("hf://me/birds/../model.safetensors", "\"..\""),
            ("hf://me/birds?x", "\"birds?x\""),
            ("hf://me/birds@", "\"\""),
            ("hf://me/birds/pytorch_model.bin", "pytorch_model.bin: only .safetensors"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
