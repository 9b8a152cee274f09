//! Compares preprocessing with Pillow and torchvision on real photos, and with Pillow on malformed files.

use anyhow::{Result, ensure};
use libtest_mimic::Arguments;
use model::preprocess::{CroppedDecode, Limits, Photo, PhotoError, Preprocessing};
use serde::Deserialize;
use tests::data;

/// Files that Pillow decodes and we reject, with the reason.
const REJECTED: [(&str, &str); 5] = [
    ("image-png-bugfixes/x_interlaced_chck.png", "a checksum of the pixels is wrong; Pillow ignores it"),
    ("image-rs/images_bmp_images_lenient_badplanes.bmp", "declares several planes, which BMP does not have"),
    ("jpeg-decoder/crashtest_images_imagetestsuite_b55977028a3a574336966b6536640fc9.jpg", "no quantisation table"),
    ("jpeg-decoder/crashtest_images_imagetestsuite_f6b4389c3cf0f5997b2e5a4b905aea8d.jpg", "no quantisation table"),
    ("pillow/bmp_b_badrle.bmp", "runs that reach beyond the image"),
];

/// Files that have another size in Pillow, with the reason.
const RESIZED: [(&str, &str); 1] =
    [("image-rs/images_gif_anim_oob.gif", "Pillow enlarges the screen to the frame; browsers and we crop the frame")];

fn main() {
    let trials = vec![
        data::trial("photos_equal_torchvision", photos),
        data::trial("malformed_files_give_a_photo_or_an_error", malformed_files),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

#[derive(Deserialize)]
struct Reference {
    photos: Vec<ReferencePhoto>,
}

#[derive(Deserialize)]
struct ReferencePhoto {
    file: String,
}

/// The project tolerates a difference of 2 for JPEG, since decoders differ. Our decoder does not differ from Pillow's,
/// so no difference is accepted.
fn photos() -> Result<()> {
    let data = data::folder();
    let reference: Reference = serde_json::from_slice(&std::fs::read(data.join("reference/resnet50_v1.json"))?)?;
    let tensors = std::fs::read(data.join("reference/resnet50_v1.safetensors"))?;
    let cropped = safetensors::SafeTensors::deserialize(&tensors)?.tensor("cropped_u8")?;
    assert_eq!(cropped.shape(), [reference.photos.len(), 224, 224, 3]);
    let (mut largest, mut total) = (0, 0);
    for (photo, expected) in reference.photos.iter().zip(cropped.data().chunks_exact(224 * 224 * 3)) {
        let bytes = std::fs::read(data.join("photos").join(&photo.file))?;
        let preprocessing = Preprocessing::default();
        let batch = preprocessing.apply(&Photo::decode(&bytes, &Limits::default())?);
        let cropped = CroppedDecode::decode(&bytes, &Limits::default(), &preprocessing)?;
        ensure!(cropped.resize() == batch, "{}: cropped decoding differs from decoding the whole", photo.file);
        let differences = batch.pixels().iter().zip(expected).map(|(&ours, &theirs)| u64::from(ours.abs_diff(theirs)));
        total += differences.clone().sum::<u64>();
        largest = largest.max(differences.max().unwrap_or(0));
    }
    let mean = total as f64 / cropped.data().len() as f64;
    println!("{} photos: largest difference {largest}, mean {mean}", reference.photos.len());
    assert_eq!(largest, 0, "largest difference from torchvision, of 255; mean {mean}");
    Ok(())
}

#[derive(Deserialize)]
struct MalformedFile {
    file: String,
    format: Option<String>,
    #[serde(rename = "w")]
    width: Option<u32>,
    #[serde(rename = "h")]
    height: Option<u32>,
    orientation: Option<u32>,
    pillow: String,
}

/// Checks that every file that Pillow decodes is decoded with the same size. For other files, any error is accepted.
fn malformed_files() -> Result<()> {
    let folder = data::folder().join("robustness");
    let files: Vec<MalformedFile> = serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?;
    let (mut decoded, mut wrong) = (0, Vec::new());
    for MalformedFile { file, format, width, height, orientation, pillow } in files {
        let bytes = std::fs::read(folder.join(&file))?;
        let result = Photo::decode(&bytes, &Limits::default());
        let supported = matches!(format.as_deref(), Some("JPEG" | "PNG" | "WEBP" | "GIF" | "BMP"));
        let listed = |list: &[(&str, &str)]| list.iter().any(|(name, _)| file == *name);
        let (rejected, resized) = (listed(&REJECTED), listed(&RESIZED));
        match result {
            Ok(photo) => {
                decoded += 1;
                let preprocessing = Preprocessing { resize: 32, crop: 24, ..Preprocessing::default() };
                let cropped = CroppedDecode::decode(&bytes, &Limits::default(), &preprocessing)?;
                if cropped.resize() != preprocessing.apply(&photo) {
                    wrong.push(format!("{file}: cropped decoding differs from decoding the whole"));
                }
                let turned = (5..=8).contains(&orientation.unwrap_or(1));
                let size = if turned { (height, width) } else { (width, height) };
                let same = size == (Some(photo.width()), Some(photo.height()));
                if pillow == "ok" && same == resized {
                    wrong.push(format!("{file}: {}x{}, expected {size:?}", photo.width(), photo.height()));
                }
                if rejected {
                    wrong.push(format!("{file}: decoded, although listed as rejected"));
                }
            }
            // Inputs that make a decoder panic must be rejected before it runs.
            Err(PhotoError::Undecodable { reason, .. }) if reason == "the decoder panicked" => {
                wrong.push(format!("{file}: panicked"));
            }
            Err(error) if pillow == "ok" && supported && !rejected => wrong.push(format!("{file}: {error}")),
            Err(_) => {}
        }
    }
    println!("{decoded} malformed files decoded, {} deliberately rejected", REJECTED.len());
    ensure!(decoded > 0 && wrong.is_empty(), "{decoded} decoded; {}", wrong.join("\n"));
    Ok(())
}
