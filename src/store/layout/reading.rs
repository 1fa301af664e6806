//! What is read from a layout, verified wherever its digest is known.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::files::Piece;
use super::index::Entry;
use super::{Layout, Written, blocking};
use crate::error::{Error, Kind, Remedy, Side};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::reference::{Digest, Location, TagOrDigest};
use crate::store::{Head, Held, Trial};

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// Most blobs of one image that a message names.
const LACKING_TOLD_MAX: usize = 10;

/// The verbs of a source, as [`crate::store::Source`] describes them.
impl Layout {
    /// What a name stands for, or what is there by its digest.
    pub(in crate::store) async fn resolve(&self, location: &Location) -> Result<Head, Error> {
        let named = self.named(location);
        let TagOrDigest::Digest(digest) = &location.name else { return Ok(named) };
        if named != Head::Absent {
            return Ok(named);
        }
        let file = self.file(digest, &format!("look for manifest {location}")).await?;
        Ok(file.map_or(Head::Absent, |_| Head::Found(digest.clone())))
    }

    /// What a name stands for, or what has no name and is there under no other.
    pub(in crate::store) fn named(&self, location: &Location) -> Head {
        let state = self.lock();
        let named = state.index.find(&location.to_string());
        let found = named.or_else(|| match &location.name {
            TagOrDigest::Digest(digest) => {
                state.index.entries().iter().find(|entry| entry.name.is_none() && entry.digest == *digest)
            }
            TagOrDigest::Tag(_) => None,
        });
        found.map_or(Head::Absent, |entry| Head::Found(entry.digest.clone()))
    }

    pub(in crate::store) async fn manifest(
        &self,
        location: &Location,
        pinned: Option<&Descriptor>,
    ) -> Result<Manifest, Error> {
        let action = || format!("read manifest {location}");
        let entry = self.lock().index.find(&location.to_string()).cloned();
        let digest = match (&location.name, &entry) {
            (TagOrDigest::Digest(digest), _) => digest.clone(),
            (TagOrDigest::Tag(_), Some(entry)) => entry.digest.clone(),
            (TagOrDigest::Tag(_), None) => {
                let why = "it has no image of this name".to_owned();
                return Err(self.error(Kind::NotFound, action(), why));
            }
        };
        let size = pinned.map(|pinned| pinned.size).or(entry.as_ref().map(|entry| entry.size));
        let bytes = self.document(&digest, size, &action()).await?;
        let named = pinned.map(|pinned| pinned.media_type.as_str());
        let named = named.or(entry.as_ref().and_then(|entry| entry.media_type.as_deref()));
        let parsed = match Manifest::parse(bytes.clone(), named, digest.algorithm()) {
            Err(_) if pinned.is_some() => Manifest::parse(bytes, None, digest.algorithm()),
            parsed => parsed,
        };
        parsed.map_err(|error| self.error(Kind::Invalid, action(), error.to_string()))
    }

