//! An overview picture with some photos of each class, to spot wrong labels at a glance.

use crate::data::{DatasetScan, Sample};
use crate::grid_layout::GridLayout;
use crate::thumbnail::square_centre;
use anyhow::{Context, Result};
use rayon::prelude::*;
use std::path::Path;

/// Maximum number of rows and of columns, and the side of a photo in pixels.
const CLASSES: usize = 20;
const PHOTOS: usize = 8;
const SIDE: u32 = 128;

/// Writes a PNG with one row for each of the first classes, with photos spread evenly over the class. Missing and
/// unreadable photos are white. Returns the names of the rows' classes.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn write(scan: &DatasetScan, path: &Path) -> Result<Vec<String>> {
    let rows = &scan.classes[..scan.classes.len().min(CLASSES)];
    let photos_of_class = |class: usize| {
        let photos: Vec<_> = scan.train.iter().filter(|sample| sample.class == class).collect();
        let count = photos.len().min(PHOTOS);
        (0..PHOTOS)
            .map(move |column| (column < count).then(|| photos[column * photos.len() / count]))
            .collect::<Vec<_>>()
    };
    let photos: Vec<_> = (0..rows.len()).flat_map(photos_of_class).collect();
    let image = |sample: Option<&Sample>| Some(square_centre(&sample?.location, SIDE)?.pixels().to_vec());
    let images: Vec<_> = photos.into_par_iter().map(image).collect();
    let grid = GridLayout { columns: PHOTOS, rows: rows.len(), side: SIDE as usize, gap: 0 }.paint(images);
    std::fs::write(path, grid.to_png()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(rows.to_vec())
}
