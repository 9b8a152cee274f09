//! A reader of pickles that executes nothing: every instruction makes data.
//!
//! It knows the opcodes that `torch.save` writes under protocols 1 to 5, and older PyTorch under Python 2.
//! Classes and functions are names; calling one goes to `construct`, which knows a handful and makes an inert
//! placeholder for every other. Opcodes: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>

use super::PthError;
use super::machine::Machine;
use super::source::{MAX_BYTES, Source};
use super::value::{Id, Pickle, Value};
use std::io::BufRead;
use std::str::FromStr;

/// Reads one pickle, and leaves the source behind its end.
pub(super) fn read<R: BufRead>(source: &mut Source<R>) -> Result<Pickle, PthError> {
    let begin = source.offset();
    let mut machine = Machine::default();
    loop {
        machine.at = source.offset();
        if machine.at - begin > MAX_BYTES {
            return Err(PthError::PickleTooLarge { what: "bytes", limit: MAX_BYTES });
        }
        if let Some(root) = step(&mut machine, source)? {
            return Ok(machine.finish(root));
        }
    }
}

/// Executes one instruction; the last yields what the pickle holds.
fn step<R: BufRead>(machine: &mut Machine, source: &mut Source<R>) -> Result<Option<Id>, PthError> {
    let opcode = source.byte()?;
    match opcode {
        b'.' => return machine.pop().map(Some),
        // PROTO, FRAME
        0x80 => drop(source.byte()?),
        0x95 => drop(source.array::<8>()?),

        b'(' => machine.mark()?,
        b'0' => machine.drop_top()?,
        b'1' => drop(machine.pop_mark()?),
        b'2' => {
            let top = machine.top()?;
            machine.push_id(top)?;
        }

        b'N' => machine.push(Value::None)?,
        0x88 => machine.push(Value::Bool(true))?,
        0x89 => machine.push(Value::Bool(false))?,
        b'J' => {
            let value = i32::from_le_bytes(source.array()?);
            machine.push(Value::Int(value.into()))?;
        }
        b'K' => {
            let value = source.byte()?;
            machine.push(Value::Int(value.into()))?;
        }
        b'M' => {
            let value = u16::from_le_bytes(source.array()?);
            machine.push(Value::Int(value.into()))?;
        }
        b'I' | b'L' => {
            let line = source.line()?;
            let value = parse_int(opcode, &line).ok_or_else(|| machine.malformed("an integer is none"))?;
            machine.push(value)?;
        }
        0x8a => {
            let count = source.byte()?;
            let bytes = source.bytes(count.into())?;
            machine.push(integer(&bytes))?;
        }
        0x8b => {
            let count = u32::from_le_bytes(source.array()?);
            let bytes = source.bytes(count.into())?;
            machine.push(integer(&bytes))?;
        }
        b'G' => {
            let value = f64::from_be_bytes(source.array()?);
            machine.push(Value::Float(value))?;
        }
        // SHORT_BINSTRING, BINSTRING: Python 2's; SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
        b'U' | 0x8c => {
            let count = source.byte()?;
            machine.push_text(source.bytes(count.into())?)?;
        }
        b'T' | b'X' => {
            let count = u32::from_le_bytes(source.array()?);
            machine.push_text(source.bytes(count.into())?)?;
        }
        0x8d => {
            let count = u64::from_le_bytes(source.array()?);
            machine.push_text(source.bytes(count)?)?;
        }
        // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
        b'C' => {
            let count = source.byte()?;
            source.skip(count.into())?;
            machine.push(Value::Bytes)?;
        }
        b'B' => {
            let count = u32::from_le_bytes(source.array()?);
            source.skip(count.into())?;
            machine.push(Value::Bytes)?;
        }
        0x8e | 0x96 => {
            let count = u64::from_le_bytes(source.array()?);
            source.skip(count)?;
            machine.push(Value::Bytes)?;
        }

        b')' => machine.push(Value::Tuple(Vec::new()))?,
        b't' => {
            let items = machine.pop_mark()?;
            machine.push_cells(items.len(), Value::Tuple(items))?;
        }
        0x85..=0x87 => {
            let items = machine.pop_many(usize::from(opcode - 0x84))?;
            machine.push_cells(items.len(), Value::Tuple(items))?;
        }
        b']' => machine.push(Value::List(Vec::new()))?,
        b'l' => {
            let items = machine.pop_mark()?;
            machine.push_cells(items.len(), Value::List(items))?;
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
        // EMPTY_SET, ADDITEMS, FROZENSET: never in weights, so what is in them does not matter.
        0x8f => machine.push(Value::Object("builtins.set".into()))?,
        0x90 => drop(machine.pop_mark()?),
        0x91 => {
            machine.pop_mark()?;
            machine.push(Value::Object("builtins.frozenset".into()))?;
        }

        b'p' => {
            let line = source.line()?;
            let slot = parse(&line).ok_or_else(|| machine.malformed("a place in the memo is no number"))?;
            machine.put(slot)?;
        }
        b'q' => {
            let slot = source.byte()?;
            machine.put(slot.into())?;
        }
        b'r' => {
            let slot = u32::from_le_bytes(source.array()?);
            machine.put(slot)?;
        }
        // MEMOIZE
        0x94 => machine.memoise()?,
        b'g' => {
            let line = source.line()?;
            let slot = parse(&line).ok_or_else(|| machine.malformed("a place in the memo is no number"))?;
            machine.fetch(slot)?;
        }
        b'h' => {
            let slot = source.byte()?;
            machine.fetch(slot.into())?;
        }
        b'j' => {
            let slot = u32::from_le_bytes(source.array()?);
            machine.fetch(slot)?;
        }

        b'c' => {
            let (module, name) = (source.line()?, source.line()?);
            machine.push_global(&String::from_utf8_lossy(&module), &String::from_utf8_lossy(&name))?;
        }
        // STACK_GLOBAL
        0x93 => {
            let (name, module) = (machine.pop()?, machine.pop()?);
            let (Value::Text(module), Value::Text(name)) = (machine.get(module), machine.get(name)) else {
                return Err(machine.malformed("a name must be text"));
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
        // BUILD: attributes of an object; the object itself stays.
        b'b' => drop(machine.pop()?),
        // BINPERSID
        b'Q' => {
            let id = machine.pop()?;
            machine.push_persistent(id)?;
        }
        _ => return Err(PthError::Opcode { opcode, offset: machine.at }),
    }
    Ok(None)
}

/// INT, which doubles as protocol 1's bool, and LONG.
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

/// A little-endian integer in two's complement; one beyond 128 bits is nothing that weights need.
fn integer(bytes: &[u8]) -> Value {
    let mut wide = [if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 }; 16];
    match wide.get_mut(..bytes.len()) {
        Some(low) => low.copy_from_slice(bytes),
        None => return Value::Object("builtins.int".into()),
    }
    Value::Int(i128::from_le_bytes(wide))
}
