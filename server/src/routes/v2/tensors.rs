//! Parses the body of an inference request: a JSON header, optionally followed by tensors as binary data.

use super::numbers::{self, NonNegative};
use crate::bounded_seq::bounded_seq;
use crate::error::ApiError;
use crate::memory::{MemoryBudget, Reservation};
use half::f16;
use model::engine::{Input, Normalised};
use model::preprocess::ImageBatch;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// Name of the input that takes pixels.
pub const IMAGES: &str = "images";

/// Name of the input that takes normalised values.
pub const INPUT: &str = "input";

/// Name of the output.
pub const LOGITS: &str = "logits";

/// Maximum length of a request's id, in bytes. The response repeats it.
const MAX_ID_BYTES: usize = 1024;

/// An inference request. Tensors with `binary_data_size` follow the JSON in their order.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an inference request, an object with `inputs`")]
pub struct InferRequest<'a> {
    /// Repeated in the response; at most 1024 bytes.
    #[schema(max_length = 1024)]
    pub id: Option<String>,
    parameters: Option<RequestParameters>,
    /// Exactly one tensor: `images` (UINT8 `[n, height, width, 3]`) or `input` (FP32 or FP16 `[n, 3, height, width]`,
    /// normalised).
    #[schema(required)]
    #[serde(borrow, default, deserialize_with = "bounded_seq::<2, _, _>")]
    inputs: Vec<InputTensor<'a>>,
    /// At most one output: `logits`, which is also the default.
    #[schema(value_type = Option<Vec<RequestedOutput>>)]
    #[serde(borrow, default, deserialize_with = "bounded_seq::<2, _, _>")]
    outputs: Vec<RequestedOutput<'a>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "the parameters of a request, an object")]
struct RequestParameters {
    /// Default of `binary_data` for all outputs.
    binary_data_output: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an input, an object with `name`, `shape` and `datatype`")]
struct InputTensor<'a> {
    #[schema(example = "images")]
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[schema(value_type = Vec<u64>, example = json!([1, 224, 224, 3]))]
    #[serde(deserialize_with = "bounded_seq::<5, _, _>")]
    shape: Vec<NonNegative>,
    #[schema(example = "UINT8")]
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    parameters: Option<InputParameters>,
    /// Numbers in row-major order, flat or nested; mutually exclusive with `binary_data_size`.
    #[schema(value_type = Option<Vec<f32>>)]
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "the parameters of an input, an object")]
struct InputParameters {
    /// Size in bytes of the tensor that follows the JSON, in little-endian order.
    #[schema(value_type = Option<u64>)]
    binary_data_size: Option<NonNegative>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an output, an object with `name`")]
struct RequestedOutput<'a> {
    #[schema(example = "logits")]
    #[serde(borrow)]
    name: Cow<'a, str>,
    parameters: Option<OutputParameters>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(expecting = "the parameters of an output, an object")]
struct OutputParameters {
    binary_data: Option<bool>,
    /// Number of classes to return instead of all logits: the most likely ones, as strings `logit:index:label`.
    #[schema(value_type = Option<u64>)]
    classification: Option<NonNegative>,
}

/// The input that a model expects.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedInput {
    /// Height and width of an image, in pixels.
    pub side: usize,
    /// Maximum number of images per request.
    pub max_images: usize,
    /// Mean of each channel, for pixels from 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

/// A parsed inference request.
#[derive(Debug)]
pub struct ParsedRequest {
    pub id: Option<String>,
    /// Batches of one image.
    pub images: Vec<Input>,
    /// Requested outputs, in their order.
    pub outputs: Vec<OutputFormat>,
}

/// The encoding of the logits in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputFormat {
    /// Whether they follow the JSON as binary data.
    pub binary: bool,
    /// Number of most likely classes to return instead of all logits.
    pub classification: Option<usize>,
}

