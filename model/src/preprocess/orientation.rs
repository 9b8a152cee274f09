//! The EXIF orientation of a photo.
//!
//! `Orientation::from_exif_chunk` of `image` was considered: it reads only values of the type SHORT, and some writers store
//! the orientation as LONG.

use image::metadata::Orientation;

/// The tag of the orientation.
const TAG: u16 = 0x112;

/// Size of an entry of a directory, in bytes: tag, type, count and value.
const ENTRY_BYTES: usize = 12;

/// Reads the orientation from EXIF data: a TIFF header and its first directory. Returns [`Orientation::NoTransforms`] if
/// there is none or the data is invalid, since the image may be intact.
pub(super) fn from_exif(exif: &[u8]) -> Orientation {
    // The prefix belongs in JPEG files only, but some writers of PNG and WebP add it.
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    find_orientation(tiff).unwrap_or(Orientation::NoTransforms)
}

fn find_orientation(tiff: &[u8]) -> Option<Orientation> {
    let is_big_endian = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let short = |bytes: &[u8]| {
        let bytes: [u8; 2] = bytes.get(..2)?.try_into().ok()?;
        Some(if is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let long = |bytes: &[u8]| {
        let bytes: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        Some(if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let directory = tiff.get(usize::try_from(long(&tiff[4..])?).ok()?..)?;
    let entries = directory.get(2..)?.chunks_exact(ENTRY_BYTES).take(short(directory)?.into());
    let entry = entries.into_iter().find(|entry| short(entry) == Some(TAG))?;
    let value = match (short(&entry[2..])?, long(&entry[4..])?) {
        (3, 1) => short(&entry[8..])?.into(),
        (4, 1) => long(&entry[8..])?,
        _ => return None,
    };
    Orientation::from_exif(u8::try_from(value).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns EXIF data with a directory of one entry.
    fn exif(is_big_endian: bool, entry: (u16, u16, u32), value: [u8; 4]) -> Vec<u8> {
        let (tag, kind, count) = entry;
        if is_big_endian {
            [b"MM\0*\0\0\0\x08\0\x01", &tag.to_be_bytes()[..], &kind.to_be_bytes(), &count.to_be_bytes(), &value]
                .concat()
        } else {
            [b"II*\0\x08\0\0\0\x01\0", &tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value]
                .concat()
        }
    }

    #[test]
    fn orientation_may_be_short_or_long() {
        for (data, expected) in [
            (exif(true, (0x112, 3, 1), [0, 6, 0, 0]), Orientation::Rotate90),
            (exif(false, (0x112, 3, 1), [6, 0, 0, 0]), Orientation::Rotate90),
            (exif(true, (0x112, 4, 1), [0, 0, 0, 3]), Orientation::Rotate180),
            (exif(false, (0x112, 4, 1), [3, 0, 0, 0]), Orientation::Rotate180),
            (exif(false, (0x112, 4, 1), [3, 1, 0, 0]), Orientation::NoTransforms),
            (exif(false, (0x112, 3, 1), [9, 0, 0, 0]), Orientation::NoTransforms),
            (exif(false, (0x112, 2, 1), [6, 0, 0, 0]), Orientation::NoTransforms),
            (exif(false, (0x113, 3, 1), [6, 0, 0, 0]), Orientation::NoTransforms),
        ] {
            assert_eq!(from_exif(&data), expected, "{data:?}");
            assert_eq!(from_exif(&[b"Exif\0\0", &data[..]].concat()), expected, "{data:?}");
            for length in 0..data.len() {
                assert_eq!(from_exif(&data[..length]), Orientation::NoTransforms, "{length} bytes of {data:?}");
            }
        }
        assert_eq!(from_exif(b"MM\0*\xff\xff\xff\xff"), Orientation::NoTransforms);
    }
}
