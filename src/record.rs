//! What is recorded of many images in one document, for other runs and other programs: a lock says what a run has found
//! out of the images that were asked for, an inventory what a place holds. Both have one form, which grows by new keys
//! alone.
//!
//! Whoever reads such a document believes nothing of it that has not been checked: it may come from anywhere.

mod contents;
mod draft;
mod json_schema;
mod reading;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::contents::{Contents, PinnedPlatform};
pub(crate) use self::contents::{is_image, named_platform, size_of};
pub(crate) use self::draft::{Draft, Purpose};
pub use self::json_schema::json_schema;
pub(crate) use self::reading::DOCUMENT_MAX;
pub use self::reading::RecordError;

use crate::image::reference::{Digest, Location, Reference, Repository};

/// The version of the form.
const VERSION: u64 = 1;

/// What a document says of its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// That they are what a run has found, and are to be that again.
    Lock,
    /// That a place holds them.
    Inventory,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Lock => "lock",
            Kind::Inventory => "inventory",
        }
    }
}

/// Images with all that they consist of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    pub kind: Kind,
    pub made: Made,
    /// By their sources, each once.
    pub images: BTreeMap<Reference, Image>,
    /// What was asked for and is not there, by source.
    pub missing: BTreeMap<Reference, Missing>,
    /// Configs and layers that are there.
    pub blobs: BTreeMap<Digest, Blob>,
    /// Layers that the images need and that are somewhere else already.
    pub base: BTreeMap<Digest, Blob>,
}

/// Who made a document, and from what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Made {
    /// The version of the program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tool: String,
    /// The newest release of KubeOne that the catalog knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeone: Option<String>,
    /// The catalog that was asked, by its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Digest>,
    /// When, in seconds since 1970, where `SOURCE_DATE_EPOCH` says so: else the same images give the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
}

/// An image that is there, or that was found out of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// As it is named where it is published.
    pub source: Reference,
    /// Its names in a registry that it was mirrored into, below that one's host and path.
    #[serde(deserialize_with = "reading::names")]
    pub names: Vec<Location>,
    /// Of its manifest or index where it is published.
    pub digest: Digest,
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Bytes of that manifest or index.
    pub size: u64,
    /// The digest of the index that stands in its place, without the platforms that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimmed: Option<Digest>,
    /// Its index names more platforms than are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// The image that it is about, for signatures and the like.
    #[serde(default, rename = "refersTo", skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<Digest>,
    /// Those that are there.
    #[serde(deserialize_with = "reading::platforms")]
    pub platforms: Vec<PinnedPlatform>,
    /// Bytes of all else: of its indexes, and of what is for no platform, such as attestations.
    #[serde(default)]
    pub more: u64,
    /// Why it was chosen, a sentence each.
    #[serde(default, deserialize_with = "reading::reasons", skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// An image that was asked for and is not there under all of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    pub source: Reference,
    /// The names that it has not got.
    #[serde(deserialize_with = "reading::names")]
    pub names: Vec<Location>,
    /// What kept it from them.
    #[serde(default)]
    pub cause: String,
    #[serde(default, deserialize_with = "reading::reasons", skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Some content: its size in bytes, and one repository that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blob(pub u64, pub Repository);

impl Inventory {
    /// The document: in stable order, each record on a line of its own.
    pub fn to_json(&self) -> String {
        let made = line(&self.made);
        let kind = self.kind.as_str();
        let mut json = format!("{{\"version\": {VERSION}, \"kind\": {kind:?}, \"made\": {made}");
        list(&mut json, "images", self.images.values().map(line));
        if !self.missing.is_empty() {
            list(&mut json, "missing", self.missing.values().map(line));
        }
        for (key, blobs) in [("blobs", &self.blobs), ("base", &self.base)] {
            let _ = write!(json, ",\n{key:?}: {{");
            lines(&mut json, blobs.iter().map(|(digest, blob)| format!("{}: {}", line(digest), line(blob))));
            json.push('}');
        }
        json + "}\n"
    }
}

fn line(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("texts and numbers are JSON")
}

fn list(json: &mut String, key: &str, records: impl Iterator<Item = String>) {
    let _ = write!(json, ",\n{key:?}: [");
    lines(json, records);
    json.push(']');
}

fn lines(json: &mut String, records: impl Iterator<Item = String>) {
    let mut is_first = true;
    for record in records {
        json.push_str(if is_first { "\n" } else { ",\n" });
        json.push_str(&record);
        is_first = false;
    }
    if !is_first {
        json.push('\n');
    }
}

#[cfg(test)]
mod tests;
