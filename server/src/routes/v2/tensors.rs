//! The body of an inference request: a JSON header, behind which tensors may follow as binary data.

use super::numbers::{self, Whole};
use super::{IMAGES, INPUT, LOGITS};
use crate::body::Share;
use crate::error::ApiError;
use crate::few::few;
use half::f16;
use model::engine::{Input, Normalised};
use model::preprocess::ImageBatch;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// Bytes of an id, which comes back in the answer.
const LONGEST_ID: usize = 1024;

/// An inference request. Tensors whose `binary_data_size` is given follow the JSON in their order.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an inference request, an object with `inputs`")]
pub struct InferRequest<'a> {
    /// Comes back in the answer; at most 1024 bytes.
    #[schema(max_length = 1024)]
    pub id: Option<String>,
    parameters: Option<RequestParameters>,
    /// Exactly one: `images` (UINT8 `[n, height, width, 3]`) or `input` (FP32 or FP16 `[n, 3, height, width]`, normalised).
    #[schema(required)]
    #[serde(borrow, default, deserialize_with = "few::<2, _, _>")]
    inputs: Vec<InputTensor<'a>>,
    /// `logits`, or nothing, which means it.
    #[schema(value_type = Option<Vec<RequestedOutput>>)]
    #[serde(borrow, default, deserialize_with = "few::<2, _, _>")]
    outputs: Vec<RequestedOutput<'a>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "the parameters of a request, an object")]
struct RequestParameters {
    /// Whether outputs come as binary data that do not say so themselves.
    binary_data_output: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an input, an object with `name`, `shape` and `datatype`")]
struct InputTensor<'a> {
    #[schema(example = "images")]
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[schema(value_type = Vec<u64>, example = json!([1, 224, 224, 3]))]
    #[serde(deserialize_with = "few::<5, _, _>")]
    shape: Vec<Whole>,
    #[schema(example = "UINT8")]
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    parameters: Option<InputParameters>,
    /// Numbers row by row, flat or nested; not with `binary_data_size`.
    #[schema(value_type = Option<Vec<f32>>)]
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "the parameters of an input, an object")]
struct InputParameters {
    /// Bytes of the tensor behind the JSON, little endian.
    #[schema(value_type = Option<u64>)]
    binary_data_size: Option<Whole>,
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
    /// The likeliest classes instead of all logits: so many strings `logit:index:label`.
    #[schema(value_type = Option<u64>)]
    classification: Option<Whole>,
}

/// What a request may hold.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Of an image, in pixels.
    pub side: usize,
    /// Images at most.
    pub images: usize,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// What a request asks.
#[derive(Debug)]
pub struct Asked {
    pub id: Option<String>,
    /// Batches of one.
    pub images: Vec<Input>,
    /// In the order in which they come.
    pub outputs: Vec<Output>,
}

/// How the logits are to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    pub binary: bool,
    /// So many of the likeliest classes, instead of all logits.
    pub classification: Option<usize>,
}

/// `json` is the length of the JSON, if something follows it. `share` grows by what is asked, of which nothing lies in the body.
///
/// # Errors
/// What is wrong with the body: 400, and 413 for more images than may be; those of [`Share::grow`].
pub fn parse(body: &[u8], json: Option<usize>, expected: Expected, share: &Share) -> Result<Asked, ApiError> {
    let json = json.unwrap_or(body.len());
    let (json, binary) = body.split_at_checked(json).ok_or_else(|| {
        ApiError::malformed(format!("the JSON is said to have {json} bytes, and the body has {}", body.len()))
    })?;
    let request: InferRequest = serde_json::from_slice(json)
        .map_err(|error| ApiError::malformed(format!("this is no inference request: {error}")))?;
    let [tensor] = request.inputs.as_slice() else {
        return Err(ApiError::malformed(format!("one input is expected in `inputs`, `{IMAGES}` or `{INPUT}`")));
    };
    if request.id.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
        return Err(ApiError::malformed(format!("an `id` of at most {LONGEST_ID} bytes is expected")));
    }
    let images = images(tensor, binary, expected, share)?;
    let is_binary = request.parameters.and_then(|parameters| parameters.binary_data_output).unwrap_or(false);
    let outputs = match request.outputs.as_slice() {
        [] => vec![Output { binary: is_binary, classification: None }],
        [one] => vec![output(one, is_binary)?],
        _ => return Err(ApiError::malformed(format!("{LOGITS:?} is the only output, and expected once"))),
    };
    Ok(Asked { id: request.id, images, outputs })
}

/// `is_binary` if it does not say so itself.
fn output(output: &RequestedOutput, is_binary: bool) -> Result<Output, ApiError> {
    if output.name != LOGITS {
        return Err(ApiError::malformed(format!("there is no output {:?}; there is {LOGITS:?}", output.name)));
    }
    let (binary_data, classification) = match &output.parameters {
        Some(parameters) => (parameters.binary_data, parameters.classification),
        None => (None, None),
    };
    let classification = match classification {
        None | Some(Whole(0)) => None,
        Some(Whole(classes)) => Some(usize::try_from(classes).unwrap_or(usize::MAX)),
    };
    Ok(Output { binary: binary_data.unwrap_or(is_binary), classification })
}

