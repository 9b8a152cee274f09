//! The parts of WebP parsing that must not be left to the decoder of the crate `image`: it allocates whatever size a
//! metadata chunk declares, up to 4 GB, and decodes a frame before it compares its size with the one declared in the
//! header.

/// Returns the EXIF data of a file in the extended format, if the chunk is complete.
pub(super) fn exif(file: &[u8]) -> Option<&[u8]> {
    let chunk = extended(file)?.find(|chunk| chunk.name == b"EXIF")?;
    (chunk.data.len() == chunk.size).then_some(chunk.data)
}

/// Returns whether the frame to decode is as large as declared: as the canvas or, in an animation, as the frame's
/// header says. All other errors are left to the decoder.
pub(super) fn frame_fits(file: &[u8], canvas: (u32, u32)) -> bool {
    let first = |name: &[u8; 4]| extended(file).and_then(|mut chunks| chunks.find(|chunk| chunk.name == name));
    let still = first(b"VP8 ").is_none_or(|frame| frame.lossy_size().is_none_or(|size| size == canvas));
    let animated = first(b"ANMF").is_none_or(|animation| {
        const HEADER: usize = 16;
        let Some((header, frame)) = animation.data.split_at_checked(HEADER) else { return true };
        let side = |at: usize| 1 + u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]);
        let size = (side(6), side(9));
        Chunks(frame).filter_map(|chunk| chunk.lossy_size()).all(|found| found == size)
    });
    still && animated
}

/// Returns the number of bytes per pixel of the buffers that exist in addition to the decoder's output: for an
/// animation, the canvas and a frame with alpha; for an image with alpha, its planes and the alpha plane being decoded;
/// otherwise the planes, or four channels.
pub(super) fn extra_bytes_per_pixel(file: &[u8]) -> u64 {
    const ANIMATED: u8 = 0x02;
    const ALPHA: u8 = 0x10;
    let flags = extended(file).and_then(|mut chunks| chunks.next()?.data.first().copied()).unwrap_or(0);
    match flags {
        _ if flags & ANIMATED != 0 => 8,
        _ if flags & ALPHA != 0 => 7,
        _ => 4,
    }
}

/// Returns the chunks of a file, or `None` if it is not in the extended format.
fn extended(file: &[u8]) -> Option<Chunks<'_>> {
    const HEADER: usize = 12;
    let chunks = file.get(HEADER..)?;
    chunks.starts_with(b"VP8X").then_some(Chunks(chunks))
}

struct Chunk<'a> {
    name: &'a [u8],
    /// Declared size, in bytes.
    size: usize,
    /// The data present, which may be shorter than `size`.
    data: &'a [u8],
}

impl Chunk<'_> {
    /// Returns width and height, if this is a lossy frame.
    fn lossy_size(&self) -> Option<(u32, u32)> {
        // They follow three bytes of tag and three of signature; the upper two bits of each are a scaling factor.
        let [.., width, more_width, height, more_height] = *self.data.first_chunk::<10>()?;
        let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
        (self.name == b"VP8 ").then(|| (side([width, more_width]), side([height, more_height])))
    }
}

/// Iterates over chunks, each of which is preceded by its name and size and padded to an even length.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (header, rest) = self.0.split_at_checked(8)?;
        let (name, size) = header.split_at(4);
        let size = u32::from_le_bytes(size.try_into().expect("four bytes remain")) as usize;
        self.0 = rest.get(size.next_multiple_of(2)..).unwrap_or_default();
        Some(Chunk { name, size, data: &rest[..size.min(rest.len())] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Piece<'a> = (&'a [u8; 4], &'a [u8], u32);

    const HEAD: Piece = (b"VP8X", &[0; 10], 10);
    /// A lossy frame of 5x3 pixels.
    const FRAME: Piece = (b"VP8 ", b"\0\0\0\x9d\x01\x2a\x05\xc0\x03\x40", 10);

    fn chunks(pieces: &[Piece]) -> Vec<u8> {
        let chunk = |(name, data, size): &Piece| [name.as_slice(), &size.to_le_bytes(), data].concat();
        pieces.iter().flat_map(chunk).collect()
    }

    fn file(pieces: &[Piece]) -> Vec<u8> {
        [b"RIFF\x00\x00\x00\x00WEBP".as_slice(), &chunks(pieces)].concat()
    }

    #[test]
    fn finds_exif_after_chunks_of_odd_length() {
        let pieces = [HEAD, (b"VP8L", &[0; 4], 3), (b"EXIF", b"II", 2)];
        let whole = file(&pieces);
        assert_eq!(exif(&whole), Some(&b"II"[..]));
        assert_eq!(exif(&whole[..whole.len() - 1]), None);
        assert_eq!(exif(&file(&pieces[1..])), None, "not the extended format");
    }

    #[test]
    fn ignores_chunks_that_are_longer_than_the_file() {
        for size in [3, u32::MAX - 1, u32::MAX] {
            assert_eq!(exif(&file(&[HEAD, (b"EXIF", b"II", size)])), None);
            assert_eq!(exif(&file(&[(HEAD.0, HEAD.1, size), (b"EXIF", b"II", 2)])), None);
        }
    }

    #[test]
    fn rejects_frames_of_another_size_than_declared() {
        assert!(frame_fits(&file(&[HEAD, FRAME]), (5, 3)));
        assert!(!frame_fits(&file(&[HEAD, FRAME]), (5, 4)));
        assert!(frame_fits(&file(&[HEAD]), (5, 3)));
        // The header of the animation frame declares 5x3 pixels, then 6x3.
        for (width, fits) in [(4, true), (5, false)] {
            let frame = [&[0, 0, 0, 0, 0, 0, width, 0, 0, 2, 0, 0, 0, 0, 0, 0], &chunks(&[FRAME])[..]].concat();
            let animated = file(&[HEAD, (b"ANMF", &frame, frame.len() as u32)]);
            assert_eq!(frame_fits(&animated, (80, 60)), fits);
        }
    }
}
