//! Photos without labels, of which a student learns its teacher's predictions only.

use super::{Dataset, SampleLocation};
use crate::photos::{self, EXTENSIONS};
use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Locations of unlabelled photos.
#[derive(Clone, Debug, Default)]
pub struct UnlabelledPhotos(Arc<[SampleLocation]>);

impl UnlabelledPhotos {
    /// Lists the photos of a folder and its subfolders, in order of their names.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be listed, if it contains no photos, or if one of them is a labelled photo of
    /// `dataset`.
    pub fn open(folder: &Path, dataset: &Dataset) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        let mut files = Vec::new();
        photos::collect(&folder, &mut files)?;
        ensure!(!files.is_empty(), "{} contains no photos ({})", folder.display(), EXTENSIONS.join(", "));
        let locations: Vec<_> = files.into_iter().map(SampleLocation::File).collect();
        let labelled: HashSet<_> = dataset.train.iter().chain(&*dataset.val).map(|sample| &sample.location).collect();
        if let Some(location) = locations.iter().find(|location| labelled.contains(location)) {
            anyhow::bail!("{location} has a label; choose a folder without photos of --data");
        }
        Ok(UnlabelledPhotos(locations.into()))
    }

    /// Returns a hash, in hexadecimal, of the names and the order of the photos. It does not depend on the location of
    /// `folder`, which contains them, nor on the contents of the files.
    pub fn fingerprint(&self, folder: &Path) -> String {
        let mut hash = Sha256::new();
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string();
        for location in &*self.0 {
            let location = location.to_string();
            hash.update(location.strip_prefix(&folder).unwrap_or(&location));
            hash.update([0]);
        }
        hex::encode(&hash.finalize()[..16])
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn locations(&self) -> &[SampleLocation] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lists_the_photos_of_all_subfolders_and_rejects_labelled_ones() {
        let root = tempfile::tempdir().unwrap();
        for file in
            ["data/ant/1.jpg", "data/ant/2.jpg", "data/bee/1.jpg", "data/bee/2.jpg", "more/x/2.jpg", "more/1.png"]
        {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        fs::write(root.path().join("more/notes.txt"), "").unwrap();
        fs::create_dir(root.path().join("empty")).unwrap();
        let dataset = Dataset::open(&root.path().join("data"), Some(0.5), 0, &[]).unwrap();
        let open = |name: &str| UnlabelledPhotos::open(&root.path().join(name), &dataset);
        let photos = open("more").unwrap();
        let names: Vec<_> = photos.locations().iter().map(ToString::to_string).collect();
        let expected = ["more/1.png", "more/x/2.jpg"].map(|name| root.path().join(name).display().to_string());
        assert_eq!(names, expected);

        let error = |name: &str| open(name).unwrap_err().to_string();
        assert!(error("empty").contains("empty contains no photos (jpg"), "{}", error("empty"));
        assert!(error("").contains("has a label; choose a folder without photos of --data"), "{}", error(""));

        let fingerprint = photos.fingerprint(&root.path().join("more"));
        fs::rename(root.path().join("more"), root.path().join("moved")).unwrap();
        assert_eq!(open("moved").unwrap().fingerprint(&root.path().join("moved")), fingerprint);
        fs::write(root.path().join("moved/3.png"), "").unwrap();
        assert_ne!(open("moved").unwrap().fingerprint(&root.path().join("moved")), fingerprint);
    }
}
