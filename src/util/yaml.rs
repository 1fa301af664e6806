//! YAML that others wrote: bounded in what it may expand to, and each value with its line.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned};

/// A value and the line on which it begins.
#[derive(Debug, Clone)]
pub struct Node {
    pub line: u64,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    Bool(bool),
    Null,
    Number,
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The entries of a map; none if it is something else.
    pub fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none if it is something else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Most values in a stream, keys among them: what 16 MiB of Kubernetes objects hold, of which one has some ten bytes.
/// It bounds memory to some 300 MB, however short the values are.
const NODES_MAX: usize = 2_000_000;
/// Most documents in a stream: `helm template` and `kubectl get` write one for each object.
const DOCUMENTS_MAX: usize = 100_000;

/// Most of what aliases may stand for, in events of the parser: far below what a text itself may hold, since an alias of
/// a few bytes may stand for all before it.
const REPLAYED_MAX: usize = 200_000;

/// Errors name the line and show nothing of the text, which may hold secrets.
fn options() -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            // A list or a map has an end as well, a document both.
            max_events: 2 * (NODES_MAX + DOCUMENTS_MAX),
            max_documents: DOCUMENTS_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: REPLAYED_MAX },
    }
}

/// What is wrong with a text, and where.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl From<serde_saphyr::Error> for Error {
    fn from(error: serde_saphyr::Error) -> Self {
        // Advice for those who call the library.
        Self(error.to_string().replace(", set DuplicateKeyPolicy in Options if acceptable", ""))
    }
}

/// A single document.
pub fn one<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    Ok(serde_saphyr::from_str_with_options(text, options())?)
}

/// The documents of a stream but the empty ones.
pub fn documents(text: &str) -> Result<Vec<Node>, Error> {
    Ok(serde_saphyr::from_multiple_with_options(text, options())?)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Number)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Number)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
                Ok(Value::Number)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
                Ok(Value::Number)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Number)
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_bytes<E>(self, _: &[u8]) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                Value::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let text = "---\na: 1\nb:\n  - x\n  - {c: true, d: ~}\n---\n# nothing\n---\n1: two\n";
        let documents = documents(text).unwrap();
        assert_eq!(documents.len(), 2);
        let list = documents[0].get("b").unwrap().items();
        assert_eq!((list[0].as_text(), list[0].line), (Some("x"), 4));
        assert!(matches!(list[1].get("c").unwrap().value, Value::Bool(true)));
        assert_eq!(documents[1].get("1").and_then(Node::as_text), Some("two"));
    }

    #[test]
    fn what_would_expand_without_end_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
        }
        assert!(documents(&bomb).is_err());
        assert!(documents(&"[".repeat(100_000)).is_err());
        assert!(documents("a: 1\na: 2\n").unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn a_stream_of_many_objects_is_read() {
        let object = "kind: Pod\nspec: {containers: [{name: a, image: b}, {name: c, image: d}]}\n---\n";
        assert_eq!(documents(&object.repeat(20_000)).unwrap().len(), 20_000);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_fail(text in "(?s).{0,200}") {
            let _ = documents(&text);
        }
    }
}
