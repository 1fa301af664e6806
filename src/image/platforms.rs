//! Which platforms of an image to take.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};

use crate::image::manifest::{Content, Descriptor, Manifest, StandIn};
use crate::image::reference::Digest;

/// A platform as a user names it: `os/arch[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    system: String,
    variant: Option<String>,
}

/// The platforms that a user wants; none named means all.
#[derive(Debug, Clone, Default)]
pub struct Platforms {
    wanted: Vec<Platform>,
    /// Whether an image whose digest is pinned may get another one.
    repin: bool,
    /// Whether the target is asked for each of them even where it has the index that names them.
    closely: bool,
    /// Whether what is not wanted of an image lacks its layers alone, and no manifest and config.
    layers_alone: bool,
    /// The only manifests that are wanted, whatever platforms they are of.
    manifests: Option<HashSet<Digest>>,
    seen: Arc<Seen>,
}

/// Which of the wanted platforms the indexes of a run have named: one that none names is likely mistyped.
#[derive(Debug, Default)]
struct Seen {
    /// Whether any index was looked at that says of a platform.
    index: AtomicBool,
    /// For each wanted platform.
    wanted: Vec<AtomicBool>,
}

impl FromStr for Platform {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        ensure!(
            (2..=3).contains(&parts.len()) && parts.iter().all(word),
            "{text:?} is neither all nor a platform of the form os/arch[/variant], such as linux/amd64 or linux/arm/v7"
        );
        Ok(Self { system: parts[..2].join("/"), variant: parts.get(2).map(|&variant| variant.to_owned()) })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = self.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        write!(f, "{}{variant}", self.system)
    }
}

impl Platform {
    /// Whether `there`, as an index has it, is this one. A variant that nobody names matters to nobody; v8 is the
    /// one that arm64 has without saying so.
    pub fn is(&self, there: &str) -> bool {
        let Some(rest) = there.strip_prefix(&self.system) else { return false };
        let silent = self.system == "linux/arm64" && self.variant.as_deref() == Some("v8");
        match (rest.strip_prefix('/'), &self.variant) {
            (Some(variant), Some(wanted)) => variant == wanted,
            (Some(_), None) => true,
            (None, None) => rest.is_empty(),
            (None, Some(_)) => rest.is_empty() && silent,
        }
    }
}

impl Platforms {
    pub fn new(wanted: Vec<Platform>, repin: bool) -> Self {
        let seen =
            Seen { index: AtomicBool::new(false), wanted: wanted.iter().map(|_| false.into()).collect() };
        let seen = Arc::new(seen);
        Self { wanted, repin, closely: true, layers_alone: false, manifests: None, seen }
    }

    /// The same where only layers of other platforms are left out: some readers of files want all that an index names,
    /// though not all that its manifests name.
    #[must_use]
    pub fn with_all_manifests(self) -> Self {
        Self { layers_alone: true, ..self }
    }

    /// The same where nothing is wanted but these manifests; what none of them is said to be is wanted too.
    #[must_use]
    pub(crate) fn of_manifests(&self, manifests: HashSet<Digest>) -> Self {
        Self { manifests: Some(manifests), ..self.clone() }
    }

    /// All of them, and each looked for.
    pub fn every() -> Self {
        Self::new(Vec::new(), false)
    }

    /// Whether an index at the target is not taken for whole. Usually it may be: most registries take none that names
    /// what is not there, and to look costs a request for each platform of each image.
    pub fn are_looked_for(&self) -> bool {
        self.closely
    }

    /// The one that a reader gets which takes a single one: the first that is wanted, else that of most servers.
    pub fn first(&self) -> Platform {
        let usual = || Platform { system: "linux/amd64".to_owned(), variant: None };
        self.wanted.first().cloned().unwrap_or_else(usual)
    }

    pub(crate) fn is_all(&self) -> bool {
        self.wanted.is_empty() && self.manifests.is_none()
    }

