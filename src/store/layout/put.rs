//! A blob on its way into a layout.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::directory::Part;
use super::{Layout, blocking};
use crate::error::{Error, Kind, Side};
use crate::events::Event;
use crate::store::{BlobOrder, Landed, Origin, Prefix, Trial};

/// Bytes that are written at a time.
const PIECE: usize = 1 << 20;

/// The putting of one blob, over all the tries that it takes.
pub(crate) struct Put<'a> {
    layout: &'a Layout,
    order: &'a BlobOrder,
    pub(crate) must_send: bool,
}

impl<'a> Put<'a> {
    pub(crate) fn new(layout: &'a Layout, order: &'a BlobOrder) -> Self {
        Self { layout, order, must_send: order.must_send || order.suspect }
    }

    pub(crate) async fn attempt(
        &mut self,
        origin: &Origin,
        past_caches: bool,
    ) -> Result<Option<Landed>, Trial> {
        let (layout, order) = (self.layout, self.order);
        let blob = &order.blob;
        if !self.must_send && self.is_there().await? {
            return Ok(Some(Landed::Found));
        }
        if !order.may_send {
            return Ok(Some(Landed::Refused));
        }
        let (directory, digest, size) = (layout.directory(), blob.digest.clone(), blob.size);
        let begun = blocking(move || directory.begin(&digest, size)).await;
        let part = Arc::new(begun.map_err(|error| self.error(&error))?);
        let prefix = part.prefix.clone();
        let mut writer = Writer { part, position: prefix.length, piece: BytesMut::new() };
        let written = self.write(&mut writer, prefix, origin, past_caches).await;
        match written {
            Ok(()) => {}
            Err(trial) => {
                let error = trial.error();
                // What is wrong may be what was there before.
                if error.side == Side::Source && error.kind == Kind::Corrupt {
                    let part = writer.part.clone();
                    blocking(move || part.forget()).await.map_err(|error| self.error(&error))?;
                }
                return Err(trial);
            }
        }
        let (directory, digest, part) = (layout.directory(), blob.digest.clone(), writer.part.clone());
        blocking(move || directory.keep(&part, &digest)).await.map_err(|error| self.error(&error))?;
        layout.lock().verified.insert(blob.digest.clone());
        Ok(Some(Landed::Streamed))
    }

    /// Whether it is there with all its bytes; each blob is read for that once in a run.
    async fn is_there(&self) -> Result<bool, Error> {
        let blob = &self.order.blob;
        if self.layout.lock().verified.contains(&blob.digest) {
            return Ok(true);
        }
        let (directory, digest, size) = (self.layout.directory(), blob.digest.clone(), blob.size);
        let whole = blocking(move || directory.is_whole(&digest, size)).await;
        let whole = whole.map_err(|error| self.error(&error))?;
        if whole {
            self.layout.lock().verified.insert(blob.digest.clone());
        }
        Ok(whole)
    }

    async fn write(
        &self,
        writer: &mut Writer,
        prefix: Prefix,
        origin: &Origin,
        past_caches: bool,
    ) -> Result<(), Trial> {
        let order = self.order;
        let mut reader = origin.open_behind(Some(prefix), &order.blob, past_caches).await?;
        let (transfer, size) = (order.id, order.blob.size);
        (order.listener)(Event::Started { transfer, what: order.what.clone(), size });
        (order.listener)(Event::Moved { transfer, position: reader.position() });
        loop {
            let piece = match reader.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(trial) => {
                    // What has come is kept for the next try.
                    writer.flush().await.map_err(|error| self.error(&error))?;
                    return Err(trial);
                }
            };
            writer.add(piece).await.map_err(|error| self.error(&error))?;
            (order.listener)(Event::Moved { transfer, position: reader.position() });
        }
        Ok(writer.flush().await.map_err(|error| self.error(&error))?)
    }

    fn error(&self, error: &std::io::Error) -> Error {
        self.layout.io_error(format!("write blob {}", self.order.blob.digest), error)
    }
}

/// Gathers what comes, so that the disk is not asked for each piece of it.
struct Writer {
    part: Arc<Part>,
    /// Where the next piece goes, in bytes.
    position: u64,
    piece: BytesMut,
}

impl Writer {
    async fn add(&mut self, bytes: Bytes) -> std::io::Result<()> {
        self.piece.extend_from_slice(&bytes);
        if self.piece.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let (part, position, piece) = (self.part.clone(), self.position, self.piece.split().freeze());
        self.position += piece.len() as u64;
        blocking(move || part.write_at(&piece, position)).await
    }
}
