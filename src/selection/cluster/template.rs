//! Images in KubeOne's templates, which are YAML only once KubeOne has filled them in.
//!
//! They are read line by line, so that both branches of an `if` count: an image too many does no harm.

use std::collections::{BTreeMap, BTreeSet};

use super::local::Resources;
use crate::image::reference::{NameError, Reference};
use crate::selection::kubernetes::Named;
use crate::util::text::printable;

#[derive(Debug, Default)]
pub(super) struct Found {
    pub images: Vec<Named>,
    pub warnings: Vec<String>,
}

/// What templates are filled in with, as far as it is known here.
#[derive(Clone)]
pub struct Known<'r> {
    pub resources: &'r Resources,
    /// The versions of Kubernetes, without `v`.
    pub kubernetes: BTreeSet<String>,
    pub params: BTreeMap<String, String>,
}

pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// The images of the lines `image: …`, and of `reference: …` below an `image:`.
pub(super) fn images(text: &str, name: &str, known: &Known<'_>) -> Found {
    let mut found = Found::default();
    // The indentation of an `image:` that has its value on the lines below.
    let mut volume: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let at = || format!("{}, line {}", printable(name), number + 1);
        let bare = line.trim_start().trim_start_matches("- ").trim_start();
        let indentation = line.len() - bare.len();
        if bare.is_empty() || bare.starts_with('#') || bare.starts_with("{{") {
            continue;
        }
        let inside = volume.is_some_and(|outer| indentation > outer);
        let value = match (field(bare, "image"), field(bare, "reference")) {
            (Some(""), _) => {
                volume = Some(indentation);
                continue;
            }
            (Some(value), _) => value,
            (None, Some(value)) if inside && !value.is_empty() => value,
            _ => {
                volume = volume.filter(|_| inside);
                if names_image_within(bare) {
                    found.warnings.push(format!(
                        "{}: an image within a line of a template is not looked at: name it by --image",
                        at()
                    ));
                }
                continue;
            }
        };
        match resolve(value, known) {
            Ok(images) => {
                found.images.extend(images.into_iter().map(|reference| Named { reference, by: at() }));
            }
            Err(why) => found.warnings.push(format!(
                "{}: the image {} cannot be resolved ({why}): name it by --image",
                at(),
                printable(value)
            )),
        }
    }
    found
}

/// `{name: a, image: b}` on one line.
fn names_image_within(line: &str) -> bool {
    let inside = line.find('{').map(|start| &line[start..]);
    inside.is_some_and(|inside| inside.contains("image: ") || inside.contains("\"image\":"))
}

/// The value of a line `name: value`, without quotes and what follows it.
fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let rest = line.strip_prefix('"').unwrap_or(line).strip_prefix(name)?;
    let value = rest.strip_prefix('"').unwrap_or(rest).strip_prefix(':')?;
    if !value.is_empty() && !value.starts_with(char::is_whitespace) {
        return None;
    }
    let value = value.split(" #").next().unwrap_or_default().trim().trim_end_matches(',').trim_end();
    let quoted = |quote| value.strip_prefix(quote).and_then(|value: &str| value.strip_suffix(quote));
    Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(value))
}

/// One image, or one for each version of Kubernetes.
fn resolve(value: &str, known: &Known<'_>) -> Result<BTreeSet<Reference>, String> {
    let mut texts = BTreeSet::from([String::new()]);
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after.split_once("}}").ok_or("it does not end on its line")?;
        let values = evaluate(expression, known)?;
        texts =
            texts.iter().flat_map(|text| values.iter().map(move |v| format!("{text}{before}{v}"))).collect();
        rest = after;
    }
    let parsed = texts.iter().map(|text| format!("{text}{rest}").parse::<Reference>());
    // What a template was filled in with is not shown: it may be a login.
    let wrong = |error: NameError| {
        if is_template(value) { "what it makes is no image".to_owned() } else { error.to_string() }
    };
    parsed.collect::<Result<_, _>>().map_err(wrong)
}

