//! Documents from anywhere, read within bounds and believed only as far as they can be checked.
//!
//! Keys that are not known are passed over: the form grows by new keys, and its version says whether a reader may do
//! without them. A key that is there twice is refused, for another reader may take the other one.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use super::{Blob, Image, Inventory, Kind, Made, Missing, PinnedPlatform, VERSION};
use crate::image::platforms::Platform;
use crate::image::reference::{Digest, Location, Reference};
use crate::util::input;
use crate::util::text::{self, quoted};

/// Largest document that is read, in bytes; one of all images of the catalog has some 3 MiB.
pub(crate) const DOCUMENT_MAX: u64 = 64 << 20;
/// Most images, and most blobs of all of them.
const IMAGES_MAX: usize = 100_000;
const BLOBS_MAX: usize = 1_000_000;
/// Most names, platforms and reasons of one image.
const NAMES_MAX: usize = 16;
const PLATFORMS_MAX: usize = 2_000;
const REASONS_MAX: usize = 10_000;
/// Largest size that can be told, in bytes: the largest that every JSON reader takes as it is (RFC 8259, section 6).
const SIZE_MAX: u64 = 1 << 53;

/// Why a text is no such document. Names the file, and where in it if the JSON is at fault.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("{name}: cannot read it: {error}")]
    File { name: String, error: std::io::Error },
    #[error("{name}: {why}")]
    Json { name: String, why: String },
    #[error(
        "{name}: its version is {version}, and this program reads {VERSION}: a newer mirror-images may have written it, \
         which is the one to read it with"
    )]
    Version { name: String, version: String },
    #[error("{name}: its kind is {kind}, and not {wanted}{hint}")]
    Kind { name: String, kind: String, wanted: &'static str, hint: &'static str },
    #[error("{name}: {what}: {why}")]
    Record { name: String, what: String, why: String },
}

/// What says whether all else can be understood.
#[derive(serde::Deserialize)]
struct Head {
    version: serde_json::Number,
    kind: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
pub(super) struct Document {
    #[schemars(range(min = 1, max = 1))]
    #[expect(dead_code, reason = "it was looked at before")]
    version: u64,
    kind: Kind,
    #[serde(default)]
    made: Made,
    #[serde(deserialize_with = "images")]
    images: Vec<Image>,
    /// What was asked for and is not there.
    #[serde(default, deserialize_with = "missing")]
    missing: Vec<Missing>,
    /// Configs and layers that are there: bytes, and one repository that has it.
    #[serde(default, deserialize_with = "blobs")]
    blobs: BTreeMap<Digest, Blob>,
    /// The same of layers that the images need and that are somewhere else already.
    #[serde(default, deserialize_with = "blobs")]
    base: BTreeMap<Digest, Blob>,
}

impl Inventory {
    /// The document in a file, which is of one of these `kinds`.
    ///
    /// # Errors
    /// It cannot be read, or is no such document; the message says where.
    pub fn read(path: &Path, kinds: &[Kind]) -> Result<Self, RecordError> {
        let name = text::printable(&path.display().to_string());
        match input::read(path, DOCUMENT_MAX) {
            Ok(text) => Self::from_json(&text, &name, kinds),
            Err(error) => Err(RecordError::File { name, error }),
        }
    }