/// Parses a request. `json_length` is the length of the JSON, if binary data follows it. Also returns the reservation
/// for the images, which do not borrow from the body.
///
/// # Errors
/// Returns 400 if the body is malformed, 413 for too many images, and 503 if the memory budget is exhausted.
pub fn parse(
    body: &[u8],
    json_length: Option<usize>,
    expected: ExpectedInput,
    budget: &MemoryBudget,
) -> Result<(ParsedRequest, Reservation), ApiError> {
    let json_length = json_length.unwrap_or(body.len());
    let (json, binary) = body.split_at_checked(json_length).ok_or_else(|| {
        let bytes = body.len();
        ApiError::malformed(format!("the JSON is declared to have {json_length} bytes, but the body has {bytes} bytes"))
    })?;
    let request: InferRequest = serde_json::from_slice(json)
        .map_err(|error| ApiError::malformed(format!("invalid inference request: {error}")))?;
    let [tensor] = request.inputs.as_slice() else {
        return Err(ApiError::malformed(format!("expected one input in `inputs`: `{IMAGES}` or `{INPUT}`")));
    };
    if request.id.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) {
        return Err(ApiError::malformed(format!("`id` is longer than {MAX_ID_BYTES} bytes")));
    }
    let (images, reservation) = parse_images(tensor, binary, expected, budget)?;
    let binary_default = request.parameters.and_then(|parameters| parameters.binary_data_output).unwrap_or(false);
    let outputs = match request.outputs.as_slice() {
        [] => vec![OutputFormat { binary: binary_default, classification: None }],
        [output] => vec![output_format(output, binary_default)?],
        _ => return Err(ApiError::malformed(format!("expected at most one output in `outputs`: `{LOGITS}`"))),
    };
    Ok((ParsedRequest { id: request.id, images, outputs }, reservation))
}

fn output_format(output: &RequestedOutput, binary_default: bool) -> Result<OutputFormat, ApiError> {
    if output.name != LOGITS {
        return Err(ApiError::malformed(format!("unknown output {:?}; the only output is `{LOGITS}`", output.name)));
    }
    let (binary_data, classification) = match &output.parameters {
        Some(parameters) => (parameters.binary_data, parameters.classification),
        None => (None, None),
    };
    let classification = match classification {
        None | Some(NonNegative(0)) => None,
        Some(NonNegative(classes)) => Some(usize::try_from(classes).unwrap_or(usize::MAX)),
    };
    Ok(OutputFormat { binary: binary_data.unwrap_or(binary_default), classification })
}

fn parse_images(
    tensor: &InputTensor,
    binary: &[u8],
    expected: ExpectedInput,
    budget: &MemoryBudget,
) -> Result<(Vec<Input>, Reservation), ApiError> {
    let ExpectedInput { side, max_images, mean, std } = expected;
    let side_u64 = side as u64;
    let image_shape = match &*tensor.name {
        IMAGES => [side_u64, side_u64, 3],
        INPUT => [3, side_u64, side_u64],
        name => {
            return Err(ApiError::malformed(format!(
                "unknown input {name:?}; the inputs are `{IMAGES}` and `{INPUT}`"
            )));
        }
    };
    let shape: Vec<u64> = tensor.shape.iter().map(|NonNegative(length)| *length).collect();
    let count = match shape.as_slice() {
        [count, rest @ ..] if *count > 0 && *rest == image_shape => usize::try_from(*count).unwrap_or(usize::MAX),
        other => {
            let (name, [a, b, c]) = (&tensor.name, image_shape);
            return Err(ApiError::malformed(format!(
                "input `{name}`: invalid shape {other:?}; expected [n, {a}, {b}, {c}]"
            )));
        }
    };
    if count > max_images {
        return Err(ApiError::too_large(format!("at most {max_images} images are accepted per request, got {count}")));
    }
    // No overflow: `count` is at most `max_images`.
    let values_per_image = 3 * side * side;
    let values = count * values_per_image;
    match (&*tensor.name, &*tensor.datatype, tensor_data(tensor, binary)?) {
        (IMAGES, "UINT8", data) => {
            let reservation = budget.reserve(values)?;
            let images = match data {
                TensorData::Binary(bytes) => {
                    split_images(check_size(bytes, values, 1)?, values_per_image, |&byte| byte)
                }
                TensorData::Json(json) => numbers::parse_images(json, count, values_per_image)?,
            };
            let input = |pixels| ImageBatch::new(pixels, [1, side, side], mean, std).map(Input::Pixels);
            let inputs = images.into_iter().map(|pixels| input(pixels).map_err(ApiError::malformed));
            Ok((inputs.collect::<Result<_, _>>()?, reservation))
        }
        (INPUT, datatype @ ("FP32" | "FP16"), data) => {
            let reservation = budget.reserve(values * size_of::<f32>())?;
            let images = match (data, datatype) {
                (TensorData::Binary(bytes), "FP32") => {
                    let values = check_size(bytes, values, 4)?.as_chunks().0;
                    split_images(values, values_per_image, |&bytes| f32::from_le_bytes(bytes))
                }
                (TensorData::Binary(bytes), _) => {
                    let values = check_size(bytes, values, 2)?.as_chunks().0;
                    split_images(values, values_per_image, |&bytes| f16::from_le_bytes(bytes).to_f32())
                }
                (TensorData::Json(json), "FP32") => numbers::parse_images(json, count, values_per_image)?,
                (TensorData::Json(_), _) => return Err(ApiError::malformed("FP16 is supported only as binary data")),
            };
            let inputs = images.into_iter().map(|values| normalised(values, side));
            Ok((inputs.collect::<Result<_, _>>()?, reservation))
        }
        (name, datatype, _) => {
            let supported = if name == IMAGES { "UINT8" } else { "FP32 or FP16" };
            Err(ApiError::malformed(format!("input `{name}`: unsupported datatype {datatype:?}; expected {supported}")))
        }
    }
}

