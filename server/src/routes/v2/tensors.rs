//! The body of an inference request: a JSON header, behind which tensors may follow as binary data.

use super::{IMAGES, INPUT, LOGITS};
use crate::error::ApiError;
use crate::few::few;
use half::f16;
use model::engine::{Input, Normalised};
use model::preprocess::ImageBatch;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use utoipa::ToSchema;

/// An inference request. Tensors whose `binary_data_size` is given follow the JSON in their order.
#[derive(Deserialize, ToSchema)]
pub struct InferRequest {
    /// Comes back in the answer.
    pub id: Option<String>,
    #[serde(default)]
    parameters: RequestParameters,
    /// Exactly one: `images` (UINT8 `[n, height, width, 3]`) or `input` (FP32 or FP16 `[n, 3, height, width]`, normalised).
    #[serde(deserialize_with = "few::<2, _, _>")]
    inputs: Vec<InputTensor>,
    /// `logits`, or nothing, which means it.
    #[serde(default, deserialize_with = "few::<2, _, _>")]
    outputs: Vec<RequestedOutput>,
}

#[derive(Default, Deserialize, ToSchema)]
struct RequestParameters {
    /// Whether outputs come as binary data that do not say so themselves.
    #[serde(default)]
    binary_data_output: bool,
}

#[derive(Deserialize, ToSchema)]
struct InputTensor {
    #[schema(example = "images")]
    name: String,
    #[schema(example = json!([1, 224, 224, 3]))]
    #[serde(deserialize_with = "few::<5, _, _>")]
    shape: Vec<u64>,
    #[schema(example = "UINT8")]
    datatype: String,
    #[serde(default)]
    parameters: InputParameters,
    /// Numbers row by row, flat or nested; not with `binary_data_size`.
    #[schema(value_type = Option<Vec<f32>>)]
    data: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize, ToSchema)]
struct InputParameters {
    /// Bytes of the tensor behind the JSON, little endian.
    binary_data_size: Option<u64>,
}

#[derive(Deserialize, ToSchema)]
struct RequestedOutput {
    #[schema(example = "logits")]
    name: String,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Default, Deserialize, ToSchema)]
