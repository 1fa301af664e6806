//! KubeOne's list of images: `baseResources` and `optionalResources` of `pkg/templates/images/images.go`.

use std::collections::BTreeMap;

use anyhow::Result;
use mirror_images::image::reference::Reference;
use mirror_images::selection::catalog::Minor;
use semver::Version;

use super::constraint::Constraint;
use super::go::{self, Kind, Token, Unknown};
use super::upstream::File;

/// The images of a resource, by minor of Kubernetes; `None` where it has none.
pub type Images = BTreeMap<Minor, Option<String>>;

/// Resources and their images, in the order of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub base: Vec<(String, Images)>,
    pub optional: Vec<(String, Images)>,
}

impl Listed {
    pub fn all(&self) -> impl Iterator<Item = &(String, Images)> {
        self.base.iter().chain(&self.optional)
    }

    pub fn get(&self, name: &str) -> Option<&Images> {
        self.all().find(|(known, _)| known == name).map(|(_, images)| images)
    }
}

/// No minor of Kubernetes has come near so many patches.
pub const PATCHES_MAX: u64 = 60;

/// The images that KubeOne lists for these minors. A resource that has an image for none of them is left out.
///
/// # Errors
/// Something in the two functions is not understood; the message has its line.
pub fn read(file: &File<'_>, minors: &[Minor]) -> Result<Listed> {
    let tokens = go::tokens(&file.text).map_err(|unknown| file.unknown(&unknown))?;
    let group = |name| group(&tokens, name, minors).map_err(|unknown| file.unknown(&unknown));
    Ok(Listed { base: group("baseResources")?, optional: group("optionalResources")? })
}

const TYPE: [&str; 9] = ["map", "[", "Resource", "]", "map", "[", "string", "]", "string"];

fn group(tokens: &[Token], name: &str, minors: &[Minor]) -> Result<Vec<(String, Images)>, Unknown> {
    let declared = go::declarations(tokens, name)?;
    let [function] = declared.as_slice() else {
        return Err(Unknown::new(1, format!("{} functions {name} in it instead of one", declared.len())));
    };
    let line = function[0].line;
    let open = function.iter().position(|token| token.is("{")).unwrap_or_default();
    let body = go::within(function, open)?;
    let is_table = body.first().is_some_and(|token| token.is_name("return"))
        && body.iter().skip(1).map(|token| token.text.as_str()).take(TYPE.len()).eq(TYPE);
    let table = TYPE.len() + 1;
    if !is_table || !body.get(table).is_some_and(|token| token.is("{")) {
        return Err(Unknown::new(line, format!("{name} does more than to return a map of resources")));
    }
    let entries = go::within(body, table)?;
    if let Some(more) = body.get(table + entries.len() + 2) {
        return Err(Unknown::new(more.line, format!("{name} does more than to return a map of resources")));
    }
    let mut resources = Vec::new();
    for entry in go::items(entries) {
        let [resource, colon, open, ..] = entry else { return Err(not_an_entry(entry)) };
        if !(resource.kind == Kind::Name && colon.is(":") && open.is("{")) {
            return Err(not_an_entry(entry));
        }
        let inner = go::within(entry, 2)?;
        if inner.len() + 4 != entry.len() {
            return Err(not_an_entry(entry));
        }
        let images = images(inner, resource, minors)?;
        if images.values().any(Option::is_some) {
            resources.push((resource.text.clone(), images));
        }
    }
    Ok(resources)
}

fn not_an_entry(entry: &[Token]) -> Unknown {
    Unknown::new(
        entry[0].line,
        format!("{:?} does not begin an entry of resource, colon and map", entry[0].text),
    )
}

/// The images of one resource, from the pairs of constraint and image that it has.
fn images(pairs: &[Token], resource: &Token, minors: &[Minor]) -> Result<Images, Unknown> {
    let mut known = Vec::new();
    for pair in go::items(pairs) {
        let [key, colon, image] = pair else {
            return Err(Unknown::new(
                pair[0].line,
                format!("{} has an image that is not a text", resource.text),
            ));
        };
        if key.kind != Kind::Text || image.kind != Kind::Text || !colon.is(":") {
            return Err(Unknown::new(key.line, format!("{} has an image that is not a text", resource.text)));
        }
        let constraint = Constraint::parse(&key.text).ok_or_else(|| {
            Unknown::new(
                key.line,
                format!("{} has a constraint that is not known: {:?}", resource.text, key.text),
            )
        })?;
        let image = in_full(&image.text).map_err(|why| Unknown::new(image.line, why))?;
        known.push((key, constraint, image));
    }
    let of = |version: &Version| {
        let mut images = known.iter().filter(|(_, constraint, _)| constraint.holds(version));
        let first = images.next();
        match images.find(|(.., image)| first.is_some_and(|(.., other)| image != other)) {
            // KubeOne would take either, as the order of a map in Go is random.
            Some((key, ..)) => {
                Err(Unknown::new(key.line, format!("{} has two images for {version}", resource.text)))
            }
            None => Ok(first.map(|(.., image)| image.clone())),
        }
    };
    let mut images = Images::new();
    for minor in minors {
        let image = of(&minor.patch(0))?;
        for patch in 1..=PATCHES_MAX {
            if of(&minor.patch(patch))? != image {
                let why =
                    format!("{} differs within Kubernetes {minor}, from {minor}.{patch}", resource.text);
                return Err(Unknown::new(resource.line, why));
            }
        }
        images.insert(*minor, image);
    }
    Ok(images)
}

