//! Why an archive cannot be written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::store::layout::error::shown;
use crate::util::text;

/// Why an archive cannot be written.
#[derive(Debug, Error)]
pub enum PartialError {
    #[error(
        "{}: another run is writing it{}; wait for that one, or end it", shown(.file),
        .process.map_or(String::new(), |process| format!(" (process {process})"))
    )]
    Busy { file: PathBuf, process: Option<u32> },
    #[error(
        "{}: there is no room for it on the disk: {} more are needed, and {} are free", shown(.file),
        text::bytes(*.needed), text::bytes(*.available)
    )]
    NoRoom { file: PathBuf, needed: u64, available: u64 },
    #[error(
        "{}: it needs {} more, which is beyond the quota of this user or directory: have that raised, or name a place \
         elsewhere", shown(.file), text::bytes(*.needed)
    )]
    NoQuota { file: PathBuf, needed: u64 },
    #[error(
        "{}: it has {}, which is more than one file can have there, as on FAT32 beyond 4 GiB or by ulimit -f",
        shown(.file), text::bytes(*.size)
    )]
    FileTooLarge { file: PathBuf, size: u64 },
    #[error(
        "{}: {} in parts of {} are more than 999 parts: make them larger", shown(.file), text::bytes(*.size),
        text::bytes(*.limit)
    )]
    TooManyParts { file: PathBuf, size: u64, limit: u64 },
    #[error("{}: it is a link, a directory or something else that is no file, where a part should be", shown(.0))]
    NotAFile(PathBuf),
    #[error(
        "{}: it is there, and no run of this program has left it: nothing is changed; move it away or remove it, or \
         name another archive", shown(.0)
    )]
    NotOurs(PathBuf),
    #[error("{}: {} of its entries have not been written", shown(.file), .lacking)]
    Incomplete { file: PathBuf, lacking: usize },
    #[error("{}: {}", shown(.0), .1)]
    Io(PathBuf, #[source] io::Error),
}

pub(in crate::store::layout::archive) fn io_at(path: PathBuf) -> impl FnOnce(io::Error) -> PartialError {
    move |error| PartialError::Io(path, error)
}
