//! One request over HTTP: what it consists of, the one place that sends it, and redirects, by hand.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HeaderMap, HeaderName,
    HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, timeout};

use super::address::Allowed;
use super::answer::Purpose;
use super::auth::{Challenge, Introduction, Scopes};
use super::credentials::Secret;
use super::failure::{Limit, limit_of};
use super::held_back::Sending;
use super::host::Passage;
use super::pace::Load;
use super::tls::{Partner, ProxyUnverified};
use super::{Registry, ahead, held_back};
use crate::error::{Cause, Error, Kind, Remedy, Side};
use crate::image::reference::Repository;
use crate::store::patience::own_pause;
use crate::util::text;

/// Most redirects that one request follows.
const HOPS_MAX: usize = 5;

/// A request that can be made again.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub purpose: Purpose,
    pub method: Method,
    pub at: At,
    /// Whose login it takes.
    pub repository: &'a Repository,
    pub scopes: Scopes,
    /// A refused token is not renewed.
    pub one_token: bool,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// For messages, e.g. `GET manifest library/alpine:3`.
    pub action: String,
}

/// Where a request goes: a path of the API, or an address that the host gave.
#[derive(Debug, Clone)]
pub(super) enum At {
    Path(String),
    Url(Url),
}

impl From<String> for At {
    fn from(path: String) -> Self {
        Self::Path(path)
    }
}

impl From<Url> for At {
    fn from(url: Url) -> Self {
        Self::Url(url)
    }
}

impl Call<'_> {
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) fn accept(self, media_types: &'static str) -> Self {
        self.header(ACCEPT, HeaderValue::from_static(media_types))
    }

    /// Asks for the bytes from `first` to `last`, both included.
    ///
    /// Closed at both ends: some registries answer an open range with 416.
    pub(super) fn range(self, first: u64, last: u64) -> Self {
        let range = HeaderValue::from_str(&format!("bytes={first}-{last}"));
        self.header(RANGE, range.expect("digits and a hyphen"))
    }

    /// Asks proxies on the way for a fresh copy.
    pub(super) fn past_caches(self, past_caches: bool) -> Self {
        if past_caches { self.header(CACHE_CONTROL, HeaderValue::from_static("no-cache")) } else { self }
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    pub(super) fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    pub(super) fn with_one_token(mut self, one_token: bool) -> Self {
        self.one_token = one_token;
        self
    }

    /// Whether a redirect of this status is followed: what is sent is sent again only where the status says that the
    /// method stays what it is (RFC 9110, sections 15.4.8 and 15.4.9).
    fn may_follow(&self, status: StatusCode) -> bool {
        let asks = matches!(self.method, Method::GET | Method::HEAD);
        self.purpose != Purpose::Token
            && (keeps_method(status) || asks && matches!(status.as_u16(), 301..=303))
    }
}

/// What a URL is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The registry itself, or the storage that it points to.
    Registry,
    /// Gets the login.
    TokenService,
    /// An address that some manifest names, which anyone may have written.
    Foreign,
}

impl From<Purpose> for Role {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Token => Self::TokenService,
            Purpose::Foreign => Self::Foreign,
            Purpose::Manifest | Purpose::Blob | Purpose::Upload | Purpose::Session | Purpose::ManifestPut => {
                Self::Registry
            }
        }
    }
}

