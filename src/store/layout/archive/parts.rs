//! An archive to be read, as one file or in its parts, which are never joined.
//!
//! The headers tell whether parts are there, whole and in their order, as far as they have any. A part that is filled by
//! one blob has none: such a blob is hashed when the archive is opened, for nothing may be written before it is known
//! that all parts are the right ones.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use super::file_set::{FileSet, Stage};
use super::journal::Noted;
use super::names::Document;
use super::regain::{none, regain};
use super::scan::{self, Found, ReadAt, ScanError, Span, scan};
use super::space::Space;
use super::sums;
use crate::image::reference::Digest;
use crate::store::layout::error::shown;
use crate::store::name::part_of;
use crate::util::text;

/// Why an archive cannot be read.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(
        "{}: it is no file: an archive is read at many places, so that it cannot come by a pipe", shown(.0)
    )]
    NoFile(PathBuf),
    #[error("{}: this part of the archive is missing: copy all of its parts into one directory", shown(.0))]
    Missing(PathBuf),
    #[error("{}: it is a part of an archive, but not the first: name {}", shown(.given), shown(.first))]
    NotFirst { given: PathBuf, first: PathBuf },
    #[error(
        "{}: it has {} where the archive's parts have {}: it is cut off, or of another archive; copy it again",
        shown(.path), text::bytes(*.size), text::bytes(*.expected)
    )]
    Size { path: PathBuf, size: u64, expected: u64 },
    #[error("{}: it is not what its checksum says: it is damaged, or another part; copy it again", shown(.0))]
    Sum(PathBuf),
    #[error(
        "{}: it is damaged, or it or a part up to {} is another one: the blob that they have together is not the one \
         that it should be; copy them again", shown(.first), shown(.last)
    )]
    Blob { first: PathBuf, last: PathBuf },
    #[error("{}: {}", shown(.0), .1)]
    Scan(PathBuf, #[source] ScanError),
    #[error("{}: {}", shown(.0), .1)]
    Io(PathBuf, #[source] io::Error),
}

impl OpenError {
    /// Whether something is there, and its content keeps it from being read.
    pub(crate) fn is_of_content(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Size { .. } | Self::Sum(_) | Self::Blob { .. } => true,
            Self::Scan(_, error) => !matches!(error, ScanError::Io(_)),
            Self::NoFile(_) | Self::NotFirst { .. } | Self::Io(..) => false,
        }
    }
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
    files: FileSet,
}

impl Parts {
    /// The archive `path`, or the one whose first part that is, and what is in it.
    ///
    /// # Errors
    /// There is none; a part is missing, or another one is in its place; or it is no image layout.
    pub(crate) fn open(path: &Path) -> Result<(Self, Found), OpenError> {
        let parts = Self::find(path)?;
        let found = match scan(&parts, parts.length) {
            Ok(found) => found,
            Err(error) => return Err(parts.explain(error)),
        };
        parts.check_parts_without_headers(&found)?;
        Ok((parts, found))
    }

    fn find(path: &Path) -> Result<Self, OpenError> {
        let is_there = path.try_exists().map_err(|error| OpenError::Io(path.to_owned(), error))?;
        match part_of(path) {
            Some((base, 1)) => Self::of_parts(base),
            Some((base, number)) if number > 1 => {
                let first = FileSet::new(&base, Some(1)).path(0, Stage::Whole);
                if first.exists() {
                    return Err(OpenError::NotFirst { given: path.to_owned(), first });
                }
                Self::of_file(path)
            }
            _ if !is_there && has_parts(path) => Self::of_parts(path.to_owned()),
            _ => Self::of_file(path),
        }
    }

    fn of_file(path: &Path) -> Result<Self, OpenError> {
        let (file, length) = open(path)?;
        let (paths, files) = (vec![path.to_owned()], FileSet::new(path, None));
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
        let files = FileSet::new(&base, Some(1));
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

    /// # Errors
    /// A blob that fills a whole part is not what it should be.
    fn check_parts_without_headers(&self, found: &Found) -> Result<(), OpenError> {
        for (digest, span) in found.blobs() {
            let first_whole = span.offset.div_ceil(self.limit);
            let fills_one =
                first_whole.saturating_add(1).saturating_mul(self.limit) <= span.offset + span.size;
            if self.paths.len() == 1 || !fills_one || self.has(digest, span)? {
                continue;
            }
            if let Some(path) = self.wrong()? {
                return Err(OpenError::Sum(path.to_owned()));
            }
            let path_at = |offset| self.path_at(offset).to_owned();
            return Err(OpenError::Blob {
                first: path_at(span.offset),
                last: path_at(span.offset + span.size - 1),
            });
        }
        Ok(())
    }

    fn has(&self, digest: &Digest, span: Span) -> Result<bool, OpenError> {
        let noted =
            Noted { offset: span.offset, size: span.size, marks: [(span.size, digest.clone())].into() };
        let read = regain(self, digest, &noted, none(digest), |_, _| Ok(()), |_| Ok(()));
        let read = read.map_err(|error| OpenError::Io(self.path_at(span.offset).to_owned(), error))?;
        Ok(read.length == span.size)
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

    /// Where its first or only file is.
    pub(crate) fn path(&self) -> &Path {
        &self.paths[0]
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
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.space.read_exact_at(buffer, offset)
    }
}

/// Whether there is an archive that [`Parts::open`] would find, whatever is in it.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    Ok(path.try_exists()? || has_parts(path))
}

/// Whether anything is there that is only where an archive is in parts; the first one may be missing.
fn has_parts(path: &Path) -> bool {
    let files = FileSet::new(path, Some(1));
    [files.path(0, Stage::Whole), files.path(1, Stage::Whole), files.sums()].iter().any(|path| path.exists())
}

fn open(path: &Path) -> Result<(File, u64), OpenError> {
    let io = |error| OpenError::Io(path.to_owned(), error);
    // A pipe is told to be none, and not waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
    let there = file.metadata().map_err(io)?;
    if there.is_file() { Ok((file, there.len())) } else { Err(OpenError::NoFile(path.to_owned())) }
}

/// What is known of the parts' checksums: nothing, where there is no file of them.
fn read_sums(files: &FileSet) -> Result<HashMap<PathBuf, Digest>, OpenError> {
    let path = files.sums();
    let file = match open(&path) {
        Ok((file, _)) => file,
        Err(OpenError::Io(_, error)) if error.kind() == ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let read = file.take(sums::READ_MAX).read_to_end(&mut bytes);
    read.map_err(|error| OpenError::Io(path.clone(), error))?;
    let parts: HashSet<PathBuf> = files.numbered(Stage::Whole).map(|(_, path)| path).collect();
    let named = sums::parse(&bytes).into_iter().map(|(name, sum)| (path.with_file_name(name), sum));
    Ok(named.filter(|(path, _)| parts.contains(path)).collect())
}

#[cfg(test)]
mod tests;
