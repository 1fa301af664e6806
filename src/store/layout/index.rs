//! `index.json` of an image layout: which names there are, and of which manifests (image-spec, "index.json file").

mod beside;

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::image::manifest::{Manifest, OCI_INDEX};
use crate::image::reference::{Digest, Host, Location, Reference, TagOrDigest};
use crate::util::text::quoted;

/// Largest document of a layout that is read, in bytes: containerd takes no larger ones.
pub(super) const DOCUMENT_MAX: u64 = 20 << 20;
/// Most entries.
const ENTRIES_MAX: usize = 100_000;

/// The whole name, or what of it whoever made the layout has kept.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, as containerd writes it.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// What something without a name is about, as containerd writes it.
const SUBJECT: &str = "io.containerd.manifest.subject";

/// Why an index cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IndexError {
    #[error("it is no JSON: {0}")]
    NotJson(String),
    #[error("it has no list of manifests")]
    NoManifests,
    #[error("it has more than {ENTRIES_MAX} entries")]
    TooMany,
    #[error("its entry number {0} has no digest and size that can be")]
    Entry(usize),
    #[error("its entry {0} is named by a digest that it does not have")]
    Digest(String),
    #[error("two entries have the name {0}, and different digests")]
    Twice(String),
}

/// An entry: the manifest or index of an image, under a name or none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub media_type: Option<String>,
    /// The whole name, with its host.
    pub name: Option<String>,
    /// What it has for a name, where that is no whole one.
    pub short_name: Option<String>,
    /// What it is about.
    pub subject: Option<Digest>,
    /// All that stands in it, whoever wrote it.
    descriptor: Map<String, Value>,
}

/// All entries, each name once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    /// By name, where the entry stands.
    names: HashMap<String, usize>,
    /// What else stands in the document.
    rest: Map<String, Value>,
}

impl Index {
    /// # Errors
    /// It is no index whose entries can be told apart.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let document: Value =
            serde_json::from_slice(bytes).map_err(|error| IndexError::NotJson(error.to_string()))?;
        let Value::Object(mut rest) = document else { return Err(IndexError::NoManifests) };
        let listed = match rest.remove("manifests") {
            Some(Value::Array(listed)) => listed,
            // Go writes an empty list so.
            Some(Value::Null) => Vec::new(),
            _ => return Err(IndexError::NoManifests),
        };
        if listed.len() > ENTRIES_MAX {
            return Err(IndexError::TooMany);
        }
        let entries = listed.into_iter().enumerate();
        let mut entries = entries
            .map(|(number, descriptor)| Entry::read(descriptor).ok_or(IndexError::Entry(number + 1)))
            .collect::<Result<Vec<_>, _>>()?;
        beside::rename(&mut entries);
        let mut index = Self { rest, ..Self::default() };
        for entry in entries {
            let named = entry.name.as_ref().and_then(|name| name.split_once('@'));
            if named.is_some_and(|(_, digest)| digest != entry.digest.as_str()) {
                return Err(IndexError::Digest(quoted(entry.name.as_deref().unwrap_or_default())));
            }
            if let Some(name) = &entry.name {
                match index.find(name) {
                    Some(known) if known.digest == entry.digest => continue,
                    Some(_) => return Err(IndexError::Twice(quoted(name))),
                    None => index.names.insert(name.clone(), index.entries.len()),
                };
            }
            index.entries.push(entry);
        }
        Ok(index)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a whole name.
    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.names.get(name).map(|at| &self.entries[*at])
    }

    /// Enters an image under its name. What is about another one is found by that, and needs no name by its digest.
    pub(crate) fn enter_image(&mut self, location: &Location, subject: Option<&Digest>, manifest: &Manifest) {
        match (subject, &location.name) {
            (Some(subject), TagOrDigest::Digest(_)) => self.add_referrer(subject, manifest),
            _ => self.set(location, manifest),
        }
    }

    /// Gives `location` to `manifest`, whatever had it before.
    pub(crate) fn set(&mut self, location: &Location, manifest: &Manifest) {
        self.enter(Entry::named(location, manifest));
    }

    /// Enters what is about another image, without a name.
    pub(crate) fn add_referrer(&mut self, subject: &Digest, manifest: &Manifest) {
        let entry = Entry::about(subject, manifest);
        if !self.entries.iter().any(|known| known.name.is_none() && known.digest == entry.digest) {
            self.entries.push(entry);
        }
    }

    /// A name that has another image there than here.
    pub(crate) fn contradiction(&self, other: &Index) -> Option<String> {
        let names = other.entries.iter().filter_map(|entry| Some((entry.name.as_deref()?, entry)));
        let known = names.filter_map(|(name, entry)| Some((name, entry, self.find(name)?)));
        known.filter(|(_, entry, known)| entry.digest != known.digest).map(|(name, ..)| quoted(name)).next()
    }

    /// Takes the entries of another one in, whose names go before.
    pub(crate) fn merge(&mut self, other: &Index) {
        for entry in &other.entries {
            self.enter(entry.clone());
        }
    }

    fn enter(&mut self, entry: Entry) {
        match entry.name.as_ref().map(|name| (name.clone(), self.names.get(name).copied())) {
            Some((_, Some(at))) => self.entries[at] = entry,
            Some((name, None)) => {
                self.names.insert(name, self.entries.len());
                self.entries.push(entry);
            }
            None if self.entries.iter().any(|known| known.descriptor == entry.descriptor) => {}
            None => self.entries.push(entry),
        }
    }

    /// Keeps only some of the entries.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
        let names = self.entries.iter().enumerate();
        self.names = names.filter_map(|(at, entry)| Some((entry.name.clone()?, at))).collect();
    }

    /// The document, in an order that its entries alone decide.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| (&a.name, &a.short_name, &a.digest).cmp(&(&b.name, &b.short_name, &b.digest)));
        let mut document = self.rest.clone();
        document.insert("schemaVersion".to_owned(), 2.into());
        document.insert("mediaType".to_owned(), OCI_INDEX.into());
        let entries = entries.into_iter().map(|entry| Value::Object(entry.descriptor.clone()));
        document.insert("manifests".to_owned(), entries.collect());
        serde_json::to_vec(&document).expect("a value can be written")
    }
}

