//! What kubeadm needs beside the images of a version: etcd, CoreDNS and pause, of the constants of Kubernetes'
//! `cmd/kubeadm`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use mirror_images::selection::catalog::{Kubernetes, Minor, Patches};

use super::go::{self, Kind, Texts, Token, Unknown};
use super::upstream::{Checkout, File, Tag};

const CONSTANTS: &str = "cmd/kubeadm/app/constants/constants.go";
/// Where pause is up to 1.20, which had another one for Windows.
const UNIX_CONSTANTS: &str = "cmd/kubeadm/app/constants/constants_unix.go";

/// The images of one version, in the order in which the catalog has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Images {
    pub coredns: String,
    pub etcd: String,
    pub pause: String,
}

impl Images {
    fn pairs(&self) -> [(&'static str, &String); 3] {
        [("coredns", &self.coredns), ("etcd", &self.etcd), ("pause", &self.pause)]
    }
}

/// The patches of a minor as the catalog has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub latest: u64,
    /// The newest patch whose images were looked at, where that is not `latest`.
    pub verified: Option<u64>,
    /// The images of every patch up to `latest`.
    pub images: Vec<Images>,
}

impl Known {
    /// What the catalog has of `minor`.
    pub fn of(patches: &Patches, minor: Minor) -> Self {
        let images = |patch| {
            let mut found = Images::default();
            for (name, image) in patches.images(&minor.patch(patch)) {
                match name {
                    "coredns" => found.coredns = image.to_string(),
                    "etcd" => found.etcd = image.to_string(),
                    _ => found.pause = image.to_string(),
                }
            }
            found
        };
        let latest = patches.latest.0.patch;
        Self {
            latest,
            verified: patches.verified.as_ref().map(|verified| verified.0.patch),
            images: (0..=latest).map(images).collect(),
        }
    }

    /// `before` with what was `seen` at the tags. A patch without a tag keeps the images that it had, or is taken to
    /// have those of the one before it, unverified.
    pub fn renewed(before: Option<&Self>, seen: &BTreeMap<u64, Images>) -> Option<Self> {
        let newest = seen.keys().next_back().copied();
        let latest = newest.max(before.map(|before| before.latest))?;
        let is_verified = |patch: u64| {
            let known = |before: &Self| patch <= before.verified.unwrap_or(before.latest);
            seen.contains_key(&patch) || before.is_some_and(known)
        };
        let mut images: Vec<Images> = Vec::new();
        for patch in 0..=latest {
            let index = usize::try_from(patch).ok()?;
            let known = seen.get(&patch).or_else(|| before.and_then(|before| before.images.get(index)));
            let carried = images.last();
            images.push(known.or(carried)?.clone());
        }
        let unverified = (0..=latest).find(|patch| !is_verified(*patch));
        Some(Self { latest, verified: unverified.and_then(|first| first.checked_sub(1)), images })
    }

    fn print(&self, minor: Minor) -> String {
        let mut text = format!("  \"{minor}\":\n    latest: \"{minor}.{}\"\n", self.latest);
        if let Some(verified) = self.verified {
            let _ = writeln!(text, "    verified: \"{minor}.{verified}\"");
        }
        text += "    since:\n";
        for (patch, images) in self.images.iter().enumerate() {
            let before = patch.checked_sub(1).map(|before| self.images[before].pairs());
            let changed: Vec<_> = images
                .pairs()
                .into_iter()
                .enumerate()
                .filter(|(at, pair)| before.is_none_or(|before| before[*at] != *pair))
                .collect();
            if !changed.is_empty() {
                let _ = writeln!(text, "      \"{minor}.{patch}\":");
            }
            for (_, (name, image)) in changed {
                let _ = writeln!(text, "        {name}: {image}");
            }
        }
        text
    }
}

/// The document about Kubernetes, from `kubernetes:` on.
pub fn print(minors: &BTreeMap<Minor, Known>) -> String {
    let minors = minors.iter().map(|(minor, known)| known.print(*minor));
    format!("kubernetes:\n{}", minors.collect::<String>())
}

/// All minors of the catalog, and newer ones, with what the tags of `checkout` say.
pub fn read(checkout: &Checkout, before: &Kubernetes) -> Result<BTreeMap<Minor, Known>> {
    let known: BTreeMap<_, _> =
        before.minors.iter().map(|(minor, patches)| (*minor, Known::of(patches, *minor))).collect();
    let tags = checkout.releases()?;
    let first = known.keys().next().copied();
    let newest = known.keys().next_back().copied();
    ensure!(
        newest.is_none_or(|newest| tags.keys().any(|minor| *minor >= newest)),
        "the checkout of Kubernetes has no tag of {} or newer: are its tags fetched?",
        newest.map(|newest| newest.to_string()).unwrap_or_default()
    );
    let mut renewed = known.clone();
    let mut files = Files { checkout, texts: BTreeMap::new() };
    for (minor, tags) in tags.iter().filter(|(minor, _)| Some(**minor) >= first) {
        let mut seen = BTreeMap::new();
        for tag in tags {
            seen.insert(tag.version.patch, files.images(tag, *minor)?);
        }
        let patches = Known::renewed(known.get(minor), &seen);
        let patches = patches.with_context(|| format!("the checkout of Kubernetes has no tag v{minor}.0"))?;
        renewed.insert(*minor, patches);
    }
    Ok(renewed)
}

