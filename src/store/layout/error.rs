//! Why there is no layout to be had.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::archive::partial::PartialError;
use super::archive::scan::ScanError;
use super::index::IndexError;

/// Why there is no layout to be had.
#[derive(Debug, Error)]
pub enum LayoutError {
    #[error("{}: there is no image layout: it has no file oci-layout, or no index.json", .0.display())]
    NoLayout(PathBuf),
    #[error("{}: it is not empty, and no image layout: name a new directory, or one that holds a layout", .0.display())]
    SomethingElse(PathBuf),
    #[error("{}: it is a link or a file, where a directory of the layout should be", .0.display())]
    Link(PathBuf),
    #[error("{}: its oci-layout is not of version 1.0.0: {}", .0.display(), .1)]
    Version(PathBuf, String),
    #[error("{}: {}", .0.display(), .1)]
    Index(PathBuf, #[source] IndexError),
    #[error("{}: more names than readers take in one index.json, which is 20 MiB", .0.display())]
    TooManyNames(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Archive(PathBuf, #[source] ScanError),
    #[error("{}: it is no file: an archive is read at many places, so that it cannot come by a pipe", .0.display())]
    NoFile(PathBuf),
    #[error("{}: it is a pipe or a device, and an archive is written at many places: name a file", .0.display())]
    NoArchive(PathBuf),
    #[error("{}: it is a directory: name a file, or oci:DIR", .0.display())]
    IsDirectory(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Partial(PathBuf, #[source] PartialError),
    #[error("{} is not written, for it would lack images; what there is of it is in {}, and the next run goes on from that", .0.display(), .1.display())]
    Incomplete(PathBuf, PathBuf),
    #[error("{} is not written, for there is no image to put into it", .0.display())]
    NothingSaved(PathBuf),
    #[error("two layouts have different images under the name {0}: load one after the other")]
    Contradiction(String),
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}