impl Entry {
    pub(crate) fn read(descriptor: Value) -> Option<Self> {
        let Value::Object(descriptor) = descriptor else { return None };
        let text = |key: &str| descriptor.get(key).and_then(Value::as_str);
        let annotation =
            |key: &str| descriptor.get("annotations").and_then(|all| all.get(key)).and_then(Value::as_str);
        let given = [annotation(IMAGE_NAME), annotation(REF_NAME)];
        let name = given.iter().flatten().find_map(|name| whole_name(name));
        let short_name =
            if name.is_none() { given.into_iter().flatten().next().map(str::to_owned) } else { None };
        Some(Self {
            digest: text("digest")?.parse().ok()?,
            size: descriptor.get("size")?.as_u64()?,
            media_type: text("mediaType").map(str::to_owned),
            subject: annotation(SUBJECT).and_then(|subject| subject.parse().ok()),
            name,
            short_name,
            descriptor,
        })
    }

    fn named(location: &Location, manifest: &Manifest) -> Self {
        let name = location.to_string();
        let annotations = json!({ IMAGE_NAME: name, REF_NAME: name });
        Self { name: Some(name), ..Self::of(manifest, annotations) }
    }

    fn about(subject: &Digest, manifest: &Manifest) -> Self {
        let annotations = json!({ SUBJECT: subject.as_str() });
        Self { subject: Some(subject.clone()), ..Self::of(manifest, annotations) }
    }

    fn of(manifest: &Manifest, annotations: Value) -> Self {
        let descriptor = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest.as_str(),
            "size": manifest.bytes.len(),
            "annotations": annotations,
        });
        let Value::Object(descriptor) = descriptor else { unreachable!("it was written as one") };
        Self {
            digest: manifest.digest.clone(),
            size: manifest.bytes.len() as u64,
            media_type: Some(manifest.media_type.clone()),
            name: None,
            short_name: None,
            subject: None,
            descriptor,
        }
    }
}

/// The name as it is told, if its host stands in it; a bare tag or a name without a host is somebody's short form.
fn whole_name(name: &str) -> Option<String> {
    let (host, _) = name.split_once('/')?;
    let reference: Reference = name.parse().ok()?;
    // Docker Hub's has more names than one.
    (host.parse::<Host>().ok()? == reference.host).then(|| reference.to_string())
}

#[cfg(test)]
mod tests;