/// Texts by what git calls their content, as most patches of a minor share one: a partial clone would fetch each.
struct Files<'c> {
    checkout: &'c Checkout,
    texts: BTreeMap<String, String>,
}

impl Files<'_> {
    fn images(&mut self, tag: &Tag, minor: Minor) -> Result<Images> {
        let constants = self.file(&tag.name, CONSTANTS)?;
        images(&constants, || self.file(&tag.name, UNIX_CONSTANTS), minor)
    }

    fn file<'a>(&mut self, tag: &'a str, path: &'a str) -> Result<File<'a>> {
        let id = self.checkout.content_id(tag, path)?;
        if let Some(text) = self.texts.get(&id) {
            return Ok(File { tag, path, text: text.clone() });
        }
        let file = self.checkout.file(tag, path)?;
        self.texts.insert(id, file.text.clone());
        Ok(file)
    }
}

const PAUSE: &str = "PauseVersion";
/// The first minor whose kubeadm looks for CoreDNS below `coredns/` (`GetDNSImage`).
const NESTED_COREDNS: Minor = Minor { major: 1, minor: 21 };

/// What the constants say; `unix` are those that Windows has others of.
fn images<'f>(file: &File<'_>, unix: impl FnOnce() -> Result<File<'f>>, minor: Minor) -> Result<Images> {
    let tokens = go::tokens(&file.text).map_err(|unknown| file.unknown(&unknown))?;
    let texts = Texts::of(&tokens);
    let coredns = if minor >= NESTED_COREDNS { "coredns/coredns" } else { "coredns" };
    let etcd = etcd(&tokens, minor).map_err(|unknown| file.unknown(&unknown))?;
    let pause = if texts.has(PAUSE) {
        constant(file, &texts, PAUSE, "pause")?
    } else {
        let pause = unix().and_then(|unix| {
            let tokens = go::tokens(&unix.text).map_err(|unknown| unix.unknown(&unknown))?;
            constant(&unix, &Texts::of(&tokens), PAUSE, "pause")
        });
        pause.with_context(|| format!("{} at {} has no {PAUSE}", file.path, file.tag))?
    };
    Ok(Images {
        coredns: constant(file, &texts, "CoreDNSVersion", coredns)?,
        etcd: image(file, etcd.line, "etcd", &etcd.text)?,
        pause,
    })
}

/// The image whose tag is the constant `name`.
fn constant(file: &File<'_>, texts: &Texts<'_>, name: &str, repository: &str) -> Result<String> {
    let tag = texts.named(name).map_err(|unknown| file.unknown(&unknown))?;
    image(file, texts.line(name), repository, &tag)
}

fn image(file: &File<'_>, line: usize, repository: &str, tag: &str) -> Result<String> {
    let image = format!("registry.k8s.io/{repository}:{tag}");
    super::images::in_full(&image).map_err(|why| file.wrong(line, why))
}

