//! The documents as they come over the wire, in every shape that occurs, with a cap on every list. Values are
//! checked later.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::error::ManifestError;
use crate::limits;

/// Longest message of the JSON parser that is passed on, in characters. It may quote the document.
const MESSAGE_CHARACTERS: usize = 200;

/// Parses a document of at most `limit` bytes.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], limit: u64) -> Result<T, ManifestError> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > limit {
        return Err(ManifestError::TooLarge { size, limit });
    }
    serde_json::from_slice(bytes).map(|Object(document)| document).map_err(|error: serde_json::Error| {
        let text = error.to_string();
        let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
        ManifestError::Json {
            line: error.line(),
            column: error.column(),
            message: message.chars().take(MESSAGE_CHARACTERS).collect(),
        }
    })
}

/// A manifest or an index. The outer `Option` of a field tells whether it is present, the inner one whether it
/// is `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireManifest {
    pub(super) annotations: Option<Pairs>,
    pub(super) artifact_type: Option<Scalar>,
    #[serde(default, deserialize_with = "present")]
    pub(super) config: Option<Option<Object<WireDescriptor>>>,
    pub(super) fs_layers: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    pub(super) layers: Option<Option<List<Object<WireDescriptor>, { limits::LAYERS }>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) manifests: Option<Option<List<Object<WireDescriptor>, { limits::MANIFESTS }>>>,
    pub(super) media_type: Option<Scalar>,
    pub(super) schema_version: Option<Scalar>,
    pub(super) subject: Option<Object<WireDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDescriptor {
    pub(super) annotations: Option<Pairs>,
    pub(super) artifact_type: Option<Scalar>,
    pub(super) digest: Option<Scalar>,
    pub(super) media_type: Option<Scalar>,
    pub(super) platform: Option<Object<WirePlatform>>,
    pub(super) size: Option<Scalar>,
    pub(super) urls: Option<List<String>>,
}

#[derive(Deserialize)]
pub(super) struct WirePlatform {
    pub(super) architecture: Option<String>,
    pub(super) os: Option<String>,
    #[serde(rename = "os.version")]
    pub(super) os_version: Option<String>,
    pub(super) variant: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireConfig {
    pub(super) architecture: Option<String>,
    pub(super) author: Option<String>,
    pub(super) config: Option<Object<WireExecution>>,
    pub(super) created: Option<String>,
    pub(super) history: Option<List<Object<WireHistory>>>,
    pub(super) os: Option<String>,
    #[serde(rename = "os.version")]
    pub(super) os_version: Option<String>,
    pub(super) rootfs: Option<Object<WireRootfs>>,
    pub(super) variant: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireExecution {
    pub(super) cmd: Option<Words>,
    pub(super) entrypoint: Option<Words>,
    pub(super) env: Option<List<String>>,
    pub(super) exposed_ports: Option<KeySet>,
    pub(super) labels: Option<Pairs>,
    pub(super) stop_signal: Option<String>,
    pub(super) user: Option<String>,
    pub(super) volumes: Option<KeySet>,
    pub(super) working_dir: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireHistory {
    pub(super) author: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) created: Option<String>,
    pub(super) created_by: Option<String>,
    pub(super) empty_layer: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct WireRootfs {
    pub(super) diff_ids: Option<List<Scalar, { limits::LAYERS }>>,
}

/// Distinguishes a field that is `null` from one that is absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Option<T>, D::Error> {
    T::deserialize(source).map(Some)
}

/// A JSON object. Serde alone would also accept a list of the fields' values, which no other parser accepts.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(source)).map(Object)
            }
        }

        source.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Any value, stored only if it is a string or a whole number, so that an error can name the field.
#[derive(Debug)]
pub(super) enum Scalar {
    Number(u64),
    Other,
    Text(String),
}

impl Scalar {
    /// The number, if it is whole and not negative.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        source.deserialize_any(AnyValue)
    }
}

/// A list. At most `LIMIT` items are stored.
#[derive(Debug)]
pub(super) struct List<T, const LIMIT: usize = { limits::DOCUMENT_ITEMS }> {
    pub(super) items: Vec<T>,
    /// Whether the document has more items.
    pub(super) more: bool,
}

impl<T, const LIMIT: usize> Default for List<T, LIMIT> {
    fn default() -> Self {
        Self { items: Vec::new(), more: false }
    }
}

impl<'de, T: Deserialize<'de>, const LIMIT: usize> Deserialize<'de> for List<T, LIMIT> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T, const LIMIT: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for ListVisitor<T, LIMIT> {
    type Value = List<T, LIMIT>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Self::Value, A::Error> {
        let mut list = List::default();
        while list.items.len() < LIMIT {
            match source.next_element()? {
                Some(item) => list.items.push(item),
                None => return Ok(list),
            }
        }
        while source.next_element::<IgnoredAny>()?.is_some() {
            list.more = true;
        }
        Ok(list)
    }
}

/// Words of a command: a list, or one string, which Docker accepts as well.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) List<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct ListOrText;

        impl<'de> Visitor<'de> for ListOrText {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Words, E> {
                Ok(Words(List { items: vec![text.to_owned()], more: false }))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, source: A) -> Result<Words, A::Error> {
                ListVisitor(PhantomData).visit_seq(source).map(Words)
            }
        }

        source.deserialize_any(ListOrText)
    }
}

/// A map of strings; at most [`limits::DOCUMENT_ITEMS`] are stored. `null` is the empty string, as in Go.
pub(super) type Pairs = Map<NullableText>;

/// A map whose values are ignored; at most [`limits::DOCUMENT_ITEMS`] keys are stored.
pub(super) type KeySet = Map<IgnoredAny>;

/// A map. At most [`limits::DOCUMENT_ITEMS`] items are stored.
#[derive(Debug)]
pub(super) struct Map<T: MapValue> {
    pub(super) items: BTreeMap<String, T::Stored>,
    /// Whether the document has more items.
    pub(super) more: bool,
}

impl<T: MapValue> Default for Map<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), more: false }
    }
}

/// A value of a map, and the part of it that is stored.
pub(super) trait MapValue: DeserializeOwned {
    type Stored: fmt::Debug;
    fn into_stored(self) -> Self::Stored;
}

/// A string or `null`.
#[derive(Debug, Deserialize)]
pub(super) struct NullableText(Option<String>);

impl MapValue for NullableText {
    type Stored = String;

    fn into_stored(self) -> String {
        self.0.unwrap_or_default()
    }
}

impl MapValue for IgnoredAny {
    type Stored = ();

    fn into_stored(self) {}
}

impl<'de, T: MapValue> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);

        impl<'de, T: MapValue> Visitor<'de> for MapVisitor<T> {
            type Value = Map<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Map<T>, A::Error> {
                let mut map = Map::default();
                while map.items.len() < limits::DOCUMENT_ITEMS {
                    match source.next_entry::<String, T>()? {
                        Some((key, value)) => map.items.insert(key, value.into_stored()),
                        None => return Ok(map),
                    };
                }
                while source.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    map.more = true;
                }
                Ok(map)
            }
        }

        source.deserialize_map(MapVisitor(PhantomData))
    }
}
