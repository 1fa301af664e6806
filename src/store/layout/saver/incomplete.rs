//! An archive without images that have failed.
//!
//! Nothing moves for that: the documents do not name those images any more, and where a blob did not come its entry gets
//! another name, which readers pass over. What there is of it is then a layout that holds what it names.

use std::collections::{BTreeMap, HashSet};
use std::io;

use crate::image::reference::{Digest, Location, TagOrDigest};
use crate::record::{Draft, Inventory, Kind, Missing};
use crate::store::layout::archive::header_of;
use crate::store::layout::archive::names::{Document, lacking_path};
use crate::store::layout::docker;
use crate::store::layout::index::{Entry, Index};

/// What there is of an archive.
pub(super) struct Rest<'r> {
    /// Names whose images are whole.
    pub named: &'r HashSet<Location>,
    /// Blobs that did not come.
    pub lacking: &'r HashSet<Digest>,
    /// What there is to say of the images.
    pub recorded: &'r Draft,
}

impl Rest<'_> {
    /// What a document says of the rest, in as many bytes as before; `None` where it stays as it is.
    pub(super) fn document(&self, document: Document, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let rest = match document {
            Document::Index => self.index(bytes)?,
            Document::Docker => {
                let names: HashSet<String> = self.named.iter().map(ToString::to_string).collect();
                let is_there = |digest: &Digest| !self.lacking.contains(digest);
                docker::rest(bytes, |name| names.contains(name), is_there).map_err(io::Error::other)?
            }
            Document::Lock => self.lock(bytes)?,
            Document::Layout | Document::Receipt => return Ok(None),
        };
        filled_up(rest, bytes.len()).map(Some)
    }

    /// The header of a blob that did not come, as long as the one that it had.
    pub(super) fn header(digest: &Digest, size: u64) -> Vec<u8> {
        header_of(&lacking_path(digest), size)
    }

    /// The lock with what is missing, as far as there is room: with all of it and why, or with all of it, or at least with
    /// what it had for there before.
    fn lock(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let text = String::from_utf8_lossy(bytes);
        let mut lock =
            Inventory::from_json(&text, Document::Lock.path(), &[Kind::Lock]).map_err(io::Error::other)?;
        lock.blobs.retain(|digest, _| !self.lacking.contains(digest));
        let mut before = BTreeMap::new();
        for (source, missing) in self.recorded.missing() {
            if lock.images.remove(source).is_some() {
                before.insert(source.clone(), Missing { cause: String::new(), ..missing.clone() });
            }
        }
        let all = self.recorded.missing().clone();
        let without_causes = all
            .iter()
            .map(|(source, missing)| (source.clone(), Missing { cause: String::new(), ..missing.clone() }));
        let without_causes = without_causes.collect();
        for missing in [all, without_causes, before] {
            lock.missing = missing;
            let json = lock.to_json().into_bytes();
            if json.len() <= bytes.len() {
                return Ok(json);
            }
        }
        Ok(bytes.to_vec())
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
