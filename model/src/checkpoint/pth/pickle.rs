//! A pickle reader that executes nothing: every instruction only creates data.
//!
//! It supports the opcodes that `torch.save` writes with protocols 1 to 5, and those of older PyTorch on Python 2.
//! Classes and functions are only names; `construct` interprets calls to a few of them, and creates an inert
//! placeholder for all others. Opcodes: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>

use super::PthError;
use super::byte_reader::{ByteReader, MAX_BYTES};
use super::stack_machine::StackMachine;
use super::value::{Pickle, Value, ValueId};
use std::io::BufRead;
use std::str::FromStr;

/// Reads one pickle, up to its last byte.
pub(super) fn read<R: BufRead>(reader: &mut ByteReader<R>) -> Result<Pickle, PthError> {
    let start = reader.offset();
    let mut machine = StackMachine::default();
    loop {
        machine.offset = reader.offset();
        if machine.offset - start > MAX_BYTES {
            return Err(PthError::PickleTooLarge { what: "bytes", limit: MAX_BYTES });
        }
        if let Some(root) = step(&mut machine, reader)? {
            return Ok(machine.finish(root));
        }
    }
}

/// Interprets one instruction; the last one returns the id of the pickle's root value.
fn step<R: BufRead>(machine: &mut StackMachine, reader: &mut ByteReader<R>) -> Result<Option<ValueId>, PthError> {
    let opcode = reader.byte()?;
    match opcode {
        b'.' => return machine.pop().map(Some),
        // PROTO, FRAME
        0x80 => drop(reader.byte()?),
        0x95 => drop(reader.array::<8>()?),

        b'(' => machine.mark()?,
        b'0' => machine.pop_value_or_mark()?,
        b'1' => drop(machine.pop_mark()?),
        b'2' => {
            let top = machine.top()?;
            machine.push_id(top)?;
        }

        b'N' => machine.push(Value::None)?,
        0x88 => machine.push(Value::Bool(true))?,
        0x89 => machine.push(Value::Bool(false))?,
        b'J' => {
            let value = i32::from_le_bytes(reader.array()?);
            machine.push(Value::Int(value.into()))?;
        }
        b'K' => {
            let value = reader.byte()?;
            machine.push(Value::Int(value.into()))?;
        }
        b'M' => {
            let value = u16::from_le_bytes(reader.array()?);
            machine.push(Value::Int(value.into()))?;
        }
        b'I' | b'L' => {
            let line = reader.line()?;
            let value = parse_int(opcode, &line).ok_or_else(|| machine.malformed("invalid integer"))?;
            machine.push(value)?;
        }
        0x8a => {
            let count = reader.byte()?;
            let bytes = reader.bytes(count.into())?;
            machine.push(integer(&bytes))?;
        }
        0x8b => {
            let count = u32::from_le_bytes(reader.array()?);
            let bytes = reader.bytes(count.into())?;
            machine.push(integer(&bytes))?;
        }
        b'G' => {
            let value = f64::from_be_bytes(reader.array()?);
            machine.push(Value::Float(value))?;
        }
        // SHORT_BINSTRING and BINSTRING of Python 2; SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
        b'U' | 0x8c => {
            let count = reader.byte()?;
            machine.push_text(reader.bytes(count.into())?)?;
        }
        b'T' | b'X' => {
            let count = u32::from_le_bytes(reader.array()?);
            machine.push_text(reader.bytes(count.into())?)?;
        }
        0x8d => {
            let count = u64::from_le_bytes(reader.array()?);
            machine.push_text(reader.bytes(count)?)?;
        }
        // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
        b'C' => {
            let count = reader.byte()?;
            reader.skip(count.into())?;
            machine.push(Value::Bytes)?;
        }
        b'B' => {
            let count = u32::from_le_bytes(reader.array()?);
            reader.skip(count.into())?;
            machine.push(Value::Bytes)?;
        }
        0x8e | 0x96 => {
            let count = u64::from_le_bytes(reader.array()?);
            reader.skip(count)?;
            machine.push(Value::Bytes)?;
        }

        b')' => machine.push(Value::Tuple(Vec::new()))?,
        b't' => {
            let items = machine.pop_mark()?;
            machine.push_container(items.len(), Value::Tuple(items))?;
        }
        0x85..=0x87 => {
            let items = machine.pop_many(usize::from(opcode - 0x84))?;
            machine.push_container(items.len(), Value::Tuple(items))?;
        }
        b']' => machine.push(Value::List(Vec::new()))?,
        b'l' => {
            let items = machine.pop_mark()?;
            machine.push_container(items.len(), Value::List(items))?;
        }
        b'a' => {
            let item = machine.pop()?;
            machine.extend(vec![item])?;
        }
        b'e' => {
            let items = machine.pop_mark()?;
            machine.extend(items)?;
        }
        b'}' => machine.push(Value::Dict(Vec::new()))?,
        b'd' => {
            let items = machine.pop_mark()?;
            machine.push(Value::Dict(Vec::new()))?;
            machine.set_items(&items)?;
        }
        b's' => {
            let value = machine.pop()?;
            let key = machine.pop()?;
            machine.set_items(&[key, value])?;
        }
        b'u' => {
            let items = machine.pop_mark()?;
            machine.set_items(&items)?;
        }
        // EMPTY_SET, ADDITEMS, FROZENSET: weights contain no sets, so their items are dropped.
        0x8f => machine.push(Value::Object("builtins.set".into()))?,
        0x90 => drop(machine.pop_mark()?),
        0x91 => {
            machine.pop_mark()?;
            machine.push(Value::Object("builtins.frozenset".into()))?;
        }

        b'p' => {
            let line = reader.line()?;
            let slot = parse(&line).ok_or_else(|| machine.malformed("invalid memo slot"))?;
            machine.put_memo(slot)?;
        }
        b'q' => {
            let slot = reader.byte()?;
            machine.put_memo(slot.into())?;
        }
        b'r' => {
            let slot = u32::from_le_bytes(reader.array()?);
            machine.put_memo(slot)?;
        }
        // MEMOIZE
        0x94 => machine.memoise()?,
        b'g' => {
            let line = reader.line()?;
            let slot = parse(&line).ok_or_else(|| machine.malformed("invalid memo slot"))?;
            machine.get_memo(slot)?;
        }
        b'h' => {
            let slot = reader.byte()?;
            machine.get_memo(slot.into())?;
        }
        b'j' => {
            let slot = u32::from_le_bytes(reader.array()?);
            machine.get_memo(slot)?;
        }

        b'c' => {
            let (module, name) = (reader.line()?, reader.line()?);
            machine.push_global(&String::from_utf8_lossy(&module), &String::from_utf8_lossy(&name))?;
        }
        // STACK_GLOBAL
        0x93 => {
            let (name, module) = (machine.pop()?, machine.pop()?);
            let (Value::Text(module), Value::Text(name)) = (machine.get(module), machine.get(name)) else {
                return Err(machine.malformed("the name of a class is not text"));
            };
            let (module, name) = (module.clone(), name.clone());
            machine.push_global(&module, &name)?;
        }
        // REDUCE, NEWOBJ
        b'R' | 0x81 => {
            let (arguments, callable) = (machine.pop()?, machine.pop()?);
            machine.call(callable, arguments)?;
        }
        // NEWOBJ_EX
        0x92 => {
            let (_keywords, arguments, callable) = (machine.pop()?, machine.pop()?, machine.pop()?);
            machine.call(callable, arguments)?;
        }
        // BUILD: drops the attributes of an object; the object stays on the stack.
        b'b' => drop(machine.pop()?),
        // BINPERSID
        b'Q' => {
            let id = machine.pop()?;
            machine.push_persistent_id(id)?;
        }
        _ => return Err(PthError::Opcode { opcode, offset: machine.offset }),
    }
    Ok(None)
}

/// Parses the arguments of INT, which also encodes bools in protocol 1, and LONG.
fn parse_int(opcode: u8, line: &[u8]) -> Option<Value> {
    match (opcode, line) {
        (b'I', b"01") => Some(Value::Bool(true)),
        (b'I', b"00") => Some(Value::Bool(false)),
        _ => parse(line.strip_suffix(b"L").unwrap_or(line)).map(Value::Int),
    }
}

fn parse<T: FromStr>(line: &[u8]) -> Option<T> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// Parses a little-endian integer in two's complement. Integers of more than 128 bits, which weights do not need,
/// become placeholders.
fn integer(bytes: &[u8]) -> Value {
    let mut wide = [if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 }; 16];
    match wide.get_mut(..bytes.len()) {
        Some(low) => low.copy_from_slice(bytes),
        None => return Value::Object("builtins.int".into()),
    }
    Value::Int(i128::from_le_bytes(wide))
}
