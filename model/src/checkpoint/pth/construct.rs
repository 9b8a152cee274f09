//! Interpretation of the constructors that occur in pickled state dicts. Every other call becomes a placeholder.

use super::value::{StorageRef, TensorRef, Value, ValueId};
use std::sync::Arc;

/// Maximum number of dimensions; no tensor of a network has more.
const MAX_DIMENSIONS: usize = 8;

/// Returns the result of calling a class or function: a new value, or (as `Err`) the id of an existing one. Arguments
/// that do not fit, which untrusted `values` may contain, give a placeholder, which is rejected if the weights
/// contain it.
pub(super) fn construct(values: &[Value], callable: ValueId, arguments: &[ValueId]) -> Result<Value, ValueId> {
    let get = |id: ValueId| &values[id as usize];
    let name = match get(callable) {
        Value::Global(name) => name,
        other => return Ok(Value::Object(other.kind().into())),
    };
    let placeholder = || Ok(Value::Object(name.clone()));
    match (&**name, arguments) {
        ("collections.OrderedDict", []) => Ok(Value::Dict(Vec::new())),
        ("collections.OrderedDict", [pairs]) => dict(values, *pairs).map_or_else(placeholder, Ok),
        ("torch.Size", [sizes]) => Err(*sizes),
        ("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
            tensor(values, [*storage, *offset, *shape, *strides]).map_or_else(placeholder, Ok)
        }
        ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [data, ..]) => Err(*data),
        // A tensor with attributes: rebuild function, class, arguments of the function, attributes.
        ("torch._tensor._rebuild_from_type_v2", [rebuild, _class, inner, ..]) => match (get(*rebuild), get(*inner)) {
            (Value::Global(rebuild), Value::Tuple(inner)) if rebuild.starts_with("torch._utils._rebuild_tensor") => {
                let [storage, offset, shape, strides, ..] = inner[..] else { return placeholder() };
                tensor(values, [storage, offset, shape, strides]).map_or_else(placeholder, Ok)
            }
            _ => placeholder(),
        },
        // Creates an object without calling its class.
        ("copyreg._reconstructor" | "copy_reg._reconstructor", [class, ..]) => match get(*class) {
            Value::Global(class) => Ok(Value::Object(class.clone())),
            _ => placeholder(),
        },
        _ => placeholder(),
    }
}

/// Resolves a persistent id: a storage or, in legacy files, the class of a module with its source text.
pub(super) fn resolve_persistent_id(values: &[Value], id: ValueId) -> Value {
    let get = |id: ValueId| &values[id as usize];
    storage(values, id).map(|storage| Value::Storage(Box::new(storage))).unwrap_or_else(|| {
        if let Value::Tuple(items) = get(id)
            && let [_kind, class, ..] = items[..]
            && let Value::Global(class) = get(class)
        {
            return Value::Global(class.clone());
        }
        Value::Object("persistent id".into())
    })
}

/// Reads the tuple `("storage", class, key, location, elements)`, in legacy files followed by a view:
/// `(key, offset, elements)` or None.
fn storage(values: &[Value], id: ValueId) -> Option<StorageRef> {
    let get = |id: ValueId| &values[id as usize];
    let Value::Tuple(items) = get(id) else { return None };
    let [kind, class, key, _location, elements, view @ ..] = &items[..] else { return None };
    let (Value::Text(kind), Value::Global(class)) = (get(*kind), get(*class)) else { return None };
    if &**kind != "storage" {
        return None;
    }
    let key: Arc<str> = match get(*key) {
        Value::Text(key) => key.clone(),
        Value::Int(key) => key.to_string().into(),
        _ => return None,
    };
    let elements = count(get(*elements))?;
    let offset = match view.first().map(|view| get(*view)) {
        None | Some(Value::None) => 0,
        Some(Value::Tuple(view)) => count(get(*view.get(1)?))?,
        Some(_) => return None,
    };
    Some(StorageRef { key, class: class.clone(), elements, offset })
}

fn tensor(values: &[Value], [storage, offset, shape, strides]: [ValueId; 4]) -> Option<Value> {
    let get = |id: ValueId| &values[id as usize];
    let Value::Storage(storage) = get(storage) else { return None };
    let counts = |id: ValueId| -> Option<Vec<u64>> {
        let Value::Tuple(sizes) = get(id) else { return None };
        if sizes.len() > MAX_DIMENSIONS {
            return None;
        }
        sizes.iter().map(|size| count(get(*size))).collect()
    };
    let (shape, strides) = (counts(shape)?, counts(strides)?);
    if shape.len() != strides.len() {
        return None;
    }
    let shape = shape.into_iter().map(|size| usize::try_from(size).ok()).collect::<Option<_>>()?;
    let storage = (**storage).clone();
    Some(Value::Tensor(Box::new(TensorRef { storage, offset: count(get(offset))?, shape, strides })))
}

fn dict(values: &[Value], pairs: ValueId) -> Option<Value> {
    let Value::List(pairs) = &values[pairs as usize] else { return None };
    let pair = |id: &ValueId| match &values[*id as usize] {
        Value::Tuple(items) | Value::List(items) => {
            items[..].try_into().ok().map(|[key, value]: [ValueId; 2]| (key, value))
        }
        _ => None,
    };
    pairs.iter().map(pair).collect::<Option<_>>().map(Value::Dict)
}

fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Int(value) => u64::try_from(*value).ok(),
        _ => None,
    }
}
