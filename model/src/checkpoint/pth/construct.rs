//! The constructors that a pickle of weights calls, as data; everything else becomes a placeholder.

use super::value::{Id, Storage, TensorRef, Value};
use std::sync::Arc;

/// More sides than any tensor of a network has.
const MAX_SIDES: usize = 8;

/// What calling a class or function makes: a new value, or (`Err`) one that exists already.
/// `values` may hold anything: arguments that do not fit make a placeholder, which is refused if weights need it.
pub(super) fn construct(values: &[Value], callable: Id, arguments: &[Id]) -> Result<Value, Id> {
    let get = |id: Id| &values[id as usize];
    let name = match get(callable) {
        Value::Global(name) => name,
        other => return Ok(Value::Object(other.kind().into())),
    };
    let placeholder = || Ok(Value::Object(name.clone()));
    match (&**name, arguments) {
        ("collections.OrderedDict", []) => Ok(Value::Dict(Vec::new())),
        ("collections.OrderedDict", [pairs]) => dict(values, *pairs).map_or_else(placeholder, Ok),
        ("torch.Size", [sides]) => Err(*sides),
        ("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
            tensor(values, [*storage, *offset, *shape, *strides]).map_or_else(placeholder, Ok)
        }
        ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [data, ..]) => Err(*data),
        // A tensor with attributes of its own: its maker, its class, the maker's arguments, the attributes.
        ("torch._tensor._rebuild_from_type_v2", [maker, _class, inner, ..]) => match (get(*maker), get(*inner)) {
            (Value::Global(maker), Value::Tuple(inner)) if maker.starts_with("torch._utils._rebuild_tensor") => {
                let [storage, offset, shape, strides, ..] = inner[..] else { return placeholder() };
                tensor(values, [storage, offset, shape, strides]).map_or_else(placeholder, Ok)
            }
            _ => placeholder(),
        },
        // Python's way to make an object of a class without calling it.
        ("copyreg._reconstructor" | "copy_reg._reconstructor", [class, ..]) => match get(*class) {
            Value::Global(class) => Ok(Value::Object(class.clone())),
            _ => placeholder(),
        },
        _ => placeholder(),
    }
}

/// What a persistent id stands for: a storage, or in legacy files a module's class with its source text.
pub(super) fn persistent(values: &[Value], id: Id) -> Value {
    let get = |id: Id| &values[id as usize];
    storage(values, id).map(|storage| Value::Storage(Box::new(storage))).unwrap_or_else(|| {
        if let Value::Tuple(items) = get(id)
            && let [_kind, class, ..] = items[..]
            && let Value::Global(class) = get(class)
        {
            return Value::Global(class.clone());
        }
        Value::Object("a persistent id".into())
    })
}

/// `("storage", class, key, location, elements)`, and in legacy files a view: `(key, offset, elements)` or None.
fn storage(values: &[Value], id: Id) -> Option<Storage> {
    let get = |id: Id| &values[id as usize];
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
    Some(Storage { key, class: class.clone(), elements, offset })
}

fn tensor(values: &[Value], [storage, offset, shape, strides]: [Id; 4]) -> Option<Value> {
    let get = |id: Id| &values[id as usize];
    let Value::Storage(storage) = get(storage) else { return None };
    let counts = |id: Id| -> Option<Vec<u64>> {
        let Value::Tuple(sides) = get(id) else { return None };
        if sides.len() > MAX_SIDES {
            return None;
        }
        sides.iter().map(|side| count(get(*side))).collect()
    };
    let (shape, strides) = (counts(shape)?, counts(strides)?);
    if shape.len() != strides.len() {
        return None;
    }
    let shape = shape.into_iter().map(|side| usize::try_from(side).ok()).collect::<Option<_>>()?;
    let storage = (**storage).clone();
    Some(Value::Tensor(Box::new(TensorRef { storage, offset: count(get(offset))?, shape, strides })))
}

fn dict(values: &[Value], pairs: Id) -> Option<Value> {
    let Value::List(pairs) = &values[pairs as usize] else { return None };
    let pair = |id: &Id| match &values[*id as usize] {
        Value::Tuple(items) | Value::List(items) => items[..].try_into().ok().map(|[key, value]: [Id; 2]| (key, value)),
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
