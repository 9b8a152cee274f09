//! Location of the state dict among the other contents of a PyTorch file.

use super::super::infer::is_counter;
use super::PthError;
use super::tensor_names::torchvision_name;
use super::value::{Pickle, TensorRef, Value, ValueId};
use std::collections::BTreeMap;

/// Keys under which training scripts store the state dict, in the order in which they are tried.
const STATE_DICT_KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Key under which training scripts store the names of the classes.
const CLASSES_KEY: &str = "classes";

/// The tensors of a state dict by torchvision's name, without counters, and the names of the classes, if present.
pub(super) struct Entries {
    pub(super) tensors: BTreeMap<String, TensorRef>,
    pub(super) classes: Option<Vec<String>>,
}

/// Finds the state dict, at the root or nested under one of a few keys.
pub(super) fn find(pickle: &Pickle) -> Result<Entries, PthError> {
    // This ends the search if the pickle is cyclic.
    const MAX_DEPTH: usize = 4;
    let mut value = pickle.root();
    let mut classes = None;
    for _ in 0..MAX_DEPTH {
        let entries = match value {
            Value::Dict(entries) => entries,
            Value::Object(class) => return Err(PthError::WholeModule { class: class.to_string() }),
            other => return Err(PthError::NoStateDict { found: other.kind().to_owned() }),
        };
        classes = classes.or_else(|| pickle.entry(entries, CLASSES_KEY).and_then(|list| texts(pickle, list)));
        // In some files, `model` is the name of an architecture.
        let holds_weights = |value: &&Value| matches!(value, Value::Dict(_) | Value::Object(_));
        let nested = STATE_DICT_KEYS.iter().find_map(|key| pickle.entry(entries, key).filter(holds_weights));
        match nested {
            Some(nested) => value = nested,
            None => return Ok(Entries { tensors: tensors(pickle, entries)?, classes }),
        }
    }
    Err(PthError::NoStateDict { found: "dicts that are nested too deeply".to_owned() })
}

fn tensors(pickle: &Pickle, entries: &[(ValueId, ValueId)]) -> Result<BTreeMap<String, TensorRef>, PthError> {
    let is_weight = |(key, value): &(ValueId, ValueId)| match pickle.get(*value) {
        Value::Tensor(_) => true,
        Value::Object(_) => pickle.text(*key).is_some_and(|key| key.ends_with(".weight")),
        _ => false,
    };
    if !entries.iter().any(is_weight) {
        return Err(PthError::NoStateDict { found: describe(pickle, entries) });
    }
    let mut tensors = BTreeMap::new();
    for (key, value) in entries {
        let name = pickle.text(*key).unwrap_or(pickle.get(*key).kind());
        let tensor = match pickle.get(*value) {
            Value::Tensor(tensor) => tensor,
            Value::Object(class) => {
                return Err(PthError::UnknownClass { name: name.to_owned(), class: class.to_string() });
            }
            other => return Err(PthError::NotATensor { name: name.to_owned(), found: other.kind() }),
        };
        let name = torchvision_name(name);
        if is_counter(&name) {
            continue;
        }
        if tensors.insert(name.clone(), (**tensor).clone()).is_some() {
            return Err(PthError::DuplicateName { name });
        }
    }
    Ok(tensors)
}

fn texts(pickle: &Pickle, list: &Value) -> Option<Vec<String>> {
    let (Value::List(items) | Value::Tuple(items)) = list else { return None };
    items.iter().map(|item| pickle.text(*item).map(str::to_owned)).collect()
}

/// Describes a dict that is not a state dict by its first keys.
fn describe(pickle: &Pickle, entries: &[(ValueId, ValueId)]) -> String {
    const SHOWN: usize = 8;
    let shown = |(key, _): &(ValueId, ValueId)| pickle.text(*key).unwrap_or("?").chars().take(40).collect::<String>();
    let keys: Vec<String> = entries.iter().take(SHOWN).map(|entry| format!("{:?}", shown(entry))).collect();
    let more = if entries.len() > SHOWN { ", ..." } else { "" };
    if keys.is_empty() { "an empty dict".to_owned() } else { format!("a dict with {}{more}", keys.join(", ")) }
}
