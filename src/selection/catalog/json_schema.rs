//! The form of a catalog's documents, for editors and other programs, as JSON Schema (draft 2020-12).
//!
//! What the types of a document say themselves is derived from them, words included; here is what their texts may be.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};

use super::rules::DriversFrom;
use super::{Day, Full, Image, Kubernetes, Minor, Release, Resource, Resources};
use crate::image::reference::Reference;

const NUMBER: &str = "(0|[1-9][0-9]*)";

/// The schema of a document, which is about Kubernetes or about a release of KubeOne.
pub fn json_schema() -> String {
    /// A document of a catalog: one is about Kubernetes, and one about each release of KubeOne.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    #[expect(dead_code, reason = "only its schema is wanted")]
    enum Document {
        Kubernetes(Kubernetes),
        Release(Box<Release>),
    }
    let mut schema = schema_for!(Document);
    schema.insert("title".to_owned(), "A document of a catalog of mirror-images".into());
    let json = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    json + "\n"
}

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

is_text!(Minor, "Minor", "A version of two numbers, such as 1.36", format!("^{NUMBER}\\.{NUMBER}$"));
is_text!(Day, "Day", "A day, such as 2026-08-13", "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$");
is_text!(
    Full,
    "Version",
    "A version of three numbers, such as 1.36.3 or v1.36.3",
    format!("^v?{NUMBER}\\.{NUMBER}\\.{NUMBER}$")
);
is_text!(
    Reference,
    "Reference",
    "An image, written in full: host, path, and a tag, a digest or both",
    "^[a-z0-9.-]+(:[0-9]+)?/[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha(256|512):[0-9a-f]+)?$"
);
is_text!(
    DriversFrom,
    "DriversFrom",
    "`external`, or the first version of Kubernetes that leaves volumes to the drivers",
    format!("^(external|{NUMBER}\\.{NUMBER})$")
);

impl JsonSchema for Image {
    fn schema_name() -> Cow<'static, str> {
        "Image".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let same = generator.subschema_for::<Reference>();
        let by_minor = generator.subschema_for::<BTreeMap<Minor, Option<Reference>>>();
        json_schema!({
            "description": "An image, or one for each minor of Kubernetes; null where there is none for it",
            "anyOf": [same, by_minor],
        })
    }
}

impl JsonSchema for Resources {
    fn schema_name() -> Cow<'static, str> {
        "Resources".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<BTreeMap<String, Resource>>();
        let description = "KubeOne's names of resources, and what each is";
        schema.insert("description".to_owned(), description.into());
        schema
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use serde_json::Value;

    use super::*;
    use crate::selection::catalog::Catalog;
    use crate::selection::catalog::tests::{KUBEONE, KUBERNETES};

