//! What the handlers share.

use crate::preparation::Preparation;
use crate::registry::Registry;
use model::preprocess::Limits;

pub struct App {
    pub registry: Registry,
    pub preparation: Preparation,
    pub upload_limits: UploadLimits,
}

impl App {
    pub fn new(registry: Registry) -> Self {
        let upload_limits = UploadLimits::default();
        let limits = Limits { bytes: upload_limits.photo, ..Limits::default() };
        App { registry, preparation: Preparation::new(limits), upload_limits }
    }
}

/// What the photos of one request may cost, in encoded bytes.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Of one photo: more makes a failure of this photo only.
    pub photo: usize,
    /// Of all that is kept of one request.
    pub together: usize,
    pub count: usize,
    /// Of the body, whatever is in it; the connection ends there.
    pub body: usize,
}

impl Default for UploadLimits {
    fn default() -> Self {
        UploadLimits { photo: 20 << 20, together: 64 << 20, count: 32, body: 256 << 20 }
    }
}
