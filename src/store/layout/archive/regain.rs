//! What an earlier run has left of a blob, hashed anew.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::file_set::{FileSet, Stage, open_to_append, remove};
use super::journal::{Aside, Journal, Noted, Notes, is_torn_head};
use super::partial::{PartialError, Slot, io_at};
use super::room;
use super::scan::ReadAt;
use super::space::Space;
use crate::image::reference::{Digest, Hasher};
use crate::store::Prefix;

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 20;
/// Bytes at a blob's beginning and end that show whether it is there.
const EDGE: u64 = 512;

/// Nothing of a blob.
pub(super) fn none(digest: &Digest) -> Prefix {
    Prefix { length: 0, hasher: Hasher::new(digest.algorithm()) }
}

/// Reads a blob behind `known` as far as its marks go and its bytes are the ones that they were made of, and gives them to
/// `write`. What is right up to a mark is told `so_far`.
///
/// # Errors
/// They cannot be written. What cannot be read is not there, and neither is what the disk has no room for.
pub(super) fn regain(
    space: &impl ReadAt,
    digest: &Digest,
    noted: &Noted,
    known: Prefix,
    mut write: impl FnMut(&[u8], u64) -> io::Result<()>,
    mut so_far: impl FnMut(&Prefix) -> io::Result<()>,
) -> io::Result<Prefix> {
    let mut best = known;
    let mut hasher = best.hasher.clone();
    let mut position = best.length;
    let mut piece = vec![0; noted.size.min(PIECE) as usize];
    let marks = noted.marks.iter().filter(|(mark, _)| **mark > position || noted.size == 0);
    for (mark, sum) in marks.collect::<Vec<_>>() {
        while position < *mark {
            let bytes = &mut piece[..(mark - position).min(PIECE) as usize];
            if space.read_exact_at(bytes, noted.offset + position).is_err() {
                return Ok(best);
            }
            hasher.update(bytes);
            match write(bytes, position) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(best),
                written => written?,
            }
            position += bytes.len() as u64;
        }
        let is_right = hasher.clone().finish() == *sum && (position < noted.size || sum == digest);
        if !is_right {
            break;
        }
        best = Prefix { length: position, hasher: hasher.clone() };
        so_far(&best)?;
    }
    Ok(best)
}

/// A blob of which the journal has lost its word, if all of it is there: what a blob begins and ends with is written
/// where something else than zeros is.
pub(super) fn regain_unnoted(space: &impl ReadAt, slot: &Slot) -> Prefix {
    let Slot { digest, size, offset } = slot;
    let is_written = |position: u64, length: u64| {
        let mut bytes = vec![0; length as usize];
        let read = space.read_exact_at(&mut bytes, offset + position);
        read.is_ok() && bytes.iter().any(|byte| *byte != 0)
    };
    let edge = EDGE.min(*size);
    if *size == 0 || !is_written(0, edge) || !is_written(size - edge, edge) {
        return none(digest);
    }
    let marks = [(*size, digest.clone())].into();
    let whole = Noted { offset: *offset, size: *size, marks };
    regain(space, digest, &whole, none(digest), |_, _| Ok(()), |_| Ok(())).unwrap_or_else(|_| none(digest))
}

/// What an earlier run has written of another archive under the same name.
#[derive(Debug)]
pub(super) struct Earlier {
    space: Space,
    notes: Notes,
    limit: u64,
    journal: Journal,
}

