//! The chunks of a PNG file, for what the decoder of `image` does not do: it ignores EXIF data after the pixels, and rejects
//! files that end after their pixels, which Pillow and browsers show.

use std::borrow::Cow;
use std::iter;

const SIGNATURE_BYTES: usize = 8;
/// Size of a chunk without its data, in bytes: length, type and checksum.
const FRAME_BYTES: usize = 12;
/// The last chunk of a complete file.
const END: [u8; FRAME_BYTES] = *b"\0\0\0\0IEND\xae\x42\x60\x82";

/// Returns the EXIF data, wherever it is.
pub(super) fn exif(file: &[u8]) -> Option<&[u8]> {
    chunks(file).find(|chunk| chunk.kind == *b"eXIf").map(|chunk| chunk.data)
}

/// Completes a file that ends after a chunk with pixels, or within the chunk that follows. If pixels are missing, the decoder
/// finds that out.
pub(super) fn with_end(file: &[u8]) -> Cow<'_, [u8]> {
    match chunks(file).last() {
        Some(last) if last.kind == *b"IDAT" => Cow::Owned([&file[..last.end], &END].concat()),
        _ => Cow::Borrowed(file),
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// Offset of the next chunk.
    end: usize,
}

/// Lists the complete chunks.
fn chunks(file: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut start = SIGNATURE_BYTES;
    iter::from_fn(move || {
        let (head, rest) = file.get(start..)?.split_first_chunk::<8>()?;
        let [a, b, c, d, kind @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        let end = start.checked_add(length)?.checked_add(FRAME_BYTES).filter(|end| *end <= file.len())?;
        start = end;
        Some(Chunk { kind, data: &rest[..length], end })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let chunk = |(kind, data): &(&[u8; 4], &[u8])| {
            [&(data.len() as u32).to_be_bytes()[..], &kind[..], data, b"\0\0\0\0"].concat()
        };
        [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.iter().flat_map(chunk).collect()].concat()
    }

    #[test]
    fn finds_exif_before_and_after_pixels() {
        assert_eq!(exif(&file(&[(b"eXIf", b"II"), (b"IDAT", b"x")])), Some(&b"II"[..]));
        let late = file(&[(b"IDAT", b"x"), (b"eXIf", b"II")]);
        assert_eq!(exif(&late), Some(&b"II"[..]));
        (0..late.len()).for_each(|length| assert_eq!(exif(&late[..length]), None));
    }

    #[test]
    fn completes_files_that_end_after_their_pixels() {
        let pixels = file(&[(b"IHDR", b"x"), (b"IDAT", b"x")]);
        let complete = [&pixels[..], &END].concat();
        for length in pixels.len()..complete.len() {
            assert_eq!(with_end(&complete[..length]), complete, "{length} bytes");
        }
        let two = [&pixels[..], &file(&[(b"IDAT", b"y")])[SIGNATURE_BYTES..]].concat();
        assert_eq!(with_end(&two[..two.len() - 1]), complete);
        for unchanged in [&complete, &pixels[..pixels.len() - 1], b"", b"\x89PNG\r\n\x1a\n"] {
            assert_eq!(with_end(unchanged), unchanged);
        }
    }
}
