//! Blobs as they are written to a registry, in one body that is as long as its manifest says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Body, Method, RequestBuilder, StatusCode, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::Peer;
use super::answer::Purpose;
use super::auth::{Proof, Scopes};
use super::client::{At, Role, sensitive};
use super::download::BlobReader;
use super::shim::Ask;
use crate::error::{Error, Kind};
use crate::manifest::Descriptor;
use crate::reference::{Digest, Repository};

/// Longest that anyone waits for a target to hear of a session that is no longer wanted.
const CANCEL_MAX: Duration = Duration::from_secs(2);

/// What an upload is waiting for, and since when; its watchdog looks at this.
struct Meter(Mutex<(Waiting, Instant)>);

#[derive(Clone, Copy, PartialEq)]
enum Waiting {
    /// The source: it has a watchdog of its own.
    Source,
    /// The target is to take the piece it was given.
    Target,
    /// The target has all and is to say that it is content.
    Answer,
}

impl Meter {
    fn set(&self, waiting: Waiting) {
        *lock(&self.0) = (waiting, Instant::now());
    }

    /// Sleeps until the target has kept us waiting for too long.
    async fn overdue(&self, stall: Duration, commit: Duration) -> &'static str {
        loop {
            let (waiting, since) = *lock(&self.0);
            let (limit, what) = match waiting {
                Waiting::Source => (stall, ""),
                Waiting::Target => (stall, "it takes no more bytes"),
                Waiting::Answer => (commit, "it got all bytes and does not answer"),
            };
            let until = since + limit;
            if until > Instant::now() {
                sleep_until(until).await;
            } else if waiting == Waiting::Source {
                tokio::time::sleep(stall).await;
            } else {
                return what;
            }
        }
    }
}

impl Peer {
    /// Sends all of `blob` into an upload session, with one PUT unless the target is known to take only less
    /// (distribution-spec, "Pushing a blob monolithically").
    /// `moved` hears the position after each piece, in bytes.
    ///
    /// # Errors
    /// The source's error if reading failed, else the target's. A refused token is renewed: the caller may try
    /// the same session again.
    pub async fn upload(
        &self,
        repository: &Repository,
        session: &Url,
        blob: &Descriptor,
        reader: BlobReader,
        moved: impl Fn(u64) + Send + 'static,
    ) -> Result<(), Error> {
        if self.bodies.in_pieces(blob.size) {
            return self.upload_in_chunks(repository, session, blob, reader, moved).await;
        }
        let doing = format!("PUT blob {} to {repository}", blob.digest);
        let url = with_digest(session, &blob.digest);
        let (request, proof) = self.session_request(Method::PUT, &url, repository, &doing).await?;
        self.wait_until_open().await;
        let meter = Arc::new(Meter(Mutex::new((Waiting::Target, Instant::now()))));
        let source_trouble = Arc::new(Mutex::new(None));
        let body = body(reader, blob.size, meter.clone(), source_trouble.clone(), moved);
        let request =
            request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, blob.size);
        let timing = &self.policy.timing;
        let sent = tokio::select! {
            sent = request.body(body).send() => sent,
            what = meter.overdue(timing.stall, timing.commit) => {
                return Err(self.error(Kind::Transient, doing, what.to_owned()));
            }
        };
        if let Some(trouble) = lock(&source_trouble).take() {
            return Err(trouble);
        }
        let response = sent.map_err(|e| self.transport_error(&doing, &e))?;
        // What another host wants to see there is no matter of ours: it would be given the login for this one.
        if response.status() == StatusCode::UNAUTHORIZED && self.is_own(response.url()) {
            self.renew_after(&Scopes::push(repository.as_str()), &proof, response.headers());
        }
        match response.status().is_success() {
            true => {
                self.note_served();
                self.bodies.note_whole();
                Ok(())
            }
            false => Err(self.failure(Purpose::Session, repository, doing, response).await),
        }
    }

    /// A request into an upload session that cannot be repeated by itself, and what it shows of us: nothing, unless the
    /// session is at this very host.
    async fn session_request(
        &self,
        method: Method,
        url: &Url,
        repository: &Repository,
        doing: &str,
    ) -> Result<(RequestBuilder, Proof), Error> {
        let scopes = Scopes::push(repository.as_str());
        let ask = Ask {
            purpose: Purpose::Session,
            method: method.clone(),
            at: At::Url(url.clone()),
            repository,
            scopes: &scopes,
            headers: HeaderMap::new(),
            body: None,
            doing: doing.to_owned(),
        };
        let proof = self.proof_for(&ask, url).await?;
        let request = self.client(url, Role::Registry, doing).await?.request(method, url.clone());
        Ok(match proof.header() {
            Some(header) => (request.header(AUTHORIZATION, sensitive(header)), proof),
            None => (request, proof),
        })
    }

    /// Gives up an upload session, if the target lets us: several want a right for it that a push does not have, and
    /// all of them clear up by themselves some day (distribution-spec, "Canceling a blob upload").
    pub async fn cancel_upload(&self, repository: &Repository, session: &Url) {
        let doing = format!("DELETE an upload to {repository}");
        let cancel = async {
            let (request, _) = self.session_request(Method::DELETE, session, repository, &doing).await?;
            self.send(request, &doing).await
        };
        // Its answer changes nothing.
        let _ = timeout(CANCEL_MAX, cancel).await;
    }
}

