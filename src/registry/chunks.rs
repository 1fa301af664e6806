//! Uploads in pieces, for targets that refuse large bodies (distribution-spec, "Pushing a blob in chunks").
//!
//! A registry takes a blob of any size in one body; a proxy before it may not. One PUT costs one request where
//! pieces cost hundreds, so pieces are sent only to a target that has refused a whole, and then to the end of the run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};

use super::Peer;
use super::answer::Purpose;
use super::auth::Scopes;
use super::client::At;
use super::download::BlobReader;
use super::retry::Patience;
use super::shim::Ask;
use super::upload::with_digest;
use crate::error::{Error, Kind};
use crate::manifest::Descriptor;
use crate::reference::Repository;
use crate::text;

/// Bytes of a piece at first: what the pickiest of the large registries takes.
const CHUNK: u64 = 4 << 20;
/// Smaller pieces than this are not tried, in bytes.
const CHUNK_MIN: u64 = 256 << 10;
/// A wish for larger pieces than this is not kept, in bytes: each is held in memory.
const LEAST_MAX: u64 = 16 << 20;

/// What a target takes in one body.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Bytes.
    limit: AtomicU64,
    /// Bytes of the smallest piece that it wants, but for the last one of a blob.
    least: AtomicU64,
    /// It does not take pieces either.
    no_chunks: AtomicBool,
    /// It has taken a blob in one body.
    takes_wholes: AtomicBool,
    /// It takes pieces alone, however small the blob is.
    pieces_only: AtomicBool,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(u64::MAX),
            least: AtomicU64::new(CHUNK_MIN),
            no_chunks: AtomicBool::new(false),
            takes_wholes: AtomicBool::new(false),
            pieces_only: AtomicBool::new(false),
        }
    }
}

impl Bodies {
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed).max(self.least())
    }

    /// Whether a blob of `size` bytes goes in pieces.
    pub fn in_pieces(&self, size: u64) -> bool {
        size > self.limit() || self.pieces_only.load(Ordering::Relaxed)
    }

    pub fn note_whole(&self) {
        self.takes_wholes.store(true, Ordering::Relaxed);
    }

    fn least(&self) -> u64 {
        self.least.load(Ordering::Relaxed)
    }

    /// Notes how small pieces may be by the answer to the start of an upload (distribution-spec, "Pushing a blob in
    /// chunks", `OCI-Chunk-Min-Length`).
    pub fn note_least(&self, headers: &HeaderMap) {
        let said = headers.get("oci-chunk-min-length").and_then(|l| l.to_str().ok()?.trim().parse().ok());
        if let Some(least) = said.filter(|least| *least <= LEAST_MAX) {
            self.least.fetch_max(least, Ordering::Relaxed);
        }
    }
}

impl Peer {
    /// The most bytes of a blob of `size` bytes that one body would hold now.
    pub fn body_size(&self, size: u64) -> u64 {
        size.min(self.bodies.limit())
    }

    /// Notes that a body of `tried` bytes was refused for its size, or broke off for no other reason that is known.
    /// True if there is another way to send it.
    pub fn learn_body_limit(&self, tried: u64) -> bool {
        let limit = self.bodies.limit();
        if self.bodies.no_chunks.load(Ordering::Relaxed) {
            return false;
        }
        if tried > limit {
            // It was on its way when another one was refused: that smaller ones are too large is not known yet.
            return true;
        }
        let least = self.bodies.least();
        let usual = CHUNK.max(least);
        let next = if tried > usual { usual } else { tried / 2 };
        if next < least {
            return false;
        }
        match self.bodies.limit.fetch_min(next, Ordering::Relaxed) {
            u64::MAX => tracing::warn!(
                "{} or a proxy before it has a body size limit (nginx: client_max_body_size); sending blobs in pieces",
                self.host
            ),
            _ => tracing::info!("sending blobs to {} in pieces of {}", self.host, text::bytes(next)),
        }
        true
    }

