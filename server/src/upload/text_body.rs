//! Recognises bodies that were meant to be photos or JSON but were sent as text: `curl -d @photo.jpg` removes line breaks
//! and zero bytes from the file, and `curl -d '{...}'` sends JSON with the content type of a form.

use crate::error::ApiError;

/// The first bytes of photos, without those that `curl -d` removes.
const SIGNATURES: [&[u8]; 5] = [b"\xff\xd8\xff", b"\x89PNG\x1a", b"GIF8", b"RIFF", b"BM"];

/// Checks a body that should be a photo. Every photo contains zero bytes or line breaks, in its signature or as the high
/// bytes of lengths.
///
/// # Errors
/// Returns 400 with the options of curl that send the body unchanged.
pub fn check(body: &[u8], is_form: bool) -> Result<(), ApiError> {
    if is_form && body.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::malformed(
            "the body looks like JSON, but its content type is that of a form; send the header `Content-Type: \
             application/json`",
        ));
    }
    let is_text = !body.iter().any(|byte| matches!(byte, b'\0' | b'\n' | b'\r'));
    if is_text && (is_form || SIGNATURES.iter().any(|signature| body.starts_with(signature))) {
        return Err(ApiError::malformed(
            "the body is not a complete photo file; `curl -d @photo.jpg` removes line breaks and zero bytes: use `curl \
             --data-binary @photo.jpg` or `curl -F file=@photo.jpg`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::photo;
    use image::{ImageFormat, RgbImage};
    use std::io::Cursor;

    fn message(body: &[u8], is_form: bool) -> Option<String> {
        check(body, is_form).err().map(|error| error.into_failure().error.message)
    }

    #[test]
    fn files_without_line_breaks_and_zero_bytes_are_rejected() {
        let cat = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/cat.jpg")).unwrap();
        for (format, file) in [(None, cat), (None, photo(0))]
            .into_iter()
            .chain([ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp].map(|format| (Some(format), Vec::new())))
        {
            let file = match format {
                Some(format) => {
                    let mut file = Cursor::new(Vec::new());
                    RgbImage::from_pixel(1, 1, image::Rgb([200; 3])).write_to(&mut file, format).unwrap();
                    file.into_inner()
                }
                None => file,
            };
            let stripped: Vec<u8> = file.iter().copied().filter(|byte| ![0, b'\n', b'\r'].contains(byte)).collect();
            for is_form in [true, false] {
                assert_eq!(message(&file, is_form), None, "{format:?}");
                assert!(
                    message(&stripped, is_form).is_some_and(|message| message.contains("--data-binary")),
                    "{format:?}"
                );
            }
        }
    }

    #[test]
    fn json_with_the_content_type_of_a_form_is_rejected() {
        assert!(message(br#" {"image": "b25l"}"#, true).unwrap().contains("application/json"));
        assert_eq!(message(br#"{"image": "b25l"}"#, false), None);
    }
}
