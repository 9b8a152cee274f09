//! The weights among everything else that a file of PyTorch's holds.

use super::super::recognise::is_counter;
use super::PthError;
use super::names::canonical;
use super::value::{Id, Pickle, TensorRef, Value};
use std::collections::BTreeMap;

/// Where training scripts put the state dict, in the order in which they are tried.
const NESTED: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Where they put the names of the classes.
const CLASSES: &str = "classes";

/// Tensors by torchvision's name, counters left out, and class names if there are any.
pub(super) struct Weights {
    pub(super) tensors: BTreeMap<String, TensorRef>,
    pub(super) classes: Option<Vec<String>>,
}

/// Finds the state dict: plain, or nested under one of a few keys.
pub(super) fn find(pickle: &Pickle) -> Result<Weights, PthError> {
    // A dict in a dict in a dict; a pickle may go round in circles.
    const MAX_DEPTH: usize = 4;
    let mut value = pickle.root();
    let mut classes = None;
    for _ in 0..MAX_DEPTH {
        let entries = match value {
            Value::Dict(entries) => entries,
            Value::Object(class) => return Err(PthError::WholeModule { class: class.to_string() }),
            other => return Err(PthError::NoStateDict { found: other.kind().to_owned() }),
        };
        classes = classes.or_else(|| pickle.entry(entries, CLASSES).and_then(|list| texts(pickle, list)));
        // `model` is the name of an architecture in some files.
        let holds_weights = |value: &&Value| matches!(value, Value::Dict(_) | Value::Object(_));
        let nested = NESTED.iter().find_map(|key| pickle.entry(entries, key).filter(holds_weights));
        match nested {
            Some(nested) => value = nested,
            None => return Ok(Weights { tensors: tensors(pickle, entries)?, classes }),
        }
    }
    Err(PthError::NoStateDict { found: "dicts nested too deeply".to_owned() })
}

fn tensors(pickle: &Pickle, entries: &[(Id, Id)]) -> Result<BTreeMap<String, TensorRef>, PthError> {
    let is_weight = |(key, value): &(Id, Id)| match pickle.get(*value) {
        Value::Tensor(_) => true,
        Value::Object(_) => pickle.text(*key).is_some_and(|key| key.ends_with(".weight")),
        _ => false,
    };
    if !entries.iter().any(is_weight) {
        return Err(PthError::NoStateDict { found: described(pickle, entries) });
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
        let name = canonical(name);
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

/// The first keys of a dict that is no state dict.
fn described(pickle: &Pickle, entries: &[(Id, Id)]) -> String {
    const SHOWN: usize = 8;
    let shown = |(key, _): &(Id, Id)| pickle.text(*key).unwrap_or("?").chars().take(40).collect::<String>();
    let keys: Vec<String> = entries.iter().take(SHOWN).map(|entry| format!("{:?}", shown(entry))).collect();
    let more = if entries.len() > SHOWN { ", ..." } else { "" };
    if keys.is_empty() { "an empty dict".to_owned() } else { format!("a dict with {}{more}", keys.join(", ")) }
}
