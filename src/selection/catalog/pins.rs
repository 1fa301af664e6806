//! Which digest each image had when somebody looked, and how large its platforms are.
//!
//! The program carries such records, in the file beside this module: JSON in stable order, a record a line.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::image::platforms::Platform;
use crate::image::reference::{Digest, Reference};
use crate::record::{Image, Inventory, PinnedPlatform};
use crate::util::input;
use crate::util::text::{self, quoted};

const EMBEDDED: &str = include_str!("pins.json");

/// Largest file of records that is read, in bytes; one for all images with their platforms has some 2 MiB.
const FILE_MAX: u64 = 16 << 20;
/// The form of the records, which grows by new keys alone.
const VERSION: u64 = 1;
const KIND: &str = "pins";
/// Largest size that a record may tell, in bytes: the largest that every JSON reader takes as it is (RFC 8259,
/// section 6).
const SIZE_MAX: u64 = 1 << 53;

/// Why a text is no file of records. Names the file, and where in it if the JSON is at fault.
#[derive(Debug, Error)]
pub enum PinsError {
    #[error("{name}: cannot read it: {error}")]
    File { name: String, error: std::io::Error },
    #[error("{name}: {why}")]
    Json { name: String, why: String },
    #[error("{name}: its version is {version}, and this program reads {VERSION}")]
    Version { name: String, version: u64 },
    #[error("{name}: its kind is {kind}, and not {KIND:?}")]
    Kind { name: String, kind: String },
    #[error("{name}: the record of {source_name}: {why}")]
    Record { name: String, source_name: String, why: &'static str },
}

/// Records of images, by reference.
#[derive(Debug, Clone, Default)]
pub struct Pins(BTreeMap<Cow<'static, str>, Entry>);

/// A record of the embedded file is read once somebody asks for it: to read all takes longer than most runs that only
/// print something.
#[derive(Debug, Clone)]
struct Entry {
    line: &'static str,
    read: OnceLock<Box<Pin>>,
}

/// What is recorded of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The image, as a catalog names it.
    pub source: Reference,
    /// The digest that its tag has, or had when somebody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The tag is meant to move: what it has is never compared with the digest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moving: bool,
    /// The media type of its manifest or index, and the size of that in bytes.
    #[serde(default, rename = "mediaType", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Those that it has; none where nobody has looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<PinnedPlatform>,
    /// Bytes of all else that a run moves for it: of its indexes, and of what is for no platform, such as attestations.
    /// None where nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
}

/// What becomes of the record of an image, in a file that others may have written to meanwhile.
#[derive(Debug, Clone)]
pub enum Change {
    Put(Pin),
    /// It is as it was found, and stays unless there is another one now.
    Keep(Pin),
    Remove,
}

#[derive(Deserialize)]
struct Document {
    version: u64,
    kind: String,
    images: Vec<Pin>,
}

impl Pins {
    /// The records that the program carries.
    pub fn embedded() -> Arc<Self> {
        static RECORDS: LazyLock<Arc<Pins>> = LazyLock::new(|| Arc::new(Pins::unread(EMBEDDED)));
        RECORDS.clone()
    }

    /// Those of a file in the form of [`Pins::to_json`], of which only the lines are looked at.
    fn unread(text: &'static str) -> Self {
        let record = |line: &'static str| {
            let (source, _) = line.strip_prefix("{\"source\":\"")?.split_once('"')?;
            let line = line.strip_suffix(',').unwrap_or(line);
            Some((Cow::Borrowed(source), Entry { line, read: OnceLock::new() }))
        };
        Self(text.lines().filter_map(record).collect())
    }

    /// Those of a file.
    ///
    /// # Errors
    /// It cannot be read, or is no such file; the message says where.
    pub fn read(path: &Path) -> Result<Self, PinsError> {
        let name = path.display().to_string();
        match input::read(path, FILE_MAX) {
            Ok(text) => Self::from_json(&text, &name),
            Err(error) => Err(PinsError::File { name, error }),
        }
    }

    /// Those of a text; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Pins::read`] has them.
    pub fn from_json(text: &str, name: &str) -> Result<Self, PinsError> {
        let name = || name.to_owned();
        // The words of the library quote the text, which may hold anything.
        let document: Document = serde_json::from_str(text)
            .map_err(|error| PinsError::Json { name: name(), why: text::printable(&error.to_string()) })?;
        if document.version != VERSION {
            return Err(PinsError::Version { name: name(), version: document.version });
        }
        if document.kind != KIND {
            return Err(PinsError::Kind { name: name(), kind: quoted(&document.kind) });
        }
        let mut pins = BTreeMap::new();
        for pin in document.images {
            let source_name = pin.source.to_string();
            let broken = |why| PinsError::Record { name: name(), source_name: source_name.clone(), why };
            pin.check().map_err(broken)?;
            if pins.insert(Cow::Owned(source_name.clone()), Entry::of(pin)).is_some() {
                return Err(broken("there is another one"));
            }
        }
        Ok(Self(pins))
    }

