//! Numbers in JSON, whose errors name no type of ours. Those of a tensor, however they are nested, are read into the images that
//! they belong to, and nowhere else before.

use crate::error::ApiError;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A whole number from 0.
#[derive(Clone, Copy)]
pub struct Whole(pub u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a whole number from 0")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
                Ok(Whole(value))
            }
        }

        deserializer.deserialize_u64(Number)
    }
}

/// What a tensor in JSON may hold.
pub trait Value: for<'de> Deserialize<'de> {
    const EXPECTED: &str;
}

impl Value for u8 {
    const EXPECTED: &str = "whole numbers from 0 to 255";
}

impl Value for f32 {
    const EXPECTED: &str = "numbers";
}

/// So many images of so many values.
///
/// # Errors
/// 400 for more or fewer, and for what is no `T`.
pub fn images<T: Value>(json: &RawValue, count: usize, of_image: usize) -> Result<Vec<Vec<T>>, ApiError> {
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

impl<'de, T: Value> DeserializeSeed<'de> for Numbers<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<T: Value> Numbers<'_, T> {
    fn push<'de, E: Error>(self, value: impl IntoDeserializer<'de, E>, number: Unexpected) -> Result<(), E> {
        let value = T::deserialize(value.into_deserializer()).map_err(|_| E::invalid_value(number, &self))?;
        let Numbers { images, count, of_image } = self;
        if images.last().is_none_or(|image| image.len() == of_image) {
            if images.len() == count {
                return Err(E::custom(format_args!("more than {} values", count * of_image)));
            }
            images.push(Vec::with_capacity(of_image));
        }
        images.last_mut().expect("there is one with room").push(value);
        Ok(())
    }
}

impl<'de, T: Value> Visitor<'de> for Numbers<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(value, Unexpected::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(value, Unexpected::Signed(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(value, Unexpected::Float(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Numbers { images, count, of_image } = self;
        while list.next_element_seed(Numbers { images: &mut *images, count, of_image })?.is_some() {}
        Ok(())
    }
}
