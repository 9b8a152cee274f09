//! Numbers in JSON that become a tensor: however they are nested, they are read into the images that they belong to, and nowhere
//! else before.

use crate::error::ApiError;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// So many images of so many values.
///
/// # Errors
/// 400 for more or fewer, and for what is no `T`.
pub fn images<T: for<'de> Deserialize<'de>>(
    json: &RawValue,
    count: usize,
    of_image: usize,
) -> Result<Vec<Vec<T>>, ApiError> {
    let mut images = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    let read = Numbers { images: &mut images, count, of_image }.deserialize(&mut deserializer);
    read.map_err(|error| ApiError::malformed(format!("data: {error}")))?;
    let (values, expected) = (images.iter().map(Vec::len).sum::<usize>(), count * of_image);
    if values == expected {
        Ok(images)
    } else {
        Err(ApiError::malformed(format!("data: {expected} values are expected, not {values}")))
    }
}

/// Collects the numbers of nested lists.
struct Numbers<'a, T> {
    images: &'a mut Vec<Vec<T>>,
    count: usize,
    of_image: usize,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Numbers<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>> Numbers<'_, T> {
    fn push<E: Error>(self, value: impl IntoDeserializer<'de, E>) -> Result<(), E> {
        let Numbers { images, count, of_image } = self;
        if images.last().is_none_or(|image| image.len() == of_image) {
            if images.len() == count {
                return Err(E::custom(format_args!("more than {} values", count * of_image)));
            }
            images.push(Vec::with_capacity(of_image));
        }
        let image = images.last_mut().expect("there is one with room");
        image.push(T::deserialize(value.into_deserializer())?);
        Ok(())
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Numbers<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("numbers")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Numbers { images, count, of_image } = self;
        while list.next_element_seed(Numbers { images: &mut *images, count, of_image })?.is_some() {}
        Ok(())
    }
}