    /// Those of a lock.
    pub fn of_lock(lock: &Inventory) -> Self {
        let images = lock.images.values().filter(|image| image.refers_to.is_none());
        let pin = |image: &Image| Pin {
            source: image.source.clone(),
            digest: Some(image.digest.clone()),
            moving: false,
            media_type: Some(image.media_type.clone()),
            size: Some(image.size),
            platforms: image.platforms.clone(),
            more: Some(image.more),
        };
        Self(images.map(|image| (Cow::Owned(image.source.to_string()), Entry::of(pin(image)))).collect())
    }

    /// The file of these records: sorted by reference, each on a line of its own.
    pub fn to_json(&self) -> String {
        let mut json = format!("{{\"version\": {VERSION}, \"kind\": {KIND:?}, \"images\": [");
        for (number, pin) in self.iter().enumerate() {
            let line = serde_json::to_string(pin).expect("texts and numbers are JSON");
            let _ = write!(json, "{}\n{line}", if number == 0 { "" } else { "," });
        }
        json + "\n]}\n"
    }

    /// What is recorded of an image.
    pub fn get(&self, image: &Reference) -> Option<&Pin> {
        self.named(&image.to_string())
    }

    /// The digest that an image, named as reports name it, has to have.
    pub fn digest(&self, source: &str) -> Option<&Digest> {
        self.named(source)?.wanted()
    }

    /// What is recorded of an image, named as reports name it.
    pub fn named(&self, source: &str) -> Option<&Pin> {
        self.0.get(source).map(Entry::pin)
    }

    /// These records, of which those of `moving` images are compared with nothing.
    #[must_use]
    pub fn exempting<'r>(self: &Arc<Self>, moving: impl Iterator<Item = &'r Reference>) -> Arc<Self> {
        let held = moving.filter_map(|image| self.get(image).filter(|pin| pin.wanted().is_some()));
        let exempt: Vec<Pin> = held.map(|pin| Pin { moving: true, ..pin.clone() }).collect();
        if exempt.is_empty() {
            return self.clone();
        }
        let mut pins = Self::clone(self);
        exempt.into_iter().for_each(|pin| pins.put(pin));
        Arc::new(pins)
    }

    /// Makes `changes`, by image. Of the same digest the record stays that tells more.
    pub fn apply(&mut self, changes: BTreeMap<String, Change>) {
        for (source, change) in changes {
            match change {
                Change::Remove => {
                    self.0.remove(source.as_str());
                }
                // Another one may know better by now.
                Change::Keep(_) if self.named(&source).is_some() => {}
                Change::Keep(pin) => self.put(pin),
                Change::Put(pin) => {
                    let tells_more =
                        |there: &&Pin| there.digest == pin.digest && there.has_sizes() && !pin.has_sizes();
                    match self.named(&source).filter(tells_more) {
                        Some(there) => self.put(Pin { moving: there.moving || pin.moving, ..there.clone() }),
                        None => self.put(pin),
                    }
                }
            }
        }
    }

    /// Puts a record in the place of the one that is there.
    pub fn put(&mut self, pin: Pin) {
        self.0.insert(Cow::Owned(pin.source.to_string()), Entry::of(pin));
    }

    /// Removes the records of all images but `images`, named as reports name them, and tells of which.
    pub fn keep(&mut self, images: &BTreeSet<String>) -> Vec<String> {
        let mut removed = Vec::new();
        self.0.retain(|source, _| {
            let is_kept = images.contains(source.as_ref());
            if !is_kept {
                removed.push(source.to_string());
            }
            is_kept
        });
        removed
    }

    /// All of them, by reference.
    pub fn iter(&self) -> impl Iterator<Item = &Pin> {
        self.0.values().map(Entry::pin)
    }
}

impl Entry {
    fn of(pin: Pin) -> Self {
        Self { line: "", read: OnceLock::from(Box::new(pin)) }
    }

    fn pin(&self) -> &Pin {
        let read = || serde_json::from_str(self.line).expect("a test reads all lines of the embedded file");
        self.read.get_or_init(|| Box::new(read()))
    }
}

impl Pin {
    /// The digest that the image has to have.
    pub fn wanted(&self) -> Option<&Digest> {
        self.digest.as_ref().filter(|_| !self.moving)
    }

    /// Whether anything is known of what the image consists of.
    pub fn has_sizes(&self) -> bool {
        self.more.is_some() || !self.platforms.is_empty()
    }

    /// The first rule that it breaks.
    fn check(&self) -> Result<(), &'static str> {
        let sizes = self.size.iter().chain(&self.more);
        let sizes = sizes.chain(self.platforms.iter().map(|platform| &platform.bytes));
        let bytes = sizes.fold(0_u64, |sum, size| sum.saturating_add(*size));
        let is_platform = |platform: &PinnedPlatform| {
            platform.platform.as_ref().is_none_or(|name| name.parse::<Platform>().is_ok())
        };
        match &self.digest {
            None if !self.moving => Err("it has no digest, and is not `moving`"),
            None if self.has_sizes() => Err("it has platforms and no digest"),
            Some(digest) if self.source.digest.as_ref().is_some_and(|named| named != digest) => {
                Err("its digest is not the one that the reference names")
            }
            _ if bytes > SIZE_MAX => Err("its sizes come to more than 2^53 bytes"),
            _ if !self.platforms.iter().all(is_platform) => {
                Err("a platform of it is not of the form os/arch[/variant]")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
