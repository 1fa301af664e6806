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
    use serde_json::Value;

    use super::*;
    use crate::selection::catalog::Catalog;
    use crate::selection::catalog::tests::{KUBEONE, KUBERNETES};
    use crate::util::schema::complaint;

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
