//! ONNX files: export of checkpoints for other runtimes, and import of residual networks that torchvision, timm or this
//! crate exported.
//!
//! [`export`] writes the operations of a [`Plan`](crate::plan::Plan), so that graphs derive from the table of
//! architectures. [`import`] recognises a network by the structure of its graph, not by names, which differ between
//! exporters. Files are untrusted; `import` describes the limits.

mod export;
mod import;
mod messages;

pub use export::{OnnxInput, OnnxOptions, OnnxWeights, export};
pub use import::{OnnxError, import};
