//! Photos in a JSON document, as base64. They are decoded directly from the document: neither the document nor a string
//! in it is copied, unless it contains line breaks.

use super::base64_photo::{DecodedPhoto, decode_photo};
use super::photos::{BodyOptions, UploadLimits, UploadedPhotos};
use crate::bounded_seq::BoundedSeq;
use crate::error::ApiError;
use crate::memory::MemoryBudget;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use utoipa::ToSchema;

/// Maximum size of the values of `top_k` and `model` in a document, in bytes.
const MAX_OPTION_BYTES: usize = 4 << 10;

/// Photos in a JSON document, as base64 or as data URLs, with options that may also be query parameters.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `image` or `images`")]
pub struct JsonPhotos<'a> {
    /// One photo; the response is a prediction.
    // Raw, like `images`, so that base64 is decoded without a copy of the string.
    #[schema(value_type = Option<String>)]
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    /// Any number of photos; the response is a list of results.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(borrow)]
    images: Option<&'a RawValue>,
    /// Number of classes to return, like the query parameter.
    // Raw, so that numbers in strings are accepted and all errors are the same as those of the query parameter.
    #[schema(value_type = Option<u64>, minimum = 1)]
    #[serde(borrow)]
    top_k: Option<&'a RawValue>,
    /// Name of the model, like the query parameter.
    #[schema(value_type = Option<String>)]
    #[serde(borrow)]
    model: Option<&'a RawValue>,
}

/// Parses a document and decodes its photos. Memory is reserved for the photos, not for the document.
///
/// # Errors
/// Returns an error if the document is malformed, has no photos or too many, or if the memory budget is exhausted.
pub fn parse_photos(json: &[u8], limits: UploadLimits, budget: &MemoryBudget) -> Result<UploadedPhotos, ApiError> {
    let malformed =
        |error| ApiError::malformed(format!("invalid JSON document: {error}; expected {{\"image\": \"BASE64\"}}"));
    let mut spaced: Vec<u8>;
    let mut spaced_reservation = budget.empty_reservation();
    let document: JsonPhotos = match serde_json::from_slice(json) {
        // JSON forbids line breaks within strings, but shell scripts paste the output of `base64` into documents.
        Err(error) if error.is_syntax() && json.iter().any(is_line_break) => {
            spaced_reservation.grow(json.len())?;
            spaced = json.to_vec();
            spaced.iter_mut().filter(|byte| is_line_break(byte)).for_each(|byte| *byte = b' ');
            serde_json::from_slice(&spaced)
        }
        document => document,
    }
    .map_err(malformed)?;
    let is_list = document.images.is_some();
    let deserializer = |value| serde_json::Deserializer::from_str(RawValue::get(value));
    let decoded = match (document.image, document.images) {
        (Some(image), None) => vec![Base64(budget).deserialize(&mut deserializer(image)).map_err(malformed)?],
        (None, Some(images)) => {
            // One more than allowed, to detect documents with too many photos.
            let array = BoundedSeq { max: limits.count.saturating_add(1), seed: Base64(budget) };
            array.deserialize(&mut deserializer(images)).map_err(malformed)?
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::malformed("`image` and `images` are mutually exclusive; send one of them"));
        }
        (None, None) => Vec::new(),
    };
    if decoded.is_empty() {
        return Err(ApiError::nothing_to_classify("the document has no photo in `image` or `images`"));
    }
    limits.check_count(decoded.len())?;
    let (mut photos, mut reservation) = (Vec::with_capacity(decoded.len()), budget.empty_reservation());
    for photo in decoded {
        photos.push(match photo {
            Ok((photo, reserved)) => {
                reservation.merge(reserved);
                Ok(photo)
            }
            Err(error) if error.is_server_error() => return Err(error),
            Err(error) => Err(error),
        });
    }
    let options = BodyOptions {
        top_k: document.top_k.map(|value| option("top_k", value)).transpose()?,
        model: document.model.map(|value| option("model", value)).transpose()?,
    };
    drop(spaced_reservation);
    Ok(UploadedPhotos { photos, is_list, options, reservation })
}

