//! Tests the import of small PyTorch files, which `pth/make.py` wrote: their content, or the error that rejects them.

#![cfg(not(target_arch = "wasm32"))]

use model::architecture::Architecture;
use model::checkpoint::Dtype;
use model::checkpoint::pth::{self, PthError, StateDict};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/pth/{name}.pth"))
}

fn values(name: &str) -> BTreeMap<String, Vec<f32>> {
    StateDict::open(path(name)).and_then(|mut weights| weights.values()).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the error of opening a file or reading its values.
fn import_error(path: &Path) -> PthError {
    match StateDict::open(path).and_then(|mut weights| weights.values()) {
        Err(PthError::File { reason, .. }) => *reason,
        Err(error) => error,
        Ok(values) => panic!("{} was read: {:?}", path.display(), values.keys()),
    }
}

/// Returns the tensors of `weights()` in `make.py`, without the counter.
fn expected() -> BTreeMap<String, Vec<f32>> {
    let range = |count: usize, value: fn(f32) -> f32| (0..count).map(|index| value(index as f32)).collect();
    let expected: [(&str, Vec<f32>); 5] = [
        ("conv1.weight", range(24, |index| index / 4.0)),
        ("bn1.weight", vec![1.0, 2.0]),
        ("layer2.0.downsample.0.weight", range(4, |index| index - 1.5)),
        ("fc.weight", range(6, |index| index / 8.0)),
        ("fc.bias", range(3, |index| -index)),
    ];
    expected.into_iter().map(|(name, values)| (name.to_owned(), values)).collect()
}

#[test]
fn all_ways_of_saving_give_the_same_weights() {
    for name in [
        "zip",
        "legacy",
        "protocol4",
        "protocol5_legacy",
        "f16",
        "bf16",
        "f64",
        "channels_last",
        "transposed",
        "shared",
        "shared_legacy",
        "parameters",
        "attributes",
        "nested_state_dict",
        "nested_model",
        "tutorial",
        "unknown_outside_weights",
        "attack_outside_weights",
    ] {
        assert_eq!(values(name), expected(), "{name}");
    }
}

#[test]
fn shapes_and_classes_are_available_without_reading_values() {
    let weights = StateDict::open(path("nested_model")).unwrap();
    let shapes: BTreeMap<_, _> = weights.shapes().collect();
    assert_eq!(shapes["conv1.weight"], [2, 3, 2, 2]);
    assert_eq!(weights.classes().unwrap(), ["ant", "bee", "cat"]);
    assert_eq!(StateDict::open(path("zip")).unwrap().classes(), None);
    assert_eq!(values("ordered_dict").into_keys().collect::<Vec<_>>(), ["0.bias", "0.weight"]);
}

#[test]
fn unsupported_files_have_specific_errors() {
    use PthError as E;
    let error_of = |name: &str| import_error(&path(name));
    assert!(matches!(error_of("unknown_in_weights"),
        E::UnknownClass { name, class } if name == "layer1.weight" && class == "__main__.Unknown"));
    for name in ["attack_in_weights", "attack_legacy"] {
        assert!(
            matches!(error_of(name), E::UnknownClass { name, class } if name == "layer1.weight" && class == "posix.system")
        );
    }
    for name in ["module", "module_nested"] {
        let error = error_of(name);
        assert!(
            matches!(&error, E::WholeModule { class } if class == "torch.nn.modules.container.Sequential"),
            "{error}"
        );
        assert!(error.to_string().contains("state_dict()"), "{error}");
    }
    assert!(matches!(error_of("integers"),
        E::UnsupportedDtype { name, class } if name == "fc.weight" && class == "torch.LongStorage"));
    assert!(matches!(error_of("text"), E::NotATensor { name, found: "a string" } if name == "note"));
    assert!(matches!(error_of("no_weights"), E::NoStateDict { found } if found.contains("optimizer")));
    assert!(matches!(error_of("twice"), E::DuplicateName { name } if name == "fc.bias"));
    assert!(matches!(error_of("compressed"), E::Compressed { .. }));
    assert!(matches!(error_of("big_endian"), E::BigEndian));
    assert!(matches!(error_of("short_storage"), E::StorageTooShort { needed: 96, found: 8, .. }));
    assert!(matches!(error_of("script"), E::TorchScript));
}

#[test]
fn nothing_is_executed() {
    for name in ["attack_outside_weights", "attack_in_weights", "attack_legacy"] {
        StateDict::open(path(name)).map(drop).ok();
    }
    assert!(!Path::new("executed-by-pickle").exists());
}

#[test]
fn other_files_are_rejected_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in
        [("empty", &b""[..]), ("text", b"hello"), ("zip", b"PK\x03\x04"), ("pickle", b"\x80\x02K\x01.")]
    {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let error = StateDict::open(&file).map(drop).unwrap_err();
        assert!(error.to_string().starts_with(&file.display().to_string()), "{error}");
        assert!(matches!(import_error(&file), PthError::NotTorch | PthError::Zip(_)), "{error}");
    }
    assert!(matches!(import_error(folder.path()), PthError::Io(_)));
}