    /// The verified bytes of a manifest.
    async fn document(&self, digest: &Digest, size: Option<u64>, action: &str) -> Result<Bytes, Error> {
        let fail = |kind, why: String| self.error(kind, action.to_owned(), why);
        let Some(piece) = self.file(digest, action).await? else {
            return Err(fail(Kind::NotFound, "it is not there".to_owned()));
        };
        let length = piece.length;
        if size.is_some_and(|size| size != length) {
            let why = format!("it has {length} bytes where {} are named", size.unwrap_or_default());
            return Err(fail(Kind::Corrupt, why));
        }
        if length > self.policy.manifest_max as u64 {
            let why = format!("it has {length} bytes, which is more than a manifest may have");
            return Err(fail(Kind::Invalid, why));
        }
        let mut stream = Stream::new(self, piece, action.to_owned());
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.next().await.map_err(Trial::into_error)? {
            bytes.extend_from_slice(&piece);
        }
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(fail(Kind::Corrupt, format!("its bytes are damaged: they have the digest {actual}")));
        }
        Ok(bytes.freeze())
    }

    async fn file(&self, digest: &Digest, action: &str) -> Result<Option<Piece>, Error> {
        if let Written::Archive(saver) = &self.written
            && let Some(saving) = saver.saving()
        {
            return Ok(saving.blob(digest));
        }
        let (files, wanted) = (self.files.clone(), digest.clone());
        let opened = blocking(move || {
            for files in &files {
                if let Some(found) = files.blob(&wanted)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        });
        opened.await.map_err(|error| self.io_error(action.to_owned(), &error))
    }

    pub(in crate::store) async fn open_blob(
        &self,
        blob: &Descriptor,
        position: u64,
    ) -> Result<Stream, Error> {
        let action = format!("read blob {}", blob.digest);
        match self.file(&blob.digest, &action).await? {
            None => Err(self.error(Kind::NotFound, action, "it is not there".to_owned())),
            Some(piece) if piece.length != blob.size => {
                let why = format!("it has {} bytes where its manifest says {}", piece.length, blob.size);
                Err(self.error(Kind::Corrupt, action, why))
            }
            Some(piece) => Ok(Stream { position, ..Stream::new(self, piece, action) }),
        }
    }

    /// Fails for all of `blobs` that are not there in their sizes, unless they are left out for others to have them, and
    /// names them.
    pub(in crate::store) async fn check_blobs(
        &self,
        blobs: impl Iterator<Item = &Descriptor>,
    ) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let mut lacking: Vec<(&Descriptor, Option<u64>)> = Vec::new();
        for blob in blobs.filter(|blob| seen.insert((&blob.digest, blob.size))) {
            let there = self.file(&blob.digest, &format!("read blob {}", blob.digest)).await?;
            let is_assumed = self.base().get(&blob.digest).is_some_and(|base| base.0 == blob.size);
            match there.map(|piece| piece.length) {
                Some(length) if length == blob.size => {}
                None if is_assumed => {}
                there => lacking.push((blob, there)),
            }
        }
        let flaw = |(blob, there): &(&Descriptor, Option<u64>)| match there {
            None => "it is not there".to_owned(),
            Some(length) => format!("it has {length} bytes where its manifest says {}", blob.size),
        };
        let (action, why) = match &lacking[..] {
            [] => return Ok(()),
            [one] => (format!("read blob {}", one.0.digest), flaw(one)),
            all => {
                let named = all.iter().take(LACKING_TOLD_MAX);
                let mut named: Vec<String> =
                    named.map(|one| format!("{}: {}", one.0.digest, flaw(one))).collect();
                if all.len() > named.len() {
                    named.push(format!("and {} more", all.len() - named.len()));
                }
                (format!("read {} blobs", all.len()), named.join(", "))
            }
        };
        let is_any_missing = lacking.iter().any(|(_, there)| there.is_none());
        let kind = if is_any_missing { Kind::NotFound } else { Kind::Corrupt };
        Err(self.error(kind, action, why).with_remedy(Remedy::SavedPlatforms))
    }

    /// The manifests that are about `subject`, by the layout's word or their own.
    pub(in crate::store) async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let entries: Vec<Entry> = self.lock().index.entries().to_vec();
        let mut found: Vec<Descriptor> = Vec::new();
        for entry in entries {
            let is_about = match &entry.subject {
                Some(about) => about == subject,
                None => {
                    let action = format!("read manifest {}", entry.digest);
                    let bytes = self.document(&entry.digest, Some(entry.size), &action).await?;
                    let manifest =
                        Manifest::parse(bytes, entry.media_type.as_deref(), entry.digest.algorithm());
                    let about = manifest.ok().and_then(|manifest| manifest.as_referrer());
                    about.is_some_and(|(about, _)| about == *subject)
                }
            };
            if is_about && !found.iter().any(|known| known.digest == entry.digest) {
                let media_type = entry.media_type.unwrap_or_default();
                found.push(Descriptor { media_type, ..Descriptor::of_blob(entry.digest, entry.size) });
            }
        }
        Ok(found)
    }

    pub(in crate::store) async fn has(&self, blob: &Descriptor) -> Result<Held, Error> {
        let action = format!("look for blob {}", blob.digest);
        Ok(self.file(&blob.digest, &action).await?.map_or(Held::Nothing, |piece| Held::Bytes(piece.length)))
    }
}

/// A blob being read from a file.
pub(crate) struct Stream {
    side: Side,
    place: String,
    action: String,
    piece: Piece,
    /// Bytes read so far.
    position: u64,
}

impl Stream {
    fn new(layout: &Layout, piece: Piece, action: String) -> Self {
        Self { side: layout.side, place: layout.name.clone(), action, piece, position: 0 }
    }

    pub(in crate::store) async fn next(&mut self) -> Result<Option<Bytes>, Trial> {
        let wanted = (self.piece.length - self.position).min(PIECE as u64) as usize;
        if wanted == 0 {
            return Ok(None);
        }
        let (piece, position) = (self.piece.clone(), self.position);
        let read = blocking(move || piece.read(position, wanted).map(Bytes::from));
        match read.await {
            Ok(piece) => {
                self.position += piece.len() as u64;
                Ok(Some(piece))
            }
            Err(error) => Err(self.error(Kind::Corrupt, error.to_string()).into()),
        }
    }

    pub(in crate::store) fn error(&self, kind: Kind, why: String) -> Error {
        let (place, action, redactor) = (self.place.clone(), self.action.clone(), Arc::default());
        Error {
            side: self.side,
            kind,
            place,
            action,
            cause: why.into(),
            remedy: None,
            status: None,
            redactor,
        }
    }
}