/// A piece on its way out. The next one is read once the connection has let go of this one: else it would take in
/// several of them, for each of many uploads.
struct Departing {
    bytes: Bytes,
    _leave: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Departing {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The pieces of a blob as a request's body; what goes wrong at the source is left in `trouble`.
fn body(
    reader: BlobReader,
    size: u64,
    meter: Arc<Meter>,
    trouble: Arc<Mutex<Option<Error>>>,
    moved: impl Fn(u64) + Send + 'static,
) -> Body {
    if size == 0 {
        meter.set(Waiting::Answer);
        return Body::from(Bytes::new());
    }
    let room = Arc::new(Semaphore::new(1));
    Body::wrap_stream(futures_util::stream::try_unfold((reader, moved), move |(mut reader, moved)| {
        let (meter, trouble, room) = (meter.clone(), trouble.clone(), room.clone());
        async move {
            let leave = room.acquire_owned().await.expect("the semaphore is never closed");
            meter.set(Waiting::Source);
            match reader.next().await {
                Ok(piece) => {
                    let all = reader.is_done();
                    meter.set(if all { Waiting::Answer } else { Waiting::Target });
                    moved(reader.position());
                    Ok(piece.map(|bytes| {
                        (Bytes::from_owner(Departing { bytes, _leave: leave }), (reader, moved))
                    }))
                }
                Err(error) => {
                    *lock(&trouble) = Some(error.clone());
                    Err(error)
                }
            }
        }
    }))
}

/// The session's address with `digest` added; what is there already stays as it is, to the byte.
pub(super) fn with_digest(session: &Url, digest: &Digest) -> Url {
    let mut url = session.clone();
    let query = match session.query() {
        Some(query) if !query.is_empty() => format!("{query}&digest={digest}"),
        _ => format!("digest={digest}"),
    };
    url.set_query(Some(&query));
    url.set_fragment(None);
    url
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_added_without_touching_the_rest() {
        let digest = Digest::of(crate::reference::Algorithm::Sha256, b"");
        let added = |url: &str| with_digest(&url.parse().unwrap(), &digest).to_string();
        assert_eq!(
            added("https://r/v2/a/blobs/uploads/1"),
            format!("https://r/v2/a/blobs/uploads/1?digest={digest}")
        );
        assert_eq!(
            added("https://r/u?_state=a%2Fb+c==&x=&_state=2#f"),
            format!("https://r/u?_state=a%2Fb+c==&x=&_state=2&digest={digest}")
        );
    }
}