/// Broken files give an error or other weights, never a panic or a hang.
#[test]
fn broken_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.pth");
    let try_bytes = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        StateDict::open(&file).and_then(|mut weights| weights.values())
    };
    for name in ["zip", "legacy", "protocol5_legacy", "shared", "tutorial", "attributes"] {
        let whole = std::fs::read(path(name)).unwrap();
        for length in (0..whole.len()).step_by(3) {
            assert!(try_bytes(&whole[..length]).is_err(), "{name} cut to {length}");
        }
        let mut state = 7u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for _ in 0..500 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(4) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            try_bytes(&bytes).map(drop).ok();
        }
    }
}

/// Returns a legacy file of a whole fp16 ResNet-18 with two classes and these class names. All tensors are views of one
/// storage, in which each value is its index modulo 128.
fn resnet18(classes: &[&str]) -> Vec<u8> {
    const ELEMENTS: usize = 512 * 512 * 3 * 3;
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let number = |number: usize| [b"J", &(number as u32).to_le_bytes()[..]].concat();
    let tuple = |items: Vec<Vec<u8>>| [b"(".to_vec(), items.concat(), b"t".to_vec()].concat();

    let storage =
        tuple(vec![text("storage"), b"ctorch\nHalfStorage\n".to_vec(), text("0"), text("cpu"), number(ELEMENTS)]);
    let mut object = [&b"\x80\x02}("[..], &text("classes"), b"]("].concat();
    object.extend(classes.iter().flat_map(|class| text(class)));
    object.extend([&b"e"[..], &text("model"), b"ccollections\nOrderedDict\n)R("].concat());
    for spec in Architecture::new("resnet18", 2).unwrap().tensors() {
        let strides = (0..spec.shape.len()).map(|axis| number(spec.shape[axis + 1..].iter().product()));
        let strides = tuple(strides.collect());
        let shape = tuple(spec.shape.iter().map(|side| number(*side)).collect());
        let arguments = tuple(vec![storage.clone(), b"Q".to_vec(), number(0), shape, strides, b"\x89N".to_vec()]);
        object.extend(
            [text(&spec.name), b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), arguments, b"R".to_vec()].concat(),
        );
    }
    object.extend(b"uu.");

    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    let keys = [&b"\x80\x02]"[..], &text("0"), b"a."].concat();
    let mut file = [&magic[..], &object, &keys, &(ELEMENTS as u64).to_le_bytes()].concat();
    file.extend((0..ELEMENTS).flat_map(|index| half::f16::from_f32((index % 128) as f32).to_le_bytes()));
    file
}

#[test]
fn architecture_of_a_whole_network_is_inferred() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resnet18.pth");
    std::fs::write(&file, resnet18(&["ant", "bee"])).unwrap();
    let checkpoint = pth::import(&file).unwrap();
    assert_eq!(checkpoint.architecture(), Architecture::new("resnet18", 2).unwrap());
    assert_eq!(checkpoint.metadata().classes, ["ant", "bee"]);
    assert_eq!(checkpoint.metadata().labels, ["ant", "bee"]);
    assert_eq!(checkpoint.values("fc.weight")[126..130], [126.0, 127.0, 0.0, 1.0]);
    let dtype = |name: &str| checkpoint.entries().find(|entry| entry.name == name).unwrap().dtype;
    assert_eq!(dtype("layer4.1.conv2.weight"), Dtype::F16, "matrices keep their dtype");
    assert_eq!(dtype("bn1.running_var"), Dtype::F32, "everything else is widened");

    std::fs::write(&file, resnet18(&["ant", "bee", "cat"])).unwrap();
    assert_eq!(
        pth::import(&file).unwrap().metadata().classes,
        ["0", "1"],
        "names are ignored if their number does not match"
    );
    let error = pth::import(path("zip")).unwrap_err().to_string();
    assert!(error.contains("zip.pth") && error.contains("no known architecture"), "{error}");
}
