//! torchvision's weights: the table of `torchvision/models/resnet.py` (0.29), and the metadata of its files.

use super::download::{ExpectedHash, RemoteFile};
use super::endpoints::TORCHVISION_URL;
use super::fetcher::Fetcher;
use super::imagenet;
use anyhow::Result;
use model::architecture::VARIANTS;
use model::checkpoint::{Checkpoint, Metadata, pth};
use model::preprocess::Preprocessing;

/// A row of the table: one file of weights.
#[derive(Debug, PartialEq, Eq)]
pub struct TorchvisionWeights {
    /// Name of the architecture, in `model::architecture` and in torchvision.
    pub architecture: &'static str,
    /// 1 for IMAGENET1K_V1, 2 for IMAGENET1K_V2.
    pub version: u8,
    /// First 8 digits of the file's SHA-256. They detect damage, but hardly an attack, which HTTPS has to prevent.
    pub hash: &'static str,
    /// Short side of a photo after resizing, in pixels; the crop is always 224.
    pub resize: u32,
    /// Top-1 accuracy on ImageNet's validation set as torchvision reports it, in thousandths of a percent.
    top1: u32,
}

const fn weights(
    architecture: &'static str,
    version: u8,
    hash: &'static str,
    resize: u32,
    top1: u32,
) -> TorchvisionWeights {
    TorchvisionWeights { architecture, version, hash, resize, top1 }
}

/// All files for architectures of `model::architecture`.
#[rustfmt::skip]
pub static TORCHVISION_WEIGHTS: [TorchvisionWeights; 17] = [
    weights("resnet18",         1, "f37072fd", 256, 69_758),
    weights("resnet34",         1, "b627a593", 256, 73_314),
    weights("resnet50",         1, "0676ba61", 256, 76_130),
    weights("resnet50",         2, "11ad3fa6", 232, 80_858),
    weights("resnet101",        1, "63fe2227", 256, 77_374),
    weights("resnet101",        2, "cd907fc2", 232, 81_886),
    weights("resnet152",        1, "394f9c45", 256, 78_312),
    weights("resnet152",        2, "f82ba261", 232, 82_284),
    weights("resnext50_32x4d",  1, "7cdf4587", 256, 77_618),
    weights("resnext50_32x4d",  2, "1a0047aa", 232, 81_198),
    weights("resnext101_32x8d", 1, "8ba56ff5", 256, 79_312),
    weights("resnext101_32x8d", 2, "110c445d", 232, 82_834),
    weights("resnext101_64x4d", 1, "173b62eb", 232, 83_246),
    weights("wide_resnet50_2",  1, "95faca4d", 256, 78_468),
    weights("wide_resnet50_2",  2, "9ba9bcbe", 232, 81_602),
    weights("wide_resnet101_2", 1, "32ee1156", 256, 78_848),
    weights("wide_resnet101_2", 2, "d733dc28", 232, 82_510),
];

impl TorchvisionWeights {
    /// Returns the name with the version, which keeps its meaning when torchvision publishes newer weights.
    pub fn name(&self) -> String {
        format!("{}@torchvision-v{}", self.architecture, self.version)
    }

    /// Returns the name of the file, as published.
    pub fn file(&self) -> String {
        format!("{}-{}.pth", self.architecture, self.hash)
    }

    /// Returns the top-1 accuracy on ImageNet's validation set as torchvision reports it, in percent.
    pub fn top1(&self) -> f64 {
        f64::from(self.top1) / 1e3
    }

    /// Returns whether `ARCHITECTURE@torchvision` refers to these weights, as torchvision's `DEFAULT` does.
    pub fn is_default(&self) -> bool {
        !TORCHVISION_WEIGHTS.iter().any(|other| other.architecture == self.architecture && other.version > self.version)
    }

    fn provenance(&self) -> String {
        format!(
            "torchvision's {} with weights IMAGENET1K_V{}, trained on ImageNet: {TORCHVISION_URL}/{}. Top-1 accuracy on \
             ImageNet's validation set, as reported by torchvision: {} %. torchvision's license is BSD-3-Clause; \
             ImageNet's terms may apply",
            self.architecture,
            self.version,
            self.file(),
            self.top1()
        )
    }
}

/// Returns the weights that `ARCHITECTURE@SOURCE` refers to.
///
/// # Errors
/// Returns a message with the available names if there are none.
pub fn find(architecture: &str, source: &str) -> Result<&'static TorchvisionWeights, String> {
    let versions: Vec<&TorchvisionWeights> =
        TORCHVISION_WEIGHTS.iter().filter(|weights| weights.architecture == architecture).collect();
    if source == "timm" {
        return Err(format!("timm's weights are on Hugging Face: use a name such as hf://timm/{architecture}.a1_in1k"));
    }
    if versions.is_empty() {
        let known: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
        return Err(format!("no torchvision weights for {architecture:?}; known architectures: {}", known.join(", ")));
    }
    let is_requested = |weights: &&&TorchvisionWeights| match source {
        "torchvision" => weights.is_default(),
        _ => weights.name() == format!("{architecture}@{source}"),
    };
    versions.iter().find(is_requested).copied().ok_or_else(|| {
        let names: Vec<String> = versions.iter().map(|weights| weights.name()).collect();
        format!("unknown weights {architecture}@{source}; available: {architecture}@torchvision, {}", names.join(", "))
    })
}

/// Downloads the file if necessary, and imports it with torchvision's labels and preprocessing.
///
/// # Errors
/// Returns an error if the file cannot be downloaded, verified or imported.
pub fn checkpoint(weights: &TorchvisionWeights, fetcher: &Fetcher) -> Result<Checkpoint> {
    let remote = RemoteFile {
        url: fetcher.endpoints.torchvision.join(&weights.file()),
        token: None,
        expected: ExpectedHash::Prefix(weights.hash.to_owned()),
        path: fetcher.cache.download(&weights.file()),
    };
    fetcher.ensure_downloaded(&remote)?;
    let checkpoint = pth::import(&remote.path)?.with_architecture(weights.architecture)?;
    let (classes, labels) = imagenet::names();
    let metadata = Metadata {
        classes,
        labels,
        preprocessing: Preprocessing { resize: weights.resize, ..Preprocessing::default() },
        provenance: Some(weights.provenance()),
        ..checkpoint.metadata().clone()
    };
    Ok(checkpoint.with_metadata(metadata)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_default_weights() {
        for variant in &VARIANTS {
            let defaults = TORCHVISION_WEIGHTS
                .iter()
                .filter(|weights| weights.architecture == variant.name && weights.is_default());
            assert_eq!(defaults.count(), 1, "{}", variant.name);
        }
        for weights in &TORCHVISION_WEIGHTS {
            assert!(VARIANTS.iter().any(|variant| variant.name == weights.architecture), "{weights:?}");
            assert!(
                weights.hash.len() == 8 && weights.hash.chars().all(|digit| digit.is_ascii_hexdigit()),
                "{weights:?}"
            );
            assert_eq!(find(weights.architecture, &format!("torchvision-v{}", weights.version)), Ok(weights));
        }
    }

    #[test]
    fn file_names_are_torchvisions() {
        let file = |source: &str| find("resnet50", source).unwrap().file();
        assert_eq!(file("torchvision-v1"), "resnet50-0676ba61.pth");
        assert_eq!(file("torchvision"), "resnet50-11ad3fa6.pth");
    }
}
