//! Where the content of a layout is read from.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::LayoutError;
use super::archive::Archive;
use super::archive::scan::ReadAt;
use super::directory::Directory;
use super::holdings::Holding;
use crate::image::reference::{Digest, Hasher};

/// Bytes that are read at a time where a file is hashed.
const PIECE: usize = 128 << 10;

/// A layout by the form that it has.
#[derive(Debug)]
pub(super) enum Files {
    Directory(Directory),
    Archive(Archive),
}

/// The place of some content in a file, or in files one behind the other.
#[derive(Clone)]
pub(super) struct Piece {
    pub bytes: Arc<dyn ReadAt + Send + Sync>,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

impl Files {
    pub(super) fn blob(&self, digest: &Digest) -> io::Result<Option<Piece>> {
        match self {
            Files::Directory(directory) => directory.blob(digest),
            Files::Archive(archive) => Ok(archive.blob(digest)),
        }
    }

    /// The bytes of its lock, if it has one.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn lock(&self) -> Result<Option<Vec<u8>>, LayoutError> {
        match self {
            Files::Directory(directory) => directory.lock(),
            Files::Archive(archive) => archive.lock(),
        }
    }

    /// Everything that is there under a digest, and how it is called what lies among that and is none.
    pub(super) fn holdings(&self) -> io::Result<(Vec<Holding>, Vec<String>)> {
        match self {
            Files::Directory(directory) => directory.holdings(),
            Files::Archive(archive) => Ok((archive.holdings(), Vec::new())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Files::Directory(directory) => directory.path(),
            Files::Archive(archive) => archive.path(),
        }
    }

    /// Whether it is the one at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        real(path).is_some_and(|path| real(self.path()) == Some(path))
    }
}

impl Piece {
    /// Reads `wanted` bytes from `position` on.
    pub(super) fn read(&self, position: u64, wanted: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; wanted];
        self.bytes.read_exact_at(&mut bytes, self.start + position)?;
        Ok(bytes)
    }

    /// Whether all of it has the digest.
    pub(super) fn is(&self, digest: &Digest) -> io::Result<bool> {
        let mut hasher = Hasher::new(digest.algorithm());
        let read = self.hash(self.length, &mut hasher, |_, _| Ok(()))?;
        Ok(read == self.length && hasher.finish() == *digest)
    }

    /// Hashes the first `length` bytes, each piece of which `also` gets with its position. How many there were, in whole
    /// pieces.
    pub(super) fn hash(
        &self,
        length: u64,
        hasher: &mut Hasher,
        mut also: impl FnMut(&[u8], u64) -> io::Result<()>,
    ) -> io::Result<u64> {
        let mut piece = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
        let mut position = 0;
        while position < length {
            let wanted = (length - position).min(piece.len() as u64) as usize;
            match self.bytes.read_exact_at(&mut piece[..wanted], self.start + position) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                read => read?,
            }
            hasher.update(&piece[..wanted]);
            also(&piece[..wanted], position)?;
            position += wanted as u64;
        }
        Ok(position)
    }
}

/// Opens a file that is no link, no pipe and no device.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"))
    }
}

/// Whether `file` is what `path` names: it may have been renamed between its being opened and its being locked.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let opened = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
