//! Uploads in one body that is as long as its manifest says (distribution-spec, "Pushing a blob monolithically").

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, StatusCode, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::super::answer::Purpose;
use super::super::auth::Scopes;
use super::super::client::keeps_method;
use super::super::failure::{Limit, limit_of};
use super::super::held_back::{Leave, Sending, Stopped};
use super::super::host::Passage;
use super::super::lock;
use super::super::pace::Load;
use super::super::{Registry, ahead};
use crate::error::{Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::Repository;
use crate::store::BlobReader;
use crate::store::Trial;
use crate::store::patience::Patience;
use crate::util::text;

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

    /// Whether the target has been given all, read and verified.
    fn is_done(&self) -> bool {
        lock(&self.0).0 == Waiting::Answer
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

impl Registry {
    /// Sends all of `blob` to `url`, which closes an upload session, with one PUT. Returns where else it is to be sent, if
    /// the answer says so.
    pub(super) async fn upload_whole(
        &self,
        repository: &Repository,
        url: &Url,
        blob: &Descriptor,
        reader: BlobReader,
        moved: impl Fn(u64) + Send + 'static,
    ) -> Result<Option<Url>, Trial> {
        let doing = format!("PUT blob {} to {repository}", blob.digest);
        let (request, proof) = self.session_request(Method::PUT, url, repository, &doing).await?;
        let passage = self.pass_with_blob(repository, url, blob.size).await?;
        let meter = Arc::new(Meter(Mutex::new((Waiting::Target, Instant::now()))));
        let source_trouble = Arc::new(Mutex::new(None));
        let (sending, leave) = Sending::new(self.wait_with(blob.size));
        let body = body(reader, blob.size, leave, meter.clone(), source_trouble.clone(), moved);
        let request =
            request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, blob.size);
        let timing = &self.policy.timing;
        let sent = tokio::select! {
            sent = ahead::asking(url, request.body(body).send()) => sent,
            what = meter.overdue(timing.stall, timing.commit) => {
                return Err(self.error(Kind::Transient, doing, what.to_owned()).into());
            }
        };
        if let Some(trouble) = lock(&source_trouble).take() {
            return Err(trouble);
        }
        let mut response = sent.map_err(|e| self.transport_error(&doing, &e))?;
        sending.answered(&mut response);
        self.note_taken_or_refused(Some(passage), &response);
        let whole = meter.is_done();
        self.note_warnings(
            &text::printable(response.url().host_str().unwrap_or_default()),
            response.headers(),
        );
        // What another host wants to see there is no matter of ours: it would be given the login for this one.
        if response.status() == StatusCode::UNAUTHORIZED && self.is_own(response.url()) {
            self.renew_after(&Scopes::push(repository.as_str()), &proof, response.headers());
        }
        if keeps_method(response.status()) {
            return Ok(Some(self.next_hop(response.url(), &response, &doing)?));
        }
        let answer = if response.status().is_success() {
            self.gate.note_served();
            Ok(response)
        } else {
            Err(self.failure(Purpose::Session, repository, doing.clone(), response).await)
        };
        self.judge_closing(repository, blob, doing, answer, whole).await?;
        Ok(None)
    }

    /// Waits until a blob of `size` bytes may be sent to `url`, and is not sent in vain: after a pause the session is asked
    /// how far it is, if nobody else asks anything, to see whether the host takes requests again.
    async fn pass_with_blob(
        &self,
        repository: &Repository,
        url: &Url,
        size: u64,
    ) -> Result<Passage<'_>, Error> {
        let mut patience = Patience::new(&self.policy);
        let mut load = Load::of(size);
        loop {
            if let Some(passage) = self.gate.pass(load).await {
                return Ok(passage);
            }
            let doing = format!("GET an upload to {repository}");
            let (question, _) = self.session_request(Method::GET, url, repository, &doing).await?;
            let answer = self.send_within(self.policy.timing.answer, url, question, &doing).await?;
            let Limit::Reached(wish) = limit_of(&answer) else {
                // Whatever else it is, it refuses nothing for being one too many.
                load = Load::Little;
                continue;
            };
            let error = self.failure(Purpose::Session, repository, doing, answer).await;
            match patience.next(&Kind::RateLimited(wish), self.is_alive()) {
                Some(pause) => self.pause(pause, &error).await,
                None => return Err(error),
            }
        }
    }
}

/// A piece on its way out. The next one is read once the connection has let go of this one: else it would take in
/// several of them, for each of many uploads.
struct Departing {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
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
    leave: Leave,
    meter: Arc<Meter>,
    trouble: Arc<Mutex<Option<Trial>>>,
    moved: impl Fn(u64) + Send + 'static,
) -> Body {
    if size == 0 {
        meter.set(Waiting::Answer);
        return Body::from(Bytes::new());
    }
    let room = Arc::new(Semaphore::new(1));
    let start = (reader, leave, moved);
    Body::wrap_stream(futures_util::stream::try_unfold(start, move |(mut reader, mut leave, moved)| {
        let (meter, trouble, room) = (meter.clone(), trouble.clone(), room.clone());
        async move {
            let place = room.acquire_owned().await.expect("the semaphore is never closed");
            leave.begin().await?;
            meter.set(Waiting::Source);
            match reader.next().await {
                Ok(piece) => {
                    let all = reader.is_done();
                    meter.set(if all { Waiting::Answer } else { Waiting::Target });
                    moved(reader.position());
                    Ok(piece.map(|bytes| {
                        (Bytes::from_owner(Departing { bytes, _place: place }), (reader, leave, moved))
                    }))
                }
                Err(trial) => {
                    let error = trial.error().clone();
                    *lock(&trouble) = Some(trial);
                    Err(Stopped::from(error))
                }
            }
        }
    }))
}
