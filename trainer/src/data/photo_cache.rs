//! Cache of decoded photos that is kept in memory across epochs, if all photos fit.

use super::SampleLocation;
use crate::photos::LIMITS;
use anyhow::{Result, bail};
use bytesize::ByteSize;
use model::preprocess::{LazyImage, Photo};
use rayon::prelude::*;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use sysinfo::System;

/// Limit of a cache size in bytes; larger ones are taken for mistakes.
const MAX_CACHE_SIZE: u64 = 1_000_000_000_000_000_000;

/// Number of photos whose headers are read to estimate the size of all.
const ESTIMATE_SAMPLES: usize = 256;

/// Maximum size of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSize {
    Off,
    /// Half of the available memory.
    Auto,
    Bytes(u64),
}

impl FromStr for CacheSize {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => return Ok(CacheSize::Off),
            "auto" => return Ok(CacheSize::Auto),
            _ => {}
        }
        let size = text.trim();
        // `ByteSize` also accepts a number without a unit, which is more likely a mistake than a cache of so few bytes.
        match size.parse::<ByteSize>() {
            Ok(ByteSize(bytes)) if size.ends_with('B') && bytes < MAX_CACHE_SIZE => Ok(CacheSize::Bytes(bytes)),
            _ => bail!("expected off, auto, or a size with its unit, such as 500MB or 8GB"),
        }
    }
}

impl fmt::Display for CacheSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheSize::Off => f.write_str("off"),
            CacheSize::Auto => f.write_str("auto"),
            CacheSize::Bytes(bytes) => write!(f, "{:.2}", ByteSize(*bytes).display().si()),
        }
    }
}

impl CacheSize {
    /// Returns the limit in bytes.
    fn limit(self) -> u64 {
        match self {
            CacheSize::Off => 0,
            CacheSize::Bytes(bytes) => bytes,
            CacheSize::Auto => {
                let mut system = System::new();
                system.refresh_memory();
                let available = system.available_memory();
                // The limit of a container may be lower than the memory of the machine.
                let free = system.cgroup_limits().map_or(available, |limits| limits.free_memory);
                available.min(free) / 2
            }
        }
    }
}

/// Decoded photos by sample index. Lookups are lock-free.
#[derive(Debug)]
pub struct PhotoCache {
    photos: Vec<OnceLock<Photo>>,
    /// Total size of the pixels of all photos, in bytes.
    bytes: AtomicU64,
    limit: u64,
}

impl PhotoCache {
    /// Creates an empty cache if all photos are estimated to fit into it. Also returns a note for the user about this
    /// decision, unless the cache is off.
    pub fn new(locations: &[&SampleLocation], size: CacheSize) -> (Option<Self>, Option<String>) {
        if size == CacheSize::Off {
            return (None, None);
        }
        let (limit, estimate) = (size.limit(), estimate(locations));
        let [limit_text, estimate_text] =
            [limit, estimate].map(|bytes| format!("{:.2}", ByteSize(bytes).display().si()));
        if estimate > limit {
            let note = format!(
                "photo cache disabled: decoded photos need about {estimate_text}, but the cache is limited to {limit_text}"
            );
            return (None, Some(note));
        }
        let note = format!("photo cache enabled: decoded photos need about {estimate_text} of at most {limit_text}");
        (Some(PhotoCache::with_limit(locations.len(), limit)), Some(note))
    }

    fn with_limit(count: usize, limit: u64) -> Self {
        let photos = std::iter::repeat_with(OnceLock::new).take(count).collect();
        PhotoCache { photos, bytes: AtomicU64::new(0), limit }
    }

    /// Returns the photo of a sample, if it is cached.
    pub fn get(&self, index: usize) -> Option<&Photo> {
        self.photos[index].get()
    }

    /// Inserts a photo and returns a reference to it; returns the photo itself as an error if it exceeds the limit.
    pub fn insert(&self, index: usize, photo: Photo) -> Result<&Photo, Photo> {
        let bytes = photo.pixels().len() as u64;
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(photo);
        }
        // Another thread may have inserted the same photo in the meantime.
        if self.photos[index].set(photo).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(self.photos[index].get().expect("the photo was just inserted"))
    }
}

/// Estimates the size of all samples when decoded, in bytes, from evenly spaced ones.
fn estimate(locations: &[&SampleLocation]) -> u64 {
    let count = locations.len().min(ESTIMATE_SAMPLES);
    let size = |index: usize| {
        let bytes = locations[index * locations.len() / count].read().ok()?;
        let (width, height) = LazyImage::open(&bytes, &LIMITS).ok()?.size();
        Some(u64::from(width) * u64::from(height) * 3)
    };
    let sizes: Vec<u64> = (0..count).into_par_iter().filter_map(size).collect();
    if sizes.is_empty() { 0 } else { sizes.iter().sum::<u64>() * locations.len() as u64 / sizes.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo(width: u32, height: u32) -> Photo {
        Photo::from_rgba(width, height, &[7, 8, 9, 255].repeat((width * height) as usize)).unwrap()
    }

    #[test]
    fn parses_sizes() {
        let read = |text: &str| text.parse::<CacheSize>().ok();
        assert_eq!(read("off"), Some(CacheSize::Off));
        assert_eq!(read("auto"), Some(CacheSize::Auto));
        assert_eq!(read("1.5GB"), Some(CacheSize::Bytes(1_500_000_000)));
        assert_eq!(read("20 MB"), Some(CacheSize::Bytes(20_000_000)));
        assert_eq!(read("999999999GB"), Some(CacheSize::Bytes(999_999_999_000_000_000)));
        let invalid = ["", "8", "8G", "-1GB", "infGB", "NaNGB", "much", "1000000000GB", "99999999999999999999GB"];
        assert!(invalid.iter().all(|text| read(text).is_none()));
        assert!(CacheSize::Auto.limit() > 0);
    }

    #[test]
    fn size_is_counted_and_limited() {
        let cache = PhotoCache::with_limit(3, 3 * (6 + 8));
        assert!(cache.get(0).is_none());
        assert!(cache.insert(0, photo(2, 3)).is_ok());
        assert!(cache.insert(0, photo(2, 3)).is_ok(), "inserting twice counts once");
        assert!(cache.insert(1, photo(3, 3)).is_err(), "27 bytes exceed the limit");
        assert!(cache.insert(2, photo(2, 4)).is_ok());
        assert_eq!((cache.bytes.load(Ordering::Relaxed), cache.get(0)), (42, Some(&photo(2, 3))));
        assert!(cache.get(1).is_none());
    }

    #[test]
    fn disabled_if_not_all_photos_fit() {
        let folder = tempfile::tempdir().unwrap();
        let location = |index: usize| {
            let file = folder.path().join(format!("{index}.png"));
            std::fs::write(&file, photo(100, 100).to_png()).unwrap();
            SampleLocation::File(file)
        };
        let locations: Vec<_> = (0..40).map(location).collect();
        let locations: Vec<_> = locations.iter().collect();
        let decide = |bytes| PhotoCache::new(&locations, CacheSize::Bytes(bytes));
        let (cache, note) = decide(40 * 30_000);
        assert!(cache.is_some() && note.unwrap().starts_with("photo cache enabled"));
        let (cache, note) = decide(40 * 30_000 - 1);
        assert!(cache.is_none() && note.unwrap().starts_with("photo cache disabled"));
        assert!(PhotoCache::new(&locations, CacheSize::Off).1.is_none());
    }
}
