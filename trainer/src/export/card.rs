//! Model cards: the README.md of a repository on Hugging Face.

use super::Format;
use model::architecture::{Architecture, Stem, StridePlacement};
use model::checkpoint::Metadata;
use model::preprocess::{Interpolation, Preprocessing};
use serde_json::{Value, json};

/// File names in a folder for Hugging Face, to which the card refers.
pub const CARD: &str = "README.md";
pub const ONNX: &str = "model.onnx";
pub const TORCHSCRIPT: &str = "model.ts";

/// Returns the file name of the checkpoint in a folder for Hugging Face: the name that other programs look for if they
/// compute the same with the weights, and another one otherwise.
pub fn checkpoint_name(architecture: &Architecture) -> &'static str {
    if Format::Timm.check(architecture).is_ok() { "model.safetensors" } else { "shortcut.safetensors" }
}

/// Returns the text of a card. `name` is the name of the model.
pub fn card(name: &str, metadata: &Metadata) -> String {
    let sections = [
        header(name, metadata),
        format!("# {name}\n\n{}", description(metadata)),
        format!("## Preprocessing\n\n{}", preprocessing(&metadata.preprocessing)),
        figures(metadata),
        usage(metadata),
        labels(metadata),
    ];
    sections.join("\n\n") + "\n"
}

/// Returns the YAML header. Strings are quoted as in JSON, which is valid YAML.
fn header(name: &str, metadata: &Metadata) -> String {
    let timm = Format::Timm.check(&metadata.architecture).is_ok();
    let library = if timm { "library_name: timm\n" } else { "" };
    let accuracy = |(key, name): (&str, &str)| {
        number(metadata, key).map(|value| format!("    - type: accuracy\n      name: {name}\n      value: {value}\n"))
    };
    let accuracies: String = [("top1", "top-1"), ("top5", "top-5")].into_iter().filter_map(accuracy).collect();
    let mut index = String::new();
    if !accuracies.is_empty() {
        index = format!(
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: image-classification\n    dataset:\n      name: \
             validation photos\n      type: imagefolder\n    metrics:\n{accuracies}",
            json!(name)
        );
    }
    format!(
        "---\npipeline_tag: image-classification\n{library}tags:\n- image-classification\n- {}\n- onnx\n- \
         shortcut\n{index}---",
        metadata.architecture.name()
    )
}

fn description(metadata: &Metadata) -> String {
    let architecture = metadata.architecture;
    let parameters = architecture.parameter_count() as f64 / 1e6;
    let multiply_adds = architecture.multiply_adds(metadata.preprocessing.crop as usize) as f64 / 1e9;
    let mut text = format!(
        "A `{architecture}` that classifies photos into {} classes: {parameters:.1} million parameters, {multiply_adds:.2} \
         billion multiply-adds per photo.",
        architecture.classes
    );
    if architecture.stride_placement == StridePlacement::First {
        text += " Its bottlenecks have their strides on the first 1x1 convolutions, so torchvision's and timm's networks of \
                 the same shape would load the weights and answer differently.";
    }
    match architecture.stem {
        Stem::Imagenet => {}
        Stem::ImagenetStride1 => text += " The convolution of its stem has stride 1.",
        Stem::Small => text += " Its stem is a 3x3 convolution without max-pooling, for small images.",
    }
    if let Some(provenance) = &metadata.provenance {
        text += &format!("\n\nOrigin of the weights: {}", plain(provenance));
    }
    text
}

fn preprocessing(preprocessing: &Preprocessing) -> String {
    let Preprocessing { resize, crop, mean, std, .. } = preprocessing;
    let filter = filter(preprocessing);
    format!(
        "1. Apply the EXIF orientation, and convert to RGB.\n2. Resize the short side to {resize} pixels ({filter}, \
         antialiased).\n3. Crop the central {crop}x{crop} pixels.\n4. Scale to 0..1, subtract the mean {mean:?}, and divide by \
         the standard deviation {std:?}."
    )
}

fn filter(preprocessing: &Preprocessing) -> &'static str {
    match preprocessing.interpolation {
        Interpolation::Bilinear => "bilinear",
        Interpolation::Bicubic => "bicubic",
    }
}

/// Returns the number of a metric.
fn number(metadata: &Metadata, key: &str) -> Option<f64> {
    metadata.metrics.as_ref()?.get(key)?.as_f64()
}

fn figures(metadata: &Metadata) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    if let Some(Value::Object(metrics)) = &metadata.metrics {
        rows.extend(
            metrics.iter().filter(|(_, value)| value.is_number()).map(|(key, value)| (plain(key), value.to_string())),
        );
        rows.sort();
    }
    rows.extend(metadata.temperature.map(|value| ("temperature of the softmax".to_owned(), value.to_string())));
    let threshold = metadata.rejection_threshold;
    rows.extend(threshold.map(|value| ("probability below which to reject".to_owned(), value.to_string())));
    if rows.is_empty() {
        return "## Measured figures\n\nThe checkpoint contains no measured figures. `trainer evaluate` measures them."
            .to_owned();
    }
    let rows: String = rows.into_iter().map(|(key, value)| format!("\n| {key} | {value} |")).collect();
    format!("## Measured figures\n\nOn the validation photos.\n\n| figure | value |\n| --- | --- |{rows}")
}

