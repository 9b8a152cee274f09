//! What a user calls weights: `resnet18@torchvision`, `hf://timm/resnet18.a1_in1k`.

use super::torchvision::{self, Weights};
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Torchvision(&'static Weights),
    HuggingFace(Repository),
}

/// A file in a repository on Hugging Face. The parts are checked: they become parts of addresses and of file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub owner: String,
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    pub file: String,
}

pub const DEFAULT_REVISION: &str = "main";
pub const DEFAULT_FILE: &str = "model.safetensors";

const SCHEME: &str = "hf://";
const EXPECTED: &str = "a name such as resnet18@torchvision or hf://OWNER/REPO is wanted; `trainer fetch --list` shows \
                        torchvision's";

impl Name {
    /// Of the checkpoint in the cache, and what tells it from all others. It never has a slash; two hyphens stand in no
    /// owner's name.
    pub fn stem(&self) -> String {
        match self {
            Name::Torchvision(weights) => weights.name(),
            Name::HuggingFace(Repository { owner, name, revision, file }) => {
                let file = file.strip_suffix(".safetensors").unwrap_or(file).replace('/', "--");
                let file = if file == "model" { String::new() } else { format!("--{file}") };
                format!("{owner}--{name}@{revision}{file}")
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Torchvision(weights) => f.write_str(&weights.name()),
            Name::HuggingFace(repository) => repository.fmt(f),
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

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(SCHEME) {
            return repository(path).map(Name::HuggingFace);
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(format!("addresses are not taken, for nothing tells the right hash; {EXPECTED}"));
        }
        match text.split_once('@') {
            Some((architecture, source)) => torchvision::find(architecture, source).map(Name::Torchvision),
            None => Err(format!("nothing says where {text:?} comes from; {EXPECTED}")),
        }
    }
}

/// `OWNER/REPO[@REVISION][/FILE]`
fn repository(path: &str) -> Result<Repository, String> {
    let expected = |what: &str| format!("{what}; hf://OWNER/REPO[@REVISION][/FILE] is wanted");
    let (owner, rest) = path.split_once('/').ok_or_else(|| expected("the repository is missing"))?;
    let (repository, file) = rest.split_once('/').unwrap_or((rest, DEFAULT_FILE));
    let (name, revision) = repository.split_once('@').unwrap_or((repository, DEFAULT_REVISION));
    for part in [owner, name, revision].into_iter().chain(file.split('/')) {
        // A revision with a slash is written with %2F.
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-%".contains(letter);
        if part.is_empty() || part.starts_with('.') || !part.chars().all(is_plain) {
            return Err(expected(&format!("{part:?} is no part of a name on Hugging Face")));
        }
    }
    if !file.ends_with(".safetensors") {
        return Err(format!("{file} is no .safetensors, and nothing else is taken from Hugging Face"));
    }
    let [owner, name, revision, file] = [owner, name, revision, file].map(str::to_owned);
    Ok(Repository { owner, name, revision, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Name, String> {
        text.parse()
    }

    #[test]
    fn names_come_back_as_they_were_and_have_stems() {
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
    fn what_is_left_out_is_filled_in() {
        assert_eq!(parse("hf://me/birds@main/model.safetensors"), parse("hf://me/birds"));
        assert_eq!(parse("resnet18@torchvision"), parse("resnet18@torchvision-v1"), "the newest there is");
        assert_eq!(parse("resnet50@torchvision"), parse("resnet50@torchvision-v2"), "the newest there is");
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_would_be() {
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
            ("hf://me/birds/pytorch_model.bin", "pytorch_model.bin is no .safetensors"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
