//! From logits to the answer: softmax, top-k, and the one schema that CLI, REST, page and widget speak.

use crate::checkpoint::Metadata;
use crate::engine::{Device, Logits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Which model answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    /// What it is called here; another checkpoint may take the name over.
    pub name: String,
    /// SHA-256 of its checkpoint, in hexadecimal: which weights they were.
    pub version: String,
}

/// One class of an answer.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The readable name; not always unique.
    pub label: String,
    /// The class by its index in the logits.
    pub index: usize,
    /// Softmax over all classes.
    pub probability: f32,
}

/// Milliseconds by phase. `queue` is the wait for a thread that decodes, and for the batch to begin.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    pub decode: f64,
    pub preprocess: f64,
    pub queue: f64,
    pub inference: f64,
    pub total: f64,
}

/// The answer for one photo.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The likeliest classes, likeliest first.
    pub predictions: Vec<Ranked>,
    /// Name of the model that answered.
    pub model: String,
    /// SHA-256 of its checkpoint, in hexadecimal.
    pub version: String,
    /// Name of its architecture, as [`crate::architecture::Architecture::name`] gives it.
    pub architecture: String,
    /// Name of the device that computed, as [`crate::engine::Device`] writes it.
    pub backend: String,
    pub timing_ms: Timing,
}

impl Prediction {
    /// From a row of logits, computed on `device` by the model of these labels and that architecture.
    pub fn new(
        id: &ModelId,
        metadata: &Metadata,
        device: Device,
        (logits, row): (&Logits, usize),
        k: usize,
        timing_ms: Timing,
    ) -> Self {
        Prediction {
            predictions: top_k(logits, row, &metadata.labels, k),
            model: id.name.clone(),
            version: id.version.clone(),
            architecture: metadata.architecture.name(),
            backend: device.to_string(),
            timing_ms,
        }
    }
}

impl Timing {
    /// The phases with their sum.
    pub fn new(decode: f64, preprocess: f64, queue: f64, inference: f64) -> Self {
        Timing { decode, preprocess, queue, inference, total: decode + preprocess + queue + inference }
    }
}

impl ModelId {
    /// Of the bytes of its checkpoint.
    pub fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        Self::hashed(name, Sha256::digest(bytes))
    }

    /// Of the file of its checkpoint.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn of_file(name: &str, path: &std::path::Path) -> std::io::Result<Self> {
        use std::io::BufRead;
        let mut file = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
        let mut hasher = Sha256::new();
        loop {
            let bytes = file.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            let taken = bytes.len();
            file.consume(taken);
        }
        Ok(Self::hashed(name, hasher.finalize()))
    }

    fn hashed(name: &str, hash: impl AsRef<[u8]>) -> Self {
        let version = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        ModelId { name: name.to_owned(), version }
    }
}

/// Why there is no answer: a code that a program can match and a sentence for a person.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: FailureDetail,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureDetail {
    pub code: String,
    pub message: String,
}

impl Failure {
    pub fn new(code: &str, message: impl ToString) -> Self {
        Failure { error: FailureDetail { code: code.to_owned(), message: message.to_string() } }
    }
}

/// One of several photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    Prediction(Prediction),
    Failure(Failure),
}

/// The answer for several photos, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub results: Vec<Outcome>,
}

/// The probability of every class from a row of logits.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

/// The `k` likeliest classes of image `row` (all of them if there are fewer); of equals the lower index comes first.
/// `labels` holds a name for every class.
pub fn top_k(logits: &Logits, row: usize, labels: &[String], k: usize) -> Vec<Ranked> {
    let probabilities = softmax(logits.row(row));
    let ranked = |index: usize| Ranked { label: labels[index].clone(), index, probability: probabilities[index] };
    ranking(&probabilities, k).into_iter().map(ranked).collect()
}

/// The `k` likeliest classes (all of them if there are fewer), the likeliest first; of equals the lower index. Probabilities or
/// logits tell the same.
pub fn ranking(values: &[f32], k: usize) -> Vec<usize> {
    let by_likelihood = |&a: &usize, &b: &usize| values[b].total_cmp(&values[a]).then(a.cmp(&b));
    let mut order: Vec<usize> = (0..values.len()).collect();
    // Of a thousand classes only the few are put in order.
    if k < order.len() {
        order.select_nth_unstable_by(k, by_likelihood);
        order.truncate(k);
    }
    order.sort_unstable_by(by_likelihood);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_survives_large_logits() {
        let probabilities = softmax(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(probabilities, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn top_k_is_sorted_and_stable() {
        let logits = Logits { values: vec![9.0, 9.0, 9.0, 0.0, 2.0, 2.0], batch: 2, classes: 3 };
        let labels = ["a", "b", "c"].map(str::to_owned);
        let ranked = top_k(&logits, 1, &labels, 2);
        assert_eq!(ranked.iter().map(|r| (r.label.as_str(), r.index)).collect::<Vec<_>>(), [("b", 1), ("c", 2)]);
        assert!((ranked[0].probability - 0.4683).abs() < 1e-4, "{ranked:?}");
        assert_eq!(top_k(&logits, 0, &labels, 10).len(), 3);
    }

    #[test]
    fn the_first_of_a_ranking_are_the_same_however_many_are_asked_for() {
        // With equals, and in no order.
        let values: Vec<f32> = (0..1000).map(|index| ((index * 7919) % 331) as f32).collect();
        let all = ranking(&values, 1000);
        assert!(all.windows(2).all(|two| (-values[two[0]], two[0]) < (-values[two[1]], two[1])));
        for k in [0, 1, 5, 999, 2000] {
            assert_eq!(ranking(&values, k), all[..k.min(1000)], "{k}");
        }
    }

    #[test]
    fn an_outcome_is_read_back_as_what_it_was() {
        let failure = Outcome::Failure(Failure::new("undecodable", "bad photo"));
        let json = serde_json::to_string(&failure).unwrap();
        assert_eq!(json, r#"{"error":{"code":"undecodable","message":"bad photo"}}"#);
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), failure);
    }
}
