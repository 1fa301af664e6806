//! What an earlier run has left of a blob, hashed anew.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::files::{Files, Stage, open_to_write, remove};
use super::journal::{Journal, Noted, Notes};
use super::partial::{PartialError, Slot, io_at};
use super::room;
use super::scan::ReadAt;
use super::space::Space;
use crate::image::reference::{Digest, Hasher};

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 20;

/// The beginning of a blob, or all of it.
#[derive(Clone)]
pub(crate) struct Prefix {
    /// Bytes.
    pub length: u64,
    /// It has read them.
    pub hasher: Hasher,
}

impl Prefix {
    pub(super) fn none(digest: &Digest) -> Self {
        Self { length: 0, hasher: Hasher::new(digest.algorithm()) }
    }
}

/// Reads a blob as far as its marks go and its bytes are the ones that they were made of, and gives them to `write`.
///
/// # Errors
/// They cannot be written. What cannot be read is not there.
pub(super) fn regain(
    space: &impl ReadAt,
    digest: &Digest,
    noted: &Noted,
    moved: impl Fn(u64),
    mut write: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<Prefix> {
    let mut best = Prefix::none(digest);
    let mut hasher = best.hasher.clone();
    let mut position = 0;
    let mut piece = vec![0; noted.size.min(PIECE) as usize];
    for (mark, sum) in &noted.marks {
        while position < *mark {
            let bytes = &mut piece[..(mark - position).min(PIECE) as usize];
            if space.fill_at(bytes, noted.offset + position).is_err() {
                return Ok(best);
            }
            hasher.update(bytes);
            write(bytes, position)?;
            position += bytes.len() as u64;
            moved(position);
        }
        let is_right = hasher.clone().finish() == *sum && (position < noted.size || sum == digest);
        if !is_right {
            break;
        }
        best = Prefix { length: position, hasher: hasher.clone() };
    }
    Ok(best)
}

/// What an earlier run has written of another archive under the same name.
#[derive(Debug)]
pub(super) struct Earlier {
    space: Space,
    notes: Notes,
    limit: u64,
}

impl Earlier {
    /// Makes room for another archive: the files, with what `notes` say of them, get other names, and a journal of
    /// their own. Where something was put aside before, what has more of the two is kept.
    pub(super) fn put_aside(files: &Files, notes: &Notes, journal: &[u8]) -> Result<(), PartialError> {
        if let Some(before) = Self::open(files)? {
            if before.notes.bytes() >= notes.bytes() {
                return remove_all(files.there(Stage::Partial));
            }
            before.remove(files)?;
        }
        let path = files.journal(Stage::Earlier);
        remove(&path).map_err(io_at(path.clone()))?;
        let write = || open_to_write(&path)?.write_all(journal);
        write().map_err(io_at(path.clone()))?;
        for (number, from) in (0..).zip(files.there(Stage::Partial)) {
            let to = files.path(number, Stage::Earlier);
            fs::rename(from, &to).map_err(io_at(to))?;
        }
        Ok(())
    }

    /// What was put aside, if anything was.
    pub(super) fn open(files: &Files) -> Result<Option<Self>, PartialError> {
        let path = files.journal(Stage::Earlier);
        if fs::symlink_metadata(&path).is_err() {
            return Ok(None);
        }
        let journal = Journal(open_to_write(&path).map_err(io_at(path.clone()))?);
        let (notes, _) = journal.read().map_err(io_at(path.clone()))?;
        // One that was not written to its end is of files that have kept their names.
        let Some((_, limit)) = notes.head else { return Ok(None) };
        let files = files.with_limit(limit);
        let space = files.open(files.there(Stage::Earlier));
        let space = space.map_err(|(path, error)| PartialError::Io(path, error))?;
        Ok(Some(Self { space, notes, limit }))
    }

    /// Bytes that it takes on the disk.
    pub(super) fn taken(&self) -> u64 {
        self.space.files().iter().map(room::taken).sum()
    }

    pub(super) fn regain(
        &self,
        slot: &Slot,
        moved: impl Fn(u64),
        write: impl FnMut(&[u8], u64) -> io::Result<()>,
    ) -> io::Result<Prefix> {
        match self.notes.blobs.get(&slot.digest).filter(|noted| noted.size == slot.size) {
            Some(noted) => regain(&self.space, &slot.digest, noted, moved, write),
            None => Ok(Prefix::none(&slot.digest)),
        }
    }

    /// A blob of it is not needed any more.
    pub(super) fn give_back(&self, digest: &Digest) {
        if let Some(noted) = self.notes.blobs.get(digest) {
            self.space.give_back(noted.offset, noted.size);
        }
    }

    /// All that is worth it has been copied.
    pub(super) fn remove(self, files: &Files) -> Result<(), PartialError> {
        let files = files.with_limit(self.limit);
        let journal = files.journal(Stage::Earlier);
        remove_all(files.there(Stage::Earlier).into_iter().rev().chain([journal]))
    }
}

fn remove_all(paths: impl IntoIterator<Item = PathBuf>) -> Result<(), PartialError> {
    paths.into_iter().try_for_each(|path| remove(&path).map_err(io_at(path)))
}
