//! Blobs on their way out of a store in memory, and into one.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{BlobOrder, Landed, Origin};
use super::{Act, Fault, Store};
use crate::error::{Error, Kind, Side};
use crate::events::Event;
use crate::image::reference::{Digest, Repository};
use crate::store::Trial;

/// Bytes of a piece of a blob.
const PIECE: usize = 64 << 10;

/// A blob being read.
pub(crate) struct Stream {
    store: Arc<Store>,
    side: Side,
    repository: Repository,
    digest: Digest,
    bytes: Bytes,
    position: u64,
}

impl Stream {
    pub(super) fn new(
        store: Arc<Store>,
        side: Side,
        repository: Repository,
        digest: Digest,
        bytes: Bytes,
        position: u64,
    ) -> Self {
        Self { store, side, repository, digest, bytes, position }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Trial> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let act = self.act();
        let faults = self.store.undergo(self.side, &act).await?;
        self.store.lock().note(act, true);
        let mut piece = self.bytes.split_to(self.bytes.len().min(PIECE));
        if faults.contains(&Fault::Flip) {
            let mut flipped = piece.to_vec();
            flipped[0] ^= 1;
            piece = flipped.into();
        }
        self.position += piece.len() as u64;
        Ok(Some(piece))
    }

    pub(crate) fn error(&self, kind: Kind, why: String) -> Error {
        self.store.error(self.side, kind, &self.act(), &why)
    }

    fn act(&self) -> Act {
        Act::Read(self.repository.clone(), self.digest.clone(), self.position)
    }
}

/// A blob being put.
pub(crate) struct Put<'a> {
    store: &'a Store,
    order: &'a BlobOrder,
    pub(crate) must_send: bool,
}

impl<'a> Put<'a> {
    pub(crate) fn new(store: &'a Store, order: &'a BlobOrder) -> Self {
        Self { store, order, must_send: order.must_send || order.suspect }
    }

    pub(crate) async fn attempt(
        &mut self,
        origin: &Origin,
        past_caches: bool,
    ) -> Result<Option<Landed>, Trial> {
        let (store, order) = (self.store, self.order);
        if let Some(landed) = self.spare().await? {
            return Ok(Some(landed));
        }
        if !order.may_send {
            return Ok(Some(Landed::Refused));
        }
        let act = Act::PutBlob(order.repository.clone(), order.blob.digest.clone());
        let mut reader = origin.open(&order.blob, past_caches).await?;
        (order.listener)(Event::Started {
            transfer: order.id,
            what: order.what.clone(),
            size: order.blob.size,
        });
        store.undergo(Side::Target, &act).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await? {
            bytes.extend_from_slice(&piece);
            (order.listener)(Event::Moved { transfer: order.id, position: reader.position() });
        }
        let mut state = store.lock();
        state.note(act, true);
        state.bytes_put += bytes.len() as u64;
        state.linked.insert((order.repository.clone(), order.blob.digest.clone()));
        state.blobs.insert(order.blob.digest.clone(), bytes.into());
        Ok(Some(Landed::Streamed))
    }

    /// How it lands without a byte sent, if it does.
    async fn spare(&self) -> Result<Option<Landed>, Error> {
        let (store, order) = (self.store, self.order);
        let digest = &order.blob.digest;
        if self.must_send {
            return Ok(None);
        }
        let from = order.known_in.as_ref().filter(|from| **from != order.repository && store.mounts);
        if let Some(from) = from {
            let act = Act::Mount(from.clone(), order.repository.clone(), digest.clone());
            store.undergo(Side::Target, &act).await?;
            let mut state = store.lock();
            let there = store.has_blob(&state, from, digest);
            state.note(act, there);
            if there {
                state.linked.insert((order.repository.clone(), digest.clone()));
                return Ok(Some(Landed::Mounted));
            }
        }
        let size = store.has(&order.repository, digest).await?;
        Ok(size.filter(|size| *size == order.blob.size).map(|_| Landed::Found))
    }
}
