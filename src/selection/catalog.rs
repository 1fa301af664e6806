//! Which images a KubeOne cluster needs, known without a network.
//!
//! A catalog is a stream of YAML documents: one about Kubernetes, one for each KubeOne release. The program carries
//! one, from the files beside this module; each file explains its schema at its head. A catalog of one's own is
//! read by the same code.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use thiserror::Error;

use self::schema::Broken;
use crate::image::reference::{Algorithm, Digest};
use crate::util::{input, yaml};

mod day;
mod deployment;
mod gone;
mod json_schema;
mod minor;
mod patches;
mod pins;
mod references;
mod rules;
mod schema;
mod select;

pub use day::Day;
pub use deployment::Deployment;
pub use gone::Gone;
pub use json_schema::json_schema;
pub use minor::{Minor, ranges};
pub use patches::{Earlier, PatchRelease};
pub use pins::{Change, Pin, Pins, PinsError};
pub use references::References;
pub use rules::{AddonFields, Features, Rules};
pub use schema::{
    Changes, EtcdImage, Full, Image, Kubernetes, Patches, Release, Resource, Resources, Unlisted,
};
pub use select::{Group, Only, Query, Reason, SelectError, SelectedImage, Selection, UnknownGroup, minor_of};

macro_rules! embed {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("catalog/", $file)))),*]
    };
}

/// The files of the embedded catalog, oldest release first. A new release is a new file and a line here.
const EMBEDDED: &[(&str, &str)] = embed![
    "kubernetes.yaml",
    "kubeone-1.3.yaml",
    "kubeone-1.4.yaml",
    "kubeone-1.5.yaml",
    "kubeone-1.6.yaml",
    "kubeone-1.7.yaml",
    "kubeone-1.8.yaml",
    "kubeone-1.9.yaml",
    "kubeone-1.10.yaml",
    "kubeone-1.11.yaml",
    "kubeone-1.12.yaml",
    "kubeone-1.13.yaml",
    "kubeone-1.14.yaml",
];

/// Largest catalog that is read, in bytes; the embedded one has 0.2 MiB.
const FILE_MAX: u64 = 16 << 20;

/// Why a text is not a catalog. Names the file, and where in it if the YAML is at fault.
#[derive(Debug, Error)]
pub enum CatalogError {
    #[error("catalog {name}: cannot read it: {error}")]
    File { name: String, error: std::io::Error },
    #[error("catalog {name}: {error}")]
    Yaml { name: String, error: yaml::Error },
    #[error("catalog {name}: {why} at line {line}, column {column}")]
    Rule { name: String, line: usize, column: usize, why: String },
    #[error(
        "catalog {name}: there must be one document with `kubernetes` and no `kubeone`, not {count}, at line {line}, \
         column 1"
    )]
    Kubernetes { name: String, count: usize, line: usize },
    #[error(
        "catalog {name}: there is no KubeOne release in it: a document with `kubeone` is missing at line {line}, column 1"
    )]
    Empty { name: String, line: usize },
}

/// The images of some KubeOne releases and of the versions of Kubernetes that they support.
#[derive(Debug)]
pub struct Catalog {
    kubernetes: Kubernetes,
    releases: BTreeMap<Minor, Entry>,
    /// Of its text; none for the embedded one, whose text is at hand.
    digest: Option<Digest>,
}

/// Which catalog it was, and how new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    /// The newest patch release of KubeOne in it, such as `v1.14.2`.
    pub kubeone: String,
    /// Of its text.
    pub digest: Digest,
}

/// A KubeOne release of which only the head is known before it is needed: to parse all of them would be
/// most of the program's start-up time.
#[derive(Debug)]
struct Entry {
    kubernetes: Vec<Minor>,
    document: Document,
    release: OnceLock<Release>,
}

impl Catalog {
    /// The catalog that the program carries.
    pub fn embedded() -> Result<Self, CatalogError> {
        let documents = EMBEDDED.iter().flat_map(|(file, text)| documents(file, text));
        let documents = documents.map(|(name, line, text)| Document {
            is_release: names_release(text),
            name,
            line,
            text: text.into(),
        });
        Self::of("embedded", documents.collect(), 1)
    }

    /// The files of [`Catalog::embedded`] as one stream, which [`Catalog::from_yaml`] reads back.
    pub fn embedded_yaml() -> String {
        EMBEDDED.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("---\n")
    }

    /// A catalog of one's own.
    ///
    /// # Errors
    /// The file cannot be read, or is no catalog; the message says where.
    pub fn read(path: &Path) -> Result<Self, CatalogError> {
        let name = path.display().to_string();
        let text = input::read(path, FILE_MAX);
        let text = text.map_err(|error| CatalogError::File { name: name.clone(), error })?;
        Self::from_yaml(&text, &name)
    }

