//! An image layout as one tar file, which is never unpacked: a blob is read and written at its own place in it.
//!
//! All sizes are known before the first blob moves, and so is each entry's place ([`table`]). What was written is found
//! again by an index over the tar's headers ([`scan`]).

pub(super) mod contents;
mod header;
pub(super) mod names;
pub(super) mod partial;
pub(super) mod scan;
pub(super) mod table;
mod walk;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use self::names::Document;
use self::scan::{Found, ScanError, read, scan};
use super::LayoutError;
use super::files::Piece;
use super::holdings::Holding;
use super::index::Index;
use crate::image::reference::Digest;

/// An archive to be read.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: Arc<File>,
    found: Found,
}

impl Archive {
    /// # Errors
    /// There is none, or none that can be read in one way alone.
    pub(super) fn open(path: &Path) -> Result<(Self, Index), LayoutError> {
        let io = |error| LayoutError::Io(path.to_owned(), error);
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
        let about = file.metadata().map_err(io)?;
        if !about.is_file() {
            return Err(LayoutError::NoFile(path.to_owned()));
        }
        let unreadable = |error| LayoutError::Archive(path.to_owned(), error);
        let found = scan(&file, about.len()).map_err(unreadable)?;
        let document = read(&file, &found, Document::Index).map_err(unreadable)?.unwrap_or_default();
        let index = Index::read(&document).map_err(|error| LayoutError::Index(path.to_owned(), error))?;
        Ok((Self { path: path.to_owned(), file: Arc::new(file), found }, index))
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<Piece> {
        let span = self.found.blob(digest)?;
        Some(Piece { file: self.file.clone(), start: span.offset, length: span.size })
    }

    /// The bytes of a document; `None` if there is none.
    pub(super) fn document(&self, document: Document) -> Result<Option<Vec<u8>>, ScanError> {
        read(&*self.file, &self.found, document)
    }

    /// Everything that is there under a digest.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let held = self.found.blobs();
        held.map(|(digest, span)| Holding { digest: digest.clone(), size: span.size, start: span.offset })
            .collect()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The header of an entry, extended header and all.
pub(super) fn header_of(path: &str, size: u64) -> Vec<u8> {
    header::bytes(path, size)
}

#[cfg(test)]
pub(super) mod tests;