impl Registry {
    /// The request that everything else is put into; with a right to `repository` that a source or a target gives.
    pub(super) fn call<'a>(
        &self,
        method: Method,
        purpose: Purpose,
        repository: &'a Repository,
        at: impl Into<At>,
        action: String,
    ) -> Call<'a> {
        let scopes = match self.side {
            Side::Source => Scopes::pull(repository.as_str()),
            Side::Target => Scopes::push(repository.as_str()),
        };
        let (at, headers) = (at.into(), HeaderMap::new());
        Call { purpose, method, at, repository, scopes, one_token: false, headers, body: None, action }
    }

    /// One request, repeated only to present the login that the host wants to see.
    pub(super) async fn exchange(&self, base: &Url, call: &Call<'_>) -> Result<Response, Error> {
        let mut introduction = Introduction::with_one_token(call.one_token);
        loop {
            let proof = self.proof(call).await?;
            let turn = match proof.login() {
                Some(login) => self.auth.turn_to_show(login).await,
                None => None,
            };
            if turn.is_some() {
                // Those before may have heard the last word.
                self.may_ask(call)?;
            }
            let (response, own) = self.follow(base, call, proof.header()).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !own {
                if let Some(login) = proof.login().filter(|_| own) {
                    self.auth.accept(login);
                }
                return self.judge(call, response).await;
            }
            let challenge = Challenge::from_headers(response.headers());
            if let Err(why) = self.auth.unauthorized(&mut introduction, &call.scopes, &proof, challenge) {
                return Err(self.not_let_in(call, response, &proof, why).await);
            }
        }
    }

    /// Sends the request and follows redirects: the proof is for this host alone, wherever it points to.
    ///
    /// Returns the answer, and whether it is the host's own.
    async fn follow(
        &self,
        base: &Url,
        call: &Call<'_>,
        proof: Option<&Secret>,
    ) -> Result<(Response, bool), Error> {
        let mut url = match &call.at {
            At::Path(path) => {
                base.join(path).expect("a path of the API, made of valid names, is a valid URL")
            }
            At::Url(url) => url.clone(),
        };
        for _ in 0..=HOPS_MAX {
            let own = url.origin() == base.origin();
            let response = self.hop(call, &url, proof.filter(|_| own)).await?;
            if own {
                self.ping.note_answer(base);
            }
            if !call.may_follow(response.status()) {
                return Ok((response, own));
            }
            if own {
                // Wherever it points to, the host itself is there.
                self.ping.note_word(base);
            }
            url = self.next_hop(&url, &response, &call.action)?;
        }
        let why = format!("more than {HOPS_MAX} redirects");
        Err(self.error(Kind::Invalid, call.action.clone(), why))
    }

    /// Sends the request to `url` as it is, with `proof` of who we are.
    pub(super) async fn hop(
        &self,
        call: &Call<'_>,
        url: &Url,
        proof: Option<&Secret>,
    ) -> Result<Response, Error> {
        let client = self.client(url, call.purpose.into(), &call.action).await?;
        let mut request = client.request(call.method.clone(), url.clone());
        request = request.headers(call.headers.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(proof) = proof {
            request = request.header(AUTHORIZATION, sensitive(proof));
        }
        let mut held_back = None;
        request = match &call.body {
            Some(body) => match self.wait_with(body.len() as u64) {
                Some(wait) => {
                    let (sending, leave) = Sending::new(Some(wait));
                    held_back = Some(sending);
                    request.header(CONTENT_LENGTH, body.len()).body(held_back::body(body.clone(), leave))
                }
                None => request.body(body.clone()),
            },
            // Some front ends want to see that a POST has no body.
            None if call.method == Method::POST => request.header(CONTENT_LENGTH, 0),
            None => request,
        };
        let limit = match call.purpose {
            // A piece of a blob takes the time that the line takes.
            Purpose::Session => self.policy.timing.commit,
            _ => self.policy.timing.answer,
        };
        let mut response = self.send_within(limit, url, request, &call.action).await?;
        if let Some(sending) = held_back {
            sending.answered(&mut response);
        }
        Ok(response)
    }

    /// How long a body of `size` bytes waits for an answer to its head.
    pub(super) fn wait_with(&self, size: u64) -> Option<Duration> {
        held_back::wait(size, self.gate.refusal_takes(), self.policy.timing.stall)
    }

    /// Where a redirect leads.
    ///
    /// # Errors
    /// It leads nowhere, or from HTTPS to plain HTTP.
    pub(super) fn next_hop(&self, from: &Url, response: &Response, action: &str) -> Result<Url, Error> {
        let refuse = |why: &str| self.error(Kind::Invalid, action.to_owned(), why.to_owned());
        let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
        let location = location.ok_or_else(|| refuse("a redirect without a usable address"))?;
        let next = from.join(location).map_err(|_| refuse("a redirect to something that is no address"))?;
        match (from.scheme(), next.scheme()) {
            (_, "https") | ("http", "http") => Ok(next),
            ("https", "http") => Err(refuse("a redirect from HTTPS to plain HTTP")),
            _ => Err(refuse("a redirect to an address that is not on the web")),
        }
    }

    /// The client for `url`. What the user allowed to be insecure is this host, not where it points to.
    ///
    /// # Errors
    /// TLS cannot be set up, or `url` is at an address that this host may not point to.
    pub(super) async fn client(&self, url: &Url, role: Role, action: &str) -> Result<reqwest::Client, Error> {
        let invalid = |cause: Cause| self.error(Kind::Invalid, action.to_owned(), cause);
        let partner = if self.addresses.names_host_of(url) {
            Partner::Registry { host: &self.host, unverified: self.addresses.unverified }
        } else {
            let own = self.addresses.scope().await;
            let allowed = match role {
                Role::TokenService | Role::Foreign => Allowed::as_token_service(own),
                Role::Registry => Allowed::as_storage(own),
            };
            if !allowed.takes_literal(url) {
                let host = text::printable(url.host_str().unwrap_or_default());
                return Err(invalid(Cause::Forbidden(Some(host))));
            }
            Partner::Stranger { of: &self.host, allowed }
        };
        self.clients.client(url, partner).map_err(|error| match error.downcast_ref() {
            Some(ProxyUnverified(proxy)) => {
                invalid("cannot set up TLS".into()).with_remedy(Remedy::ProxyUnverified(proxy.clone()))
            }
            None => invalid(text::printable(&format!("cannot set up TLS: {error:#}")).into()),
        })
    }

    /// Sends, waiting for the head of the answer only so long, and not before the host wants to be asked again.
    pub(super) async fn send_within(
        &self,
        limit: Duration,
        url: &Url,
        request: RequestBuilder,
        action: &str,
    ) -> Result<Response, Error> {
        // A question may be asked at any time that the gate is open.
        let passage = self.gate.pass(Load::Question).await;
        let began = Instant::now();
        let error = match timeout(limit, ahead::asking(url, request.send())).await {
            Ok(Ok(response)) => {
                self.note_taken_or_refused(passage, &response);
                let host = text::printable(response.url().host_str().unwrap_or_default());
                self.note_warnings(&host, response.headers());
                tracing::debug!("{action}: {} by {host} in {:?}", response.status(), began.elapsed());
                return Ok(response);
            }
            Ok(Err(error)) => self.connection_error(action, &error).await,
            Err(_) => self.error(Kind::Transient, action.to_owned(), Cause::NoAnswer(limit)),
        };
        tracing::debug!("{error}");
        Err(error)
    }

    /// Notes whether the host has taken a request, or refused it as one too many.
    pub(super) fn note_taken_or_refused(&self, passage: Option<Passage<'_>>, response: &Response) {
        let Some(passage) = passage.filter(|_| self.storage_host(response.url()).is_none()) else { return };
        match limit_of(response) {
            Limit::None if response.status().is_server_error() => {}
            Limit::None => passage.taken(),
            // It is told by the error, and nobody waits so long.
            Limit::Reached(Some(wish)) if wish > self.policy.timing.longest_wait => {}
            Limit::Reached(wish) => {
                let refusals = passage.refused();
                let own = refusals.map(|refusals| own_pause(&self.policy.timing, refusals));
                if let Some(pause) = own.max(wish) {
                    self.close_for(pause);
                }
            }
        }
    }

    /// Success, or the error that the answer stands for.
    async fn judge(&self, call: &Call<'_>, response: Response) -> Result<Response, Error> {
        if response.status().is_success() {
            self.gate.note_served();
            return Ok(response);
        }
        let error = self.failure(call.purpose, call.repository, call.action.clone(), response).await;
        if error.kind == Kind::NotFound {
            // As good an answer as any.
            self.gate.note_served();
        }
        Err(error)
    }

    /// `url`, which something that this host serves names: over plain HTTP only if the host itself is spoken to so.
    pub(super) fn not_downgraded(&self, url: &Url, action: &str) -> Result<Url, Error> {
        let plain = self.ping.base().is_some_and(|base| base.scheme() == "http");
        if url.scheme() == "https" || plain {
            return Ok(url.clone());
        }
        let host = text::printable(url.host_str().unwrap_or_default());
        let why = format!("its manifest names an address at plain HTTP on {host}");
        Err(self.error(Kind::Invalid, action.to_owned(), why))
    }

    /// An address that the host gave, relative to `from`, made safe: on HTTPS it stays on HTTPS.
    pub(super) fn location(&self, from: &Url, headers: &HeaderMap, action: &str) -> Result<Url, Error> {
        let refuse = |why: String| self.error(Kind::Invalid, action.to_owned(), why);
        let text = location_text(headers);
        let text = text.ok_or_else(|| refuse("the answer names no upload location".to_owned()))?;
        let mut url = from.join(text).map_err(|_| refuse("the upload location is no address".to_owned()))?;
        if from.scheme() == "https" && url.scheme() == "http" {
            // A registry that does not know of the TLS in front of it; the host is the same, so is the way to it.
            let same = url.host() == from.host() && (url.port().is_none() || url.port() == from.port());
            let port = from.port();
            if !same || url.set_scheme("https").is_err() || url.set_port(port).is_err() {
                let host = text::printable(url.host_str().unwrap_or_default());
                return Err(refuse(format!(
                    "the upload location is at plain HTTP on {host}; the proxy before the registry has to send X-Forwarded-Proto"
                )));
            }
        }
        match url.scheme() {
            "http" | "https" => Ok(url),
            _ => Err(refuse("the upload location is not on the web".to_owned())),
        }
    }
}

/// Whether a redirect of this status is for the same request with the same body.
pub(super) fn keeps_method(status: StatusCode) -> bool {
    matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

/// The address in the headers of an answer. An empty one names nothing.
pub(super) fn location_text(headers: &HeaderMap) -> Option<&str> {
    headers.get(LOCATION).and_then(|l| l.to_str().ok()).map(str::trim).filter(|l| !l.is_empty())
}

pub(super) fn sensitive(secret: &Secret) -> HeaderValue {
    let mut value = HeaderValue::from_str(secret.reveal()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests;
