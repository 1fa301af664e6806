//! What an archive has, and where: an index over the tar, by which each blob can be read at its place.

use std::collections::HashMap;
use std::io;

use serde::Deserialize;
use thiserror::Error;

use super::names::{Document, Known};
use super::walk::{Raw, Walk};
use crate::image::reference::Digest;
use crate::record;
use crate::util::text::{self, quoted};

pub(crate) use super::walk::ReadAt;

/// Largest document that is read, in bytes: containerd takes no larger ones.
pub(crate) const DOCUMENT_MAX: u64 = 20 << 20;
/// The one version of the layout that there is (image-spec, "oci-layout file").
const VERSION: &str = "1.0.0";

/// Why an archive cannot be read. Entries are named as they can be shown.
#[derive(Debug, Error)]
pub enum ScanError {
    #[error(transparent)]
    Io(io::Error),
    #[error("it is no tar archive")]
    NotTar,
    #[error("it is compressed with {0}, so that nothing in it can be read at its place: decompress it ({1})")]
    Compressed(&'static str, &'static str),
    #[error("it is cut off: of its entry {entry} {} are missing; copy it again", text::bytes(*lacking))]
    Truncated { entry: String, lacking: u64 },
    #[error("it is cut off behind its entry {0}: what ends a tar is missing; copy it again")]
    NoEnd(String),
    #[error("it is damaged behind its entry {last}, at byte {offset}; copy it again")]
    Damaged { last: String, offset: u64 },
    #[error(
        "programs differ in how they read its entry {entry}: {why}; write the archive anew with a current program"
    )]
    Ambiguous { entry: String, why: &'static str },
    #[error("its entry {0} has holes (a sparse file): write it anew without them")]
    Sparse(String),
    #[error("it has more than {0} entries")]
    TooMany(usize),
    #[error("it has an extended header of more than {} for one entry", text::bytes(*.0))]
    Extended(u64),
    #[error("its entry {0} would lie outside of it: do not use this archive")]
    Outside(String),
    #[error("its entry {entry} is {kind}, not a file: write the archive anew with files alone")]
    NotFile { entry: String, kind: &'static str },
    #[error("it has the entry {0} twice: do not use this archive")]
    Twice(String),
    #[error("its {0} is larger than {max}", max = text::bytes(*.1))]
    TooLarge(&'static str, u64),
    #[error(
        "it is an archive of docker's own form without an image layout in it: write it with docker 25 or newer, or convert \
         it (skopeo copy docker-archive:FILE:NAME oci-archive:OTHER:NAME)"
    )]
    DockerArchive,
    #[error(
        "it is no image layout: it has no {0} (a directory is archived from within: tar -C DIRECTORY -cf FILE .)"
    )]
    NoLayout(&'static str),
    #[error("its oci-layout is not of version {VERSION}: {0}")]
    Version(String),
}

/// A place in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Bytes from the archive's beginning.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// Where documents and blobs are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    documents: HashMap<Document, Span>,
    blobs: HashMap<Digest, Span>,
}

