//! A blob on its way into a layout.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::directory::{Directory, Part};
use super::saver::{Saving, Slot};
use super::stream::{Feed, Streamer};
use super::{Layout, LayoutError, Written, blocking};
use crate::error::{Error, Kind, Side};
use crate::events::Event;
use crate::image::reference::Digest;
use crate::store::{BlobOrder, BlobReader, Landed, Origin, Prefix, Trial};

/// Bytes that are written at a time.
const PIECE: usize = 256 << 10;

/// The putting of one blob, over all the tries that it takes.
pub(crate) struct Put<'a> {
    layout: &'a Layout,
    order: &'a BlobOrder,
    pub(crate) must_send: bool,
    /// Bytes that were there from an earlier run, once that is known.
    resumed: Option<u64>,
    /// Where it goes as it comes, once it has begun.
    feed: Option<Box<Feed>>,
}

/// What blobs are written into.
#[derive(Clone)]
enum Place {
    Directory(Arc<Directory>),
    Archive(Arc<Saving>),
}

impl Place {
    /// Whether the blob is there with all its bytes.
    fn has(&self, digest: &Digest, size: u64) -> io::Result<bool> {
        match self {
            Place::Directory(directory) => match directory.blob(digest)? {
                Some(piece) if piece.length == size => piece.is(digest),
                _ => Ok(false),
            },
            Place::Archive(saving) => saving.is_there(digest, size),
        }
    }

    /// Begins the blob, or goes on with it; `None` if there is no place for it.
    fn begin(&self, digest: &Digest, size: u64) -> io::Result<Option<Sink>> {
        match self {
            Place::Directory(directory) => {
                Ok(Some(Sink::Part(Box::new(directory.begin(digest, size)?), directory.clone())))
            }
            Place::Archive(saving) => Ok(saving.begin(digest, size)?.map(|slot| Sink::Slot(Box::new(slot)))),
        }
    }
}

/// What one blob is written into.
enum Sink {
    Part(Box<Part>, Arc<Directory>),
    Slot(Box<Slot>),
}

impl Sink {
    fn prefix(&self) -> Prefix {
        match self {
            Sink::Part(part, _) => part.prefix.clone(),
            Sink::Slot(slot) => slot.prefix.clone(),
        }
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        match self {
            Sink::Part(part, _) => part.write_at(bytes, position),
            Sink::Slot(slot) => slot.write_at(bytes, position),
        }
    }

    /// All is written that `prefix` has read.
    fn reached(&self, prefix: Prefix) -> io::Result<()> {
        match self {
            // Its length says so.
            Sink::Part(..) => Ok(()),
            Sink::Slot(slot) => slot.reached(prefix),
        }
    }

    /// Keeps nothing for the next try.
    fn forget(&self) -> io::Result<()> {
        match self {
            Sink::Part(part, _) => part.forget(),
            Sink::Slot(slot) => slot.forget(),
        }
    }

    /// All of it is there, and right.
    fn keep(&self, digest: &Digest) -> io::Result<()> {
        match self {
            Sink::Part(part, directory) => directory.keep(part, digest),
            Sink::Slot(slot) => slot.keep(),
        }
    }
}

impl<'a> Put<'a> {
    pub(crate) fn new(layout: &'a Layout, order: &'a BlobOrder) -> Self {
        Self { layout, order, must_send: order.must_send || order.suspect, resumed: None, feed: None }
    }

    pub(crate) async fn attempt(
        &mut self,
        origin: &Origin,
        past_caches: bool,
    ) -> Result<Option<Landed>, Trial> {
        let order = self.order;
        if let Written::Stream(streamer) = &self.layout.written {
            return self.attempt_in_turn(streamer, origin, past_caches).await.map(Some);
        }
        let Some(place) = self.place() else {
            return Err(self.invalid("it is only read").into());
        };
        if !self.must_send && self.is_there(&place).await? {
            return Ok(Some(Landed::Found));
        }
        if !order.may_send {
            return Ok(Some(Landed::Refused));
        }
        let (digest, size) = (order.blob.digest.clone(), order.blob.size);
        let begun = blocking(move || place.begin(&digest, size)).await.map_err(|error| self.error(&error))?;
        let Some(sink) = begun else {
            let why = format!("its manifest says {size} bytes, and another one says otherwise");
            return Err(origin.source.error(Kind::Corrupt, self.action(), why).into());
        };
        let prefix = sink.prefix();
        let mut writer = Writer { sink: Arc::new(sink), position: prefix.length, piece: BytesMut::new() };
        if let Err(trial) = self.write(&mut writer, prefix, origin, past_caches).await {
            let error = trial.error();
            // What is wrong may be what was there before; what is not is kept for the next try.
            if error.side == Side::Source && error.kind == Kind::Corrupt {
                let sink = writer.sink.clone();
                blocking(move || sink.forget()).await.map_err(|error| self.error(&error))?;
                self.tell_resumed(0);
            }
            return Err(trial);
        }
        let (sink, digest) = (writer.sink.clone(), order.blob.digest.clone());
        blocking(move || sink.keep(&digest)).await.map_err(|error| self.error(&error))?;
        self.layout.lock().verified.insert(order.blob.digest.clone(), order.blob.size);
        Ok(Some(Landed::Streamed))
    }

    fn place(&self) -> Option<Place> {
        match &self.layout.written {
            Written::Nothing | Written::Stream(_) => None,
            Written::Directory(directory) => Some(Place::Directory(directory.clone())),
            Written::Archive(saver) => saver.saving().cloned().map(Place::Archive),
        }
    }

