//! Why there is no layout to be had.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::archive::partial::PartialError;
use super::archive::parts::OpenError;
use super::archive::table::TooLarge;
use super::index::IndexError;
use crate::util::text::printable;

/// Why there is no layout to be had.
#[derive(Debug, Error)]
pub enum LayoutError {
    #[error("{}: there is no image layout: it has no file oci-layout, or no index.json", shown(.0))]
    NoLayout(PathBuf),
    #[error("{}: it is not empty, and no image layout: name a new directory, or one that holds a layout", shown(.0))]
    SomethingElse(PathBuf),
    #[error("{}: it is a link or a file, where a directory of the layout should be", shown(.0))]
    Link(PathBuf),
    #[error("{}: its oci-layout is not of version 1.0.0: {}", shown(.0), .1)]
    Version(PathBuf, String),
    #[error("{}: {}", shown(.0), .1)]
    Index(PathBuf, IndexError),
    #[error("{}: more names than readers take in one index.json, which is 20 MiB", shown(.0))]
    TooManyNames(PathBuf),
    #[error(transparent)]
    Archive(#[from] OpenError),
    #[error("{}: it is a pipe or a device, and an archive is written at many places: name a file", shown(.0))]
    NoArchive(PathBuf),
    #[error("{}: it is a directory: name a file, or oci:DIR", shown(.0))]
    IsDirectory(PathBuf),
    #[error(transparent)]
    Partial(#[from] PartialError),
    #[error("{} is not written, for it would lack images; what there is of it is in {}, and the next run goes on from that", shown(.0), shown(.1))]
    Incomplete(PathBuf, PathBuf),
    #[error("{}: {}", shown(.0), .1)]
    TooLarge(PathBuf, TooLarge),
    #[error(
        "standard output takes no more ({0}): the archive on it is cut short, so that nobody takes it for whole; begin \
         again once whoever reads it can take all of it"
    )]
    Stream(io::Error),
    #[error(
        "the archive on standard output is cut short, for it would lack images: whoever reads it has to begin again"
    )]
    CutShort,
    #[error("nothing is written to standard output, for it would lack images")]
    NothingStreamed,
    #[error(
        "oci-archive:-: an archive is read at many places, so that it cannot come by standard input: write it to a file, \
         and name that"
    )]
    FromStream,
    #[error("{} is not written: nothing of it was begun", shown(.0))]
    NothingSaved(PathBuf),
    #[error("two layouts have different images under the name {0}: load one after the other")]
    Contradiction(String),
    #[error("{}: {}", shown(.0), .1)]
    Io(PathBuf, io::Error),
}

impl LayoutError {
    /// Whether something is there, and its content keeps it from being read.
    pub(crate) fn is_of_content(&self) -> bool {
        match self {
            Self::Version(..) | Self::Index(..) | Self::Link(_) => true,
            Self::Archive(error) => error.is_of_content(),
            _ => false,
        }
    }
}

/// A path as a terminal may see it.
pub(super) fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}
