//! The stack machine that interprets pickles: values, a stack with marks, and a memo, all of limited size.

use super::PthError;
use super::construct::{construct, resolve_persistent_id};
use super::value::{Pickle, Value, ValueId};
use std::collections::HashMap;

/// Maximum number of values, of entries of the stack, of marks, of entries of the memo, and of entries of all
/// containers together. A ResNet-152 needs about ten thousand.
const MAX_COUNT: usize = 1 << 20;

#[derive(Default)]
pub(super) struct StackMachine {
    values: Vec<Value>,
    stack: Vec<ValueId>,
    /// Height of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, ValueId>,
    /// Number of entries of all containers.
    container_entries: usize,
    /// Offset of the current instruction, for errors.
    pub(super) offset: u64,
}

impl StackMachine {
    pub(super) fn finish(self, root: ValueId) -> Pickle {
        Pickle { values: self.values, root }
    }

    pub(super) fn get(&self, id: ValueId) -> &Value {
        &self.values[id as usize]
    }

    /// Returns the height of the stack below which values can be popped only together with the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn top(&self) -> Result<ValueId, PthError> {
        let top = self.stack[self.floor()..].last();
        top.copied().ok_or_else(|| self.malformed("the stack is empty"))
    }

    pub(super) fn pop(&mut self) -> Result<ValueId, PthError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<ValueId>, PthError> {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor());
        let from = from.ok_or_else(|| self.malformed("the stack is empty"))?;
        Ok(self.stack.split_off(from))
    }

    /// Pops a value, or a mark if one is on top.
    pub(super) fn pop_value_or_mark(&mut self) -> Result<(), PthError> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    pub(super) fn mark(&mut self) -> Result<(), PthError> {
        self.check_count(self.marks.len() + 1, "marks")?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Pops the last mark, and returns the values above it.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<ValueId>, PthError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn push(&mut self, value: Value) -> Result<(), PthError> {
        self.check_count(self.values.len() + 1, "values")?;
        self.values.push(value);
        self.push_id(self.values.len() as ValueId - 1)
    }

    pub(super) fn push_id(&mut self, id: ValueId) -> Result<(), PthError> {
        self.check_count(self.stack.len() + 1, "values on the stack")?;
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn push_container(&mut self, entries: usize, value: Value) -> Result<(), PthError> {
        self.container_entries += entries;
        self.check_count(self.container_entries, "entries")?;
        self.push(value)
    }

    pub(super) fn push_text(&mut self, bytes: Vec<u8>) -> Result<(), PthError> {
        self.push(Value::Text(String::from_utf8_lossy(&bytes).into()))
    }

    pub(super) fn push_global(&mut self, module: &str, name: &str) -> Result<(), PthError> {
        // Names are used only to recognise constructors, and in errors.
        const MAX_NAME: usize = 512;
        if module.len() + name.len() > MAX_NAME {
            return Err(PthError::PickleTooLarge { what: "bytes in a name", limit: MAX_NAME as u64 });
        }
        self.push(Value::Global(format!("{module}.{name}").into()))
    }

    pub(super) fn put_memo(&mut self, slot: u32) -> Result<(), PthError> {
        let top = self.top()?;
        self.check_count(self.memo.len() + 1, "memo entries")?;
        self.memo.insert(slot, top);
        Ok(())
    }

    /// Memoises the top value in the slot after the last one.
    pub(super) fn memoise(&mut self) -> Result<(), PthError> {
        self.put_memo(self.memo.len() as u32)
    }

    pub(super) fn get_memo(&mut self, slot: u32) -> Result<(), PthError> {
        let id = *self.memo.get(&slot).ok_or_else(|| self.malformed("unknown memo slot"))?;
        self.push_id(id)
    }

    /// Appends to the list on top of the stack; placeholders ignore the items.
    pub(super) fn extend(&mut self, items: Vec<ValueId>) -> Result<(), PthError> {
        let top = self.top()?;
        self.container_entries += items.len();
        self.check_count(self.container_entries, "entries")?;
        match &mut self.values[top as usize] {
            Value::List(list) => list.extend(items),
            Value::Object(_) => {}
            _ => return Err(self.malformed("items are appended to a value that is not a list")),
        }
        Ok(())
    }

    /// Sets alternating keys and values in the dict on top of the stack; placeholders ignore them.
    pub(super) fn set_items(&mut self, items: &[ValueId]) -> Result<(), PthError> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key has no value"));
        }
        self.container_entries += items.len();
        self.check_count(self.container_entries, "entries")?;
        match &mut self.values[top as usize] {
            Value::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Value::Object(_) => {}
            _ => return Err(self.malformed("items are set in a value that is not a dict")),
        }
        Ok(())
    }

    pub(super) fn push_persistent_id(&mut self, id: ValueId) -> Result<(), PthError> {
        let value = resolve_persistent_id(&self.values, id);
        self.push(value)
    }

    pub(super) fn call(&mut self, callable: ValueId, arguments: ValueId) -> Result<(), PthError> {
        let Value::Tuple(arguments) = self.get(arguments) else {
            return Err(self.malformed("arguments must be a tuple"));
        };
        let value = construct(&self.values, callable, arguments);
        match value {
            Ok(value) => {
                let entries = if let Value::Dict(dict) = &value { 2 * dict.len() } else { 0 };
                self.push_container(entries, value)
            }
            Err(existing) => self.push_id(existing),
        }
    }

    fn check_count(&self, count: usize, what: &'static str) -> Result<(), PthError> {
        match count <= MAX_COUNT {
            true => Ok(()),
            false => Err(PthError::PickleTooLarge { what, limit: MAX_COUNT as u64 }),
        }
    }

    pub(super) fn malformed(&self, reason: &'static str) -> PthError {
        PthError::Pickle { offset: self.offset, reason }
    }
}
