//! A rectangular part of a photo.

/// A rectangular part of an upright photo, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    pub left: u32,
    pub top: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

impl Rectangle {
    /// Asserts that the rectangle is not empty and lies within a photo of this size.
    ///
    /// # Panics
    /// Panics otherwise.
    pub(super) fn assert_within(self, size: (u32, u32)) {
        let within = |from: u32, size: u32, whole: u32| size > 0 && u64::from(from) + u64::from(size) <= whole.into();
        let fits = within(self.left, self.width, size.0) && within(self.top, self.height, size.1);
        assert!(fits, "{self:?} does not lie within a photo of {}x{}", size.0, size.1);
    }
}
