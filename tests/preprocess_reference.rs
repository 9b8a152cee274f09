//! Preprocessing against Pillow and torchvision on real photos, and against hostile files.

use anyhow::{Result, ensure};
use libtest_mimic::Arguments;
use model::preprocess::{Excerpt, Limits, Photo, PhotoError, Preprocessing};
use serde::Deserialize;
use tests::data;

/// What Pillow decodes and we refuse, and why.
const REFUSED: [(&str, &str); 6] = [
    ("image-png-bugfixes/x_interlaced_chck.png", "a checksum of the pixels is wrong; Pillow does not look"),
    ("image-rs/images_bmp_images_lenient_badplanes.bmp", "says that it has several planes, which do not exist"),
    ("jpeg-decoder/crashtest_images_imagetestsuite_b55977028a3a574336966b6536640fc9.jpg", "no quantisation table"),
    ("jpeg-decoder/crashtest_images_imagetestsuite_f6b4389c3cf0f5997b2e5a4b905aea8d.jpg", "no quantisation table"),
    ("pillow/bmp_b_badrle.bmp", "runs that leave the picture"),
    ("pillow/truncated_end_chunk.png", "the file ends early, if only by its last chunk"),
];

/// What has another size in Pillow, and why.
const RESIZED: [(&str, &str); 1] =
    [("image-rs/images_gif_anim_oob.gif", "Pillow grows the screen to the frame; browsers and we cut the frame")];

fn main() {
    let trials = vec![
        data::trial("photos_are_equal_to_torchvision", photos),
        data::trial("hostile_files_end_in_a_photo_or_an_error", hostile_files),
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

/// The tolerance of the project for JPEG is 2, for decoders differ; this one does not, so none is accepted.
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
        let excerpt = Excerpt::decode(&bytes, &Limits::default(), &preprocessing)?;
        ensure!(excerpt.resize() == batch, "{}: its excerpt ends otherwise than the whole", photo.file);
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
struct HostileFile {
    file: String,
    format: Option<String>,
    #[serde(rename = "w")]
    width: Option<u32>,
    #[serde(rename = "h")]
    height: Option<u32>,
    orientation: Option<u32>,
    pillow: String,
}

/// What Pillow decodes, we decode, with the same size; for the rest any error is right.
fn hostile_files() -> Result<()> {
    let folder = data::folder().join("robustness");
    let files: Vec<HostileFile> = serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?;
    let (mut decoded, mut wrong) = (0, Vec::new());
    for HostileFile { file, format, width, height, orientation, pillow } in files {
        let bytes = std::fs::read(folder.join(&file))?;
        let result = Photo::decode(&bytes, &Limits::default());
        let supported = matches!(format.as_deref(), Some("JPEG" | "PNG" | "WEBP" | "GIF" | "BMP"));
        let listed = |list: &[(&str, &str)]| list.iter().any(|(name, _)| file == *name);
        let (refused, resized) = (listed(&REFUSED), listed(&RESIZED));
        match result {
            Ok(photo) => {
                decoded += 1;
                let preprocessing = Preprocessing { resize: 32, crop: 24, ..Preprocessing::default() };
                let excerpt = Excerpt::decode(&bytes, &Limits::default(), &preprocessing)?;
                if excerpt.resize() != preprocessing.apply(&photo) {
                    wrong.push(format!("{file}: its excerpt ends otherwise than the whole"));
                }
                let turned = (5..=8).contains(&orientation.unwrap_or(1));
                let size = if turned { (height, width) } else { (width, height) };
                let same = size == (Some(photo.width()), Some(photo.height()));
                if pillow == "ok" && same == resized {
                    wrong.push(format!("{file}: {}x{}, not {size:?}", photo.width(), photo.height()));
                }
                if refused {
                    wrong.push(format!("{file}: decoded, though said to be refused"));
                }
            }
            // The net under the decoders: whatever lands in it is a fault of theirs to be guarded against.
            Err(PhotoError::Undecodable { reason, .. }) if reason == "its decoder failed" => {
                wrong.push(format!("{file}: panicked"));
            }
            Err(error) if pillow == "ok" && supported && !refused => wrong.push(format!("{file}: {error}")),
            Err(_) => {}
        }
    }
    println!("{decoded} hostile files decoded, {} deliberately refused", REFUSED.len());
    ensure!(decoded > 0 && wrong.is_empty(), "{decoded} decoded; {}", wrong.join("\n"));
    Ok(())
}
