//! Predictions: softmax, top-k, and the serialised types that the command line, the REST API and the page share.

use crate::checkpoint::Metadata;
use crate::engine::{Device, Logits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name and version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    /// Name of the model; another checkpoint may replace this one under the same name.
    pub name: String,
    /// SHA-256 of its checkpoint file, in hexadecimal; identifies the weights.
    pub version: String,
}

/// A class with its probability.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Ranked))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Readable name of the class; not necessarily unique.
    pub label: String,
    /// Index of the class in the logits.
    pub index: usize,
    /// Probability: softmax over all classes.
    pub probability: f32,
}

/// Duration of each phase of a prediction, in milliseconds.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Time of decoding the photo.
    pub decode: f64,
    /// Time of resizing and cropping the photo.
    pub preprocess: f64,
    /// Time spent waiting for a decoding thread and for the batch to start.
    pub queue: f64,
    /// Time of executing the network.
    pub inference: f64,
    /// Sum of the phases.
    pub total: f64,
}

/// The prediction for one photo.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The most likely classes, in descending order of probability.
    pub predictions: Vec<ClassScore>,
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the model's checkpoint file, in hexadecimal.
    pub version: String,
    /// Name of the model's architecture, such as `resnet50`.
    pub architecture: String,
    /// Name of the device that computed the prediction, such as `cpu` or `webgpu`.
    pub backend: String,
    pub timing_ms: Timing,
}

impl Prediction {
    /// Creates a prediction with the `k` most likely classes from a row of logits that were computed on `device`.
    ///
    /// ```
    /// use model::architecture::Architecture;
    /// use model::checkpoint::Metadata;
    /// use model::engine::{Device, Logits};
    /// use model::prediction::{ModelId, Prediction, Timing};
    ///
    /// let metadata = Metadata::new(Architecture::new("resnet18", 3)?);
    /// let id = ModelId::from_bytes("pets", b"the bytes of a checkpoint");
    /// let logits = Logits { values: vec![0.5, 2.0, -1.0], batch: 1, classes: 3 };
    /// let prediction = Prediction::new(&id, &metadata, Device::Cpu, (&logits, 0), 2, Timing::default());
    /// assert_eq!(prediction.predictions[0].label, "1");
    /// # Ok::<(), model::architecture::ArchitectureError>(())
    /// ```
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
    /// Creates a timing from its phases; `total` is their sum.
    pub fn new(decode: f64, preprocess: f64, queue: f64, inference: f64) -> Self {
        Timing { decode, preprocess, queue, inference, total: decode + preprocess + queue + inference }
    }
}

impl ModelId {
    /// Hashes the bytes of a checkpoint file.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Self {
        Self::from_hash(name, Sha256::digest(bytes))
    }

    /// Hashes a checkpoint file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_file(name: &str, path: &std::path::Path) -> std::io::Result<Self> {
        use std::io::BufRead;
        let mut file = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
        let mut hasher = Sha256::new();
        loop {
            let bytes = file.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            let length = bytes.len();
            file.consume(length);
        }
        Ok(Self::from_hash(name, hasher.finalize()))
    }

    fn from_hash(name: &str, hash: impl AsRef<[u8]>) -> Self {
        ModelId { name: name.to_owned(), version: hex::encode(hash) }
    }
}

/// The body of an error response.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: FailureDetail,
}

/// An error: a code for programs and a message for people.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureDetail {
    /// Code of the kind of error, such as `too_large`.
    pub code: String,
    /// Message for people.
    pub message: String,
}

impl Failure {
    pub fn new(code: &str, message: impl ToString) -> Self {
        Failure { error: FailureDetail { code: code.to_owned(), message: message.to_string() } }
    }
}

/// The result for one of several photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PhotoOutcome {
    Prediction(Prediction),
    Failure(Failure),
}

/// Returns the probability of every class from a row of logits.
///
/// ```
/// use model::prediction::softmax;
///
/// assert_eq!(softmax(&[1.0, 1.0]), [0.5, 0.5]);
/// ```
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

/// Returns the `k` most likely classes of image `row` in descending order, or all classes if there are fewer. Equal
/// probabilities are ordered by index. `labels` holds the label of every class.
///
/// ```
/// use model::engine::Logits;
/// use model::prediction::top_k;
///
/// let logits = Logits { values: vec![0.5, 2.0, -1.0], batch: 1, classes: 3 };
/// let labels = ["ant", "bee", "cat"].map(str::to_owned);
/// let top = top_k(&logits, 0, &labels, 2);
/// assert_eq!((top[0].label.as_str(), top[1].label.as_str()), ("bee", "ant"));
/// ```
pub fn top_k(logits: &Logits, row: usize, labels: &[String], k: usize) -> Vec<ClassScore> {
    let probabilities = softmax(logits.row(row));
    let score = |index: usize| ClassScore { label: labels[index].clone(), index, probability: probabilities[index] };
    top_k_indices(&probabilities, k).into_iter().map(score).collect()
}

/// Returns the indices of the `k` largest values in descending order, or of all values if there are fewer. Equal
/// values are ordered by index. Probabilities and logits give the same order.
pub fn top_k_indices(values: &[f32], k: usize) -> Vec<usize> {
    let descending = |&a: &usize, &b: &usize| values[b].total_cmp(&values[a]).then(a.cmp(&b));
    let mut order: Vec<usize> = (0..values.len()).collect();
    // Only the first `k` of possibly a thousand classes need to be sorted.
    if k < order.len() {
        order.select_nth_unstable_by(k, descending);
        order.truncate(k);
    }
    order.sort_unstable_by(descending);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_does_not_overflow() {
        let probabilities = softmax(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(probabilities, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn top_k_is_sorted_with_ties_by_index() {
        let logits = Logits { values: vec![9.0, 9.0, 9.0, 0.0, 2.0, 2.0], batch: 2, classes: 3 };
        let labels = ["a", "b", "c"].map(str::to_owned);
        let top = top_k(&logits, 1, &labels, 2);
        assert_eq!(
            top.iter().map(|score| (score.label.as_str(), score.index)).collect::<Vec<_>>(),
            [("b", 1), ("c", 2)]
        );
        assert!((top[0].probability - 0.4683).abs() < 1e-4, "{top:?}");
        assert_eq!(top_k(&logits, 0, &labels, 10).len(), 3);
    }

    #[test]
    fn top_k_indices_are_a_prefix_of_the_full_order() {
        // Unsorted values with duplicates.
        let values: Vec<f32> = (0..1000).map(|index| ((index * 7919) % 331) as f32).collect();
        let all = top_k_indices(&values, 1000);
        assert!(all.windows(2).all(|two| (-values[two[0]], two[0]) < (-values[two[1]], two[1])));
        for k in [0, 1, 5, 999, 2000] {
            assert_eq!(top_k_indices(&values, k), all[..k.min(1000)], "{k}");
        }
    }

    #[test]
    fn photo_outcome_round_trips_through_json() {
        let failure = PhotoOutcome::Failure(Failure::new("undecodable", "bad photo"));
        let json = serde_json::to_string(&failure).unwrap();
        assert_eq!(json, r#"{"error":{"code":"undecodable","message":"bad photo"}}"#);
        assert_eq!(serde_json::from_str::<PhotoOutcome>(&json).unwrap(), failure);
    }
}