    /// A catalog from a stream of documents; `name` is what errors call it. All of it is checked at once, for
    /// no tests have seen it before.
    pub fn from_yaml(text: &str, name: &str) -> Result<Self, CatalogError> {
        let documents = documents(name, text).map(|(name, line, text)| Document {
            is_release: names_release(text) || in_flow_style(text),
            name,
            line,
            text: text.to_owned().into(),
        });
        let mut catalog = Self::of(name, documents.collect(), text.lines().count().max(1))?;
        catalog.digest = Some(Digest::of(Algorithm::Sha256, text.as_bytes()));
        for entry in catalog.releases.values() {
            entry.release()?;
            if let Some(minor) = entry.kubernetes.iter().find(|m| !catalog.kubernetes.minors.contains_key(m))
            {
                let why = format!("Kubernetes {minor} is not in the `kubernetes` document");
                return Err(entry.document.broken(Broken::at([&"kubernetes"], why)));
            }
        }
        Ok(catalog)
    }

    /// A catalog of `documents`, the last of which ends at the line `end`.
    fn of(name: &str, documents: Vec<Document>, end: usize) -> Result<Self, CatalogError> {
        let (releases, kubernetes): (Vec<_>, Vec<_>) =
            documents.into_iter().partition(|document| document.is_release);
        // What is wrong in the documents that there are comes before what is missing.
        let mistake = || -> Result<(), CatalogError> {
            kubernetes.iter().try_for_each(|document| document.parse_checked(Kubernetes::check).map(drop))?;
            releases.iter().try_for_each(|document| document.parse_checked(Release::check).map(drop))
        };
        let [of_kubernetes] = kubernetes.as_slice() else {
            mistake()?;
            let line = kubernetes.get(1).map_or(end, |second| second.position(&[]).0);
            return Err(CatalogError::Kubernetes { name: name.to_owned(), count: kubernetes.len(), line });
        };
        if releases.is_empty() {
            mistake()?;
            return Err(CatalogError::Empty { name: name.to_owned(), line: end });
        }
        let mut entries = BTreeMap::new();
        for document in releases {
            let (kubeone, entry) = Entry::new(document)?;
            if let Some(twice) = entries.insert(kubeone, entry) {
                let why = format!("KubeOne {kubeone} has another document as well");
                return Err(twice.document.broken(Broken::at([&"kubeone"], why)));
            }
        }
        let kubernetes = of_kubernetes.parse_checked(Kubernetes::check)?;
        Ok(Self { kubernetes, releases: entries, digest: None })
    }

    /// Which one it is.
    pub fn edition(&self) -> Result<Edition, CatalogError> {
        let newest = self.releases.values().next_back().map(Entry::release).transpose()?;
        let embedded = || Digest::of(Algorithm::Sha256, Self::embedded_yaml().as_bytes());
        Ok(Edition {
            kubeone: newest.map_or(String::new(), |release| format!("v{}", release.patch.0)),
            digest: self.digest.clone().unwrap_or_else(embedded),
        })
    }

    /// The images of kubeadm, by minor.
    pub fn kubernetes(&self) -> &Kubernetes {
        &self.kubernetes
    }

    /// The KubeOne releases it knows, ascending, with the minors of Kubernetes that each supports.
    pub fn releases(&self) -> impl DoubleEndedIterator<Item = (Minor, &[Minor])> {
        self.releases.iter().map(|(kubeone, entry)| (*kubeone, entry.kubernetes.as_slice()))
    }

    /// What `release` does with a manifest.
    pub fn rules<'c>(&'c self, release: &'c Release) -> &'c Rules {
        /// Of the newest release that the program carries.
        static NEWEST: OnceLock<Rules> = OnceLock::new();
        release.rules.as_ref().unwrap_or_else(|| {
            NEWEST.get_or_init(|| {
                let embedded = Self::embedded().ok();
                let newest = embedded.as_ref().and_then(|catalog| catalog.releases.values().next_back());
                newest.and_then(|entry| entry.release().ok()?.rules.clone()).unwrap_or_default()
            })
        })
    }

    /// The providers for which some release deploys an addon that has images.
    pub fn providers(&self) -> Result<BTreeSet<&str>, CatalogError> {
        let known = self.addons()?;
        let mut names = BTreeSet::new();
        for entry in self.releases.values() {
            let providers = self.rules(entry.release()?).providers.iter();
            let with_images = providers
                .filter(|(_, provider)| provider.addons().any(|addon| known.contains(addon.as_str())));
            names.extend(with_images.map(|(name, _)| name.as_str()));
        }
        Ok(names)
    }

    /// The names of all addons, of any release.
    pub fn addons(&self) -> Result<BTreeSet<&str>, CatalogError> {
        let mut names = BTreeSet::new();
        for entry in self.releases.values() {
            names.extend(entry.release()?.addons());
        }
        Ok(names)
    }

