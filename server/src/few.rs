//! Lists in JSON of which few elements are wanted. What comes behind these is read over: as values, a list of many small
//! elements takes many times the memory that its text takes.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The first elements of a list, as many as this says, each read so. `null` is a list that is absent, and has none.
pub struct Few<S>(pub usize, pub S);

/// The first `N` elements of a field's list.
pub fn few<'de, const N: usize, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Vec<T>, D::Error> {
    Few(N, PhantomData).deserialize(field)
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Few<S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for Few<S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.0 {
            match list.next_element_seed(self.1)? {
                Some(element) => elements.push(element),
                None => return Ok(elements),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_list_are_kept() {
        let read = |json: &str| few::<2, u8, _>(&mut serde_json::Deserializer::from_str(json)).ok();
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