/// The entry of `SupportedEtcdVersion` for a minor, or else, as kubeadm has it, the nearest one (`EtcdSupportedVersion`).
fn etcd(tokens: &[Token], minor: Minor) -> Result<&Token, Unknown> {
    let declared = go::declarations(tokens, "SupportedEtcdVersion")?;
    let table = declared.first().ok_or_else(|| Unknown::new(1, "no SupportedEtcdVersion in it"))?;
    let open = table.iter().position(|token| token.is("{")).unwrap_or_default();
    let mut tags = BTreeMap::new();
    for entry in go::items(go::within(table, open)?) {
        let unknown = || {
            let why = "SupportedEtcdVersion has an entry that is not understood";
            Unknown::new(entry[0].line, why)
        };
        match entry {
            [number, colon, tag]
                if number.kind == Kind::Number && colon.is(":") && tag.kind == Kind::Text =>
            {
                tags.insert(number.text.parse::<u64>().map_err(|_| unknown())?, tag);
            }
            _ => return Err(unknown()),
        }
    }
    let (Some(oldest), Some(newest)) = (tags.first_key_value(), tags.last_key_value()) else {
        return Err(Unknown::new(table[0].line, "SupportedEtcdVersion has no entry"));
    };
    let nearest = minor.minor.clamp(*oldest.0, *newest.0);
    tags.get(&nearest).copied().ok_or_else(|| {
        Unknown::new(table[0].line, format!("SupportedEtcdVersion has no entry for {}", minor.minor))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(etcd: &str) -> Images {
        Images { coredns: "c:1".to_owned(), etcd: format!("e:{etcd}"), pause: "p:1".to_owned() }
    }

    fn known(verified: Option<u64>, etcd: &[&str]) -> Known {
        let images: Vec<_> = etcd.iter().map(|etcd| some(etcd)).collect();
        Known { latest: images.len() as u64 - 1, verified, images }
    }

    #[test]
    fn tags_verify_what_was_carried_over_and_bring_what_is_newer() {
        let before = known(Some(1), &["1", "1", "1"]);
        let seen = BTreeMap::from([(2, some("2")), (3, some("2"))]);
        assert_eq!(Known::renewed(Some(&before), &seen), Some(known(None, &["1", "1", "2", "2"])));
    }

    #[test]
    fn a_patch_without_a_tag_keeps_what_it_had() {
        let untold = known(Some(1), &["1", "2", "2", "2"]);
        assert_eq!(Known::renewed(Some(&untold), &BTreeMap::new()), Some(untold));
        let before = known(Some(1), &["1", "2", "2"]);
        // Nobody has looked at 1.0.2 yet, though at what came after it.
        let seen = BTreeMap::from([(3, some("3"))]);
        assert_eq!(Known::renewed(Some(&before), &seen), Some(known(Some(1), &["1", "2", "2", "3"])));
    }

    #[test]
    fn a_new_minor_begins_with_its_first_patch() {
        let seen = BTreeMap::from([(0, some("1")), (1, some("2"))]);
        assert_eq!(Known::renewed(None, &seen), Some(known(None, &["1", "2"])));
        assert_eq!(Known::renewed(None, &BTreeMap::from([(1, some("2"))])), None);
    }

    #[test]
    fn only_what_a_patch_changed_is_printed() {
        let text = known(Some(1), &["1", "1", "2"]).print("1.34".parse().unwrap());
        let expected = r#"  "1.34":
    latest: "1.34.2"
    verified: "1.34.1"
    since:
      "1.34.0":
        coredns: c:1
        etcd: e:1
        pause: p:1
      "1.34.2":
        etcd: e:2
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn the_programs_own_catalog_is_in_the_layout_that_is_printed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/selection/catalog/kubernetes.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, document) = text.split_once("\n\n").unwrap();
        let catalog = mirror_images::selection::catalog::Catalog::embedded().unwrap();
        let known = catalog.kubernetes().minors.iter();
        let known = known.map(|(minor, patches)| (*minor, Known::of(patches, *minor))).collect();
        assert_eq!(super::super::comments::carry(document, &print(&known)), (document.to_owned(), vec![]));
    }

    #[test]
    fn the_constants_are_read_and_what_is_not_understood_is_told() {
        let source = r#"const (
	PauseVersion = "3.2"
	CoreDNSVersion = "1.7.0"
)
var SupportedEtcdVersion = map[uint8]string{
	19: "3.4.9-1",
	21: "3.4.13-0", // newer
}
"#;
        let file = |path, text: &str| File { tag: "v1.2.3", path, text: text.to_owned() };
        let read = |text: &str, minor: &str| {
            let unix = || Ok(file("unix.go", "const Socket = 1"));
            images(&file("constants.go", text), unix, minor.parse().unwrap())
        };
        let old = read(source, "1.19").unwrap();
        assert_eq!(
            old.pairs().map(|(_, image)| image.as_str()),
            ["registry.k8s.io/coredns:1.7.0", "registry.k8s.io/etcd:3.4.9-1", "registry.k8s.io/pause:3.2"]
        );
        assert_eq!(read(source, "1.21").unwrap().coredns, "registry.k8s.io/coredns/coredns:1.7.0");
        for (text, minor, line, why) in [
            (source.to_owned(), "1.20", 5, "no entry for 20"),
            (source.replace("19: \"3.4.9-1\",\n\t21: \"3.4.13-0\",", ""), "1.21", 5, "has no entry"),
            (source.replace("21: \"3.4.13-0\"", "21: newest"), "1.21", 7, "not understood"),
            (source.replace("3.2", "3 2"), "1.21", 2, "is no image"),
        ] {
            let error = read(&text, minor).unwrap_err().to_string();
            assert!(error.starts_with(&format!("constants.go at v1.2.3, line {line}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
        // Beyond what the table has, kubeadm takes the nearest.
        for (minor, etcd) in [("1.18", "3.4.9-1"), ("1.22", "3.4.13-0")] {
            assert_eq!(read(source, minor).unwrap().etcd, format!("registry.k8s.io/etcd:{etcd}"));
        }
    }

    #[test]
    fn pause_may_be_among_the_constants_that_windows_has_others_of() {
        let tables = "const CoreDNSVersion = \"1.7.0\"\nvar SupportedEtcdVersion = map[uint8]string{20: \"3.4.13-0\"}\n";
        let file = |path, text: &str| File { tag: "v1.20.0", path, text: text.to_owned() };
        let read = |unix: &str| {
            let unix = || Ok(file("unix.go", unix));
            images(&file("constants.go", tables), unix, "1.20".parse().unwrap())
        };
        let pause = "// +build !windows\n\nconst (\n\tPauseVersion = \"3.2\"\n)\n";
        assert_eq!(read(pause).unwrap().pause, "registry.k8s.io/pause:3.2");
        let error = format!("{:#}", read("const Socket = 1\n").unwrap_err());
        assert_eq!(
            error,
            "constants.go at v1.20.0 has no PauseVersion: unix.go at v1.20.0, line 1: no PauseVersion in it"
        );
    }
}
