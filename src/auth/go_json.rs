//! JSON objects as Go's `encoding/json` decodes them into structs, which is how docker, podman and skopeo read their files: field
//! names in any case, unknown fields ignored, `null` leaves a field as it is, a repeated field is set again.

use std::{fmt, marker::PhantomData};

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// A struct that is decoded field by field.
pub(super) trait GoStruct: Default {
    /// The names of its fields.
    const FIELDS: &'static [&'static str];

    /// Whether a field of another name is an error (`DisallowUnknownFields`).
    const REFUSES_UNKNOWN_FIELDS: bool = false;

    /// Sets a field to the map's next value.
    fn set<'de, A: MapAccess<'de>>(&mut self, field: &'static str, map: &mut A) -> Result<(), A::Error>;
}

/// Decodes an object, or `null`.
pub(super) fn decode<'de, T: GoStruct, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(StructVisitor(PhantomData))
}

/// Whether Go takes `key` for the field `name`, which is in lower case: ASCII in any case, and the two other letters whose case folds
/// to ASCII.
pub(super) fn is_field(key: &str, name: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

struct StructVisitor<T>(PhantomData<T>);

impl<'de, T: GoStruct> Visitor<'de> for StructVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(key) = map.next_key::<String>()? {
            match T::FIELDS.iter().find(|name| is_field(&key, name)) {
                Some(field) => value.set(field, &mut map)?,
                None if T::REFUSES_UNKNOWN_FIELDS => return Err(A::Error::custom("unknown field")),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_by_its_name_in_any_case() {
        for key in ["credsStore", "CREDSSTORE", "credsstore", "creds\u{17f}tore"] {
            assert!(is_field(key, "credsStore"), "{key}");
        }
        for key in ["creds-store", "credsStores", "credsStor", "", "crédsStore"] {
            assert!(!is_field(key, "credsStore"), "{key}");
        }
        assert!(is_field("to\u{212a}en", "token"));
    }
}
