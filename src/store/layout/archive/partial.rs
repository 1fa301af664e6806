//! An archive that is being written: each blob at its own place, in any order, from many sides at once.
//!
//! It is `FILE.partial` until it is whole, with `FILE.partial.journal` beside it, which is locked: one run writes an
//! archive at a time. A run that goes on after a kill takes what is there once it has hashed it anew. Where the archive
//! is to be another one, for a tag that has moved, the old file is put aside as `FILE.partial.old`, and what fits is
//! copied out of it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

mod error;
mod finish;
mod ours;

pub(in crate::store::layout) use self::error::PartialError;
pub(super) use self::error::io_at;
use self::ours::{check_free, check_ours, check_place, lock};
use super::contents::{Body, Item};
use super::file_set::{FileSet, Stage, directory, remove, sync_directory};
use super::journal::{Journal, Noted, Notes};
use super::names::{Document, Known};
use super::regain::{Earlier, none, regain, regain_unnoted};
use super::room;
use super::space::Space;
use super::table::Table;
use crate::image::reference::Digest;
use crate::store::Prefix;

/// A large blob's progress is noted whenever so many bytes more are there: a run that is killed loses no more of each.
pub(crate) const MARK: u64 = 2 << 20;

/// A blob's place in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub(super) offset: u64,
}

impl Slot {
    /// Where it begins in the archive, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

/// An archive that is not whole yet. What is written of it stays when it is dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    files: FileSet,
    table: Table,
    slots: HashMap<Digest, Slot>,
    space: Arc<Space>,
    journal: Journal,
    /// What an earlier run for the same table has written, by its own word.
    noted: HashMap<Digest, Noted>,
    earlier: Option<Earlier>,
    /// Nothing of an earlier run is in it.
    is_new: AtomicBool,
    /// An earlier run has begun this very archive.
    is_begun: bool,
    /// Entries that are there, whole.
    done: Mutex<HashSet<u64>>,
}

impl Partial {
    /// Begins the archive `path`, or goes on with it; in parts of at most `limit` bytes, if there is one. A file under
    /// its own name stays as it is until this one is whole.
    ///
    /// # Errors
    /// Another run is writing it, the disk has no room for it, or something else is in its place.
    pub(crate) fn open(path: &Path, table: Table, limit: Option<u64>) -> Result<Self, PartialError> {
        let files = FileSet::new(path, limit);
        let size = table.size();
        let count = files.count(size).ok_or_else(|| PartialError::TooManyParts {
            file: path.to_owned(),
            size,
            limit: files.limit(),
        })?;
        check_place(path)?;
        for number in 0..count {
            check_place(&files.path(number, Stage::Whole))?;
        }
        let journal = lock(&files)?;
        let partial = Self::open_locked(files, table, count, journal)?;
        match partial.check_room() {
            Ok(()) => Ok(partial),
            Err(error) => {
                partial.discard_if_new();
                Err(error)
            }
        }
    }

    fn open_locked(files: FileSet, table: Table, count: u64, journal: Journal) -> Result<Self, PartialError> {
        let at_journal = || io_at(files.journal(Stage::Partial));
        let (mut notes, mut bytes) = journal.read().map_err(at_journal())?;
        let is_new = notes.head.is_none();
        let is_begun = notes.head == Some((table.digest(), files.limit()));
        if !is_begun {
            match &notes.head {
                Some((_, limit)) => {
                    Earlier::put_aside(&files.with_limit(*limit), &notes, &bytes)?;
                    check_free(&files, count)?;
                }
                None => check_ours(&files, count, &bytes)?,
            }
            journal.restart(&table, files.limit()).map_err(at_journal())?;
            sync_directory(files.base()).map_err(io_at(directory(files.base()).to_owned()))?;
            (notes, bytes) = (Notes::default(), Vec::new());
        } else {
            Self::take_back(&files, count)?;
        }
        journal.go_on(&bytes).map_err(at_journal())?;
        let paths = (0..count).map(|number| files.path(number, Stage::Partial));
        let space = files.open(paths).map_err(|(path, error)| PartialError::Io(path, error))?;
        Ok(Self {
            earlier: Earlier::open(&files)?,
            slots: slots(&table),
            is_new: AtomicBool::new(is_new),
            is_begun,
            done: Mutex::default(),
            noted: notes.blobs,
            files,
            table,
            space: Arc::new(space),
            journal,
        })
    }