struct OutputParameters {
    binary_data: Option<bool>,
    /// The likeliest classes instead of all logits: so many strings `logit:index:label`.
    classification: Option<u64>,
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

/// `json` is the length of the JSON, if something follows it.
///
/// # Errors
/// What is wrong with the body: 400, and 413 for more images than may be.
pub fn parse(body: &[u8], json: Option<usize>, expected: Expected) -> Result<Asked, ApiError> {
    let json = json.unwrap_or(body.len());
    let (json, binary) = body.split_at_checked(json).ok_or_else(|| {
        ApiError::malformed(format!("the JSON is said to have {json} bytes, and the body has {}", body.len()))
    })?;
    let request: InferRequest = serde_json::from_slice(json)
        .map_err(|error| ApiError::malformed(format!("this is no inference request: {error}")))?;
    let [tensor] = request.inputs.as_slice() else {
        return Err(ApiError::malformed(format!("one input is expected, `{IMAGES}` or `{INPUT}`")));
    };
    let images = images(tensor, binary, expected)?;
    let output = |output: &RequestedOutput| match output.name.as_str() {
        LOGITS => Ok(Output {
            binary: output.parameters.binary_data.unwrap_or(request.parameters.binary_data_output),
            classification: match output.parameters.classification {
                None | Some(0) => None,
                Some(classes) => Some(usize::try_from(classes).unwrap_or(usize::MAX)),
            },
        }),
        name => Err(ApiError::malformed(format!("there is no output {name:?}; there is {LOGITS:?}"))),
    };
    let outputs = match request.outputs.as_slice() {
        [] => vec![Output { binary: request.parameters.binary_data_output, classification: None }],
        [one] => vec![output(one)?],
        _ => return Err(ApiError::malformed(format!("{LOGITS:?} is the only output, and expected once"))),
    };
    Ok(Asked { id: request.id, images, outputs })
}

fn images(tensor: &InputTensor, binary: &[u8], expected: Expected) -> Result<Vec<Input>, ApiError> {
    let Expected { side, images, mean, std } = expected;
    let side_u64 = side as u64;
    let shape = match tensor.name.as_str() {
        IMAGES => [side_u64, side_u64, 3],
        INPUT => [3, side_u64, side_u64],
        name => {
            return Err(ApiError::malformed(format!("there is no input {name:?}; there are {IMAGES:?} and {INPUT:?}")));
        }
    };
    let count = match tensor.shape.as_slice() {
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
    match (tensor.name.as_str(), tensor.datatype.as_str(), source(tensor, binary)?) {
        (IMAGES, "UINT8", data) => {
            let pixels = match data {
                Source::Binary(bytes) => Cow::Borrowed(sized(bytes, values, 1)?),
                Source::Json(json) => Cow::Owned(flat::<u8>(json, values)?),
            };
            let image = |pixels: &[u8]| ImageBatch::new(pixels.to_vec(), [1, side, side], mean, std).map(Input::Pixels);
            pixels.chunks_exact(of_image).map(|pixels| image(pixels).map_err(ApiError::malformed)).collect()
        }
        (INPUT, "FP32", Source::Binary(bytes)) => {
            let (values, _) = sized(bytes, values, 4)?.as_chunks();
            values
                .chunks_exact(of_image)
                .map(|image| normalised(image, |&bytes| f32::from_le_bytes(bytes), side))
                .collect()
        }
        (INPUT, "FP32", Source::Json(json)) => {
            let values = flat::<f32>(json, values)?;
            values.chunks_exact(of_image).map(|image| normalised(image, |&value| value, side)).collect()
        }
        (INPUT, "FP16", Source::Binary(bytes)) => {
            let (values, _) = sized(bytes, values, 2)?.as_chunks();
            let widened = |&bytes: &[u8; 2]| f16::from_le_bytes(bytes).to_f32();
            values.chunks_exact(of_image).map(|image| normalised(image, widened, side)).collect()
        }
        (INPUT, "FP16", Source::Json(_)) => Err(ApiError::malformed("FP16 comes as binary data only")),
        (name, datatype, _) => {
            let known = if name == IMAGES { "UINT8" } else { "FP32 or FP16" };
            Err(ApiError::malformed(format!("{name}: {known} is expected, not {datatype:?}")))
        }
    }
}

/// One image of values that are read so.
fn normalised<T>(image: &[T], value: impl Fn(&T) -> f32, side: usize) -> Result<Input, ApiError> {
    let values: Vec<f32> = image.iter().map(value).collect();
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(ApiError::malformed(format!("{INPUT}: {value} is no number to compute with")));
    }
    Normalised::new(values, [1, side, side]).map(Input::Normalised).map_err(ApiError::malformed)
}

enum Source<'a> {
    Json(&'a RawValue),
    Binary(&'a [u8]),
}

fn source<'a>(tensor: &'a InputTensor, binary: &'a [u8]) -> Result<Source<'a>, ApiError> {
    match (tensor.parameters.binary_data_size, &tensor.data) {
        (Some(size), None) if size == binary.len() as u64 => Ok(Source::Binary(binary)),
        (Some(size), None) => Err(ApiError::malformed(format!(
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

/// So many numbers out of JSON, however they are nested.
fn flat<T: for<'de> Deserialize<'de>>(json: &RawValue, count: usize) -> Result<Vec<T>, ApiError> {
    let mut values = Vec::with_capacity(count);
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    let read = Flat { values: &mut values, count }.deserialize(&mut deserializer);
    read.map_err(|error| ApiError::malformed(format!("data: {error}")))?;
    if values.len() == count {
        Ok(values)
    } else {
        Err(ApiError::malformed(format!("data: {count} values are expected, not {}", values.len())))
    }
}

/// Collects the numbers of nested lists.
struct Flat<'a, T> {
    values: &'a mut Vec<T>,
    count: usize,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Flat<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>> Flat<'_, T> {
    fn push<E: Error>(self, value: impl serde::de::IntoDeserializer<'de, E>) -> Result<(), E> {
        if self.values.len() == self.count {
            return Err(E::custom(format_args!("more than {} values", self.count)));
        }
        self.values.push(T::deserialize(value.into_deserializer())?);
        Ok(())
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Flat<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("numbers")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Flat { values, count } = self;
        while list.next_element_seed(Flat { values: &mut *values, count })?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