impl Earlier {
    /// Makes room for another archive: the files, with what `notes` say of them, get other names, and a journal of
    /// their own. Where something was put aside before, what has more of the two is kept. A run that is killed meanwhile
    /// is gone on with.
    pub(super) fn put_aside(files: &FileSet, notes: &Notes, journal: &[u8]) -> Result<(), PartialError> {
        let Some((table, limit)) = &notes.head else { return Ok(()) };
        let aside = match Self::open(files)? {
            Some(before) if before.is_being_made_of(notes) => before.journal,
            before => {
                if let Some(before) = before {
                    if before.notes.bytes() >= notes.bytes() {
                        return remove_all(files.there(Stage::Partial));
                    }
                    before.remove(files)?;
                }
                if let Some(path) = files.there(Stage::Earlier).into_iter().next() {
                    return Err(PartialError::NotOurs(path));
                }
                let path = files.journal(Stage::Earlier);
                let aside = Journal(open_to_append(&path).map_err(io_at(path.clone()))?);
                let begin = aside.restart_as(table, *limit).and_then(|()| aside.put_aside(Aside::Moving));
                begin.map_err(io_at(path))?;
                aside
            }
        };
        for (number, from) in files.numbered(Stage::Partial) {
            let to = files.path(number, Stage::Earlier);
            match fs::rename(from, &to) {
                Ok(()) => {}
                // It may have been renamed before a kill.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if fs::symlink_metadata(&to).is_err() {
                        break;
                    }
                }
                Err(error) => return Err(PartialError::Io(to, error)),
            }
        }
        let told = aside.copy(journal).and_then(|()| aside.put_aside(Aside::Moved));
        told.map_err(io_at(files.journal(Stage::Earlier)))
    }

    /// What was put aside, if anything was.
    pub(super) fn open(files: &FileSet) -> Result<Option<Self>, PartialError> {
        let path = files.journal(Stage::Earlier);
        if fs::symlink_metadata(&path).is_err() {
            return Ok(None);
        }
        let journal = Journal(open_to_append(&path).map_err(io_at(path.clone()))?);
        let (mut notes, bytes) = journal.read().map_err(io_at(path.clone()))?;
        if is_torn_head(&bytes) {
            return Ok(None);
        }
        if notes.aside == Some(Aside::Void) {
            notes.blobs.clear();
        }
        let Some((_, limit)) = notes.head else { return Err(PartialError::NotOurs(path)) };
        let files = files.with_limit(limit);
        let space = files.open(files.there(Stage::Earlier));
        let space = space.map_err(|(path, error)| PartialError::Io(path, error))?;
        Ok(Some(Self { space, notes, limit, journal }))
    }

    /// Whether the files that `notes` are of are on their way into it.
    fn is_being_made_of(&self, notes: &Notes) -> bool {
        self.notes.aside == Some(Aside::Moving) && self.notes.head == notes.head
    }

    /// Bytes that it takes on the disk.
    pub(super) fn taken(&self) -> u64 {
        self.space.files().iter().map(room::taken).sum()
    }

    /// What it has of a blob behind `known`, as [`regain`] gives it.
    pub(super) fn regain(
        &self,
        slot: &Slot,
        known: Prefix,
        write: impl FnMut(&[u8], u64) -> io::Result<()>,
        so_far: impl FnMut(&Prefix) -> io::Result<()>,
    ) -> io::Result<Prefix> {
        match self.notes.blobs.get(&slot.digest).filter(|noted| noted.size == slot.size) {
            Some(noted) => regain(&self.space, &slot.digest, noted, known, write, so_far),
            None => Ok(known),
        }
    }

    /// Some bytes of a blob of it are not needed any more.
    pub(super) fn give_back(&self, digest: &Digest, position: u64, length: u64) {
        if let Some(noted) = self.notes.blobs.get(digest) {
            self.space.give_back(noted.offset + position, length);
        }
    }

    /// All that is worth it has been copied.
    pub(super) fn remove(self, files: &FileSet) -> Result<(), PartialError> {
        let files = files.with_limit(self.limit);
        let journal = files.journal(Stage::Earlier);
        self.journal.put_aside(Aside::Void).map_err(io_at(journal.clone()))?;
        remove_all(files.there(Stage::Earlier).into_iter().rev().chain([journal]))
    }
}

fn remove_all(paths: impl IntoIterator<Item = PathBuf>) -> Result<(), PartialError> {
    paths.into_iter().try_for_each(|path| remove(&path).map_err(io_at(path)))
}
