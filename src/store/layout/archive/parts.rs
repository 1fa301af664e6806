//! An archive to be read, as one file or in its parts, which are never joined.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use super::files::{Files, Stage};
use super::names::Document;
use super::scan::{self, Found, ReadAt, ScanError, scan};
use super::space::Space;
use super::sums;
use crate::image::reference::Digest;
use crate::util::{input, text};

/// Why an archive cannot be read.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error("{}: this part of the archive is missing; copy all of its parts into one directory", .0.display())]
    Missing(PathBuf),
    #[error("{}: it is a part of an archive, but not the first; name {}", .given.display(), .first.display())]
    NotFirst { given: PathBuf, first: PathBuf },
    #[error(
        "{}: it has {} where the archive's parts have {}: it is cut off, or of another archive; copy it again",
        .path.display(), text::bytes(*.size), text::bytes(*.expected)
    )]
    Size { path: PathBuf, size: u64, expected: u64 },
    #[error("{}: it is not what its checksum says: it is damaged, or another part; copy it again", .0.display())]
    Sum(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Scan(PathBuf, #[source] ScanError),
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

/// An archive whose parts are all there, as far as their names and sizes tell.
#[derive(Debug)]
pub(crate) struct Parts {
    space: Space,
    /// Of all of it, in bytes.
    length: u64,
    paths: Vec<PathBuf>,
    /// Bytes of each part but the last.
    limit: u64,
    /// What each part should hash to, where that is known.
    sums: Vec<Option<Digest>>,
    files: Files,
}

impl Parts {
    /// The archive `path`, or the one whose first part that is, and what is in it.
    ///
    /// # Errors
    /// There is none; a part is missing, or another one is in its place; or it is no image layout.
    pub(crate) fn open(path: &Path) -> Result<(Self, Found), OpenError> {
        let parts = Self::find(path)?;
        match scan(&parts, parts.length) {
            Ok(found) => Ok((parts, found)),
            Err(error) => Err(parts.explain(error)),
        }
    }

    fn find(path: &Path) -> Result<Self, OpenError> {
        let is_there = path.try_exists().map_err(|error| OpenError::Io(path.to_owned(), error))?;
        match numbered(path) {
            Some((base, 1)) => Self::of_parts(base),
            Some((base, number)) if number > 1 => {
                let first = Files::new(&base, Some(1)).path(0, Stage::Whole);
                if first.exists() {
                    return Err(OpenError::NotFirst { given: path.to_owned(), first });
                }
                Self::of_file(path)
            }
            _ if !is_there && Files::new(path, Some(1)).path(0, Stage::Whole).exists() => {
                Self::of_parts(path.to_owned())
            }
            _ => Self::of_file(path),
        }
    }

    fn of_file(path: &Path) -> Result<Self, OpenError> {
        let (file, length) = open(path)?;
        let (paths, files) = (vec![path.to_owned()], Files::new(path, None));
        Ok(Self {
            space: Space::new(vec![file], u64::MAX),
            length,
            paths,
            limit: u64::MAX,
            sums: vec![None],
            files,
        })
    }

    fn of_parts(base: PathBuf) -> Result<Self, OpenError> {
        let files = Files::new(&base, Some(1));
        let mut sums = read_sums(&files)?;
        let is_listed = !sums.is_empty();
        let (mut opened, mut paths, mut known) = (Vec::new(), Vec::new(), Vec::new());
        let all: Vec<PathBuf> = files.numbered(Stage::Whole).map(|(_, path)| path).collect();
        for (number, path) in all.iter().enumerate() {
            let is_there = path.try_exists().map_err(|error| OpenError::Io(path.clone(), error))?;
            let sum = sums.remove(path);
            // A part that no list names may be of an archive that was here before.
            if sum.is_none() && (is_listed || !is_there) {
                let has_more =
                    if is_listed { !sums.is_empty() } else { all[number..].iter().any(|path| path.exists()) };
                if number == 0 || has_more {
                    return Err(OpenError::Missing(path.clone()));
                }
                break;
            }
            if !is_there {
                return Err(OpenError::Missing(path.clone()));
            }
            opened.push(open(path)?);
            paths.push(path.clone());
            known.push(sum);
        }
        let limit = opened.first().map_or(0, |(_, size)| *size);
        let last = opened.len().saturating_sub(1);
        for (number, (path, (_, size))) in paths.iter().zip(&opened).enumerate() {
            if *size > limit || (*size < limit && number != last) || *size == 0 {
                return Err(OpenError::Size { path: path.clone(), size: *size, expected: limit });
            }
        }
        let length = opened.iter().map(|(_, size)| size).sum();
        let space = Space::new(opened.into_iter().map(|(file, _)| file).collect(), limit);
        Ok(Self { space, length, paths, limit, sums: known, files })
    }

    /// What is wrong with an archive that cannot be read: with one of its parts, if that can be told.
    fn explain(self, error: ScanError) -> OpenError {
        let (is_cut, place) = match &error {
            ScanError::Truncated { .. } | ScanError::NoEnd(_) => (true, self.length - 1),
            ScanError::Damaged { offset, .. } => (false, *offset),
            ScanError::Ambiguous { .. } | ScanError::NotTar => (false, 0),
            _ => return OpenError::Scan(self.paths[0].clone(), error),
        };
        match self.wrong() {
            Ok(Some(path)) => OpenError::Sum(path.to_owned()),
            Ok(None) if is_cut && self.length.is_multiple_of(self.limit) => {
                OpenError::Missing(self.files.path(self.paths.len() as u64, Stage::Whole))
            }
            Ok(None) => OpenError::Scan(self.path_at(place).to_owned(), error),
            Err(error) => error,
        }
    }

    /// The first part that is not what its checksum says, where there are checksums. All bytes are read.
    ///
    /// # Errors
    /// A part cannot be read.
    pub(crate) fn wrong(&self) -> Result<Option<&Path>, OpenError> {
        for ((path, sum), (number, file)) in
            self.paths.iter().zip(&self.sums).zip((0..).zip(self.space.files()))
        {
            let Some(sum) = sum else { continue };
            let size = self.limit.min(self.length - self.limit.saturating_mul(number));
            let hash = sums::hash(file, size, |_| {}).map_err(|error| OpenError::Io(path.clone(), error))?;
            if hash != *sum {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The file that has the byte at `offset`.
    pub(crate) fn path_at(&self, offset: u64) -> &Path {
        let number = usize::try_from(offset / self.limit.max(1)).unwrap_or(usize::MAX);
        &self.paths[number.min(self.paths.len() - 1)]
    }

    /// The bytes of a document; `None` if it is not there.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn document(&self, found: &Found, document: Document) -> Result<Option<Vec<u8>>, OpenError> {
        let read = scan::read(self, found, document);
        read.map_err(|error| OpenError::Scan(self.paths[0].clone(), error))
    }
}

impl ReadAt for Parts {
    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.space.fill_at(buffer, offset)
    }
}

/// The name of the archive that `path` is a part of by its own, and the part's number.
fn numbered(path: &Path) -> Option<(PathBuf, u64)> {
    let digits = path.extension()?.to_str().filter(|digits| digits.len() == 3)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((path.with_extension(""), digits.parse().ok().filter(|_| is_number)?))
}

fn open(path: &Path) -> Result<(File, u64), OpenError> {
    let io = |error| OpenError::Io(path.to_owned(), error);
    // A pipe is told to be none, and not waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
    let there = file.metadata().map_err(io)?;
    if there.is_file() {
        Ok((file, there.len()))
    } else {
        Err(io(io::Error::new(ErrorKind::InvalidInput, "it is no file")))
    }
}

/// What is known of the parts' checksums: nothing, where there is no file of them.
fn read_sums(files: &Files) -> Result<HashMap<PathBuf, Digest>, OpenError> {
    let path = files.sums();
    let bytes = match input::read_bytes(&path, sums::READ_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(OpenError::Io(path, error)),
    };
    let parts: HashSet<PathBuf> = files.numbered(Stage::Whole).map(|(_, path)| path).collect();
    let named = sums::parse(&bytes).into_iter().map(|(name, sum)| (path.with_file_name(name), sum));
    Ok(named.filter(|(path, _)| parts.contains(path)).collect())
}

#[cfg(test)]
mod tests;
