//! Decodes a photo from the variants of base64 that clients send: with line breaks, without padding, with the URL-safe
//! alphabet, or as a data URL.

use crate::error::ApiError;
use crate::memory::{MemoryBudget, Reservation};
use base64::alphabet::{self, Alphabet};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, decoded_len_estimate};
use bytes::Bytes;

/// A photo and the memory reserved for it, or why it was rejected.
pub type DecodedPhoto = Result<(Bytes, Reservation), ApiError>;

static STANDARD: GeneralPurpose = lenient(&alphabet::STANDARD);
static URL_SAFE: GeneralPurpose = lenient(&alphabet::URL_SAFE);

const fn lenient(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new();
    GeneralPurpose::new(alphabet, config.with_decode_padding_mode(DecodePaddingMode::Indifferent))
}

/// Decodes base64, with or without a prefix such as `data:image/jpeg;base64,`. White space is ignored.
///
/// # Errors
/// Returns 400 if the text is not base64, and 503 if the memory budget is exhausted.
pub fn decode_photo(text: &str, budget: &MemoryBudget) -> DecodedPhoto {
    let text = text.trim_ascii();
    if has_scheme(text, "http:") || has_scheme(text, "https:") {
        return Err(ApiError::malformed(
            "expected a photo in base64, not a URL, because the server does not download photos; send the photo itself",
        ));
    }
    let base64 = if has_scheme(text, "data:") { data_of_url(text)? } else { text };
    // Line breaks are removed in a copy, which needs memory too until the photo is decoded.
    let (mut joined, mut joined_reservation) = (String::new(), budget.empty_reservation());
    let base64 = if base64.contains(|c: char| c.is_ascii_whitespace()) {
        joined_reservation.grow(base64.len())?;
        joined.reserve_exact(base64.len());
        joined.extend(base64.split_ascii_whitespace());
        &joined
    } else {
        base64
    };
    let engine = if base64.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let reservation = budget.reserve(decoded_len_estimate(base64.len()))?;
    let bytes = engine.decode(base64).map_err(|error| {
        let error = error.to_string();
        let reason = error.trim_end_matches('.');
        ApiError::malformed(format!("invalid base64: {reason}; expected the bytes of a photo file in base64"))
    })?;
    drop(joined_reservation);
    Ok((bytes.into(), reservation))
}

/// Returns whether `text` starts with `scheme`, in any case.
fn has_scheme(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Returns the base64 of a data URL (RFC 2397).
fn data_of_url(url: &str) -> Result<&str, ApiError> {
    const ENCODING: &str = ";base64";
    let (head, data) = url.split_once(',').unwrap_or((url, ""));
    let head = head.trim_ascii_end();
    let encoding = head.len().checked_sub(ENCODING.len()).and_then(|start| head.get(start..));
    if encoding.is_some_and(|encoding| encoding.eq_ignore_ascii_case(ENCODING)) {
        Ok(data)
    } else {
        Err(ApiError::malformed("a data URL must hold base64, such as data:image/jpeg;base64,/9j/4AAQ..."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes to `+/++//8=` and `-_--__8=`.
    const BYTES: &[u8] = &[0xfb, 0xff, 0xbe, 0xff, 0xff];

    fn decode(text: &str) -> Result<Bytes, String> {
        let budget = MemoryBudget::new(1000);
        decode_photo(text, &budget).map(|(bytes, _)| bytes).map_err(|error| error.into_failure().error.message)
    }

    #[test]
    fn all_variants_of_base64_are_decoded() {
        for text in [
            "+/++//8=",
            "+/++//8",
            "-_--__8=",
            "-_--__8",
            "+/++\r\n//8=\r\n",
            "+/++\n//8=\n",
            "  +/ ++\t//8= ",
            "data:image/png;base64,+/++//8=",
            "data:image/png;charset=utf-8;base64,+/++\n//8",
            "data:;base64,-_--__8",
            "DATA:image/jpeg;BASE64, +/++//8=",
        ] {
            assert_eq!(decode(text).as_deref(), Ok(BYTES), "{text:?}");
        }
        assert_eq!(decode(" \n").as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn other_texts_are_rejected_with_a_hint() {
        for (text, hint) in [
            ("https://example.org/cat.jpg", "does not download photos"),
            ("HTTP://example.org/cat.jpg", "does not download photos"),
            ("data:image/svg+xml,%3Csvg%3E", "data URL must hold base64"),
            ("data:base64", "data URL must hold base64"),
            ("/home/me/cat.jpg", "in base64"),
            ("+/-_", "in base64"),
            ("+/++=//8=", "in base64"),
            ("\u{e4}\u{e4}\u{e4}", "in base64"),
        ] {
            let message = decode(text).unwrap_err();
            assert!(message.contains(hint), "{text:?}: {message}");
        }
    }

    #[test]
    fn memory_for_a_copy_without_line_breaks_is_released() {
        let budget = MemoryBudget::new(30);
        let (bytes, reservation) = decode_photo("b25l\ndHdv", &budget).unwrap();
        assert_eq!((&bytes[..], budget.reserved()), (&b"onetwo"[..], 6));
        drop(reservation);
        let error = decode_photo(&"b25l\n".repeat(7), &budget).unwrap_err();
        assert_eq!((error.status.as_u16(), budget.reserved()), (503, 0));
    }
}
