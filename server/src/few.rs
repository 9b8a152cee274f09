//! Lists of documents that are never long: they end with an error before they take memory.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// More than any list here has.
const MOST: usize = 1024;

/// For `#[serde(deserialize_with)]`.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Few(PhantomData))
}

/// The same of a list that is there.
pub fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    list(deserializer).map(Some)
}

struct Few<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            if values.len() == MOST {
                return Err(A::Error::custom(format_args!("a list has more than {MOST} elements")));
            }
            values.push(value);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_ends_early() {
        let read = |count: usize| {
            let json = format!("[{}0]", "0,".repeat(count - 1));
            list::<_, u64>(&mut serde_json::Deserializer::from_str(&json)).map(|values| values.len())
        };
        assert_eq!(read(MOST).unwrap(), MOST);
        assert!(read(MOST + 1).unwrap_err().to_string().contains("more than 1024"));
    }
}
