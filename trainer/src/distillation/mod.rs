//! Distillation: a student learns the predictions of a frozen teacher. The loss is in
//! [`learning`](crate::learning); this module opens the teacher and computes its logits.

mod logit_file;
mod teacher;
mod teacher_engine;

pub use logit_file::LogitFile;
pub use teacher::Teacher;
pub use teacher_engine::{TeacherEngine, inference_device};
