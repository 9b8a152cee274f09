//! Photos in JSON documents, which are decoded where they lie: neither a document nor a text in it is copied.

use crate::body::Share;
use crate::error::ApiError;
use crate::few::Few;
use crate::photos::{UploadLimits, too_many};
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
    /// One photo; the answer is a prediction.
    // Decoded where it lies, and so are several.
    #[schema(value_type = Option<String>)]
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    /// Any number of them; the answer is a list of results.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(borrow)]
    images: Option<&'a RawValue>,
}

/// The photos of a document, and whether it holds a list. `share` grows by what the photos take.
///
/// # Errors
/// What is wrong with the document, and those of [`Share::grow`].
pub fn photos(
    json: &[u8],
    limits: UploadLimits,
    share: &Share,
) -> Result<(Vec<Result<Bytes, ApiError>>, bool), ApiError> {
    let unreadable = |error| ApiError::malformed(format!("{error}; {{\"image\": \"BASE64\"}} is expected"));
    let document: JsonPhotos = serde_json::from_slice(json).map_err(unreadable)?;
    let is_list = document.images.is_some();
    let json = |value| serde_json::Deserializer::from_str(RawValue::get(value));
    let photos = match (document.image, document.images) {
        (Some(image), None) => vec![Base64(share).deserialize(&mut json(image)).map_err(unreadable)?],
        (None, Some(images)) => {
            let few = Few(limits.count.saturating_add(1), Base64(share));
            few.deserialize(&mut json(images)).map_err(unreadable)?
        }
        (Some(_), Some(_)) => return Err(ApiError::malformed("one of `image` and `images` is expected, not both")),
        (None, None) => Vec::new(),
    };
    if photos.is_empty() {
        return Err(ApiError::nothing_to_classify("the document has no photo in `image` or `images`"));
    }
    if photos.len() > limits.count {
        return Err(too_many(limits));
    }
    let unless_overloaded = |photo: Result<Bytes, ApiError>| match photo {
        Err(error) if error.is_the_servers() => Err(error),
        photo => Ok(photo),
    };
    Ok((photos.into_iter().map(unless_overloaded).collect::<Result<_, _>>()?, is_list))
}

/// A text that is decoded while it is read, so that it is copied nowhere.
#[derive(Clone, Copy)]
struct Base64<'a>(&'a Share);

impl<'de> DeserializeSeed<'de> for Base64<'_> {
    type Value = Result<Bytes, ApiError>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Base64<'_> {
    type Value = Result<Bytes, ApiError>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(of_base64(text, self.0))
    }
}

/// Base64, with or without `data:image/jpeg;base64,` in front.
fn of_base64(text: &str, share: &Share) -> Result<Bytes, ApiError> {
    let base64 = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,").map(|(_, base64)| base64),
        None => Some(text),
    };
    let base64 = base64.ok_or_else(|| ApiError::malformed("a data URL is expected to hold base64"))?;
    share.grow(decoded_len_estimate(base64.len()))?;
    let bytes = STANDARD.decode(base64).map_err(|error| ApiError::malformed(format!("this is no base64: {error}")))?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::InFlight;
    use serde_json::json;

    #[test]
    fn photos_of_a_document_that_find_no_room_are_refused_with_it() {
        let in_flight = InFlight::new(299);
        let document = json!({ "images": ["?", STANDARD.encode([0; 300])] }).to_string();
        let limits = UploadLimits { bytes: 1000, count: 2 };
        assert_eq!(photos(document.as_bytes(), limits, &in_flight.share()).unwrap_err().status, 503);
        assert_eq!(in_flight.held(), 0);
    }

    #[test]
    fn no_message_names_what_a_document_is_read_into() {
        let share = InFlight::new(1000).share();
        for document in
            ["1", "[]", "[null]", "\"\"", "{", r#"{"image": 1}"#, r#"{"images": {}}"#, r#"{"images": [[]]}"#]
        {
            let error = photos(document.as_bytes(), UploadLimits { bytes: 100, count: 3 }, &share).unwrap_err();
            let message = error.into_failure().error.message;
            let is_ours =
                ["struct ", "JsonPhotos", "str ", "Vec", "RawValue"].iter().any(|name| message.contains(name));
            assert!(!is_ours && message.contains("image"), "{message:?} about {document}");
        }
    }
}