/// Splits a tensor into images and converts its values.
fn split_images<T, V>(values: &[T], values_per_image: usize, convert: impl Fn(&T) -> V) -> Vec<Vec<V>> {
    values.chunks_exact(values_per_image).map(|image| image.iter().map(&convert).collect()).collect()
}

/// Returns one image of normalised values.
fn normalised(values: Vec<f32>, side: usize) -> Result<Input, ApiError> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(ApiError::malformed(format!("input `{INPUT}`: {value} is not a finite number")));
    }
    Normalised::new(values, [1, side, side]).map(Input::Normalised).map_err(ApiError::malformed)
}

/// The values of a tensor as they were sent.
enum TensorData<'a> {
    Json(&'a RawValue),
    Binary(&'a [u8]),
}

fn tensor_data<'a>(tensor: &InputTensor<'a>, binary: &'a [u8]) -> Result<TensorData<'a>, ApiError> {
    let (name, bytes) = (&tensor.name, binary.len());
    let size = tensor.parameters.as_ref().and_then(|parameters| parameters.binary_data_size);
    match (size, tensor.data) {
        (Some(NonNegative(size)), None) if size == bytes as u64 => Ok(TensorData::Binary(binary)),
        (Some(NonNegative(size)), None) => Err(ApiError::malformed(format!(
            "input `{name}`: binary_data_size is {size}, but {bytes} bytes follow the JSON; Inference-Header-Content-Length \
             must be the length of the JSON"
        ))),
        (None, Some(json)) if binary.is_empty() => Ok(TensorData::Json(json)),
        (None, Some(_)) => Err(ApiError::malformed(format!("{bytes} unexpected trailing bytes after the JSON"))),
        (Some(_), Some(_)) => {
            Err(ApiError::malformed(format!("input `{name}`: `data` and `binary_data_size` are mutually exclusive")))
        }
        (None, None) => Err(ApiError::malformed(format!("input `{name}`: `data` or `binary_data_size` is missing"))),
    }
}

/// Checks the size of binary data: `values` values of `value_size` bytes.
fn check_size(bytes: &[u8], values: usize, value_size: usize) -> Result<&[u8], ApiError> {
    let (expected, actual) = (values * value_size, bytes.len());
    if actual == expected {
        Ok(bytes)
    } else {
        Err(ApiError::malformed(format!("{values} values require {expected} bytes of binary data, got {actual}")))
    }
}

#[cfg(test)]
mod tests;