impl Found {
    pub(crate) fn blob(&self, digest: &Digest) -> Option<Span> {
        self.blobs.get(digest).copied()
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = (&Digest, Span)> {
        self.blobs.iter().map(|(digest, span)| (digest, *span))
    }

    pub(crate) fn document(&self, document: Document) -> Option<Span> {
        self.documents.get(&document).copied()
    }

    /// Takes an entry in, if it means something. Others are as if they were not there.
    fn add(&mut self, entry: &Raw) -> Result<(), ScanError> {
        let name = clean(&entry.name).ok_or_else(|| ScanError::Outside(entry.shown()))?;
        let Some(known) = Known::parse(&name) else { return Ok(()) };
        if known == Known::Directory && entry.kind.is_dir() {
            return Ok(());
        }
        // Tars of old mark directories by their names alone.
        let is_file = entry.kind.is_file() && !entry.name.ends_with(b"/");
        if known == Known::Directory || !is_file {
            return Err(ScanError::NotFile { entry: entry.shown(), kind: kind(entry) });
        }
        let span = Span { offset: entry.offset, size: entry.size };
        let before = match known {
            Known::Document(document) if span.size > max_of(document) => {
                return Err(ScanError::TooLarge(document.path(), max_of(document)));
            }
            Known::Document(document) => self.documents.insert(document, span),
            Known::Blob(digest) => self.blobs.insert(digest, span),
            Known::Directory => None,
        };
        match before {
            Some(_) => Err(ScanError::Twice(entry.shown())),
            None => Ok(()),
        }
    }
}

/// Largest size of a document, in bytes.
fn max_of(document: Document) -> u64 {
    match document {
        Document::Lock => record::DOCUMENT_MAX,
        Document::Layout | Document::Index | Document::Docker | Document::Receipt => DOCUMENT_MAX,
    }
}

/// Goes over the headers of an archive of `length` bytes.
///
/// # Errors
/// It is no image layout in a tar, or one that is cut off, damaged or not what it seems.
pub(crate) fn scan(bytes: &impl ReadAt, length: u64) -> Result<Found, ScanError> {
    let found = match find(bytes, length) {
        Err(ScanError::NotTar) => return Err(compression(bytes, length)?.unwrap_or(ScanError::NotTar)),
        found => found?,
    };
    for document in [Document::Layout, Document::Index] {
        if found.document(document).is_none() {
            let is_docker = found.document(Document::Docker).is_some();
            return Err(if is_docker {
                ScanError::DockerArchive
            } else {
                ScanError::NoLayout(document.path())
            });
        }
    }
    check_version(&read(bytes, &found, Document::Layout)?.unwrap_or_default())?;
    Ok(found)
}

fn find(bytes: &impl ReadAt, length: u64) -> Result<Found, ScanError> {
    let mut found = Found::default();
    let mut walk = Walk::new(bytes, length);
    while let Some(entry) = walk.next()? {
        found.add(&entry)?;
    }
    Ok(found)
}

/// The bytes of a document; `None` if it is not there.
///
/// # Errors
/// They cannot be read.
pub(crate) fn read(
    bytes: &impl ReadAt,
    found: &Found,
    document: Document,
) -> Result<Option<Vec<u8>>, ScanError> {
    let Some(span) = found.document(document) else { return Ok(None) };
    let mut text = vec![0; span.size as usize];
    bytes.read_exact_at(&mut text, span.offset).map_err(ScanError::Io)?;
    Ok(Some(text))
}

fn check_version(document: &[u8]) -> Result<(), ScanError> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "imageLayoutVersion")]
        version: String,
    }
    match serde_json::from_slice::<File>(document) {
        Ok(file) if file.version == VERSION => Ok(()),
        Ok(file) => Err(ScanError::Version(quoted(&file.version))),
        Err(error) => Err(ScanError::Version(text::printable(&error.to_string()))),
    }
}

/// What compressed files begin with, by what, and how it is undone.
const COMPRESSIONS: [(&[u8], &str, &str); 5] = [
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\x04\x22\x4d\x18", "lz4", "unlz4"),
];

fn compression(bytes: &impl ReadAt, length: u64) -> Result<Option<ScanError>, ScanError> {
    let mut start = [0; 6];
    let start = &mut start[..length.min(6) as usize];
    bytes.read_exact_at(start, 0).map_err(ScanError::Io)?;
    let known = COMPRESSIONS.iter().find(|(magic, ..)| start.starts_with(magic));
    Ok(known.map(|(_, with, undo)| ScanError::Compressed(with, undo)))
}

/// A name as whoever unpacks the archive would have it, without `.` and empty parts; `None` for one that leads out.
fn clean(name: &[u8]) -> Option<String> {
    let name = String::from_utf8_lossy(name);
    if name.starts_with('/') || name.contains('\0') || name.split('/').any(|part| part == "..") {
        return None;
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Some(parts.join("/"))
}

fn kind(entry: &Raw) -> &'static str {
    match entry.kind {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_hard_link() => "a hard link",
        kind if kind.is_dir() || entry.name.ends_with(b"/") => "a directory",
        kind if kind.is_file() => "a file where a directory should be",
        _ => "something special",
    }
}

#[cfg(test)]
mod tests;
