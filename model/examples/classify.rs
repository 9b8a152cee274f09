//! Classifies photos with a checkpoint on the CPU, and prints the five most likely classes of each.
//!
//! `cargo run --release -p model --example classify -- checkpoints/resnet50_v1-imagenet.safetensors samples/cat.jpg`

use model::checkpoint::Checkpoint;
use model::classifier::{Classifier, PreparedPhoto};
use model::engine::{Device, EngineOptions};
use model::prediction::ModelId;
use model::preprocess::Limits;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: classify CHECKPOINT PHOTO...")?;
    let id = ModelId::from_file("example", path.as_ref())?;
    let checkpoint = Checkpoint::from_path(&path)?;
    let classifier = Classifier::new(id, checkpoint, Device::Cpu, EngineOptions::default(), |_, _| {});
    let classifier = pollster::block_on(classifier)?;
    for photo in arguments {
        let bytes = std::fs::read(&photo)?;
        let prepared = PreparedPhoto::from_bytes(&bytes, &Limits::default(), classifier.metadata())?;
        println!("{photo}");
        for class in pollster::block_on(classifier.classify(prepared, 0.0, 5))?.predictions {
            println!("  {:5.1} %  {}", 100.0 * class.probability, class.label);
        }
    }
    Ok(())
}
