//! The stack machine behind the reader of pickles: a stack with marks, a memo, and limits on all of them.

use super::PthError;
use super::construct::{construct, persistent};
use super::value::{Id, Pickle, Value};
use std::collections::HashMap;

/// Values, entries of the stack, of the memo, and of all containers together. A ResNet-152 needs some ten thousand.
const MAX_COUNT: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Machine {
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Entries of all containers.
    cells: usize,
    /// Where the present instruction begins, for errors.
    pub(super) at: u64,
}

impl Machine {
    pub(super) fn finish(self, root: Id) -> Pickle {
        Pickle { values: self.values, root }
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    /// The height of the stack that only a mark's own instruction goes below.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn top(&self) -> Result<Id, PthError> {
        let top = self.stack[self.floor()..].last();
        top.copied().ok_or_else(|| self.malformed("the stack is empty"))
    }

    pub(super) fn pop(&mut self) -> Result<Id, PthError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, PthError> {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor());
        let from = from.ok_or_else(|| self.malformed("the stack is empty"))?;
        Ok(self.stack.split_off(from))
    }

    /// POP takes a mark where one is on top.
    pub(super) fn drop_top(&mut self) -> Result<(), PthError> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    pub(super) fn mark(&mut self) -> Result<(), PthError> {
        self.count(self.marks.len() + 1, "marks")?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// What lies above the last mark.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<Id>, PthError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn push(&mut self, value: Value) -> Result<(), PthError> {
        self.count(self.values.len() + 1, "values")?;
        self.values.push(value);
        self.push_id(self.values.len() as Id - 1)
    }

    pub(super) fn push_id(&mut self, id: Id) -> Result<(), PthError> {
        self.count(self.stack.len() + 1, "values on the stack")?;
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn push_cells(&mut self, cells: usize, value: Value) -> Result<(), PthError> {
        self.cells += cells;
        self.count(self.cells, "entries")?;
        self.push(value)
    }

    pub(super) fn push_text(&mut self, bytes: Vec<u8>) -> Result<(), PthError> {
        self.push(Value::Text(String::from_utf8_lossy(&bytes).into()))
    }

    pub(super) fn push_global(&mut self, module: &str, name: &str) -> Result<(), PthError> {
        // The name ends up in an error or nowhere.
        const MAX_NAME: usize = 512;
        if module.len() + name.len() > MAX_NAME {
            return Err(PthError::PickleTooLarge { what: "bytes in a name", limit: MAX_NAME as u64 });
        }
        self.push(Value::Global(format!("{module}.{name}").into()))
    }

    pub(super) fn put(&mut self, slot: u32) -> Result<(), PthError> {
        let top = self.top()?;
        self.count(self.memo.len() + 1, "memo entries")?;
        self.memo.insert(slot, top);
        Ok(())
    }

    /// Under the next free number.
    pub(super) fn memoise(&mut self) -> Result<(), PthError> {
        self.put(self.memo.len() as u32)
    }

    pub(super) fn fetch(&mut self, slot: u32) -> Result<(), PthError> {
        let id = *self.memo.get(&slot).ok_or_else(|| self.malformed("nothing was memoised there"))?;
        self.push_id(id)
    }

    /// Appends to the list on top; objects swallow what they are given.
    pub(super) fn extend(&mut self, items: Vec<Id>) -> Result<(), PthError> {
        let top = self.top()?;
        self.cells += items.len();
        self.count(self.cells, "entries")?;
        match &mut self.values[top as usize] {
            Value::List(list) => list.extend(items),
            Value::Object(_) => {}
            _ => return Err(self.malformed("items are appended to what is no list")),
        }
        Ok(())
    }

    /// Sets keys and values, one after the other, in the dict on top; objects swallow what they are given.
    pub(super) fn set_items(&mut self, items: &[Id]) -> Result<(), PthError> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key has no value"));
        }
        self.cells += items.len();
        self.count(self.cells, "entries")?;
        match &mut self.values[top as usize] {
            Value::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Value::Object(_) => {}
            _ => return Err(self.malformed("items are set in what is no dict")),
        }
        Ok(())
    }

    pub(super) fn push_persistent(&mut self, id: Id) -> Result<(), PthError> {
        let value = persistent(&self.values, id);
        self.push(value)
    }

    pub(super) fn call(&mut self, callable: Id, arguments: Id) -> Result<(), PthError> {
        let Value::Tuple(arguments) = self.get(arguments) else {
            return Err(self.malformed("arguments must be a tuple"));
        };
        let value = construct(&self.values, callable, arguments);
        match value {
            Ok(value) => {
                let cells = if let Value::Dict(dict) = &value { 2 * dict.len() } else { 0 };
                self.push_cells(cells, value)
            }
            Err(existing) => self.push_id(existing),
        }
    }

    fn count(&self, count: usize, what: &'static str) -> Result<(), PthError> {
        match count <= MAX_COUNT {
            true => Ok(()),
            false => Err(PthError::PickleTooLarge { what, limit: MAX_COUNT as u64 }),
        }
    }

    pub(super) fn malformed(&self, reason: &'static str) -> PthError {
        PthError::Pickle { offset: self.at, reason }
    }
}