    /// The same of a text; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Inventory::read`] has them.
    pub fn from_json(text: &str, name: &str, kinds: &[Kind]) -> Result<Self, RecordError> {
        let name = || name.to_owned();
        // The words of the library quote the text, which may hold anything.
        let json = |error: serde_json::Error| RecordError::Json {
            name: name(),
            why: text::printable(&error.to_string()),
        };
        let head: Head = serde_json::from_str(text).map_err(json)?;
        let version = head.version.to_string();
        if version != VERSION.to_string() {
            return Err(RecordError::Version { name: name(), version: text::printable(&version) });
        }
        if !kinds.iter().any(|kind| kind.as_str() == head.kind) {
            let hint = if head.kind == "pins" { ": --pins takes such a file" } else { "" };
            let wanted = kinds.first().map_or("", |kind| kind.as_str());
            return Err(RecordError::Kind { name: name(), kind: quoted(&head.kind), wanted, hint });
        }
        let document: Document = serde_json::from_str(text).map_err(json)?;
        document.checked().map_err(|(what, why)| RecordError::Record { name: name(), what, why })
    }
}

type Complaint = (String, String);

impl Document {
    /// # Errors
    /// The first rule that it breaks, and which record of it does.
    fn checked(self) -> Result<Inventory, Complaint> {
        let mut by_name: HashMap<&Location, &Digest> = HashMap::new();
        for image in &self.images {
            let of = |why: String| (format!("the image {}", image.source), why);
            image.check().map_err(|why| of(why.to_owned()))?;
            for name in &image.names {
                if by_name.insert(name, &image.digest).is_some_and(|other| *other != image.digest) {
                    return Err(of(format!("another image has the name {name}, with another digest")));
                }
            }
        }
        let all = self.blobs.iter().chain(&self.base);
        if let Some((digest, _)) = all.clone().find(|(_, Blob(size, _))| *size > SIZE_MAX) {
            return Err((format!("the blob {digest}"), "it has more than 2^53 bytes".to_owned()));
        }
        if let Some((digest, _)) =
            self.base.iter().find(|(digest, blob)| self.blobs.get(digest).is_some_and(|own| own.0 != blob.0))
        {
            return Err((format!("the blob {digest}"), "it has two sizes".to_owned()));
        }
        Ok(Inventory {
            kind: self.kind,
            made: self.made,
            images: by_source(self.images, |image| &image.source)?,
            missing: by_source(self.missing, |missing| &missing.source)?,
            blobs: self.blobs,
            base: self.base,
        })
    }
}

fn by_source<T>(all: Vec<T>, source: impl Fn(&T) -> &Reference) -> Result<BTreeMap<Reference, T>, Complaint> {
    let mut sorted = BTreeMap::new();
    for record in all {
        let source = source(&record).clone();
        if sorted.insert(source.clone(), record).is_some() {
            return Err((format!("the image {source}"), "it is there twice".to_owned()));
        }
    }
    Ok(sorted)
}

impl Image {
    /// The first rule that it breaks.
    fn check(&self) -> Result<(), &'static str> {
        let sizes = [self.size, self.more].into_iter().chain(self.platforms.iter().map(|one| one.bytes));
        let is_platform = |name: &String| name.parse::<Platform>().is_ok();
        match () {
            () if self.names.is_empty() => Err("it has no name"),
            () if self.source.digest.as_ref().is_some_and(|named| *named != self.digest) => {
                Err("its digest is not the one that its source names")
            }
            () if sizes.fold(0, u64::saturating_add) > SIZE_MAX => {
                Err("its sizes come to more than 2^53 bytes")
            }
            () if self.media_type.len() > 255 || !self.media_type.bytes().all(|b| b.is_ascii_graphic()) => {
                Err("its mediaType is none")
            }
            () if !self.platforms.iter().filter_map(|one| one.platform.as_ref()).all(is_platform) => {
                Err("a platform of it is not of the form os/arch[/variant]")
            }
            () => Ok(()),
        }
    }
}

/// A list of so many things at most.
struct AtMost<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while all.len() < MAX {
            match list.next_element()? {
                Some(one) => all.push(one),
                None => return Ok(all),
            }
        }
        match list.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom(format!("it is a list of more than {MAX}"))),
            None => Ok(all),
        }
    }
}

macro_rules! at_most {
    ($($function:ident: $max:ident of $type:ty),* $(,)?) => {$(
        pub(super) fn $function<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<$type>, D::Error> {
            deserializer.deserialize_seq(AtMost::<$type, $max>(PhantomData))
        }
    )*};
}
at_most!(
    images: IMAGES_MAX of Image,
    missing: IMAGES_MAX of Missing,
    names: NAMES_MAX of Location,
    platforms: PLATFORMS_MAX of PinnedPlatform,
    reasons: REASONS_MAX of String,
);

/// Blobs, each once.
pub(super) fn blobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Digest, Blob>, D::Error> {
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<Digest, Blob>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("blobs by their digests")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((digest, blob)) = map.next_entry::<Digest, Blob>()? {
                if let Some(twice) = all.insert(digest.clone(), blob).map(|_| digest) {
                    return Err(A::Error::custom(format!("the blob {twice} is there twice")));
                }
                if all.len() > BLOBS_MAX {
                    return Err(A::Error::custom(format!("there are more than {BLOBS_MAX} blobs")));
                }
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(Unique)
}