fn is_line_break(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r' | b'\t')
}

/// Returns the text of an option: the content of a string, or any other value as it is written.
fn option(name: &str, value: &RawValue) -> Result<String, ApiError> {
    let json = value.get();
    if json.len() > MAX_OPTION_BYTES {
        return Err(ApiError::malformed(format!("`{name}` is longer than {MAX_OPTION_BYTES} bytes")));
    }
    Ok(serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()))
}

/// Decodes a base64 string while it is deserialized. Errors of a photo are returned as its value, so that the others
/// are kept.
#[derive(Clone, Copy)]
struct Base64<'a>(&'a MemoryBudget);

impl<'de> DeserializeSeed<'de> for Base64<'_> {
    type Value = DecodedPhoto;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<DecodedPhoto, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Base64<'_> {
    type Value = DecodedPhoto;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DecodedPhoto, E> {
        Ok(decode_photo(text, self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    const LIMITS: UploadLimits = UploadLimits { bytes: 1000, count: 3 };

    fn parse(document: &str) -> Result<UploadedPhotos, ApiError> {
        parse_photos(document.as_bytes(), LIMITS, &MemoryBudget::new(1000))
    }

    #[test]
    fn line_breaks_within_strings_are_ignored() {
        for document in
            ["{\"image\": \"b25l\r\ndHdv\n\"}", "{\n\t\"image\":\n\"b25ldHdv\"}\n", r#"{"image": "b25l\ndHdv"}"#]
        {
            let photos = parse(document).unwrap().photos;
            assert_eq!(photos[0].as_deref().unwrap(), b"onetwo", "{document:?}");
        }
        let message = parse("{\"image\": \"b25l\n\", }").unwrap_err().into_failure().error.message;
        assert!(message.contains("trailing comma"), "{message}");
    }

    #[test]
    fn options_are_read_from_the_document() {
        let options = |document| parse(document).map(|upload| (upload.options.top_k, upload.options.model));
        let text = |text: &str| Some(text.to_owned());
        for (document, expected) in [
            (r#"{"image": "b25l"}"#, (None, None)),
            (r#"{"image": "b25l", "top_k": null, "model": null}"#, (None, None)),
            (r#"{"image": "b25l", "top_k": 3, "model": "birds"}"#, (text("3"), text("birds"))),
            (r#"{"image": "b25l", "top_k": "3", "model": "b\u00e4r"}"#, (text("3"), text("b\u{e4}r"))),
            (r#"{"image": "b25l", "top_k": [1]}"#, (text("[1]"), None)),
        ] {
            assert_eq!(options(document).unwrap(), expected, "{document}");
        }
        let long = json!({ "image": "b25l", "model": "x".repeat(10_000) }).to_string();
        assert!(options(&long).unwrap_err().into_failure().error.message.contains("`model` is longer"));
    }

    #[test]
    fn a_document_is_rejected_if_one_of_its_photos_exceeds_the_memory_budget() {
        let budget = MemoryBudget::new(299);
        let document = json!({ "images": ["?", STANDARD.encode([0; 300])] }).to_string();
        let limits = UploadLimits { bytes: 1000, count: 2 };
        assert_eq!(parse_photos(document.as_bytes(), limits, &budget).unwrap_err().status, 503);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn error_messages_do_not_mention_rust_types() {
        let budget = MemoryBudget::new(1000);
        for document in
            ["1", "[]", "[null]", "\"\"", "{", r#"{"image": 1}"#, r#"{"images": {}}"#, r#"{"images": [[]]}"#]
        {
            let error = parse_photos(document.as_bytes(), UploadLimits { bytes: 100, count: 3 }, &budget).unwrap_err();
            let message = error.into_failure().error.message;
            let mentions_types =
                ["struct ", "JsonPhotos", "str ", "Vec", "RawValue"].iter().any(|name| message.contains(name));
            assert!(!mentions_types && message.contains("image"), "{message:?} for {document}");
        }
    }
}