    /// One KubeOne release, parsed when first asked for.
    pub fn release(&self, kubeone: Minor) -> Result<Option<&Release>, CatalogError> {
        self.releases.get(&kubeone).map(Entry::release).transpose()
    }
}

impl Entry {
    fn new(document: Document) -> Result<(Minor, Self), CatalogError> {
        /// All that is needed to choose among releases; unknown fields are for the full parse to judge.
        #[derive(serde::Deserialize)]
        struct Head {
            kubeone: Minor,
            kubernetes: Vec<Minor>,
        }
        let release = OnceLock::new();
        let (kubeone, kubernetes) = match document.parse::<Head>(document.head()) {
            Ok(head) => (head.kubeone, head.kubernetes),
            // In another order than ours, or wrong: the whole document tells.
            Err(_) => {
                let whole = document.parse_checked(Release::check)?;
                (whole.kubeone, release.get_or_init(|| whole).kubernetes.clone())
            }
        };
        Ok((kubeone, Self { kubernetes, document, release }))
    }

    fn release(&self) -> Result<&Release, CatalogError> {
        match self.release.get() {
            Some(release) => Ok(release),
            None => {
                let parsed = self.document.parse_checked(Release::check)?;
                Ok(self.release.get_or_init(|| parsed))
            }
        }
    }
}

/// One document of a stream: the file it is from and the line it starts at there, counted from zero.
#[derive(Debug)]
struct Document {
    name: String,
    line: usize,
    text: Cow<'static, str>,
    /// It is about a KubeOne release, and not about Kubernetes.
    is_release: bool,
}

/// Whether a document is that of a release, as it is usually written.
fn names_release(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("kubeone:"))
}

/// The same for what is written as JSON is, or with quoted keys.
fn in_flow_style(text: &str) -> bool {
    let documents = yaml::documents(text).unwrap_or_default();
    documents.first().is_some_and(|document| document.get("kubeone").is_some())
}

impl Document {
    /// What stands before the rules and the groups.
    fn head(&self) -> &str {
        let groups =
            ["\nrules:", "\nbase:", "\noptional:"].iter().filter_map(|group| self.text.find(group)).min();
        &self.text[..groups.map_or(self.text.len(), |newline| newline + 1)]
    }

    fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, CatalogError> {
        // Empty lines in front give errors the line of the file instead of the document's.
        let text: Cow<'_, str> = match self.line {
            0 => text.into(),
            line => ("\n".repeat(line) + text).into(),
        };
        yaml::one(&text).map_err(|error| CatalogError::Yaml { name: self.name.clone(), error })
    }

    fn parse_checked<T: DeserializeOwned>(
        &self,
        check: fn(&T) -> Result<(), Broken>,
    ) -> Result<T, CatalogError> {
        let parsed = self.parse(&self.text)?;
        check(&parsed).map_err(|broken| self.broken(broken))?;
        Ok(parsed)
    }

    fn broken(&self, broken: Broken) -> CatalogError {
        let (line, column) = self.position(&broken.path);
        CatalogError::Rule { name: self.name.clone(), line, column, why: broken.why }
    }

    /// The line and the column of the key that `path` leads to, each counted from one: of the last one that has a line of
    /// its own, or else where the document begins.
    fn position(&self, path: &[String]) -> (usize, usize) {
        let lines = || self.text.lines().enumerate();
        let is_content = |line: &str| !line.is_empty() && !line.starts_with(['#', '-', '%']);
        let begins = lines().find(|(_, line)| is_content(line.trim())).map_or(0, |(number, _)| number);
        let (mut place, mut from) = ((begins, 0), begins);
        for key in path {
            let found = lines().skip(from).find_map(|(number, line)| {
                let indented = line.trim_start();
                let (written, _) = indented.split_once(':')?;
                let is_key = written.trim_end().trim_matches(['"', '\'']) == key;
                is_key.then(|| (number, line.chars().count() - indented.chars().count()))
            });
            let Some(found) = found else { break };
            (place, from) = (found, found.0 + 1);
        }
        (self.line + place.0 + 1, place.1 + 1)
    }
}

/// Cuts a stream at its `---` lines into (name, line, text), leaving out what is empty but for comments.
fn documents<'a>(name: &str, text: &'a str) -> impl Iterator<Item = (String, usize, &'a str)> {
    let is_marker = |line: &str| {
        line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut cuts = vec![(0, 0)];
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && offset > 0 {
            cuts.push((number, offset));
        }
        offset += line.len();
    }
    let ends: Vec<_> = cuts.iter().skip(1).map(|&(_, start)| start).chain([text.len()]).collect();
    let name = name.to_owned();
    cuts.into_iter()
        .zip(ends)
        .map(move |((line, start), end)| (name.clone(), line, &text[start..end]))
        .filter(move |(_, _, text)| {
            text.lines().any(|l| !l.trim().is_empty() && !l.starts_with('#') && l.trim() != "---")
        })
}

#[cfg(test)]
mod tests;
