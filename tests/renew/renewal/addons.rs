//! KubeOne's embedded addons, `addons/NAME/*.{yaml,yml,json}`: which resources and which other images they deploy.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::images::in_full;
use super::upstream::{Checkout, File};

/// An image that an addon names itself, as the catalog's `unlisted` has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    pub addon: String,
    pub image: String,
    /// Whether `registryConfiguration.overwriteRegistry` changes its registry.
    pub overwritten: bool,
}

#[derive(Debug, Default)]
pub struct Addons {
    /// The addons of each resource.
    pub of_resource: BTreeMap<String, BTreeSet<String>>,
    pub written: BTreeSet<Written>,
}

/// What templates ask for as if it were a resource, though it is the pause image of the cluster.
const NOT_A_RESOURCE: &str = "PauseImage";

impl Addons {
    /// Those of `tag`. KubeOne takes what is right below an addon's directory.
    ///
    /// # Errors
    /// An image is not understood, or is a resource that `is_resource` denies; the message has its line.
    pub fn read(checkout: &Checkout, tag: &str, is_resource: impl Fn(&str) -> bool) -> Result<Self> {
        let mut addons = Self::default();
        for path in checkout.paths(tag, "addons")? {
            let Some(addon) = addon_of(&path) else { continue };
            let file = checkout.file(tag, &path)?;
            for found in find(&file)? {
                match found {
                    Found::Resource { name, .. } if name == NOT_A_RESOURCE => {}
                    Found::Resource { name, line } if !is_resource(&name) => {
                        return Err(file.wrong(line, format!("{name} is no resource of KubeOne's list")));
                    }
                    Found::Resource { name, .. } => {
                        addons.of_resource.entry(name).or_default().insert(addon.to_owned());
                    }
                    Found::Written { image, overwritten } => {
                        addons.written.insert(Written { addon: addon.to_owned(), image, overwritten });
                    }
                }
            }
        }
        Ok(addons)
    }
}

/// The addon that a file is a manifest of.
fn addon_of(path: &str) -> Option<&str> {
    let (addon, file) = path.strip_prefix("addons/")?.split_once('/')?;
    let ending = file.rsplit_once('.')?.1.to_lowercase();
    (!file.contains('/') && ["yaml", "yml", "json"].contains(&ending.as_str())).then_some(addon)
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Resource { name: String, line: usize },
    Written { image: String, overwritten: bool },
}

/// The call by which a template names a resource.
const RESOURCES: &str = ".InternalImages.";

fn find(file: &File<'_>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut lines = file.text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let number = number + 1;
        for call in line.split(RESOURCES).skip(1) {
            let name = call.strip_prefix("Get ").and_then(|rest| quoted(rest.trim_start()));
            let name =
                name.ok_or_else(|| file.wrong(number, "asks for an image in a way that is not known"))?;
            found.push(Found::Resource { name: name.to_owned(), line: number });
        }
        let Some(mut value) = image_of(line) else {
            if has_image_within(line) {
                return Err(file.wrong(number, "has an image beside other keys, which is not understood"));
            }
            continue;
        };
        // The value of a folded text, or of a key with nothing behind it, is the next line.
        if ["", ">", ">-", "|", "|-"].contains(&value) {
            match lines.peek() {
                Some((_, next)) if indent(next) > indent(line) && !is_key(next) => value = bare(next),
                // A key that is called image, in the schema of something.
                _ if value.is_empty() => continue,
                _ => return Err(file.wrong(number, "has an image that is not understood")),
            }
        }
        if value.contains(RESOURCES) {
            continue;
        }
        found.push(written(value).map_err(|why| file.wrong(number, why))?);
    }
    Ok(found)
}

/// The value of the key `image` in a line of YAML or JSON. Other keys in the same line are not expected, and make the
/// value no image.
fn image_of(line: &str) -> Option<&str> {
    let rest = line.trim_start().trim_start_matches(['-', '{', ' ']);
    let rest = ["image", "\"image\"", "'image'"].into_iter().find_map(|key| rest.strip_prefix(key))?;
    let value = rest.trim_start().strip_prefix(':')?;
    (value.is_empty() || value.starts_with([' ', '\t', '"'])).then(|| bare(value))
}