    /// Whether there is room for all of it, before anything is asked for.
    fn check_room(&self) -> Result<(), PartialError> {
        let room = self.room()?;
        let reused = self.earlier.as_ref().map_or(0, Earlier::taken);
        if room.needed > room.available.saturating_add(reused) {
            return Err(self.no_room(room));
        }
        Ok(())
    }

    fn room(&self) -> Result<room::Room, PartialError> {
        let mut all = room::Room { needed: 0, available: 0 };
        for (number, file) in self.numbered() {
            let one = room::of(file, self.files.size_of(number, self.table.size()));
            let one = one.map_err(|error| self.io(number, error.into()))?;
            all = room::Room { needed: all.needed.saturating_add(one.needed), available: one.available };
        }
        Ok(all)
    }

    fn numbered(&self) -> impl Iterator<Item = (u64, &fs::File)> {
        (0..).zip(self.space.files())
    }

    /// What an earlier run has left of a blob, hashed anew: its beginning, or all of it, with which it is done. To be asked
    /// before [`Self::prepare`] is called where something [`Self::has_earlier`].
    ///
    /// # Errors
    /// What can be taken over cannot be written.
    pub(crate) fn regain(&self, slot: &Slot) -> Result<Prefix, PartialError> {
        let noted = self.noted.get(&slot.digest);
        let noted = noted.filter(|noted| (noted.offset, noted.size) == (slot.offset, slot.size));
        let nothing = none(&slot.digest);
        let mut prefix = match noted {
            Some(noted) => regain(&*self.space, &slot.digest, noted, nothing, |_, _| Ok(()), |_| Ok(())),
            None if self.is_begun => Ok(regain_unnoted(&*self.space, slot)),
            None => Ok(nothing),
        }
        .map_err(|error| self.io(0, error))?;
        if let Some(earlier) = &self.earlier {
            prefix = self.take_over(earlier, slot, prefix).map_err(|error| self.io(0, error))?;
        }
        if prefix.length > 0 {
            self.is_new.store(false, Ordering::Relaxed);
        }
        if prefix.length == slot.size && prefix.hasher.clone().finish() == slot.digest {
            self.lock_done().insert(slot.offset);
        }
        Ok(prefix)
    }

    /// Copies what an earlier archive has of a blob behind `known`, and notes it here. Where there is no room for both,
    /// what was copied is given back there at once.
    fn take_over(&self, earlier: &Earlier, slot: &Slot, known: Prefix) -> io::Result<Prefix> {
        let mut begin = known.length;
        let write = |bytes: &[u8], position: u64| self.space.write_all_at(bytes, slot.offset + position);
        let so_far = |taken: &Prefix| {
            self.mark(slot, taken.length, &taken.hasher.clone().finish())?;
            if self.room().is_ok_and(|room| !room.is_enough()) {
                earlier.give_back(&slot.digest, begin, taken.length - begin);
            }
            begin = taken.length;
            Ok(())
        };
        earlier.regain(slot, known, write, so_far)
    }

    /// Takes all the room there has to be, and writes all that is known of `items`: those that the table was made of.
    ///
    /// # Errors
    /// There is no room, or it cannot be written.
    pub(crate) fn prepare(&mut self, items: &[Item]) -> Result<(), PartialError> {
        if let Some(earlier) = self.earlier.take() {
            earlier.remove(&self.files)?;
        }
        let taken = self.take_room();
        if taken.is_err() {
            self.discard_if_new();
        }
        taken?;
        for (offset, gap) in self.table.gaps() {
            self.space.write_all_at(&gap, offset).map_err(|error| self.io(0, error))?;
        }
        for (item, place) in items.iter().zip(self.table.entries()) {
            if let Body::Known(bytes) = &item.body {
                self.space.write_all_at(bytes, place.data).map_err(|error| self.io(0, error))?;
                self.lock_done().insert(place.data);
            }
        }
        Ok(())
    }

    /// A disk that is too small does not stay full of what nobody needs.
    fn discard_if_new(&self) {
        if self.is_new.load(Ordering::Relaxed) {
            let paths = self.numbered().map(|(number, _)| self.path(number));
            for path in paths.chain([self.files.journal(Stage::Partial)]) {
                let _ = remove(&path);
            }
        }
    }

