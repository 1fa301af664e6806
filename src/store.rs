//! Places that hold images: what a run needs of one to read from, and of one to write to.
//!
//! A closed set of kinds, each behind the same verbs. Whoever copies knows the verbs and nothing of HTTP, upload
//! sessions or files; [`BlobReader`] verifies bytes wherever they come from. A further kind is a module of its own, a
//! variant of [`Source`], and an arm in each verb of `source.rs`, `target.rs`, `reader.rs` and `copy/put.rs`; nothing
//! else matches on kinds.

mod copy;
mod inspect;
pub mod layout;
#[cfg(test)]
pub(crate) mod memory;
pub mod name;
pub mod patience;
mod reader;
pub mod registry;
mod source;
mod target;
mod trial;

use std::sync::Arc;

use url::Url;

pub(crate) use self::copy::{BlobOrder, Landed, copy_blob};
pub use self::inspect::{Depth, Flaw};
pub(crate) use self::inspect::{Inspector, damaged_copy, read_through};
pub(crate) use self::reader::{BlobReader, Prefix};
pub(crate) use self::source::Source;
pub(crate) use self::target::Target;
pub(crate) use self::trial::{Trial, Tries};

use crate::error::Error;
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::reference::{Digest, Location, Repository};
use crate::record::{Contents, Image};

/// Most things that may refer to one image: a source that names more is not believed.
pub(crate) const REFERRERS_MAX: usize = 1000;

/// Which of a target's repositories a blob is in once it has landed in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// In that one alone.
    PerRepository,
    /// In all of them.
    Shared,
}

/// What a manifest is put for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Another one names it.
    Part,
    /// It is what a name stands for.
    Image,
    /// The same of what refers to an image, and is to be findable by it.
    Referrer,
}

/// How a run has ended, by what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All of it is there.
    Whole,
    /// Images have failed, and what there is without them is wanted all the same.
    Lacking,
    /// Something is not there, and another run is to go on.
    Open,
}

/// An image that a target is told of before anything of it is put there.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// The names that it is to have.
    pub names: Vec<Location>,
    /// The image that it is about.
    pub refers_to: Option<Digest>,
    /// Children first, the root last, each with whether its layers come too.
    pub manifests: Vec<(Arc<Manifest>, bool)>,
    /// Layers that are marked as not to be distributed come too.
    pub include_foreign: bool,
    /// What is recorded of it, if anything is.
    pub record: Option<(Image, Arc<Contents>)>,
}

/// What a place says of the manifest under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// It is there, with this digest by the place's word.
    Found(Digest),
    Absent,
    /// It does not answer the question; only the manifest itself can.
    Mute,
}

/// What a place holds of a blob, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Nothing,
    /// All of it or a part: its size is not told.
    Something,
    Bytes(u64),
}

impl Held {
    /// Whether it can be a blob of `size` bytes, as far as is told.
    pub fn may_be(self, size: u64) -> bool {
        self == Self::Something || self == Self::Bytes(size)
    }
}

/// A place to get a blob from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub source: Source,
    pub repository: Repository,
    /// Not in the repository, but where its manifest says.
    pub url: Option<Arc<Url>>,
}

impl Origin {
    /// Whom to ask for it: a place, or another host with its port.
    pub(crate) fn host(&self) -> &str {
        self.url
            .as_ref()
            .map_or(self.source.place(), |url| &url[url::Position::BeforeHost..url::Position::AfterPort])
    }

    pub(crate) async fn open(&self, blob: &Descriptor, past_caches: bool) -> Result<BlobReader, Error> {
        self.open_behind(None, blob, past_caches).await
    }

    /// Opens it behind what is there of it already.
    pub(crate) async fn open_behind(
        &self,
        prefix: Option<Prefix>,
        blob: &Descriptor,
        past_caches: bool,
    ) -> Result<BlobReader, Error> {
        self.source.open(&self.repository, blob, past_caches, self.url.as_deref().cloned(), prefix).await
    }
}

#[cfg(test)]
mod tests;
