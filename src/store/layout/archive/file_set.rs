//! The files that an archive is in, finished or not, and how they are opened.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::space::Space;

/// Most parts: their numbers have three digits.
const PARTS_MAX: u64 = 999;

/// Which of an archive's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Under the archive's own name.
    Whole,
    /// Being written.
    Partial,
    /// Of an earlier run for another table.
    Earlier,
}

impl Stage {
    fn suffix(self) -> &'static str {
        match self {
            Stage::Whole => "",
            Stage::Partial => ".partial",
            Stage::Earlier => ".partial.old",
        }
    }
}

/// The names of an archive's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSet {
    base: PathBuf,
    /// Most bytes of one file; `None` for one file of any size.
    limit: Option<u64>,
}

impl FileSet {
    pub(super) fn new(base: &Path, limit: Option<u64>) -> Self {
        Self { base: base.to_owned(), limit }
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// As a journal has it.
    pub(super) fn limit(&self) -> u64 {
        self.limit.unwrap_or(0)
    }

    /// The same, as they are told apart in a journal.
    pub(super) fn with_limit(&self, limit: u64) -> Self {
        Self::new(&self.base, Some(limit).filter(|limit| *limit > 0))
    }

    /// How many files have `size` bytes together; `None` for more than can be numbered.
    pub(super) fn count(&self, size: u64) -> Option<u64> {
        let count = self.limit.map_or(1, |limit| size.div_ceil(limit.max(1)));
        (count <= PARTS_MAX).then_some(count)
    }

    /// The bytes of file `number`, from 0, where all have `size`.
    pub(super) fn size_of(&self, number: u64, size: u64) -> u64 {
        self.limit.map_or(size, |limit| size.saturating_sub(number.saturating_mul(limit)).min(limit))
    }

    pub(super) fn path(&self, number: u64, stage: Stage) -> PathBuf {
        let part = if self.limit.is_some() { format!(".{:03}", number + 1) } else { String::new() };
        with_suffix(&self.base, &format!("{part}{}", stage.suffix()))
    }

    pub(super) fn journal(&self, stage: Stage) -> PathBuf {
        with_suffix(&self.base, &format!("{}.journal", stage.suffix()))
    }

    /// The sums of finished parts.
    pub(super) fn sums(&self) -> PathBuf {
        with_suffix(&self.base, ".sha256")
    }

    /// All files that there can be, with their numbers.
    pub(super) fn numbered(&self, stage: Stage) -> impl Iterator<Item = (u64, PathBuf)> {
        let count = if self.limit.is_some() { PARTS_MAX } else { 1 };
        (0..count).map(move |number| (number, self.path(number, stage)))
    }

    /// Those that are there, from the first one on.
    pub(super) fn there(&self, stage: Stage) -> Vec<PathBuf> {
        let paths = self.numbered(stage).map(|(_, path)| path);
        paths.take_while(|path| fs::symlink_metadata(path).is_ok()).collect()
    }

    /// The files as one space.
    pub(super) fn open(
        &self,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Space, (PathBuf, io::Error)> {
        let open = |path: PathBuf| open_to_write(&path).map_err(|error| (path, error));
        let files = paths.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Space::new(files, self.limit.unwrap_or(u64::MAX)))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = OsString::from(path);
    text.push(suffix);
    text.into()
}

/// Opens a file to be read and written, and makes it if it is not there. A link is not followed: whoever may make files
/// here has no say in what else is written.
pub(super) fn open_to_write(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    regular(path, &mut options)
}

/// The same for a file that lines are added to.
pub(super) fn open_to_append(path: &Path) -> io::Result<File> {
    regular(path, OpenOptions::new().read(true).append(true).create(true))
}

fn regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits();
    let refused = |why| io::Error::new(ErrorKind::InvalidInput, why);
    let opened = options.custom_flags(flags.cast_signed()).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => refused("it is a link, which is not followed"),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused("it is no file")) }
}

/// Makes what was renamed in the directory of `path` last.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
