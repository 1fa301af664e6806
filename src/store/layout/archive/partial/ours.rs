//! Whose the files are that are there: another run's, an earlier run's, or somebody else's.

use std::fs::{self, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

use super::super::super::files::is_at;
use super::super::file_set::{FileSet, Stage, open_to_append, remove};
use super::super::journal::{Journal, is_torn_head};
use super::{PartialError, io_at};

/// What is there under the archive's name may be replaced if it is a file.
pub(super) fn check_place(path: &Path) -> Result<(), PartialError> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => Err(PartialError::NotAFile(path.to_owned())),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(PartialError::Io(path.to_owned(), error)),
        _ => Ok(()),
    }
}

/// Without a word of an earlier run nothing may be there that could be another program's.
pub(super) fn check_ours(files: &FileSet, count: u64, journal: &[u8]) -> Result<(), PartialError> {
    if !is_torn_head(journal) {
        return Err(PartialError::NotOurs(files.journal(Stage::Partial)));
    }
    let free = check_free(files, count);
    if free.is_err() {
        let journal = files.journal(Stage::Partial);
        remove(&journal).map_err(io_at(journal))?;
    }
    free
}

/// Nothing may be there under the names that the files are to have meanwhile.
pub(super) fn check_free(files: &FileSet, count: u64) -> Result<(), PartialError> {
    let mut paths = (0..count).map(|number| files.path(number, Stage::Partial));
    match paths.find(|path| fs::symlink_metadata(path).is_ok()) {
        Some(path) => Err(PartialError::NotOurs(path)),
        None => Ok(()),
    }
}

/// The journal, which nobody else has now.
pub(super) fn lock(files: &FileSet) -> Result<Journal, PartialError> {
    let path = files.journal(Stage::Partial);
    loop {
        let journal = Journal(open_to_append(&path).map_err(io_at(path.clone()))?);
        match journal.0.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = journal.read().ok().and_then(|(notes, _)| notes.process);
                return Err(PartialError::Busy { file: files.base().to_owned(), process });
            }
            Err(TryLockError::Error(error)) if has_no_locks(&error) => tracing::warn!(
                "{}: there are no locks on this file system, so that nobody keeps another run from writing the same \
                 archive at once",
                files.base().display()
            ),
            Err(TryLockError::Error(error)) => return Err(PartialError::Io(path, error)),
        }
        // A run that has just ended has taken it away.
        if is_at(&journal.0, &path).map_err(io_at(path.clone()))? {
            return Ok(journal);
        }
    }
}

/// Whether nothing can be locked there, as on some network file systems.
pub(super) fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
        || matches!(Errno::from_io_error(error), Some(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP))
}
