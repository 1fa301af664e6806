//! Places that hold images: what a run needs of one to read from, and of one to write to.
//!
//! A closed set of kinds, each behind the same verbs. Whoever copies knows the verbs and nothing of HTTP, upload
//! sessions or files; [`BlobReader`] verifies bytes wherever they come from. A further kind is a module of its own, a
//! variant of [`Source`], and an arm in each verb of `source.rs`, `target.rs`, `reader.rs` and `copy/put.rs`; nothing
//! else matches on kinds.

mod copy;
mod inspect;
mod layout;
#[cfg(test)]
pub(crate) mod memory;
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
pub(crate) use self::inspect::{Inspector, damaged_copy};
pub(crate) use self::reader::BlobReader;
pub(crate) use self::source::Source;
pub(crate) use self::target::Target;
pub(crate) use self::trial::Trial;

use crate::error::Error;
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Repository};

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
        self.source.open(&self.repository, blob, past_caches, self.url.as_deref().cloned()).await
    }
}

#[cfg(test)]
mod tests;
