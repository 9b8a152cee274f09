//! Predictions: probabilities, top-k, and the serialised types that the command line, the REST API and the page share.

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
    /// Probability: softmax over the logits of all classes, divided by the model's temperature if it has one.
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
    /// Whether the probability of the most likely class is below the model's rejection threshold, so that the prediction
    /// should not be trusted. Absent if the model has no threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_threshold: Option<bool>,
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
        let predictions = top_k(logits, row, metadata, k);
        let best = predictions.first().map(|best| best.probability);
        let below_threshold = best.zip(metadata.rejection_threshold).map(|(best, threshold)| best < threshold);
        Prediction {
            predictions,
            model: id.name.clone(),
            version: id.version.clone(),
            architecture: metadata.architecture.name(),
            backend: device.to_string(),
            below_threshold,
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

/// Returns the probability of every class from a row of logits of the model with this metadata: softmax over the logits
/// divided by the model's temperature (Guo et al., 2017, <https://arxiv.org/abs/1706.04599>).
///
/// ```
/// use model::architecture::Architecture;
/// use model::checkpoint::Metadata;
/// use model::prediction::probabilities;
///
/// let metadata = Metadata::new(Architecture::new("resnet18", 2)?);
/// assert_eq!(probabilities(&metadata, &[1.0, 1.0]), [0.5, 0.5]);
/// # Ok::<(), model::architecture::ArchitectureError>(())
/// ```
pub fn probabilities(metadata: &Metadata, logits: &[f32]) -> Vec<f32> {
    let temperature = metadata.temperature.unwrap_or(1.0);
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| ((logit - largest) / temperature).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

/// Returns the `k` most likely classes of image `row` in descending order, or all classes if there are fewer. Equal
/// logits are ordered by index. `metadata` is that of the model.
///
/// ```
/// use model::architecture::Architecture;
/// use model::checkpoint::Metadata;
/// use model::engine::Logits;
/// use model::prediction::top_k;
///
/// let metadata = Metadata::new(Architecture::new("resnet18", 3)?);
/// let logits = Logits { values: vec![0.5, 2.0, -1.0], batch: 1, classes: 3 };
/// let top = top_k(&logits, 0, &metadata, 2);
/// assert_eq!((top[0].label.as_str(), top[1].label.as_str()), ("1", "0"));
/// # Ok::<(), model::architecture::ArchitectureError>(())
/// ```
pub fn top_k(logits: &Logits, row: usize, metadata: &Metadata, k: usize) -> Vec<ClassScore> {
    let logits = logits.row(row);
    let probabilities = probabilities(metadata, logits);
    let label = |index: usize| metadata.labels[index].clone();
    let score = |index| ClassScore { label: label(index), index, probability: probabilities[index] };
    // The order of the logits, because different logits may have equal probabilities after rounding.
    top_k_indices(logits, k).into_iter().map(score).collect()
}

/// Returns the indices of the `k` largest values in descending order, or of all values if there are fewer. Equal
/// values are ordered by index.
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
    use crate::architecture::Architecture;

    fn metadata(temperature: Option<f32>, rejection_threshold: Option<f32>) -> Metadata {
        let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        let architecture = Architecture::new("resnet18", 3).unwrap();
        Metadata { labels, temperature, rejection_threshold, ..Metadata::new(architecture) }
    }

    #[test]
    fn probabilities_do_not_overflow() {
        for temperature in [None, Some(1.0), Some(0.05)] {
            let probabilities = probabilities(&metadata(temperature, None), &[1000.0, 1000.0, -1000.0]);
            assert_eq!(probabilities, [0.5, 0.5, 0.0]);
        }
    }

    /// Expected values: `scipy.special.softmax(numpy.array([3, 1, -2]) / T)`.
    #[test]
    fn temperature_divides_the_logits() {
        for (temperature, expected) in [
            (None, [0.875_600_6, 0.118_499_66, 0.005_899_75]),
            (Some(2.5), [0.631_048_5, 0.283_548_37, 0.085_403_13]),
            (Some(0.5), [0.981_970, 0.017_985_4, 0.000_044_58]),
        ] {
            let actual = probabilities(&metadata(temperature, None), &[3.0, 1.0, -2.0]);
            assert!(actual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{temperature:?}: {actual:?}");
        }
    }

    #[test]
    fn top_k_is_sorted_with_ties_by_index() {
        let logits = Logits { values: vec![9.0, 9.0, 9.0, 0.0, 2.0, 2.0], batch: 2, classes: 3 };
        let top = top_k(&logits, 1, &metadata(None, None), 2);
        assert_eq!(
            top.iter().map(|score| (score.label.as_str(), score.index)).collect::<Vec<_>>(),
            [("b", 1), ("c", 2)]
        );
        assert!((top[0].probability - 0.4683).abs() < 1e-4, "{top:?}");
        assert_eq!(top_k(&logits, 0, &metadata(None, None), 10).len(), 3);
    }

    #[test]
    fn order_does_not_depend_on_the_temperature() {
        let logits = Logits { values: vec![1.0, 2.0, 30.0], batch: 1, classes: 3 };
        let top = top_k(&logits, 0, &metadata(Some(0.05), None), 3);
        assert_eq!(top.iter().map(|score| score.index).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!((top[1].probability, top[2].probability), (0.0, 0.0), "both are rounded to 0");
    }

    #[test]
    fn predictions_below_the_rejection_threshold_are_marked() {
        let logits = Logits { values: vec![0.0, 0.0, -1000.0], batch: 1, classes: 3 };
        let id = ModelId::from_bytes("pets", b"");
        for (threshold, below_threshold, json) in [
            (None, None, ""),
            (Some(0.5), Some(false), r#""below_threshold":false,"#),
            (Some(0.51), Some(true), r#""below_threshold":true,"#),
        ] {
            let metadata = metadata(None, threshold);
            let prediction = Prediction::new(&id, &metadata, Device::Cpu, (&logits, 0), 1, Timing::default());
            assert_eq!(prediction.below_threshold, below_threshold);
            let text = serde_json::to_string(&prediction).unwrap();
            assert!(text.contains(&format!(r#""backend":"cpu",{json}"timing_ms""#)), "{text}");
            assert_eq!(serde_json::from_str::<Prediction>(&text).unwrap(), prediction);
        }
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