/// Whether a line has the key `image` behind another one, as in `{name: a, image: b}`.
fn has_image_within(line: &str) -> bool {
    let begins_key = |part: &str| {
        let part = part.trim_start().trim_start_matches(['"', '\'']);
        let rest = part.strip_prefix("image").map(|rest| rest.trim_start_matches(['"', '\'']));
        rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    line.split(['{', ',']).skip(1).any(begins_key)
}

/// A scalar without comment, comma and quotes.
fn bare(value: &str) -> &str {
    let value = value.split_once(" #").map_or(value, |(value, _)| value);
    let value = value.trim().trim_end_matches(',');
    let unquoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    ['"', '\''].into_iter().find_map(unquoted).unwrap_or(value)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_key(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('-') || line.ends_with(':') || line.contains(": ")
}

/// The text in quotes that `text` begins with.
fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.split_once('"').map(|(inner, _)| inner)
}

/// An image that is written out, or of which `Registry` may replace the registry.
fn written(value: &str) -> Result<Found, String> {
    let unknown = || format!("has an image that is not understood: {value:?}");
    let Some(rest) = value.strip_prefix("{{") else {
        let is_template = value.contains("{{");
        return if is_template {
            Err(unknown())
        } else {
            Ok(Found::Written { image: in_full(value)?, overwritten: false })
        };
    };
    let (call, rest) = rest.split_once("}}").ok_or_else(unknown)?;
    let registry = call.trim().strip_prefix("Registry ").and_then(|rest| quoted(rest.trim_start()));
    match registry {
        Some(registry) if rest.starts_with('/') && !rest.contains("{{") => {
            Ok(Found::Written { image: in_full(&format!("{registry}{rest}"))?, overwritten: true })
        }
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Vec<String>> {
        let file = File { tag: "v1.2.3", path: "addons/a/b.yaml", text: text.to_owned() };
        let shown = find(&file)?.into_iter().map(|found| match found {
            Found::Resource { name, line } => format!("{line} {name}"),
            Found::Written { image, overwritten: true } => format!("{image} overwritten"),
            Found::Written { image, overwritten: false } => image,
        });
        Ok(shown.collect())
    }

    #[test]
    fn every_shape_of_an_image_is_understood() {
        let table: [(&str, &[&str]); 15] = [
            ("image: {{ .InternalImages.Get \"A\" }}", &["1 A"]),
            ("  - image: '{{ .InternalImages.Get \"A\" }}' # mine", &["1 A"]),
            ("\timage: \"{{ .InternalImages.Get \"A\" }}\"\r\n", &["1 A"]),
            ("image: {{ default (.InternalImages.Get \"A\") .Params.A }}", &["1 A"]),
            ("args:\n- -pause={{ .InternalImages.Get \"A\" }}", &["2 A"]),
            ("# image: alpine:3\n#{{ .InternalImages.Get \"A\" }}", &[]),
            ("image: \"alpine:3\"", &["docker.io/library/alpine:3"]),
            ("{\"image\": \"quay.io/a/b:v1\",", &["quay.io/a/b:v1"]),
            ("\"image\":\"quay.io/a/b:v1\"", &["quay.io/a/b:v1"]),
            ("image: {{ Registry \"quay.io\" }}/a/b:v1", &["quay.io/a/b:v1 overwritten"]),
            ("image: '{{ Registry \"docker.io\" }}/alpine:3'", &["docker.io/library/alpine:3 overwritten"]),
            ("image: >-\n  quay.io/a/b:v1", &["quay.io/a/b:v1"]),
            ("image:\n  quay.io/a/b:v1", &["quay.io/a/b:v1"]),
            ("image:\n  description: of a volume\nimagePullPolicy: Always", &[]),
            ("sidecar-image: \"a/b\"\nimage-x: y", &[]),
        ];
        for (text, expected) in table {
            assert_eq!(found(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn an_image_that_is_not_understood_is_told_with_its_line() {
        for (text, why) in [
            ("a: b\nimage: {{ .Params.image }}", "{{ .Params.image }}"),
            ("a: b\nimage: quay.io/a/b:{{ .Params.tag }}", "not understood"),
            ("a: b\nimage: {{ Registry \"quay.io\" }}/a/b:{{ .Params.tag }}", "not understood"),
            ("a: b\nimage: quay.io/a/b", "has no tag"),
            ("a: b\n{image: quay.io/a/b:v1}", "is no image"),
            ("a: b\nimage: {{ .InternalImages.Tag \"A\" }}", "in a way that is not known"),
            ("a: b\nimage: |", "not understood"),
            ("a: b\n- {name: a, image: quay.io/a/b:v1}", "beside other keys"),
            ("a: b\n{\"name\": \"a\", \"image\": \"quay.io/a/b:v1\"}", "beside other keys"),
        ] {
            let error = found(text).unwrap_err().to_string();
            assert!(error.starts_with("addons/a/b.yaml at v1.2.3, line 2: "), "{text}: {error}");
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn only_manifests_right_below_an_addon_count() {
        assert_eq!(addon_of("addons/csi/a.yaml"), Some("csi"));
        assert_eq!(addon_of("addons/csi/a.YML"), Some("csi"));
        for other in [
            "addons/csi/a.md",
            "addons/csi/sub/a.yaml",
            "addons/a.yaml",
            "addons/csi/Kustomization",
            "x/csi/a.yaml",
        ] {
            assert_eq!(addon_of(other), None, "{other}");
        }
    }
}
