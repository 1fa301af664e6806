//! Uploads of blobs to a registry, and the ladder from cheapest to dearest that each of them climbs.
//!
//! No address of a session leaves this module, and what a registry was seen to do with uploads stays in it.

mod bodies;
mod capabilities;
mod chunked;
mod closing;
mod gate;
mod kept;
mod ladder;
mod offers;
mod whole;

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, RequestBuilder, Url};
use tokio::time::timeout;

pub(crate) use self::ladder::Ladder;

use self::bodies::{Bodies, Way};
use self::capabilities::{Capabilities, Observation};
use self::gate::Gate;
use self::kept::Kept;
use super::answer::Purpose;
use super::auth::Proof;
use super::client::{Role, sensitive};
use super::{Registry, lock};
use crate::error::Error;
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Repository};
use crate::store::BlobReader;
use crate::store::Trial;

/// Longest that anyone waits for a target to hear of a session that is no longer wanted.
const CANCEL_MAX: Duration = Duration::from_secs(2);
/// So many bytes of a blob may be sent in vain to a target that is overloaded, beyond the usual tries.
const IN_VAIN_MAX: u64 = 64 << 20;
/// A blob may be sent in vain this many times, or [`IN_VAIN_MAX`] bytes of it if that is more, whatever the reason.
const TIMES_IN_VAIN_MAX: u64 = 3;

/// A session that a blob is sent into.
struct Session {
    url: Url,
    /// Where the request that closes it was redirected to.
    moved: Option<Url>,
    /// What it says of a piece of which it has taken a part is believed.
    tells_parts: bool,
}

/// What is known of a registry as a target of uploads.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    capabilities: Mutex<Capabilities>,
    bodies: Mutex<Bodies>,
    kept: Mutex<Kept>,
    /// Before the first upload that is accepted.
    starts: Gate,
    /// Before the first mount that is seen to succeed.
    mounts: Gate,
}

impl Uploads {
    fn capabilities(&self) -> MutexGuard<'_, Capabilities> {
        lock(&self.capabilities)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        lock(&self.bodies)
    }

    /// Notes what the answer that opens a session says about all uploads.
    pub(super) fn note_started(&self, headers: &HeaderMap) {
        self.bodies().note_least(headers);
    }

    /// Whether it was news.
    fn distrust_mounts(&self) -> bool {
        let is_news = self.capabilities().mounts_are_made();
        self.observe(Observation::Lied);
        is_news
    }

    fn observe(&self, observation: Observation<'_>) {
        let mut capabilities = self.capabilities();
        capabilities.observe(observation);
        if capabilities.uploads_are_settled() {
            self.starts.open();
        }
        if capabilities.mounts_are_settled() {
            self.mounts.open();
        }
    }
}

impl Registry {
    /// Sends all of `blob` into an upload session, in this way. `moved` hears the position after each piece, in bytes.
    ///
    /// # Errors
    /// The source's error if reading failed, else the target's. A refused token is renewed: the caller may try
    /// the same session again. Returns where else the blob is to be sent, if the target says so.
    async fn upload(
        &self,
        repository: &Repository,
        session: &Session,
        blob: &Descriptor,
        way: Way,
        reader: BlobReader,
        moved: impl Fn(u64) + Send + 'static,
    ) -> Result<Option<Url>, Trial> {
        match way {
            Way::Whole => {
                let closing = with_digest(&session.url, &blob.digest);
                let url = session.moved.as_ref().unwrap_or(&closing);
                let moved = self.upload_whole(repository, url, blob, reader, moved).await?;
                if moved.is_some() {
                    return Ok(moved);
                }
            }
            Way::Pieces(length) => {
                self.upload_in_pieces(repository, session, blob, length, reader, moved).await?;
            }
        }
        self.uploads.bodies().note_taken(way, blob.size);
        Ok(None)
    }

    /// Whether it has begun an upload, or said that it has a blob.
    pub(crate) fn takes_uploads(&self) -> bool {
        self.uploads.capabilities().uploads_are_settled()
    }

    /// Whether mounts need not wait for each other: one was seen to go well, or none is made any more.
    pub(crate) fn has_settled_mounts(&self) -> bool {
        self.uploads.capabilities().mounts_are_settled()
    }

    /// Ends all mounts: a blob that was said to be mounted is not there.
    pub(crate) fn distrust_mounts(&self) {
        if self.uploads.distrust_mounts() {
            let host = &self.host;
            tracing::warn!("{host} says that it has mounted a blob that is not there: sending blobs instead");
        }
    }

    /// Cancels the sessions that refused mounts have opened and nobody has used.
    pub(crate) async fn release_uploads(&self) {
        let sessions = self.uploads.kept().drain();
        join_all(sessions.iter().map(|(repository, session)| self.cancel_upload(repository, session))).await;
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
        let call = self.call(method.clone(), Purpose::Session, repository, url.clone(), doing.to_owned());
        let proof = if self.is_own(url) { self.proof(&call).await? } else { Proof::Nothing };
        let request = self.client(url, Role::Registry, doing).await?.request(method, url.clone());
        Ok(match proof.header() {
            Some(header) => (request.header(AUTHORIZATION, sensitive(header)), proof),
            None => (request, proof),
        })
    }

    /// Gives up an upload session, if the target lets us: several want a right for it that a push does not have, and
    /// all of them clear up by themselves some day (distribution-spec, "Canceling a blob upload").
    async fn cancel_upload(&self, repository: &Repository, session: &Url) {
        let doing = format!("DELETE an upload to {repository}");
        let cancel = async {
            let (request, _) = self.session_request(Method::DELETE, session, repository, &doing).await?;
            self.send_within(CANCEL_MAX, session, request, &doing).await
        };
        // Its answer changes nothing.
        let _ = timeout(CANCEL_MAX, cancel).await;
    }
}

/// The session's address with `digest` added; what is there already stays as it is, to the byte.
fn with_digest(session: &Url, digest: &Digest) -> Url {
    let mut url = session.clone();
    let query = match session.query() {
        Some(query) if !query.is_empty() => format!("{query}&digest={digest}"),
        _ => format!("digest={digest}"),
    };
    url.set_query(Some(&query));
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_added_without_touching_the_rest() {
        let digest = Digest::of(crate::image::reference::Algorithm::Sha256, b"");
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
