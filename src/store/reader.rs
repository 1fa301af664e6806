//! Blobs as they are read from any store: verification over where the bytes come from.

use bytes::{Bytes, BytesMut};

use super::layout;
#[cfg(test)]
use super::memory;
use crate::error::{Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Hasher};
use crate::store::Trial;
use crate::store::registry::Download;

/// Where bytes come from.
pub(super) enum Stream {
    Registry(Box<Download>),
    Layout(layout::Stream),
    #[cfg(test)]
    Memory(memory::Stream),
}

impl Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, Trial> {
        match self {
            Stream::Registry(download) => download.next().await,
            Stream::Layout(stream) => stream.next().await,
            #[cfg(test)]
            Stream::Memory(stream) => stream.next().await,
        }
    }

    fn error(&self, kind: Kind, why: String) -> Error {
        match self {
            Stream::Registry(download) => download.error(kind, why),
            Stream::Layout(stream) => stream.error(kind, why),
            #[cfg(test)]
            Stream::Memory(stream) => stream.error(kind, why),
        }
    }
}

/// The beginning of a blob that is there from an earlier try.
#[derive(Clone)]
pub(crate) struct Prefix {
    /// Bytes.
    pub length: u64,
    /// It has read them.
    pub hasher: Hasher,
}

/// A blob being read, and verified on the way. Its last piece is handed on only once the digest of the whole is right,
/// so that a write of a declared length can never be completed with wrong bytes.
pub(crate) struct BlobReader {
    from: Stream,
    digest: Digest,
    /// Bytes.
    size: u64,
    /// Bytes handed on so far.
    position: u64,
    /// `None` once the digest has been compared.
    hasher: Option<Hasher>,
    /// Read, but not yet wanted.
    rest: Bytes,
}

impl BlobReader {
    /// One that goes on behind `prefix`.
    pub(super) fn new(from: Stream, blob: &Descriptor, prefix: Option<Prefix>) -> Result<Self, Error> {
        let (digest, size) = (blob.digest.clone(), blob.size);
        let Prefix { length, hasher } =
            prefix.unwrap_or_else(|| Prefix { length: 0, hasher: Hasher::new(digest.algorithm()) });
        let mut reader =
            Self { from, digest, size, position: length, hasher: Some(hasher), rest: Bytes::new() };
        if reader.is_done() {
            reader.verify()?;
        }
        Ok(reader)
    }

    /// The next piece; `None` after the last. All pieces together have the digest, or the last one never comes.
    ///
    /// # Errors
    /// The source failed beyond its patience, or the bytes are not the promised ones ([`Kind::Corrupt`]).
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Trial> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        if self.is_done() {
            return Ok(None);
        }
        let Some(piece) = self.from.next().await? else {
            let why = format!("it ended after {} of {} bytes", self.position, self.size);
            return Err(self.from.error(Kind::Corrupt, why).into());
        };
        if piece.len() as u64 > self.size - self.position {
            return Err(self.too_long().into());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        self.position += piece.len() as u64;
        if self.is_done() {
            if self.from.next().await?.is_some() {
                return Err(self.too_long().into());
            }
            self.verify()?;
        }
        Ok(Some(piece))
    }

    /// The next `length` bytes in one piece; fewer only at the end of the blob.
    ///
    /// # Errors
    /// As [`Self::next`] has them.
    pub(crate) async fn next_exactly(&mut self, length: usize) -> Result<Bytes, Trial> {
        let mut piece = BytesMut::with_capacity(length);
        while piece.len() < length {
            let Some(mut more) = self.next().await? else { break };
            let fits = more.len().min(length - piece.len());
            piece.extend_from_slice(&more.split_to(fits));
            self.rest = more;
        }
        Ok(piece.freeze())
    }

    /// All that was read so far; `None` once its digest has been compared. With [`Self::next`] alone it is what was handed
    /// on.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        let hasher = self.hasher.clone()?;
        Some(Prefix { length: self.position, hasher })
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether that is all, verified.
    pub(crate) fn is_done(&self) -> bool {
        self.position == self.size
    }

    fn verify(&mut self) -> Result<(), Error> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let actual = hasher.finish();
        if actual == self.digest {
            return Ok(());
        }
        Err(self.from.error(Kind::Corrupt, format!("its bytes are damaged: they have the digest {actual}")))
    }

    fn too_long(&self) -> Error {
        let why = format!("it is longer than the {} bytes its manifest says", self.size);
        self.from.error(Kind::Corrupt, why)
    }
}
