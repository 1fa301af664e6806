//! An archive without images that have failed.
//!
//! Nothing moves for that: the documents do not name those images any more, and where a blob did not come its entry gets
//! another name, which readers pass over. What there is of it is then a layout that holds what it names.

use std::collections::HashSet;
use std::io;

use crate::image::reference::{Digest, Location, TagOrDigest};
use crate::store::layout::archive::header_of;
use crate::store::layout::archive::names::{Document, lacking_path};
use crate::store::layout::docker;
use crate::store::layout::index::{Entry, Index};

/// What there is of an archive.
pub(super) struct Rest<'r> {
    /// Names whose images are whole.
    pub named: &'r HashSet<Location>,
    /// Whether a blob did not come.
    pub is_lacking: &'r dyn Fn(&Digest) -> bool,
    /// The lock of what is left, the fullest first: the first one counts for which there is room.
    pub locks: &'r [Vec<u8>],
}

impl Rest<'_> {
    /// What a document says of the rest, in as many bytes as before; `None` where it stays as it is.
    pub(super) fn document(&self, document: Document, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let rest = match document {
            Document::Index => self.index(bytes)?,
            Document::Docker => {
                let names: HashSet<String> = self.named.iter().map(ToString::to_string).collect();
                let is_there = |digest: &Digest| !(self.is_lacking)(digest);
                docker::rest(bytes, |name| names.contains(name), is_there).map_err(io::Error::other)?
            }
            Document::Lock => {
                let fits = self.locks.iter().find(|lock| lock.len() <= bytes.len());
                fits.ok_or_else(|| io::Error::other("a lock is longer without images than with them"))?
                    .clone()
            }
            Document::Layout | Document::Receipt => return Ok(None),
        };
        filled_up(rest, bytes.len()).map(Some)
    }

    /// The header of a blob that did not come, as long as the one that it had.
    pub(super) fn header(digest: &Digest, size: u64) -> Vec<u8> {
        header_of(&lacking_path(digest), size)
    }

    /// The index with these names alone, and with what refers to an image where that is named by its digest.
    fn index(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut index = Index::read(bytes).map_err(io::Error::other)?;
        let names: HashSet<String> = self.named.iter().map(ToString::to_string).collect();
        let by_digest = |location: &Location| match &location.name {
            TagOrDigest::Digest(digest) => Some(digest.clone()),
            TagOrDigest::Tag(_) => None,
        };
        let digests: HashSet<Digest> = self.named.iter().filter_map(by_digest).collect();
        index.retain(|entry: &Entry| match &entry.name {
            Some(name) => names.contains(name),
            None => digests.contains(&entry.digest),
        });
        Ok(index.to_bytes())
    }
}

/// A document that is shorter now, with what says nothing in JSON behind it.
fn filled_up(mut bytes: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    if bytes.len() > length {
        return Err(io::Error::other("a document is longer without images than with them"));
    }
    bytes.resize(length, b' ');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Algorithm;
    use crate::store::layout::archive::names::blob_path;

    #[test]
    fn the_room_of_what_did_not_come_has_a_header_of_the_same_length() {
        for (algorithm, size) in
            [(Algorithm::Sha256, 7), (Algorithm::Sha512, 7), (Algorithm::Sha256, 9 << 30)]
        {
            let digest = Digest::of(algorithm, b"x");
            let (before, after) = (header_of(&blob_path(&digest), size), Rest::header(&digest, size));
            assert_eq!(before.len(), after.len());
            assert_ne!(before, after);
        }
    }
}