    /// The same where all blobs go one behind the other. What has come is kept for the next try, and once some of it is
    /// written it cannot come otherwise.
    async fn attempt_in_turn(
        &mut self,
        streamer: &Streamer,
        origin: &Origin,
        past_caches: bool,
    ) -> Result<Landed, Trial> {
        let blob = &self.order.blob;
        let feed = match self.feed.take() {
            Some(feed) => Some(feed),
            None => {
                streamer.streaming().and_then(|all| Feed::new(all, &blob.digest, blob.size)).map(Box::new)
            }
        };
        let Some(mut feed) = feed else {
            let why = format!("its manifest says {} bytes, and another one says otherwise", blob.size);
            return Err(origin.source.error(Kind::Corrupt, self.action(), why).into());
        };
        if let Err(trial) = self.feed(&mut feed, origin, past_caches).await {
            let is_wrong = trial.error().side == Side::Source && trial.error().kind == Kind::Corrupt;
            if is_wrong && !feed.forget() {
                let why = format!("some of its bytes are written, and they are wrong: {}", trial.error());
                return Err(self.layout.error(Kind::Closed, self.action(), why).into());
            }
            self.feed = Some(feed);
            return Err(trial);
        }
        feed.finish().await.map_err(|error| self.closed(error))?;
        Ok(Landed::Streamed)
    }

    async fn feed(&self, feed: &mut Feed, origin: &Origin, past_caches: bool) -> Result<(), Trial> {
        let order = self.order;
        let mut reader = origin.open_behind(Some(feed.prefix()), &order.blob, past_caches).await?;
        let (transfer, size) = (order.id, order.blob.size);
        (order.listener)(Event::Started { transfer, what: order.what.clone(), size });
        (order.listener)(Event::Moved { transfer, position: reader.position() });
        while let Some(piece) = reader.next().await? {
            feed.take(piece, reader.prefix()).await.map_err(|error| self.closed(error))?;
            (order.listener)(Event::Moved { transfer, position: reader.position() });
        }
        Ok(())
    }

    /// Standard output takes no more.
    fn closed(&self, error: io::Error) -> Error {
        self.layout.error(Kind::Closed, self.action(), LayoutError::Stream(error).to_string())
    }

    /// Whether it is there with all its bytes; each blob is read for that once in a run.
    async fn is_there(&self, place: &Place) -> Result<bool, Error> {
        let blob = &self.order.blob;
        // A size that another image has given it is no news of this one's.
        if self.layout.lock().verified.get(&blob.digest) == Some(&blob.size) {
            return Ok(true);
        }
        let (place, digest, size) = (place.clone(), blob.digest.clone(), blob.size);
        let whole = blocking(move || place.has(&digest, size)).await;
        let whole = whole.map_err(|error| self.error(&error))?;
        if whole {
            self.layout.lock().verified.insert(blob.digest.clone(), blob.size);
        }
        Ok(whole)
    }

    async fn write(
        &mut self,
        writer: &mut Writer,
        prefix: Prefix,
        origin: &Origin,
        past_caches: bool,
    ) -> Result<(), Trial> {
        let order = self.order;
        // What a try of this run has left is moved, and not resumed.
        let resumed = self.resumed.unwrap_or(if order.tried_before { 0 } else { prefix.length });
        let mut reader = origin.open_behind(Some(prefix), &order.blob, past_caches).await?;
        let (transfer, size) = (order.id, order.blob.size);
        (order.listener)(Event::Started { transfer, what: order.what.clone(), size });
        self.tell_resumed(resumed);
        (order.listener)(Event::Moved { transfer, position: reader.position() });
        loop {
            let piece = match reader.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(trial) => {
                    // What has come is kept for the next try.
                    writer.flush(&reader).await.map_err(|error| self.error(&error))?;
                    return Err(trial);
                }
            };
            writer.add(piece, &reader).await.map_err(|error| self.error(&error))?;
            (order.listener)(Event::Moved { transfer, position: reader.position() });
        }
        Ok(writer.flush(&reader).await.map_err(|error| self.error(&error))?)
    }

    fn tell_resumed(&mut self, bytes: u64) {
        if self.resumed.unwrap_or(0) != bytes {
            (self.order.listener)(Event::Resumed { transfer: self.order.id, bytes });
        }
        self.resumed = Some(bytes);
    }

    fn action(&self) -> String {
        format!("write blob {}", self.order.blob.digest)
    }

    fn invalid(&self, why: &str) -> Error {
        self.layout.error(Kind::Invalid, self.action(), why.to_owned())
    }

    fn error(&self, error: &io::Error) -> Error {
        self.layout.io_error(self.action(), error)
    }
}

/// Gathers what comes, so that the disk is not asked for each piece of it.
struct Writer {
    sink: Arc<Sink>,
    /// Where the next piece goes, in bytes.
    position: u64,
    piece: BytesMut,
}

impl Writer {
    /// Takes what `reader` has just handed on.
    async fn add(&mut self, bytes: Bytes, reader: &BlobReader) -> io::Result<()> {
        self.piece.extend_from_slice(&bytes);
        if self.piece.len() >= PIECE { self.flush(reader).await } else { Ok(()) }
    }

    async fn flush(&mut self, reader: &BlobReader) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let (sink, position, piece) = (self.sink.clone(), self.position, self.piece.split().freeze());
        let length = piece.len() as u64;
        let prefix = reader.prefix();
        blocking(move || {
            sink.write_at(&piece, position)?;
            prefix.map_or(Ok(()), |prefix| sink.reached(prefix))
        })
        .await?;
        self.position += length;
        Ok(())
    }
}
