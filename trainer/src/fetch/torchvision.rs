//! torchvision's weights: the table of `torchvision/models/resnet.py` (0.29), and what is known of the files behind it.

use super::address::TORCHVISION;
use super::download::{Expected, Source};
use super::fetcher::Fetcher;
use super::imagenet;
use anyhow::Result;
use model::architecture::VARIANTS;
use model::checkpoint::{Checkpoint, Metadata, pth};
use model::preprocess::Preprocessing;

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Weights {
    /// As `model::architecture` and torchvision call it.
    pub architecture: &'static str,
    /// 1 for IMAGENET1K_V1, 2 for IMAGENET1K_V2.
    pub version: u8,
    /// What the file's SHA-256 begins with. That tells damage, and hardly malice: the way there is HTTPS.
    pub hash: &'static str,
    /// The short side of a photo after resizing; the crop is 224 for all.
    pub resize: u32,
    /// Thousandths of a percent of ImageNet's validation photos that are classified right, as torchvision counts them.
    top1: u32,
}

const fn weights(architecture: &'static str, version: u8, hash: &'static str, resize: u32, top1: u32) -> Weights {
    Weights { architecture, version, hash, resize, top1 }
}

/// Every file for an architecture of the one table.
#[rustfmt::skip]
pub static WEIGHTS: [Weights; 17] = [
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

impl Weights {
    /// The name that means these weights whatever comes after them.
    pub fn name(&self) -> String {
        format!("{}@torchvision-v{}", self.architecture, self.version)
    }

    pub fn file(&self) -> String {
        format!("{}-{}.pth", self.architecture, self.hash)
    }

    /// In percent of ImageNet's validation photos.
    pub fn top1(&self) -> f64 {
        f64::from(self.top1) / 1e3
    }

    /// Whether `ARCHITECTURE@torchvision` means these, as torchvision's DEFAULT does.
    pub fn is_default(&self) -> bool {
        !WEIGHTS.iter().any(|other| other.architecture == self.architecture && other.version > self.version)
    }

    fn provenance(&self) -> String {
        format!(
            "torchvision's {} with the weights IMAGENET1K_V{}: {TORCHVISION}/{}, trained on ImageNet. Of ImageNet's \
             validation photos {} % are classified right, as torchvision counts them. torchvision is under \
             BSD-3-Clause; ImageNet's terms may apply",
            self.architecture,
            self.version,
            self.file(),
            self.top1()
        )
    }
}

/// What `ARCHITECTURE@SOURCE` names.
pub fn find(architecture: &str, source: &str) -> Result<&'static Weights, String> {
    let versions: Vec<&Weights> = WEIGHTS.iter().filter(|weights| weights.architecture == architecture).collect();
    if source == "timm" {
        return Err(format!("timm's weights lie on Hugging Face: hf://timm/{architecture}.a1_in1k, for one"));
    }
    if versions.is_empty() {
        let known: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
        return Err(format!("torchvision has no weights for {architecture:?} here; known are {}", known.join(", ")));
    }
    let is_meant = |weights: &&&Weights| match source {
        "torchvision" => weights.is_default(),
        _ => weights.name() == format!("{architecture}@{source}"),
    };
    versions.iter().find(is_meant).copied().ok_or_else(|| {
        let names: Vec<String> = versions.iter().map(|weights| weights.name()).collect();
        format!(
            "{architecture}@{source} is unknown; there is {architecture}@torchvision, and of it {}",
            names.join(", ")
        )
    })
}

/// The file, downloaded if need be, as a checkpoint that says what torchvision says of it.
pub fn checkpoint(weights: &Weights, fetcher: &Fetcher) -> Result<Checkpoint> {
    let source = Source {
        address: fetcher.addresses.torchvision.join(&weights.file()),
        token: None,
        expected: Expected::Beginning(weights.hash.to_owned()),
        path: fetcher.cache.download(&weights.file()),
    };
    fetcher.ensure_downloaded(&source)?;
    let checkpoint = pth::import(&source.path)?.with_architecture(weights.architecture)?;
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
    fn the_one_table_of_architectures_is_covered() {
        for variant in &VARIANTS {
            let defaults =
                WEIGHTS.iter().filter(|weights| weights.architecture == variant.name && weights.is_default());
            assert_eq!(defaults.count(), 1, "{}", variant.name);
        }
        for weights in &WEIGHTS {
            assert!(VARIANTS.iter().any(|variant| variant.name == weights.architecture), "{weights:?}");
            assert!(
                weights.hash.len() == 8 && weights.hash.chars().all(|digit| digit.is_ascii_hexdigit()),
                "{weights:?}"
            );
            assert_eq!(find(weights.architecture, &format!("torchvision-v{}", weights.version)), Ok(weights));
        }
    }

    #[test]
    fn files_are_called_as_torchvision_calls_them() {
        let file = |source: &str| find("resnet50", source).unwrap().file();
        assert_eq!(file("torchvision-v1"), "resnet50-0676ba61.pth");
        assert_eq!(file("torchvision"), "resnet50-11ad3fa6.pth");
    }
}