    /// The entries of an index to take: those of wanted platforms, the attestations about them, and what says of no
    /// platform at all.
    pub fn keep<'d>(&self, entries: &'d [Descriptor]) -> Vec<&'d Descriptor> {
        let is_wanted = |entry: &&Descriptor| match (&entry.platform, &entry.attests) {
            _ if self.is_all() => true,
            (_, Some(_)) => false,
            (Some(there), None) => match &self.manifests {
                Some(manifests) => manifests.contains(&entry.digest),
                None => self.wants(there),
            },
            (None, None) => true,
        };
        let images: HashSet<&str> =
            entries.iter().filter(is_wanted).map(|entry| entry.digest.as_str()).collect();
        let about = |entry: &Descriptor| entry.attests.as_deref().is_some_and(|about| images.contains(about));
        entries.iter().filter(|entry| is_wanted(entry) || about(entry)).collect()
    }

    /// The entries of an index whose manifests are to be there.
    pub fn children<'d>(&self, entries: &'d [Descriptor]) -> Vec<&'d Descriptor> {
        let kept = self.keep(entries);
        if self.layers_alone { entries.iter().collect() } else { kept }
    }

    /// Of the manifests of an image, the root last, those whose layers are not wanted.
    pub fn without_layers<'m>(&self, manifests: &[&'m Manifest]) -> HashSet<&'m Digest> {
        let Some(root) = manifests.last().filter(|_| self.layers_alone && !self.is_all()) else {
            return HashSet::new();
        };
        let mut wanted: HashSet<&Digest> = HashSet::from([&root.digest]);
        // Children come before those that name them.
        for manifest in
            manifests.iter().rev().filter(|manifest| matches!(manifest.content, Content::Index(_)))
        {
            if let (Content::Index(entries), true) = (&manifest.content, wanted.contains(&manifest.digest)) {
                wanted.extend(self.keep(entries).into_iter().map(|entry| &entry.digest));
            }
        }
        manifests.iter().map(|manifest| &manifest.digest).filter(|digest| !wanted.contains(digest)).collect()
    }

    /// Whether `there`, as an index has it, is among them. All that it is are marked as seen.
    fn wants(&self, there: &str) -> bool {
        self.seen.index.store(true, Ordering::Relaxed);
        let mut wants = false;
        for (platform, seen) in self.wanted.iter().zip(&self.seen.wanted) {
            if platform.is(there) {
                seen.store(true, Ordering::Relaxed);
                wants = true;
            }
        }
        wants
    }

    /// Whether a platform is among them, by a record of it: it counts for no index that was looked at.
    pub fn includes(&self, there: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|platform| platform.is(there))
    }

    /// The named platforms that none of the indexes has which were looked at; none while there was no such index.
    pub fn not_found(&self) -> Vec<String> {
        if !self.seen.index.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let unseen =
            self.wanted.iter().zip(&self.seen.wanted).filter(|(_, seen)| !seen.load(Ordering::Relaxed));
        unseen.map(|(platform, _)| platform.to_string()).collect()
    }

    /// Whether `root` is for other platforms only.
    pub fn has_none(&self, root: &Manifest) -> bool {
        match &root.content {
            Content::Index(entries) => !entries.is_empty() && self.keep(entries).is_empty(),
            Content::Image(_) => false,
        }
    }

    /// `root`, with what may be put in its place where a registry wants all that an index names to be there.
    /// A pinned digest would change by that.
    pub fn prepare(&self, root: Manifest, pinned: bool) -> Manifest {
        let Some(kept) = self.cut(&root) else { return root };
        let stand_in = match (pinned && !self.repin, root.trimmed(&kept)) {
            (false, Some(trimmed)) => StandIn::Index(Arc::new(trimmed)),
            _ => StandIn::Forbidden,
        };
        Manifest { stand_in, ..root }
    }

    /// The same for what an index names: without its own platforms it would have another digest than the one by which
    /// it is named.
    pub fn prepare_inner(&self, inner: Arc<Manifest>) -> Arc<Manifest> {
        match self.cut(&inner) {
            Some(_) => Arc::new(Manifest { stand_in: StandIn::Nested, ..Manifest::clone(&inner) }),
            None => inner,
        }
    }

    /// What is wanted of an index, unless that is all of it.
    fn cut<'m>(&self, manifest: &'m Manifest) -> Option<HashSet<&'m Digest>> {
        let Content::Index(entries) = &manifest.content else { return None };
        if self.layers_alone {
            return None;
        }
        let kept: HashSet<&Digest> = self.keep(entries).into_iter().map(|entry| &entry.digest).collect();
        (!entries.iter().all(|entry| kept.contains(&entry.digest))).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Algorithm;

    fn platforms(names: &[&str]) -> Platforms {
        Platforms::new(names.iter().map(|name| name.parse().unwrap()).collect(), false)
    }

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn index() -> Manifest {
        let entry = |letter: char, os: &str, architecture: &str, more: serde_json::Value| {
            let mut entry = serde_json::json!({
                "mediaType": crate::image::manifest::OCI_MANIFEST, "digest": digest(letter), "size": 7,
                "platform": {"os": os, "architecture": architecture},
            });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        let about =
            |letter| serde_json::json!({"annotations": {"vnd.docker.reference.digest": digest(letter)}});
        let none = serde_json::json!({});
        let json = serde_json::json!({
            "schemaVersion": 2, "mediaType": crate::image::manifest::OCI_INDEX, "annotations": {"kept": "yes"},
            "manifests": [
                entry('a', "linux", "amd64", none.clone()),
                entry('b', "linux", "arm64", none.clone()),
                entry('c', "windows", "amd64", none),
                entry('d', "unknown", "unknown", about('a')),
                entry('e', "unknown", "unknown", about('b')),
            ],
        });
        Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap()
    }

    fn kept(manifest: &Manifest, names: &[&str]) -> String {
        let Content::Index(entries) = &manifest.content else { panic!() };
        platforms(names)
            .keep(entries)
            .iter()
            .map(|entry| entry.digest.as_str().chars().last().unwrap())
            .collect()
    }

    #[test]
    fn attestations_travel_with_the_image_that_they_are_about() {
        let index = index();
        assert_eq!(kept(&index, &[]), "abcde");
        assert_eq!(kept(&index, &["linux/amd64"]), "ad");
        assert_eq!(kept(&index, &["linux/amd64", "linux/arm64/v8"]), "abde");
        assert_eq!(kept(&index, &["linux/s390x"]), "");
        assert!(
            platforms(&["linux/s390x"]).has_none(&index) && !platforms(&["windows/amd64"]).has_none(&index)
        );
    }

    #[test]
    fn where_layers_alone_are_left_out_no_manifest_is() {
        let index = index();
        let Content::Index(entries) = &index.content else { panic!() };
        let child = |letter: char| {
            let json = serde_json::json!({ "schemaVersion": 2, "config": {"digest": digest(letter), "size": 1}, "layers": [] });
            let manifest = Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap();
            Manifest { digest: digest(letter).parse().unwrap(), ..manifest }
        };
        let children = ['a', 'b', 'c', 'd', 'e'].map(child);
        let manifests: Vec<&Manifest> = children.iter().chain([&index]).collect();
        let bare = |platforms: &Platforms| {
            let mut bare: Vec<char> = platforms
                .without_layers(&manifests)
                .into_iter()
                .map(|digest| digest.as_str().chars().last().unwrap())
                .collect();
            bare.sort_unstable();
            bare.into_iter().collect::<String>()
        };
        let one = platforms(&["linux/amd64"]);
        assert_eq!((one.children(entries).len(), bare(&one)), (2, String::new()));
        let one = one.with_all_manifests();
        assert_eq!((one.children(entries).len(), bare(&one)), (5, "bce".to_owned()));
        assert_eq!(one.prepare(index.clone(), false).stand_in, StandIn::None);
        assert_eq!(bare(&Platforms::every().with_all_manifests()), "");
    }

    #[test]
    fn an_index_of_many_platforms_is_cut_in_proportion_to_its_entries() {
        let digest = |n: usize| format!("sha256:{n:064x}");
        let whole = |number: usize| {
            let entries: Vec<serde_json::Value> = (0..number)
                .map(|n| match n % 2 {
                    0 => serde_json::json!({
                        "mediaType": crate::image::manifest::OCI_MANIFEST, "digest": digest(n), "size": 7,
                        "platform": {"os": "linux", "architecture": if n % 4 == 0 { "amd64" } else { "arm64" }},
                    }),
                    _ => serde_json::json!({
                        "mediaType": crate::image::manifest::OCI_MANIFEST, "digest": digest(n), "size": 7,
                        "annotations": {"vnd.docker.reference.digest": digest(n - 1)},
                    }),
                })
                .collect();
            let json = serde_json::json!({"schemaVersion": 2, "manifests": entries});
            Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap()
        };
        let best = |number: usize| {
            let whole = whole(number);
            let took = (0..3).map(|_| {
                let began = std::time::Instant::now();
                let prepared = platforms(&["linux/amd64"]).prepare(whole.clone(), false);
                let StandIn::Index(trimmed) = &prepared.stand_in else { panic!() };
                let Content::Index(kept) = &trimmed.content else { panic!() };
                assert_eq!(kept.len(), number / 2);
                began.elapsed()
            });
            took.min().unwrap()
        };
        let (some, many) = (best(2_500), best(20_000));
        assert!(many < 24 * some, "2,500 entries take {some:?}, 20,000 take {many:?}");
    }

    #[test]
    fn variants_matter_where_they_are_named() {
        let is = |name: &str, there| name.parse::<Platform>().unwrap().is(there);
        assert!(is("linux/arm", "linux/arm/v7") && is("linux/arm/v7", "linux/arm/v7"));
        assert!(!is("linux/arm/v6", "linux/arm/v7") && !is("linux/arm/v7", "linux/arm"));
        assert!(!is("linux/arm", "linux/arm64") && is("linux/arm64", "linux/arm64/v8"));
        for wrong in ["linux", "linux/", "linux/amd64/v1/x", "Linux/amd64", ""] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_trimmed_index_has_all_else_of_the_whole_one() {
        let prepared = platforms(&["linux/arm64"]).prepare(index(), false);
        let StandIn::Index(trimmed) = &prepared.stand_in else { panic!() };
        assert_eq!(prepared.digest, index().digest);
        assert_ne!(trimmed.digest, prepared.digest);
        assert_eq!(kept(trimmed, &[]), "be");
        assert!(String::from_utf8_lossy(&trimmed.bytes).contains(r#""kept":"yes""#));
        assert_eq!(trimmed.media_type, prepared.media_type);
        assert_eq!(platforms(&["linux/arm64"]).prepare(index(), true).stand_in, StandIn::Forbidden);
        assert_eq!(platforms(&[]).prepare(index(), true).stand_in, StandIn::None);
    }
}
