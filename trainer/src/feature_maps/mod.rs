//! Feature maps: the outputs of the layers of a network for one photo, and the files that show them.

mod file_names;
mod files;
mod layers;
mod outputs;

pub use files::{Content, MapFolder, WrittenFile};
pub use layers::Layer;
pub use outputs::NetworkOutputs;
