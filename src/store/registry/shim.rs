//! Requests of uploads, in the form in which uploads put them; each goes the way of all others.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, Url};

use super::Registry;
use super::answer::Purpose;
use super::auth::{Challenge, Introduction, Proof, Scopes};
use super::client::{At, Call};
use super::retry::Patience;
use crate::error::Error;
use crate::image::reference::Repository;

/// A call with all its parts.
pub(super) struct Ask<'a> {
    pub purpose: Purpose,
    pub method: Method,
    pub at: At,
    pub repository: &'a Repository,
    pub scopes: &'a Scopes,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    pub doing: String,
}

impl<'a> Ask<'a> {
    fn call(&self) -> Call<'a> {
        Call {
            purpose: self.purpose,
            method: self.method.clone(),
            at: self.at.clone(),
            repository: self.repository,
            scopes: self.scopes.clone(),
            one_token: false,
            headers: self.headers.clone(),
            body: self.body.clone(),
            action: self.doing.clone(),
        }
    }
}

impl Registry {
    pub(super) async fn ask_once(&self, ask: &Ask<'_>, patience: &mut Patience) -> Result<Response, Error> {
        self.try_once(&ask.call(), patience).await
    }

    /// What to show `url` with a request that cannot be repeated by itself, such as an upload's body.
    pub(super) async fn proof_for(&self, ask: &Ask<'_>, url: &Url) -> Result<Proof, Error> {
        if self.is_own(url) { self.proof(&ask.call()).await } else { Ok(Proof::Nothing) }
    }

    /// A 401 came to such a request: next time there will be a new token, unless someone else has got one since.
    pub(super) fn renew_after(&self, scopes: &Scopes, proof: &Proof, headers: &HeaderMap) {
        if let challenge @ Ok(Challenge::Bearer { .. }) = Challenge::from_headers(headers) {
            let _ = self.auth.unauthorized(&mut Introduction::default(), scopes, proof, challenge);
        }
    }

    pub(super) fn note_served(&self) {
        self.gate.note_served();
    }

    pub(super) async fn send(
        &self,
        url: &Url,
        request: RequestBuilder,
        doing: &str,
    ) -> Result<Response, Error> {
        self.send_within(self.policy.timing.answer, url, request, doing).await
    }
}
