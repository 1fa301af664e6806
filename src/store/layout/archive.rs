//! An image layout as one tar file, which is never unpacked: a blob is read and written at its own place in it.
//!
//! All sizes are known before the first blob moves, and so is each entry's place ([`table`]). It is written as one file or
//! in parts, which are plain cuts of it ([`partial`]), and what was written is found again by an index over the tar's
//! headers ([`parts`], [`scan`]).

pub(super) mod contents;
mod file_set;
mod header;
mod journal;
pub(super) mod names;
pub(super) mod partial;
pub(super) mod parts;
mod regain;
mod room;
pub(super) mod scan;
pub(super) mod space;
mod sums;
pub(super) mod table;
mod walk;

use std::path::Path;
use std::sync::Arc;

pub(super) use self::parts::is_there;

use self::names::Document;
use self::parts::Parts;
use self::scan::Found;
use super::LayoutError;
use super::files::Piece;
use super::index::Index;
use crate::image::reference::Digest;

/// An archive to be read.
#[derive(Debug)]
pub(super) struct Archive {
    parts: Arc<Parts>,
    found: Found,
}

impl Archive {
    /// # Errors
    /// There is none, or none that can be read in one way alone; or a part of it is missing or another one.
    pub(super) fn open(path: &Path) -> Result<(Self, Index), LayoutError> {
        let (parts, found) = Parts::open(path)?;
        let document = parts.document(&found, Document::Index)?.unwrap_or_default();
        let index =
            Index::read(&document).map_err(|error| LayoutError::Index(parts.path().to_owned(), error))?;
        Ok((Self { parts: Arc::new(parts), found }, index))
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<Piece> {
        let span = self.found.blob(digest)?;
        Some(Piece { bytes: self.parts.clone(), start: span.offset, length: span.size })
    }

    pub(super) fn path(&self) -> &Path {
        self.parts.path()
    }
}

#[cfg(test)]
pub(super) mod tests;