/// A reference as the catalog has it: with host, and `library/` where Docker Hub has it. k8s.gcr.io was frozen in 2023;
/// registry.k8s.io serves the same repositories.
pub fn in_full(image: &str) -> Result<String, String> {
    let reference: Reference = image.parse().map_err(|error| format!("{image:?} is no image: {error}"))?;
    // To the parser it is `latest`, which upstream never means.
    if !image.rsplit('/').next().is_some_and(|name| name.contains([':', '@'])) {
        return Err(format!("{image:?} has no tag"));
    }
    let full = reference.to_string();
    Ok(match full.strip_prefix("k8s.gcr.io/") {
        Some(rest) => format!("registry.k8s.io/{rest}"),
        None => full,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_lines(base: &str) -> Result<Listed> {
        let signature =
            "Resources() map[Resource]map[string]string {\nreturn map[Resource]map[string]string{";
        let text = format!("func base{signature}\n{base}\n}}\n}}\nfunc optional{signature}}}\n}}\n");
        read(
            &File { tag: "v1.2.3", path: "images.go", text },
            &["1.34".parse().unwrap(), "1.35".parse().unwrap()],
        )
    }

    fn printed(base: &str) -> Vec<String> {
        let listed = read_lines(base).unwrap();
        let image = |(minor, image): (&Minor, &Option<String>)| {
            format!("{minor} {}", image.as_deref().unwrap_or("none"))
        };
        listed.base.iter().flat_map(|(_, images)| images.iter().map(image)).collect()
    }

    #[test]
    fn every_shape_of_an_entry_is_understood() {
        let both = ["1.34 quay.io/a/b:v1", "1.35 quay.io/a/b:v1"];
        assert_eq!(printed("A: {\"*\": \"quay.io/a/b:v1\"},"), both);
        assert_eq!(printed("A: { // why\n\"*\":\n/* where */ \"quay.io/a/b:v1\",\n},\r\n"), both);
        assert_eq!(printed("A: {`*`: `quay.io/a/b:v1`}"), both);
        let differs = "A: {\n\"1.34.x\": \"quay.io/a/b:v1\",\n\">= 1.35.0\": \"quay.io/a/b:v2\",\n},";
        assert_eq!(printed(differs), ["1.34 quay.io/a/b:v1", "1.35 quay.io/a/b:v2"]);
        assert_eq!(printed("A: {\"< 1.35.0\": \"quay.io/a/b:v1\"},"), ["1.34 quay.io/a/b:v1", "1.35 none"]);
        assert_eq!(printed("A: {\"< 1.30.0\": \"quay.io/a/b:v1\"},"), Vec::<String>::new());
    }

    #[test]
    fn names_are_written_in_full() {
        for (short, full) in [
            ("alpine:3", "docker.io/library/alpine:3"),
            ("docker.io/alpine:3", "docker.io/library/alpine:3"),
            ("calico/cni:v1", "docker.io/calico/cni:v1"),
            ("k8s.gcr.io/a/b:v1", "registry.k8s.io/a/b:v1"),
        ] {
            assert_eq!(in_full(short).unwrap(), full);
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_tag_path_and_line() {
        let table = [
            ("A: {\"*\": \"quay.io/a/b:v1\"},\nB: {\"~1.34\": \"quay.io/a/b:v1\"},", 4, "\"~1.34\""),
            (
                "A: {\"*\": \"quay.io/a/b:v1\"},\nB: one(\"quay.io/a/b:v1\"),",
                4,
                "\"B\" does not begin an entry",
            ),
            ("A: {\n\"*\": image,\n},", 4, "A has an image that is not a text"),
            ("A: {\n\"*\": \"quay.io/\" + name,\n},", 4, "A has an image that is not a text"),
            ("A: {\n\"*\": \"quay.io/a/b\",\n},", 4, "has no tag"),
            ("A: {\n\"*\": \"quay.io/A B:v1\",\n},", 4, "is no image"),
            (
                "A: {\n\"*\": \"quay.io/a/b:v1\",\n\"1.34.x\": \"quay.io/a/b:v2\",\n},",
                5,
                "two images for 1.34.0",
            ),
            ("A: {\n\"< 1.34.3\": \"quay.io/a/b:v1\",\n},", 3, "differs within Kubernetes 1.34, from 1.34.3"),
            ("A.B: {\"*\": \"quay.io/a/b:v1\"},", 3, "\"A\" does not begin an entry"),
        ];
        for (base, line, why) in table {
            let error = read_lines(base).unwrap_err().to_string();
            assert!(error.starts_with(&format!("images.go at v1.2.3, line {line}: ")), "{base}: {error}");
            assert!(error.contains(why), "{base}: {error}");
        }
    }

    #[test]
    fn a_function_that_does_more_is_not_taken_for_a_table() {
        for body in ["all := x()\nreturn all", "return map[Resource]map[string]string{}\nprint()"] {
            let text =
                format!("func baseResources() {{\n{body}\n}}\nfunc optionalResources() {{\n{body}\n}}\n");
            let error = read(&File { tag: "v1.2.3", path: "images.go", text }, &[]).unwrap_err().to_string();
            assert!(error.contains("does more than to return"), "{error}");
        }
        let text = "package images".to_owned();
        let error = read(&File { tag: "v1.2.3", path: "images.go", text }, &[]).unwrap_err().to_string();
        assert!(error.contains("0 functions baseResources"), "{error}");
    }
}