/// What KubeOne offers to templates for images: `.InternalImages.Get "NAME"`, `Registry "HOST"`,
/// `.Config.Versions.Kubernetes` and `.Params.NAME`, the last one with a `default`.
fn evaluate(expression: &str, known: &Known<'_>) -> Result<BTreeSet<String>, String> {
    let expression = expression.trim_matches(|c: char| c == '-' || c.is_whitespace());
    let mut steps = expression.split('|').map(str::trim);
    let call = steps.next().unwrap_or_default();
    let mut call = call.strip_prefix('(').and_then(|call| call.strip_suffix(')')).unwrap_or(call);
    let mut default = None;
    if let Some((text, of)) = call.strip_prefix("default ").and_then(|rest| rest.rsplit_once(' ')) {
        (default, call) = (literal(text), of);
    }
    for step in steps {
        match step.strip_prefix("default ").and_then(literal) {
            Some(text) => default = Some(text),
            None if ["quote", "squote", "trim"].contains(&step) => {}
            None => return Err(format!("the template function {} is not known here", printable(step))),
        }
    }
    let argument = |name: &str| literal(call.strip_prefix(name)?);
    if let Some(resource) = argument(".InternalImages.Get") {
        let name = if resource == "PauseImage" { "sandbox" } else { resource };
        let images = known.resources.get(name);
        let images = images.ok_or_else(|| format!("the catalog has no image {}", printable(resource)))?;
        return Ok(images.iter().map(ToString::to_string).collect());
    }
    if let Some(host) = argument("Registry") {
        return Ok([host.to_owned()].into());
    }
    if call == ".Config.Versions.Kubernetes" {
        return Ok(known.kubernetes.clone());
    }
    if let Some(param) = call.strip_prefix(".Params.") {
        // An empty text is none to `default`.
        let value = known.params.get(param).map(String::as_str).filter(|value| !value.is_empty());
        return match value.or(default) {
            Some(value) if value.starts_with("env:") => Err("its value is in the environment".to_owned()),
            Some(value) => Ok([value.to_owned()].into()),
            None => Err(format!("the manifest has no parameter {}", printable(param))),
        };
    }
    Err("only .InternalImages.Get, Registry, .Params and .Config.Versions.Kubernetes are known here"
        .to_owned())
}

/// `"text"`
fn literal(text: &str) -> Option<&str> {
    let text = text.trim();
    ['"', '`'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Found {
        let image = |text: &str| text.parse::<Reference>().unwrap();
        let resources = Resources::from([
            ("CalicoCNI".to_owned(), [image("quay.io/calico/cni:v3.32.0")].into()),
            (
                "AwsCCM".to_owned(),
                [image("registry.k8s.io/ccm:v1.34.0"), image("registry.k8s.io/ccm:v1.35.0")].into(),
            ),
            ("sandbox".to_owned(), [image("registry.k8s.io/pause:3.10.2")].into()),
        ]);
        let params = [("tag", "v7"), ("secret", "env:TAG")];
        let params = params.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let kubernetes = ["1.36.3".to_owned()].into();
        images(text, "a.yaml", &Known { resources: &resources, kubernetes, params })
    }

    #[test]
    fn kubeones_expressions_resolve_through_the_catalog() {
        let text = "\
{{ if .Config.CloudProvider.External }}
      - name: a
        image: {{ .InternalImages.Get \"CalicoCNI\" }}
{{- else }}
      - image: '{{- (.InternalImages.Get \"AwsCCM\") | quote -}}' # by version
{{ end }}
        image: \"{{ Registry \"quay.io\" }}/acme/app:v1\"
        image: alpine:3
        image: acme/other:{{ .Params.tag | default \"v1\" }}
        image: acme/kubectl:v{{ .Config.Versions.Kubernetes }}
        image: acme/third:{{ default \"v2\" .Params.none }}
        image: acme/third:{{ .Params.none | default `v3` | quote }}
        imagePullPolicy: Always
      volumes:
      - image:
          pullPolicy: Always
          reference: {{ .InternalImages.Get \"PauseImage\" }}
        reference: not/taken
";
        let images: Vec<String> = found(text).images.iter().map(|i| i.reference.to_string()).collect();
        let expected = [
            "quay.io/calico/cni:v3.32.0",
            "registry.k8s.io/ccm:v1.34.0",
            "registry.k8s.io/ccm:v1.35.0",
            "quay.io/acme/app:v1",
            "docker.io/library/alpine:3",
            "docker.io/acme/other:v7",
            "docker.io/acme/kubectl:v1.36.3",
            "docker.io/acme/third:v2",
            "docker.io/acme/third:v3",
            "registry.k8s.io/pause:3.10.2",
        ];
        assert_eq!(images, expected);
        assert_eq!(found(text).images[0].by, "a.yaml, line 3");
        assert!(found(text).warnings.is_empty());
    }

    #[test]
    fn what_cannot_be_resolved_is_pointed_out_with_its_line() {
        let flow = found("a: {{ .x }}\ncontainers: [{name: a, image: b/c:1}]\n").warnings;
        assert!(flow.len() == 1 && flow[0].starts_with("a.yaml, line 2: "), "{flow:?}");
        let text = "a: {{ .Params.a }}\n  image: {{ .Params.image }}\n  image: {{ .InternalImages.Get \"Nope\" }}\n  image: {{ x\n";
        let warnings = found(text).warnings;
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(
            warnings[0].starts_with("a.yaml, line 2: the image {{ .Params.image }} cannot"),
            "{warnings:?}"
        );
        assert!(warnings[1].contains("line 3") && warnings[1].contains("Nope"), "{warnings:?}");
        let warnings = found("image: u:{{ .Params.tag }}@host/a\n").warnings;
        assert!(warnings[0].contains("is no image") && !warnings[0].contains("v7"), "{warnings:?}");
        let warnings = found("image: a:{{ .Params.secret }}\n").warnings;
        assert!(warnings[0].contains("in the environment"), "{warnings:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_fail(text in "(?s)(image: |\\{\\{|\\}\\}|\\PC){0,60}") {
            let _ = found(&text);
        }
    }
}
