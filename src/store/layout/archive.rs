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
use self::scan::{Found, ScanError, read};
use super::LayoutError;
use super::files::Piece;
use super::holdings::Holding;
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

    /// The bytes of a document; `None` if there is none.
    pub(super) fn document(&self, document: Document) -> Result<Option<Vec<u8>>, ScanError> {
        read(&*self.parts, &self.found, document)
    }

    /// The bytes of its lock, if it has one.
    pub(super) fn lock(&self) -> Result<Option<Vec<u8>>, LayoutError> {
        Ok(self.parts.document(&self.found, Document::Lock)?)
    }

    /// Everything that is there under a digest.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let held = self.found.blobs();
        held.map(|(digest, span)| Holding { digest: digest.clone(), size: span.size, start: span.offset })
            .collect()
    }

    pub(super) fn path(&self) -> &Path {
        self.parts.path()
    }
}

/// The header of an entry, extended header and all.
pub(super) fn header_of(path: &str, size: u64) -> Vec<u8> {
    header::bytes(path, size)
}

#[cfg(test)]
pub(super) mod tests;