    /// Notes that the target does not take blobs in pieces. True if that is news, and a whole may be tried again.
    pub fn learn_no_chunks(&self) -> bool {
        let in_chunks = self.bodies.limit() < u64::MAX;
        self.bodies.limit.store(u64::MAX, Ordering::Relaxed);
        self.bodies.pieces_only.store(false, Ordering::Relaxed);
        in_chunks && !self.bodies.no_chunks.swap(true, Ordering::Relaxed)
    }

    /// Notes that the target has lost one session after the other that got a blob in one body. True if that may be why:
    /// JFrog's answers 404 to such a body, and takes the same bytes by PATCH.
    pub fn learn_pieces_only(&self) -> bool {
        let bodies = &self.bodies;
        if bodies.takes_wholes.load(Ordering::Relaxed) || bodies.no_chunks.load(Ordering::Relaxed) {
            return false;
        }
        bodies.limit.fetch_min(CHUNK, Ordering::Relaxed);
        let news = !bodies.pieces_only.swap(true, Ordering::Relaxed);
        if news {
            tracing::warn!("{} seems to take no blob in one request; sending blobs in pieces", self.host);
        }
        news
    }

    /// A piece is held in memory until it is there, so that it can be sent again after a token has run out.
    pub(super) async fn upload_in_chunks(
        &self,
        repository: &Repository,
        session: &Url,
        blob: &Descriptor,
        mut reader: BlobReader,
        moved: impl Fn(u64) + Send + 'static,
    ) -> Result<(), Error> {
        let mut location = session.clone();
        let mut sent = 0;
        while sent < blob.size {
            let length = self.bodies.limit().min(blob.size - sent);
            let piece = reader.next_exactly(length as usize).await?;
            let doing =
                format!("PATCH bytes {sent}-{} of blob {} to {repository}", sent + length - 1, blob.digest);
            let mut headers = octets();
            let range = HeaderValue::from_str(&format!("{sent}-{}", sent + length - 1));
            headers.insert(CONTENT_RANGE, range.expect("digits and a hyphen"));
            let response =
                self.send_piece(Method::PATCH, location, repository, headers, piece, doing.clone()).await?;
            location = self.location(response.url(), response.headers(), &doing)?;
            sent += length;
            moved(sent);
        }
        let doing = format!("PUT blob {} to {repository}", blob.digest);
        let url = with_digest(&location, &blob.digest);
        self.send_piece(Method::PUT, url, repository, octets(), Bytes::new(), doing).await?;
        Ok(())
    }

    async fn send_piece(
        &self,
        method: Method,
        url: Url,
        repository: &Repository,
        headers: HeaderMap,
        piece: Bytes,
        doing: String,
    ) -> Result<Response, Error> {
        let scopes = Scopes::push(repository.as_str());
        let patching = method == Method::PATCH;
        let ask = Ask {
            purpose: Purpose::Session,
            method,
            at: At::Url(url),
            repository,
            scopes: &scopes,
            headers,
            body: Some(piece),
            doing,
        };
        let mut patience = Patience::new(&self.policy);
        self.ask_once(&ask, &mut patience).await.map_err(|error| match error.status {
            // Not of the session: the method itself is unknown here.
            Some(405 | 501) if patching => Error { kind: Kind::Unsupported, ..error },
            _ => error,
        })
    }
}

impl BlobReader {
    /// The next `length` bytes in one piece.
    async fn next_exactly(&mut self, length: usize) -> Result<Bytes, Error> {
        let mut piece = BytesMut::with_capacity(length);
        while piece.len() < length {
            let Some(mut more) = self.next_or_rest().await? else { break };
            let fits = more.len().min(length - piece.len());
            piece.extend_from_slice(&more.split_to(fits));
            self.keep(more);
        }
        Ok(piece.freeze())
    }
}

fn octets() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers
}
