//! The images that Kubernetes objects name.

use anyhow::{Context, Result, bail};

use crate::image::reference::Reference;
use crate::util::text::printable;
use crate::util::yaml::{self, Node, Value};

/// Where a pod's containers are listed, in whatever kind of object the pod is.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// An image, and who names it, such as `list.txt, line 3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub reference: Reference,
    pub by: String,
}

/// All images of the containers and image volumes in a stream of Kubernetes objects, in its order.
///
/// # Errors
/// What is no YAML or no image; the message names `name` and the line.
pub fn images(text: &str, name: &str) -> Result<Vec<Named>> {
    let name = printable(name);
    let documents = yaml::documents(text).with_context(|| name.clone())?;
    let mut found = Vec::new();
    documents.iter().for_each(|document| find(document, &mut found));
    found.into_iter().map(|node| read(node, &name)).collect()
}

/// Finds them at any depth: in lists of objects, in pod templates, in custom resources that hold such.
fn find<'n>(node: &'n Node, found: &mut Vec<&'n Node>) {
    for (key, value) in node.entries() {
        if CONTAINERS.contains(&key.as_str()) {
            found.extend(value.items().iter().filter_map(|container| named(container.get("image")?)));
        }
        if key == "volumes" {
            let volumes = value.items().iter();
            found.extend(volumes.filter_map(|volume| named(volume.get("image")?.get("reference")?)));
        }
        find(value, found);
    }
    node.items().iter().for_each(|item| find(item, found));
}

/// No image at all is what a controller fills in later.
fn named(node: &Node) -> Option<&Node> {
    (!matches!(node.value, Value::Null) && node.as_text() != Some("")).then_some(node)
}

fn read(node: &Node, name: &str) -> Result<Named> {
    let by = format!("{name}, line {}", node.line);
    let Some(text) = node.as_text() else { bail!("{by}: an image is a text") };
    let reference = text.parse().with_context(|| by.clone())?;
    Ok(Named { reference, by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        images(text, "f.yaml").unwrap().iter().map(|image| image.reference.to_string()).collect()
    }

    #[test]
    fn every_container_of_every_kind_is_found() {
        let text = "\
apiVersion: v1
kind: List
items:
  - kind: CronJob
    spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: a/cron:1}]}}}}}
  - kind: Pod
    spec:
      initContainers: [{name: i, image: 'quay.io/b/init:2'}]
      containers:
        - {name: c, image: alpine}
        - {name: none}
      ephemeralContainers:
        - image: ghcr.io/d/debug@sha256:0df5b2750b64c49843aba1d649e9eaf61467cb0645ad3171db6f6962c095ac92
      volumes:
        - {name: v, image: {reference: registry.k8s.io/e/vol:3, pullPolicy: Always}}
        - {name: w, configMap: {name: image}}
---
# an operator's own kind
kind: Database
spec:
  image: not/taken:1
  podTemplate: {spec: {containers: [{image: f/db:4}, {image: \"\"}]}}
---
kind: CustomResourceDefinition
spec: {properties: {containers: {type: array, items: {image: {type: string}}}, image: {type: string}}}
";
        let digest = "sha256:0df5b2750b64c49843aba1d649e9eaf61467cb0645ad3171db6f6962c095ac92";
        let debug = format!("ghcr.io/d/debug@{digest}");
        let expected = [
            "docker.io/a/cron:1",
            "quay.io/b/init:2",
            "docker.io/library/alpine:latest",
            &debug,
            "registry.k8s.io/e/vol:3",
            "docker.io/f/db:4",
        ];
        assert_eq!(found(text), expected);
    }

    #[test]
    fn json_is_yaml() {
        let text = "{\"spec\":\n{\"containers\":[{\"image\":\"a/b:1\"}]}}";
        assert_eq!(found(text), ["docker.io/a/b:1"]);
        assert_eq!(images(text, "f.yaml").unwrap()[0].by, "f.yaml, line 2");
    }

    #[test]
    fn errors_name_file_and_line() {
        let wrong = |text: &str| format!("{:#}", images(text, "f.yaml").unwrap_err());
        let told = wrong("a: 1\nspec:\n  containers:\n  - image: Not:An:Image\n");
        assert!(told.starts_with("f.yaml, line 4: "), "{told}");
        assert!(wrong("containers:\n- image: 1.30\n").contains("line 2"));
        let told = wrong("a: 1\nb: [\n");
        assert!(told.starts_with("f.yaml: ") && told.contains("line"), "{told}");
    }
}
