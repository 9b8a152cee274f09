//! A limit on the number of protobuf fields, which is checked before decoding: an empty message takes two bytes in a file,
//! but hundreds in memory.

use super::OnnxError;

/// Maximum number of fields. A ResNet-152 has about 40,000.
const MAX_FIELDS: u64 = 1 << 18;

/// A message whose fields are decoded. Fields of other messages are skipped.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// A message without nested messages.
    Flat,
}

impl Kind {
    /// Returns the kind of message that a field contains.
    fn of_field(self, number: u64) -> Option<Kind> {
        Some(match (self, number) {
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Model, 8 | 14) | (Kind::Tensor, 13) | (Kind::Shape, 1) => Kind::Flat,
            (Kind::Graph, 1) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5) => Kind::Tensor,
            (Kind::Graph, 11 | 12) => Kind::ValueInfo,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            _ => return None,
        })
    }
}

/// Checks that a model has at most [`MAX_FIELDS`] fields.
///
/// # Errors
/// Returns an error if it has more, or if it is not a protobuf message.
pub(super) fn check(bytes: &[u8]) -> Result<(), OnnxError> {
    Counter { bytes, offset: 0, fields: 0 }.message(Kind::Model, bytes.len())
}

struct Counter<'a> {
    bytes: &'a [u8],
    offset: usize,
    fields: u64,
}

impl Counter<'_> {
    /// Counts the fields of a message that ends at `end`. The recursion is as deep as the nesting of [`Kind`].
    fn message(&mut self, kind: Kind, end: usize) -> Result<(), OnnxError> {
        while self.offset < end {
            self.fields += 1;
            if self.fields > MAX_FIELDS {
                return Err(OnnxError::TooLarge { what: "protobuf fields", limit: MAX_FIELDS });
            }
            let key = self.varint(end)?;
            let skipped = match key & 7 {
                0 => {
                    self.varint(end)?;
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => self.varint(end)?,
                _ => return Err(OnnxError::Malformed { offset: self.offset }),
            };
            if skipped > (end - self.offset) as u64 {
                return Err(OnnxError::Malformed { offset: self.offset });
            }
            let next = self.offset + skipped as usize;
            match kind.of_field(key >> 3) {
                Some(nested) if key & 7 == 2 => self.message(nested, next)?,
                _ => self.offset = next,
            }
        }
        Ok(())
    }

    fn varint(&mut self, end: usize) -> Result<u64, OnnxError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes[..end].get(self.offset) else { break };
            self.offset += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(OnnxError::Malformed { offset: self.offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_messages_are_rejected_before_decoding() {
        let graph = [0x0a, 0].repeat(1 << 19); // empty nodes
        let model = [&[0x3a, 0x80, 0x80, 0x40][..], &graph].concat();
        assert!(matches!(check(&model), Err(OnnxError::TooLarge { .. })));
        let few = [&[0x3a, 0x06][..], &graph[..6]].concat();
        assert!(check(&few).is_ok());
    }

    #[test]
    fn lengths_beyond_the_message_are_malformed() {
        for bytes in [&[0x3a, 0x02, 0x0a][..], &[0x3a, 0x02, 0x0a, 0x05], &[0x3b], &[0x08], &[0xff; 12]] {
            assert!(matches!(check(bytes), Err(OnnxError::Malformed { .. })), "{bytes:?}");
        }
    }
}
