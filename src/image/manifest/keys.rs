//! The keys of JSON objects, as other readers of the same bytes see them.
//!
//! Go's [encoding/json](https://pkg.go.dev/encoding/json#Unmarshal), in which registries and container runtimes read
//! manifests, takes a key in any case for the field it knows: `Layers` are layers there. JSON itself tells the two
//! apart, and so does this program, which would copy such an image without its layers.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor};

/// An object whose keys matter.
pub(super) trait Keys {
    /// In the case that the specification has.
    const KEYS: &[&str];
}

/// An object, and the first of its keys that is one of [`Keys::KEYS`] but for its case.
pub(super) struct Exact<T> {
    pub value: T,
    pub ambiguous: Option<String>,
}

impl<'de, T: Keys + Deserialize<'de>> Deserialize<'de> for Exact<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object(PhantomData))
    }
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Keys + Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = Exact<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut ambiguous = None;
        let watched = Watched { map, keys: T::KEYS, ambiguous: &mut ambiguous };
        let value = T::deserialize(MapAccessDeserializer::new(watched))?;
        Ok(Exact { value, ambiguous })
    }
}

/// The entries of an object, with a look at each key.
struct Watched<'a, A> {
    map: A,
    keys: &'static [&'static str],
    ambiguous: &'a mut Option<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Watched<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(key) = self.map.next_key::<String>()? else { return Ok(None) };
        if self.ambiguous.is_none() && self.keys.iter().any(|known| key != *known && folds_to(&key, known)) {
            *self.ambiguous = Some(key.clone());
        }
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Whether `key` is `known`, which is ASCII, under Unicode's simple case folding: two other letters fold to ASCII.
fn folds_to(key: &str, known: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(known.chars().map(fold))
}
