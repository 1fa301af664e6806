use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::util::text;

/// Why an archive cannot be written.
#[derive(Debug, Error)]
pub(crate) enum PartialError {
    #[error(
        "{}: another run is writing it{}; wait for that one, or end it", .file.display(),
        .process.map_or(String::new(), |process| format!(" (process {process})"))
    )]
    Busy { file: PathBuf, process: Option<u32> },
    #[error(
        "{}: not enough room on the disk: {} more are needed, and {} are free", .file.display(), text::bytes(*.needed),
        text::bytes(*.available)
    )]
    NoRoom { file: PathBuf, needed: u64, available: u64 },
    #[error("{}: {} are more than a file can have here; split the archive", .file.display(), text::bytes(*.size))]
    FileTooLarge { file: PathBuf, size: u64 },
    #[error("{}: {} in parts of {} are more than 999 parts; make them larger", .file.display(), text::bytes(*.size), text::bytes(*.limit))]
    TooManyParts { file: PathBuf, size: u64, limit: u64 },
    #[error("{}: it is a link or a directory, where the archive should be a file; name another one", .0.display())]
    NotAFile(PathBuf),
    #[error("{}: it is there, and of no earlier run of this program; remove it, or name another archive", .0.display())]
    NotOurs(PathBuf),
    #[error("{}: {} of its entries have not been written", .file.display(), .lacking)]
    Incomplete { file: PathBuf, lacking: usize },
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

pub(in crate::store::layout::archive) fn io_at(path: PathBuf) -> impl FnOnce(io::Error) -> PartialError {
    move |error| PartialError::Io(path, error)
}
