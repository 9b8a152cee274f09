//! Reads the first elements of a JSON array and skips the rest. Collecting all of an array of many small elements would
//! take many times the memory of its text.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Deserializes at most `max` elements of an array, each with `seed`. `null` is an absent array, which has no elements.
pub struct BoundedSeq<S> {
    pub max: usize,
    pub seed: S,
}

/// Deserializes the first `N` elements of an array; for `#[serde(deserialize_with)]`.
pub fn bounded_seq<'de, const N: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    field: D,
) -> Result<Vec<T>, D::Error> {
    BoundedSeq { max: N, seed: PhantomData }.deserialize(field)
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for BoundedSeq<S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for BoundedSeq<S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.max {
            match array.next_element_seed(self.seed)? {
                Some(element) => elements.push(element),
                None => return Ok(elements),
            }
        }
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_elements_of_an_array() {
        let read = |json: &str| bounded_seq::<2, u8, _>(&mut serde_json::Deserializer::from_str(json)).ok();
        for (json, expected) in [
            ("[]", Some(vec![])),
            ("null", Some(vec![])),
            ("[1]", Some(vec![1])),
            ("[1,2]", Some(vec![1, 2])),
            (r#"[1,2,3,"four",[5]]"#, Some(vec![1, 2])),
            ("[1,true]", None),
            ("[1,2,3", None),
            ("1", None),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }
}
