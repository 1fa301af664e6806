//! What the target has under a name, before anything moves.

use std::sync::Arc;

use super::Damage;
use crate::error::Error;
use crate::image::manifest::{Extent, Trimmed};
use crate::image::reference::Digest;

/// What is known of one name at the target before anything moves.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// The target has the source's very digest under this name.
    Present(Digest),
    /// It has the source's index, and below it what is wanted of it and no more.
    Sparse(Digest),
    /// It has the source's index without what is not wanted, as a run before this one put it there.
    Trimmed(Trimmed),
    /// It has the source's manifest, but not all of what is wanted with it.
    Partial(Lack),
    /// It has the source's manifest, and something below it is missing or damaged.
    Damaged(Arc<Damage>),
    /// Nothing is there under this name.
    Missing,
    /// Something else is there, with this digest.
    Different(Digest),
    /// It could not be found out, or the source does not have it.
    Failed(Error),
}

/// What the target is without, where it has an image's manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lack {
    /// Wanted platforms of an index.
    Platforms,
    /// Layers that are not to be distributed, where they are wanted.
    Layers,
    /// An entry in the list of what refers to an image.
    Listing,
    /// Manifests that are what their digests say.
    Manifests,
    /// Blobs that are what their digests and sizes say.
    Blobs,
}

impl State {
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(self, State::Missing | State::Partial(_) | State::Damaged(_) | State::Different(_))
    }

    /// What is there, where nothing is to be done.
    pub(super) fn digest_there(&self) -> Option<&Digest> {
        match self {
            State::Present(digest) | State::Sparse(digest) => Some(digest),
            State::Trimmed(trimmed) => Some(&trimmed.target),
            State::Partial(_)
            | State::Damaged(_)
            | State::Missing
            | State::Different(_)
            | State::Failed(_) => None,
        }
    }

    pub(super) fn present(digest: Digest, extent: &Extent) -> Self {
        if extent.is_sparse() { State::Sparse(digest) } else { State::Present(digest) }
    }
}
