//! The components of the page, one per file.

mod answer_panel;
mod class_list;
mod heatmap;
mod model_select;
mod model_status;
mod photo_frame;
mod sample_photos;
mod thumbnails;
mod timing;

pub use answer_panel::AnswerPanel;
pub use class_list::ClassList;
pub use model_select::ModelSelect;
pub use model_status::ModelStatus;
pub use photo_frame::PhotoFrame;
pub use sample_photos::SamplePhotos;
pub use thumbnails::Thumbnails;
