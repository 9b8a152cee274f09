//! Compares the preprocessing of PNGs with Pillow and torchvision, by golden files that `tests/golden/preprocess.py`
//! wrote.

use std::path::Path;

use model::preprocess::{Interpolation, Limits, Photo, Preprocessing};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    source: String,
    resize: u32,
    crop: u32,
    interpolation: Interpolation,
    expected: String,
}

/// The project tolerates a difference of 1, but for lossless formats there is no reason for a difference, so none is
/// accepted.
#[test]
fn png_equals_torchvision() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/preprocess");
    let read = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Photo::decode(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let golden: Golden = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    assert_eq!(golden.cases.len(), 14);
    for Case { source, resize, crop, interpolation, expected } in golden.cases {
        let preprocessing = Preprocessing { resize, crop, interpolation, ..Preprocessing::default() };
        let batch = preprocessing.apply(&read(&source));
        let difference = batch.pixels().iter().zip(read(&expected).pixels()).map(|(&a, &b)| a.abs_diff(b)).max();
        assert_eq!(batch.pixels().len(), read(&expected).pixels().len(), "{expected}");
        assert_eq!(difference, Some(0), "{expected}");
    }
}
