//! Photos in a JSON document, as base64. They are decoded directly from the document: neither the document nor a string
//! in it is copied.

use super::photos::{UploadLimits, UploadedPhotos};
use crate::bounded_seq::BoundedSeq;
use crate::error::ApiError;
use crate::memory::{MemoryBudget, Reservation};
use base64::engine::general_purpose::STANDARD;
use base64::{Engine, decoded_len_estimate};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use utoipa::ToSchema;

/// Photos in a JSON document, as base64 or as data URLs.
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
}

/// Parses a document and decodes its photos. Memory is reserved for the photos, not for the document.
///
/// # Errors
/// Returns an error if the document is malformed, has no photos or too many, or if the memory budget is exhausted.
pub fn parse_photos(json: &[u8], limits: UploadLimits, budget: &MemoryBudget) -> Result<UploadedPhotos, ApiError> {
    let malformed =
        |error| ApiError::malformed(format!("invalid JSON document: {error}; expected {{\"image\": \"BASE64\"}}"));
    let document: JsonPhotos = serde_json::from_slice(json).map_err(malformed)?;
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
    Ok(UploadedPhotos { photos, is_list, reservation })
}

/// Decodes a base64 string while it is deserialized. Errors of a photo are returned as its value, so that the others
/// are kept.
#[derive(Clone, Copy)]
struct Base64<'a>(&'a MemoryBudget);

type DecodedPhoto = Result<(Bytes, Reservation), ApiError>;

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
        Ok(decode_base64(text, self.0))
    }
}

/// Decodes base64, with or without a prefix such as `data:image/jpeg;base64,`.
fn decode_base64(text: &str, budget: &MemoryBudget) -> DecodedPhoto {
    let base64 = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,").map(|(_, base64)| base64),
        None => Some(text),
    };
    let base64 = base64.ok_or_else(|| ApiError::malformed("a data URL must hold base64"))?;
    let reservation = budget.reserve(decoded_len_estimate(base64.len()))?;
    let bytes = STANDARD.decode(base64).map_err(|error| ApiError::malformed(format!("invalid base64: {error}")))?;
    Ok((bytes.into(), reservation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