fn usage(metadata: &Metadata) -> String {
    let Preprocessing { resize, crop, mean, std, .. } = metadata.preprocessing;
    let (filter, checkpoint) =
        (filter(&metadata.preprocessing).to_uppercase(), checkpoint_name(&metadata.architecture));
    let temperature = metadata.temperature.unwrap_or(1.0);
    let mut text = format!(
        r#"## Use

With Shortcut, which reads labels and preprocessing from `{checkpoint}`:

```sh
trainer predict photo.jpg --checkpoint {checkpoint}
```

With ONNX Runtime:

```python
import json

import numpy
import onnxruntime
from PIL import Image, ImageOps


def preprocessed(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    short = min(image.size)
    image = image.resize([{resize} * side // short for side in image.size], Image.Resampling.{filter})
    left, top = (round((side - {crop}) / 2) for side in image.size)
    pixels = numpy.asarray(image.crop((left, top, left + {crop}, top + {crop})), numpy.float32) / 255
    normalised = (pixels - numpy.float32({mean:?})) / numpy.float32({std:?})
    return normalised.transpose(2, 0, 1)[numpy.newaxis]


session = onnxruntime.InferenceSession("{ONNX}")
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
logits = session.run(["logits"], {{"input": preprocessed("photo.jpg")}})[0][0] / {temperature}
probabilities = numpy.exp(logits - logits.max()) / numpy.exp(logits - logits.max()).sum()
for index in probabilities.argsort()[::-1][:5]:
    print(f"{{probabilities[index]:.3f}} {{labels[index]}}")
```

With PyTorch, and `preprocessed` from above:

```python
import json

import torch

extra = {{"shortcut.json": ""}}
network = torch.jit.load("{TORCHSCRIPT}", _extra_files=extra)
labels = json.loads(extra["shortcut.json"])["labels"]
with torch.no_grad():
    probabilities = torch.softmax(network(torch.from_numpy(preprocessed("photo.jpg")))[0] / {temperature}, 0)
for index in probabilities.argsort(descending=True)[:5]:
    print(f"{{probabilities[index]:.3f}} {{labels[index]}}")
```

With ONNX Runtime Web, where `values` is a `Float32Array` of the normalised image:

```js
import * as ort from "onnxruntime-web";

const session = await ort.InferenceSession.create("{ONNX}");
const input = new ort.Tensor("float32", values, [1, 3, {crop}, {crop}]);
const {{ logits }} = await session.run({{ input }});
```"#
    );
    if Format::Timm.check(&metadata.architecture).is_ok() {
        text += r#"

With timm, where the folder contains `config.json` and `model.safetensors`:

```python
import timm

network = timm.create_model("local-dir:.", pretrained=True).eval()
```"#;
    }
    text
}

fn labels(metadata: &Metadata) -> String {
    let names = metadata.labels.iter().zip(&metadata.classes).enumerate();
    let row = |(index, (label, class)): (usize, (&String, &String))| {
        format!("| {index} | {} | {} |\n", plain(class), plain(label))
    };
    let rows: String = names.map(row).collect();
    format!("## Labels\n\n| index | class | label |\n| --- | --- | --- |\n{}", rows.trim_end())
}

/// Escapes text, so that Markdown shows it as it is, in one line of a table.
fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '$' | '~' => escaped.extend(['\\', character]),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &str) -> Metadata {
        let mut metadata = Metadata::new(Architecture::new(name, 2).unwrap());
        metadata.labels = vec!["ant | <b>".to_owned(), "bee\n---".to_owned()];
        metadata.metrics = Some(json!({"top1": 0.875, "loss": 0.5, "note": "text"}));
        metadata
    }

    #[test]
    fn header_has_accuracies_and_the_library_that_loads_the_files() {
        let text = card("ants: \"bees\"", &metadata("resnet50"));
        let header = text.split("---\n").nth(1).unwrap();
        assert!(header.contains("library_name: timm\n"), "{header}");
        assert!(header.contains("- name: \"ants: \\\"bees\\\"\"\n"), "{header}");
        assert!(header.contains("name: top-1\n      value: 0.875\n"), "{header}");
        assert!(!header.contains("top-5"), "{header}");
    }

    #[test]
    fn networks_that_timm_lacks_do_not_mention_its_files() {
        let text = card("v1", &metadata("resnet50_v1"));
        assert!(!text.contains("library_name") && !text.contains("import timm"), "{text}");
        assert!(text.contains("--checkpoint shortcut.safetensors") && text.contains("answer differently"), "{text}");
    }

    #[test]
    fn labels_cannot_break_out_of_the_table() {
        let text = card("ants", &metadata("resnet18"));
        assert!(text.contains("| 0 | 0 | ant \\| \\<b\\> |\n| 1 | 1 | bee --- |\n"), "{text}");
        assert!(text.contains("| loss | 0.5 |\n| top1 | 0.875 |") && !text.contains("| note |"), "{text}");
    }
}