    /// Why `value` does not have the form of `schema`; `None` if it does. Knows the words that this schema uses, and no
    /// others.
    fn complaint(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
        const KNOWN: [&str; 18] = [
            "$schema",
            "$defs",
            "$ref",
            "title",
            "description",
            "default",
            "type",
            "enum",
            "const",
            "pattern",
            "items",
            "minItems",
            "properties",
            "required",
            "patternProperties",
            "additionalProperties",
            "anyOf",
            "oneOf",
        ];
        let schema = match schema {
            Value::Bool(true) => return None,
            Value::Bool(false) => return Some(format!("{at}: nothing may be here")),
            Value::Object(schema) => schema,
            _ => panic!("{schema} is no schema"),
        };
        let unknown = schema.keys().find(|word| !KNOWN.contains(&word.as_str()) && *word != "uniqueItems");
        assert_eq!(unknown, None, "a word that this test does not know");
        if let Some(reference) = schema.get("$ref") {
            let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
            let target = root.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"));
            if let Some(complaint) = complaint(root, target, value, at) {
                return Some(complaint);
            }
        }
        for word in ["anyOf", "oneOf"] {
            let Some(choices) = schema.get(word) else { continue };
            let choices = choices.as_array().unwrap();
            let complaints: Vec<String> =
                choices.iter().filter_map(|choice| complaint(root, choice, value, at)).collect();
            if complaints.len() == choices.len() {
                return Some(complaints.join(", or "));
            }
        }
        if let Some(types) = schema.get("type") {
            let is = |name: &str| match value {
                Value::Null => name == "null",
                Value::Bool(_) => name == "boolean",
                Value::Number(_) => name == "integer" || name == "number",
                Value::String(_) => name == "string",
                Value::Array(_) => name == "array",
                Value::Object(_) => name == "object",
            };
            let fits = match types {
                Value::String(name) => is(name),
                several => several.as_array().unwrap().iter().any(|name| is(name.as_str().unwrap())),
            };
            if !fits {
                return Some(format!("{at}: it is no {types}"));
            }
        }
        if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
            return Some(format!("{at}: it is not {constant}"));
        }
        if let Some(all) = schema.get("enum").filter(|all| !all.as_array().unwrap().contains(value)) {
            return Some(format!("{at}: it is not of {all}"));
        }
        match value {
            Value::String(text) => {
                let pattern =
                    schema.get("pattern").map(|pattern| Regex::new(pattern.as_str().unwrap()).unwrap());
                pattern.filter(|pattern| !pattern.is_match(text)).map(|pattern| format!("{at}: {pattern}"))
            }
            Value::Array(items) => {
                let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or_default();
                if (items.len() as u64) < least {
                    return Some(format!("{at}: it has fewer than {least}"));
                }
                let of = schema.get("items")?;
                let numbered = items.iter().enumerate();
                numbered.into_iter().find_map(|(n, item)| complaint(root, of, item, &format!("{at}[{n}]")))
            }
            Value::Object(entries) => {
                let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                for key in required.map(|key| key.as_str().unwrap()) {
                    if !entries.contains_key(key) {
                        return Some(format!("{at}: {key} is missing"));
                    }
                }
                entries.iter().find_map(|(key, entry)| {
                    let at = format!("{at}.{key}");
                    let named = schema.get("properties").and_then(|properties| properties.get(key));
                    let patterns = schema.get("patternProperties").and_then(Value::as_object);
                    let matching = patterns.into_iter().flatten();
                    let matching = matching.filter(|(pattern, _)| Regex::new(pattern).unwrap().is_match(key));
                    let mut of: Vec<&Value> = named.into_iter().chain(matching.map(|(_, of)| of)).collect();
                    if of.is_empty() {
                        of.extend(schema.get("additionalProperties"));
                    }
                    of.into_iter().find_map(|of| complaint(root, of, entry, &at))
                })
            }
            _ => None,
        }
    }

    fn complaints(text: &str) -> Vec<String> {
        let root: Value = serde_json::from_str(&json_schema()).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        documents.iter().filter_map(|document| complaint(&root, &root, document, "")).collect()
    }

    #[test]
    fn the_embedded_catalog_has_the_published_form() {
        let embedded = Catalog::embedded_yaml();
        assert_eq!(complaints(&embedded), Vec::<String>::new());
        let documents: Vec<Value> = serde_saphyr::from_multiple(&embedded).unwrap();
        assert!(documents.len() >= 13);
        assert_eq!(complaints(include_str!("../../../tests/it/small-catalog.yaml")), Vec::<String>::new());
    }

    #[test]
    fn what_the_program_refuses_for_its_form_has_another() {
        let stream = format!("{KUBERNETES}---\n{KUBEONE}");
        assert_eq!(complaints(&stream), Vec::<String>::new());
        for (from, to) in [
            ("addons: [cni-canal]", "addon: [cni-canal]"),
            ("addons: [cni-canal]", "addons: cni-canal"),
            (r#"latest: "1.36.3""#, r#"latest: "1.36.4-rc.0""#),
            (r#"latest: "1.36.3""#, "latest: [1]"),
            (r#"["1.36"]"#, r#"["1.36.1"]"#),
            (r#""1.36": registry"#, r#""1.036": registry"#),
            ("base:", "sandbox: {\"1.36\": 3}\nbase:"),
            ("base:", "etcd: [{from: 1.36.0, image: registry.k8s.io/etcd:1}]\nbase:"),
            ("base:", "gone: [{below: a/b}]\nbase:"),
            ("base:", "rules: {manifests: []}\nbase:"),
            ("quay.io/calico/cni:v3.32.0", "alpine"),
            ("quay.io/calico/cni:v3.32.0", "quay.io/Calico:1"),
            ("quay.io/calico/cni:v3.32.0", "null"),
            ("quay.io/calico/cni:v3.32.0", "3.32"),
            ("released: 2026-08-13\n", ""),
            ("released: 2026-08-13\n", "released: 2028-13-31\n"),
            ("base:", "gone: [{below: a.b/c, gone: yesterday, why: so}]\nbase:"),
            ("base:", "unlisted: [{addons: [], image: quay.io/a/b:1}]\nbase:"),
            ("optional:\n", "surplus: 1\noptional:\n"),
        ] {
            let text = stream.replacen(from, to, 1);
            assert_ne!(text, stream, "{from}");
            assert!(Catalog::from_yaml(&text, "mine").is_err(), "{to}");
            assert!(!complaints(&text).is_empty(), "{to}");
        }
    }
}
