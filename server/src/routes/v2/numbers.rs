//! Numbers in JSON, with errors that do not mention Rust types. The numbers of a tensor, nested or flat, are parsed
//! directly into the images that they belong to.

use crate::error::ApiError;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A non-negative integer.
#[derive(Clone, Copy)]
pub struct NonNegative(pub u64);

impl<'de> Deserialize<'de> for NonNegative {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NonNegativeVisitor;

        impl Visitor<'_> for NonNegativeVisitor {
            type Value = NonNegative;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a non-negative integer")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<NonNegative, E> {
                Ok(NonNegative(value))
            }
        }

        deserializer.deserialize_u64(NonNegativeVisitor)
    }
}

/// An element of a tensor in JSON.
pub trait Element: for<'de> Deserialize<'de> {
    /// Description of a valid tensor, for error messages.
    const EXPECTED: &str;
}

impl Element for u8 {
    const EXPECTED: &str = "integers from 0 to 255";
}

impl Element for f32 {
    const EXPECTED: &str = "numbers";
}

/// Parses `count` images of `values_per_image` values each.
///
/// # Errors
/// Returns 400 if there are more or fewer values, or if one is not a valid `T`.
pub fn parse_images<T: Element>(
    json: &RawValue,
    count: usize,
    values_per_image: usize,
) -> Result<Vec<Vec<T>>, ApiError> {
    let mut images = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    let collector = ImageCollector { images: &mut images, count, values_per_image };
    collector
        .deserialize(&mut deserializer)
        .map_err(|error| ApiError::malformed(format!("invalid tensor data: {error}")))?;
    let (values, expected) = (images.iter().map(Vec::len).sum::<usize>(), count * values_per_image);
    if values == expected {
        Ok(images)
    } else {
        Err(ApiError::malformed(format!("invalid tensor data: expected {expected} values, got {values}")))
    }
}

/// Collects the numbers of nested arrays in row-major order.
struct ImageCollector<'a, T> {
    images: &'a mut Vec<Vec<T>>,
    count: usize,
    values_per_image: usize,
}

impl<'de, T: Element> DeserializeSeed<'de> for ImageCollector<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<T: Element> ImageCollector<'_, T> {
    fn push<'de, E: Error>(self, value: impl IntoDeserializer<'de, E>, number: Unexpected) -> Result<(), E> {
        let value = T::deserialize(value.into_deserializer()).map_err(|_| E::invalid_value(number, &self))?;
        let ImageCollector { images, count, values_per_image } = self;
        if images.last().is_none_or(|image| image.len() == values_per_image) {
            if images.len() == count {
                return Err(E::custom(format_args!("more than {} values", count * values_per_image)));
            }
            images.push(Vec::with_capacity(values_per_image));
        }
        images.last_mut().expect("an image with room was pushed above").push(value);
        Ok(())
    }
}

impl<'de, T: Element> Visitor<'de> for ImageCollector<'_, T> {
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let ImageCollector { images, count, values_per_image } = self;
        while array.next_element_seed(ImageCollector { images: &mut *images, count, values_per_image })?.is_some() {}
        Ok(())
    }
}