    fn take_room(&self) -> Result<(), PartialError> {
        let room = self.room()?;
        for (number, file) in self.numbered() {
            let size = self.files.size_of(number, self.table.size());
            match room::take(file, size) {
                Ok(()) => {}
                Err(Errno::NOSPC) => return Err(self.no_room(room)),
                Err(Errno::DQUOT) => {
                    let file = self.files.base().to_owned();
                    return Err(PartialError::NoQuota { file, needed: room.needed });
                }
                Err(Errno::FBIG) => {
                    return Err(PartialError::FileTooLarge { file: self.path(number), size });
                }
                Err(error) => return Err(self.io(number, error.into())),
            }
        }
        Ok(())
    }

    /// Where a blob belongs; `None` for one that is not in the table.
    pub(crate) fn slot(&self, digest: &Digest) -> Option<&Slot> {
        self.slots.get(digest)
    }

    /// Writes some bytes of a blob, at `position` in it.
    ///
    /// # Errors
    /// They cannot be written, or go beyond the blob's end.
    pub(crate) fn write_at(&self, slot: &Slot, bytes: &[u8], position: u64) -> io::Result<()> {
        if position.checked_add(bytes.len() as u64).is_none_or(|end| end > slot.size) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "there are more bytes than the blob has"));
        }
        self.space.write_all_at(bytes, slot.offset + position)
    }

    /// Notes that a blob is there up to `position`, where its bytes hash to `sum`. Worth it every [`MARK`] bytes.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn mark(&self, slot: &Slot, position: u64, sum: &Digest) -> io::Result<()> {
        self.journal.at(&slot.digest, slot.offset, slot.size, position, sum)
    }

    /// Notes that nothing of a blob is there any more, whatever was noted before.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn forget(&self, slot: &Slot) -> io::Result<()> {
        let Prefix { length, hasher } = none(&slot.digest);
        self.mark(slot, length, &hasher.finish())
    }

    /// Notes that a blob is there, verified.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn done(&self, slot: &Slot) -> io::Result<()> {
        self.lock_done().insert(slot.offset);
        self.journal.done(&slot.digest, slot.offset, slot.size)
    }

    /// Whether a blob is there, verified.
    pub(crate) fn is_done(&self, slot: &Slot) -> bool {
        self.lock_done().contains(&slot.offset)
    }

    /// The bytes of the whole archive, as far as they are there.
    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// The archive has something of an earlier run to take over before it is prepared.
    pub(crate) fn has_earlier(&self) -> bool {
        self.earlier.is_some()
    }

    /// Where it is until it is whole.
    pub(crate) fn place(&self) -> PathBuf {
        self.path(0)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    /// The documents in it: which, where each begins, and how long it is, in bytes.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (Document, u64, u64)> {
        self.table.entries().iter().filter_map(|entry| match Known::parse(&entry.path) {
            Some(Known::Document(document)) => Some((document, entry.data, entry.size)),
            _ => None,
        })
    }

    /// Writes over what [`Self::prepare`] has written, which the next run does again.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.space.write_all_at(bytes, offset)
    }

    /// Has the archive be whole without a blob, whose entry gets this header instead of its own. The next run wants it all
    /// the same.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn do_without(&self, slot: &Slot, header: &[u8]) -> io::Result<()> {
        self.overwrite(slot.offset - header.len() as u64, header)?;
        self.lock_done().insert(slot.offset);
        Ok(())
    }

    fn lock_done(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.done.lock().expect("no code panics while it holds this lock")
    }

    fn path(&self, number: u64) -> PathBuf {
        self.files.path(number, Stage::Partial)
    }

    fn io(&self, number: u64, error: io::Error) -> PartialError {
        PartialError::Io(self.path(number), error)
    }

    fn no_room(&self, room: room::Room) -> PartialError {
        let room::Room { needed, available } = room;
        PartialError::NoRoom { file: self.files.base().to_owned(), needed, available }
    }
}

fn slots(table: &Table) -> HashMap<Digest, Slot> {
    let slots = table.entries().iter().filter_map(|entry| match Known::parse(&entry.path) {
        Some(Known::Blob(digest)) => {
            Some((digest.clone(), Slot { digest, size: entry.size, offset: entry.data }))
        }
        _ => None,
    });
    slots.collect()
}

#[cfg(test)]
mod tests;
