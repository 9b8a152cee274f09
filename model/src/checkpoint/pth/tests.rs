//! Hand-written pickles. Malicious ones must fail quickly and with little memory.

use super::PthError as E;
use super::byte_reader::ByteReader;
use super::value::{Pickle, Value};
use super::{pickle, state_dict};

fn read(bytes: &[u8]) -> Result<Pickle, E> {
    pickle::read(&mut ByteReader::new(bytes, bytes.len() as u64))
}

fn repeated(piece: &[u8], count: usize) -> Vec<u8> {
    piece.repeat(count)
}

#[test]
fn reads_numbers_and_strings_of_every_protocol() {
    for (bytes, expected) in [
        (&b"N."[..], Value::None),
        (b"I01\n.", Value::Bool(true)),
        (b"I-12\n.", Value::Int(-12)),
        (b"L-12L\n.", Value::Int(-12)),
        (b"K\xff.", Value::Int(255)),
        (b"M\x00\x01.", Value::Int(256)),
        (b"J\xff\xff\xff\xff.", Value::Int(-1)),
        (b"\x8a\x00.", Value::Int(0)),
        (b"\x8a\x02\x00\xff.", Value::Int(-256)),
        (b"\x8b\x01\x00\x00\x00\x7f.", Value::Int(127)),
        (b"G\x3f\xf8\0\0\0\0\0\0.", Value::Float(1.5)),
        (b"U\x02ab.", Value::Text("ab".into())),
        (b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x02ab.", Value::Text("ab".into())),
        (b"X\x02\0\0\0\xc3\xa9.", Value::Text("é".into())),
        (b"C\x02ab.", Value::Bytes),
        (b"ccollections\nOrderedDict\n)R.", Value::Dict(Vec::new())),
        (b"cposix\nsystem\nX\x02\0\0\0ls\x85R.", Value::Object("posix.system".into())),
        (b"\x8c\x05posix\x8c\x06system\x93.", Value::Global("posix.system".into())),
    ] {
        assert_eq!(*read(bytes).unwrap().root(), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn every_prefix_of_a_pickle_is_truncated() {
    let whole = b"\x80\x02}q\x00(X\x01\0\0\0aq\x01ccollections\nOrderedDict\nq\x02)Rq\x03X\x01\0\0\0b\x8a\x03abcu.";
    assert!(matches!(read(whole).unwrap().root(), Value::Dict(entries) if entries.len() == 2));
    for length in 0..whole.len() {
        assert!(matches!(read(&whole[..length]), Err(E::PickleTruncated { .. })), "{length}");
    }
}

#[test]
fn rejects_stack_underflow_missing_marks_and_misplaced_items() {
    for bytes in [
        &b"."[..],
        b"0.",
        b"t.",
        b"\x85.",
        b"K\x01\x86.",
        b"(K\x01(\x85.",
        b"h\x07.",
        b"j\xff\xff\xff\xff.",
        b"K\x01K\x02a.",
        b"K\x01K\x02K\x03s.",
        b"}(K\x01u.",
        b"K\x01K\x02\x93.",
        b"K\x01K\x02R.",
        b"gx\n.",
        b"I1x\n.",
    ] {
        let result = read(bytes);
        assert!(matches!(result, Err(E::Pickle { .. })), "{}: {result:?}", bytes.escape_ascii());
    }
    for bytes in [&b"\xff."[..], b"P1\n.", b"\x97.", b"\x82\x01."] {
        assert!(matches!(read(bytes), Err(E::Opcode { offset: 0, .. })), "{}", bytes.escape_ascii());
    }
}

#[test]
fn rejects_declared_lengths_beyond_the_file() {
    for bytes in [
        &b"X\xff\xff\xff\xff"[..],
        b"T\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        assert!(matches!(read(bytes), Err(E::PickleTruncated { .. })), "{}", bytes.escape_ascii());
    }
    let long_name = [&b"c"[..], &repeated(b"a", 5000), b"\nb\n."].concat();
    assert!(matches!(read(&long_name), Err(E::PickleTooLarge { .. })));
}

#[test]
fn nesting_needs_no_recursion_and_counts_are_limited() {
    let deep = [repeated(b"]", 200_000), repeated(b"a", 199_999), b".".to_vec()].concat();
    assert!(read(&deep).is_ok());
    let tuples = [b")".to_vec(), repeated(b"\x85", 200_000), b".".to_vec()].concat();
    assert!(read(&tuples).is_ok());
    for repeated_opcodes in [&b"("[..], b"N", b"]2", b"N0", b")\x94"] {
        let bytes = repeated(repeated_opcodes, 3_000_000);
        assert!(matches!(read(&bytes), Err(E::PickleTooLarge { .. })), "{}", repeated_opcodes.escape_ascii());
    }
}

/// The pickle holds a list of pairs and a million calls that copy it.
#[test]
fn repeated_copies_are_limited() {
    let mut bytes = b"](".to_vec();
    bytes.extend(repeated(b"NN\x86", 50_000));
    bytes.extend(b"e\x85q\x010");
    bytes.extend(b"ccollections\nOrderedDict\nq\x020");
    bytes.extend(repeated(b"h\x02h\x01R0", 1_000_000));
    assert!(matches!(read(&bytes), Err(E::PickleTooLarge { what: "entries", .. })));
}

#[test]
fn cyclic_values_are_not_state_dicts() {
    let cyclic = read(b"}q\x00X\x05\0\0\0modelh\x00s.").unwrap();
    assert!(matches!(state_dict::find(&cyclic), Err(E::NoStateDict { .. })));
    let list = read(b"]q\x00h\x00a.").unwrap();
    assert!(matches!(state_dict::find(&list), Err(E::NoStateDict { found }) if found == "a list"));
}

/// Invalid arguments of tensor constructors give a placeholder, which is rejected by name.
#[test]
fn rejects_invalid_tensor_arguments_by_name() {
    for arguments in
        [&b")"[..], b"(NNNNt", b"(K\x01K\x00K\x02\x85K\x01\x85t", b"(X\x01\0\0\0aQK\x00K\x02\x85K\x01\x85t"]
    {
        let bytes = [b"}X\x09\0\0\0fc.weightctorch._utils\n_rebuild_tensor_v2\n", arguments, b"Rs."].concat();
        let error = state_dict::find(&read(&bytes).unwrap()).map(drop).unwrap_err();
        assert!(matches!(error, E::UnknownClass { name, .. } if name == "fc.weight"));
    }
}
