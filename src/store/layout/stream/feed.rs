//! A blob on its way into a stream, over all the tries that it takes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::super::blocking;
use super::Streaming;
use crate::image::reference::{Digest, Hasher};
use crate::store::Prefix;

/// Bytes that are written at a time.
const PIECE: usize = 256 << 10;

pub(in crate::store::layout) struct Feed {
    streaming: Arc<Streaming>,
    number: usize,
    turn: watch::Receiver<usize>,
    /// What has come before its turn, and the room that it has.
    ahead: VecDeque<Bytes>,
    room: Option<OwnedSemaphorePermit>,
    /// What has come in its turn, and is too little to be written alone.
    piece: BytesMut,
    /// Some of it is written, so that it cannot come otherwise.
    is_begun: bool,
    /// What has come of it.
    prefix: Prefix,
}

impl Feed {
    /// `None` if it has no place of this size.
    pub(in crate::store::layout) fn new(
        streaming: &Arc<Streaming>,
        digest: &Digest,
        size: u64,
    ) -> Option<Self> {
        let (number, known) = *streaming.blobs.get(digest)?;
        let nothing = Prefix { length: 0, hasher: Hasher::new(digest.algorithm()) };
        (known == size).then(|| Self {
            streaming: streaming.clone(),
            number,
            turn: streaming.turn.subscribe(),
            ahead: VecDeque::new(),
            room: None,
            piece: BytesMut::new(),
            is_begun: false,
            prefix: nothing,
        })
    }

    /// What has come of it so far.
    pub(in crate::store::layout) fn prefix(&self) -> Prefix {
        self.prefix.clone()
    }

    /// Takes the next bytes, with which `prefix` has come; waits where too much is read ahead already.
    pub(in crate::store::layout) async fn take(
        &mut self,
        bytes: Bytes,
        prefix: Option<Prefix>,
    ) -> io::Result<()> {
        if let Some(prefix) = prefix {
            self.prefix = prefix;
        }
        if !self.is_its_turn() {
            let wanted = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let (ahead, number) = (self.streaming.ahead.clone(), self.number);
            tokio::select! {
                biased;
                _ = self.turn.wait_for(|turn| *turn >= number) => {}
                Ok(room) = ahead.acquire_many_owned(wanted) => {
                    match &mut self.room {
                        Some(all) => all.merge(room),
                        all => *all = Some(room),
                    }
                    // What it is a slice of may be much larger.
                    self.ahead.push_back(Bytes::copy_from_slice(&bytes));
                    return Ok(());
                }
            }
        }
        self.catch_up().await?;
        self.piece.extend_from_slice(&bytes);
        if self.piece.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    fn is_its_turn(&self) -> bool {
        *self.turn.borrow() >= self.number
    }

    /// Writes what has come before its turn.
    async fn catch_up(&mut self) -> io::Result<()> {
        if !self.is_begun {
            self.is_begun = true;
            let (streaming, number) = (self.streaming.clone(), self.number);
            blocking(move || streaming.write_before(number)).await?;
        }
        while let Some(bytes) = self.ahead.pop_front() {
            let length = bytes.len();
            self.write(bytes).await?;
            // There is room for others.
            drop(self.room.as_mut().and_then(|room| room.split(length)));
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let piece = self.piece.split().freeze();
        self.write(piece).await
    }

    async fn write(&self, bytes: Bytes) -> io::Result<()> {
        let streaming = self.streaming.clone();
        blocking(move || streaming.write(&bytes)).await
    }

    /// Takes back all that has come, so that it can come anew; `false` if some of it is written.
    pub(in crate::store::layout) fn forget(&mut self) -> bool {
        if !self.is_begun {
            self.ahead.clear();
            self.room = None;
            self.prefix =
                Prefix { length: 0, hasher: Hasher::new(self.streaming.sequence[self.number].algorithm()) };
        }
        !self.is_begun
    }

    /// All of it has come, and is right: once it is written, it is the next one's turn.
    pub(in crate::store::layout) async fn finish(mut self) -> io::Result<()> {
        let number = self.number;
        // The sender is in what it has itself.
        let _ = self.turn.wait_for(|turn| *turn >= number).await;
        self.catch_up().await?;
        self.flush().await?;
        self.streaming.turn.send_replace(number + 1);
        Ok(())
    }
}
