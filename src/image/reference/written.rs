//! Names as JSON and YAML have them: texts, written in full, and the JSON Schema of these.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};

use super::{Digest, Location, NameError, Reference, Repository};

impl Reference {
    /// The image of a text that is no shorter form of its name.
    ///
    /// # Errors
    /// It is none, or what it is in full.
    pub(crate) fn written_in_full(text: &str) -> Result<Self, String> {
        let reference: Self = text.parse().map_err(|error: NameError| error.to_string())?;
        match reference.to_string() {
            full if full == text => Ok(reference),
            full => Err(format!("{text:?} is to be written in full, {full:?}")),
        }
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::written_in_full(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

macro_rules! is_parsed {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
is_parsed!(Digest, Location, Repository);

macro_rules! is_shown {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
is_shown!(Digest, Location, Reference, Repository);

const PATH: &str = "[a-z0-9]+([._/-]+[a-z0-9]+)*";
const TAG: &str = "[A-Za-z0-9_][A-Za-z0-9_.-]*";
const DIGEST: &str = "sha(256|512):[0-9a-f]+";

macro_rules! is_text {
    ($type:ty, $name:literal, $description:literal, $pattern:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        }
    };
}

is_text!(
    Reference,
    "Reference",
    "An image, written in full: host, path, and a tag, a digest or both",
    format!("^[a-z0-9.-]+(:[0-9]+)?/{PATH}(:{TAG})?(@{DIGEST})?$")
);
is_text!(
    Location,
    "Location",
    "A place inside a registry: path, and a tag or a digest",
    format!("^{PATH}(:{TAG}|@{DIGEST})$")
);
is_text!(Repository, "Repository", "The path of a repository inside a registry", format!("^{PATH}$"));
is_text!(
    Digest,
    "Digest",
    "The hash of some content",
    "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$".to_owned()
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_inside_a_registry_is_read_as_it_is_shown() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_digest = format!("group/pause@{digest}");
        for text in ["pause:3.10.2", "group/sub/pause:v1_2", &by_digest] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), text);
            assert_eq!(serde_json::from_str::<Location>(&format!("{text:?}")).unwrap(), location);
            assert_eq!(serde_json::to_string(&location).unwrap(), format!("{text:?}"));
        }
        let both = format!("pause:3@{digest}");
        for wrong in [
            "",
            "pause",
            "pause:",
            ":3",
            "../pause:3",
            "/pause:3",
            "a//b:1",
            "Pause:3",
            "pause:3/4",
            "h:5/a:1",
            &both,
        ] {
            assert!(wrong.parse::<Location>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shorter_form_of_a_name_is_told_in_full() {
        let told = serde_json::from_str::<Reference>("\"alpine\"").unwrap_err().to_string();
        assert!(
            told.starts_with("\"alpine\" is to be written in full, \"docker.io/library/alpine:latest\""),
            "{told}"
        );
    }
}
