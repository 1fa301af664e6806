//! The end of an archive: all of it is on the disk before it has its name.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use super::super::file_set::{Stage, directory, open_to_write, remove, sync_directory};
use super::super::sums;
use super::{Partial, PartialError, io_at};
use crate::image::reference::Digest;
use crate::util::input;

impl Partial {
    /// Gives the archive its name, once all of it is on the disk. What had that name before is replaced. An archive in
    /// parts is read once more for their checksums, and `hashed` hears how many bytes are.
    ///
    /// # Errors
    /// Something is missing in it, or it cannot be written.
    pub(crate) fn finish(&self, hashed: impl Fn(u64)) -> Result<(), PartialError> {
        let lacking = self.table.entries().len().saturating_sub(self.lock_done().len());
        if lacking > 0 {
            return Err(PartialError::Incomplete { file: self.files.base().to_owned(), lacking });
        }
        for (number, file) in self.numbered() {
            file.sync_data().map_err(|error| self.io(number, error))?;
        }
        if self.files.limit() > 0 {
            let sums = self.sums(hashed)?;
            self.replace_parts(&sums)?;
        } else {
            self.rename(0)?;
        }
        sync_directory(self.files.base()).map_err(io_at(directory(self.files.base()).to_owned()))?;
        let journal = self.files.journal(Stage::Partial);
        remove(&journal).map_err(io_at(journal))
    }

    fn rename(&self, number: u64) -> Result<(), PartialError> {
        let to = self.files.path(number, Stage::Whole);
        fs::rename(self.path(number), &to).map_err(io_at(to))
    }

    fn sums(&self, hashed: impl Fn(u64)) -> Result<Vec<Digest>, PartialError> {
        let mut before = 0;
        let mut sums = Vec::new();
        for (number, file) in self.numbered() {
            let size = self.files.size_of(number, self.table.size());
            let sum = sums::hash(file, size, |bytes| hashed(before + bytes));
            sums.push(sum.map_err(|error| self.io(number, error))?);
            before += size;
        }
        Ok(sums)
    }

    /// The first part goes first and comes last: without it nobody takes the others for an archive, of which some may
    /// be of the one that was here before.
    fn replace_parts(&self, sums: &[Digest]) -> Result<(), PartialError> {
        let first = self.files.path(0, Stage::Whole);
        remove(&first).map_err(io_at(first))?;
        let surplus = self.surplus();
        (1..sums.len() as u64).try_for_each(|number| self.rename(number))?;
        let path = self.files.sums();
        self.write_sums(&path, sums).map_err(io_at(path))?;
        self.rename(0)?;
        // One file under the archive's own name would be read in place of the parts.
        let whole = [self.files.base().to_owned()];
        surplus.into_iter().chain(whole).try_for_each(|path| remove(&path).map_err(io_at(path)))
    }

    fn write_sums(&self, path: &std::path::Path, sums: &[Digest]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for (number, sum) in (0..).zip(sums) {
            let path = self.files.path(number, Stage::Whole);
            bytes.extend(sums::line(path.file_name().unwrap_or_default(), sum));
        }
        remove(path)?;
        let mut file = open_to_write(path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    }

    /// Parts that the archive that was here before had more than this one, by its checksums.
    fn surplus(&self) -> Vec<PathBuf> {
        let listed = match input::read_bytes(&self.files.sums(), sums::READ_MAX) {
            Ok(bytes) => sums::parse(&bytes),
            Err(_) => return Vec::new(),
        };
        let is_listed = |path: &PathBuf| listed.iter().any(|(name, _)| path.file_name() == Some(name));
        let count = self.space.files().len();
        let parts = self.files.numbered(Stage::Whole).map(|(_, path)| path);
        parts.skip(count).filter(is_listed).collect()
    }

    /// Parts that an earlier run has given their names already get back those of unfinished ones.
    pub(super) fn take_back(files: &super::FileSet, count: u64) -> Result<(), PartialError> {
        let is_there = |number, stage| match fs::symlink_metadata(files.path(number, stage)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(PartialError::Io(files.path(number, stage), error)),
        };
        if is_there(0, Stage::Whole)? {
            return Ok(());
        }
        for number in 1..count {
            if !is_there(number, Stage::Partial)? && is_there(number, Stage::Whole)? {
                let to = files.path(number, Stage::Partial);
                fs::rename(files.path(number, Stage::Whole), &to).map_err(io_at(to))?;
            }
        }
        Ok(())
    }
}