fn images(tensor: &InputTensor, binary: &[u8], expected: Expected, share: &Share) -> Result<Vec<Input>, ApiError> {
    let Expected { side, images, mean, std } = expected;
    let side_u64 = side as u64;
    let shape = match &*tensor.name {
        IMAGES => [side_u64, side_u64, 3],
        INPUT => [3, side_u64, side_u64],
        name => {
            return Err(ApiError::malformed(format!("there is no input {name:?}; there are {IMAGES:?} and {INPUT:?}")));
        }
    };
    let lengths: Vec<u64> = tensor.shape.iter().map(|Whole(length)| *length).collect();
    let count = match lengths.as_slice() {
        [count, rest @ ..] if *count > 0 && *rest == shape => usize::try_from(*count).unwrap_or(usize::MAX),
        other => {
            let [a, b, c] = shape;
            return Err(ApiError::malformed(format!("{}: the shape {other:?} is not [n, {a}, {b}, {c}]", tensor.name)));
        }
    };
    if count > images {
        return Err(ApiError::too_large(format!("at most {images} images are taken at once, not {count}")));
    }
    // Bounded by the images that may be.
    let of_image = 3 * side * side;
    let values = count * of_image;
    match (&*tensor.name, &*tensor.datatype, source(tensor, binary)?) {
        (IMAGES, "UINT8", data) => {
            share.grow(values)?;
            let images = match data {
                Source::Binary(bytes) => cut(sized(bytes, values, 1)?, of_image, |&byte| byte),
                Source::Json(json) => numbers::images(json, count, of_image)?,
            };
            let image = |pixels| ImageBatch::new(pixels, [1, side, side], mean, std).map(Input::Pixels);
            images.into_iter().map(|pixels| image(pixels).map_err(ApiError::malformed)).collect()
        }
        (INPUT, "FP32" | "FP16", data) => {
            share.grow(values * size_of::<f32>())?;
            let images = match (data, &*tensor.datatype) {
                (Source::Binary(bytes), "FP32") => {
                    cut(sized(bytes, values, 4)?.as_chunks().0, of_image, |&bytes| f32::from_le_bytes(bytes))
                }
                (Source::Binary(bytes), _) => {
                    cut(sized(bytes, values, 2)?.as_chunks().0, of_image, |&bytes| f16::from_le_bytes(bytes).to_f32())
                }
                (Source::Json(json), "FP32") => numbers::images(json, count, of_image)?,
                (Source::Json(_), _) => return Err(ApiError::malformed("FP16 comes as binary data only")),
            };
            images.into_iter().map(|values| normalised(values, side)).collect()
        }
        (name, datatype, _) => {
            let known = if name == IMAGES { "UINT8" } else { "FP32 or FP16" };
            Err(ApiError::malformed(format!("{name}: {known} is expected, not {datatype:?}")))
        }
    }
}

/// The values of each image, which are read so.
fn cut<T, V>(values: &[T], of_image: usize, value: impl Fn(&T) -> V) -> Vec<Vec<V>> {
    values.chunks_exact(of_image).map(|image| image.iter().map(&value).collect()).collect()
}

/// One image.
fn normalised(values: Vec<f32>, side: usize) -> Result<Input, ApiError> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(ApiError::malformed(format!("{INPUT}: {value} is no number to compute with")));
    }
    Normalised::new(values, [1, side, side]).map(Input::Normalised).map_err(ApiError::malformed)
}

enum Source<'a> {
    Json(&'a RawValue),
    Binary(&'a [u8]),
}

fn source<'a>(tensor: &InputTensor<'a>, binary: &'a [u8]) -> Result<Source<'a>, ApiError> {
    let size = tensor.parameters.as_ref().and_then(|parameters| parameters.binary_data_size);
    match (size, tensor.data) {
        (Some(Whole(size)), None) if size == binary.len() as u64 => Ok(Source::Binary(binary)),
        (Some(Whole(size)), None) => Err(ApiError::malformed(format!(
            "{}: {size} bytes are announced, and {} follow the JSON (Inference-Header-Content-Length tells where it ends)",
            tensor.name,
            binary.len()
        ))),
        (None, Some(json)) if binary.is_empty() => Ok(Source::Json(json)),
        (None, Some(_)) => {
            Err(ApiError::malformed(format!("{} bytes follow the JSON that no tensor wants", binary.len())))
        }
        (Some(_), Some(_)) => Err(ApiError::malformed(format!("{}: the data comes twice", tensor.name))),
        (None, None) => Err(ApiError::malformed(format!("{}: the data is missing", tensor.name))),
    }
}

fn sized(bytes: &[u8], values: usize, size: usize) -> Result<&[u8], ApiError> {
    if bytes.len() == values * size {
        Ok(bytes)
    } else {
        Err(ApiError::malformed(format!("{values} values take {} bytes, not {}", values * size, bytes.len())))
    }
}

#[cfg(test)]
mod tests;
