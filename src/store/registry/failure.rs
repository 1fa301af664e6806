//! What becomes of an answer that says no, and of a body that does not come.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use tokio::time::{Instant, timeout};

use super::Registry;
use super::answer::{Purpose, Refusal, Said, classify, classify_elsewhere};
use super::retry::retry_after;
use crate::error::{Cause, Error, Kind, ProxyTrouble, Remedy, Side};
use crate::image::reference::Repository;
use crate::redact::Redactor;
use crate::store::patience::{SLOWEST, own_pause};
use crate::util::text;

/// Largest error answer that is read, in bytes.
const ERROR_BODY_MAX: usize = 64 << 10;

impl Registry {
    /// An error of an exchange with this host.
    pub fn error(&self, kind: Kind, action: String, cause: impl Into<Cause>) -> Error {
        Error {
            side: self.side,
            kind,
            place: self.host.to_string(),
            action,
            cause: cause.into(),
            remedy: None,
            status: None,
            redactor: self.keyring.redactor.clone(),
        }
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.keyring.redactor
    }

    /// The error that `response` stands for.
    pub(super) async fn failure(
        &self,
        purpose: Purpose,
        repository: &Repository,
        action: String,
        response: Response,
    ) -> Error {
        let status = response.status();
        let proxy = self.proxy_for(response.url());
        let proxy = proxy.filter(|_| status == StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        let wish = wish_of(response.headers());
        let elsewhere = self.storage_host(response.url()).filter(|_| purpose != Purpose::Token);
        let (body, _) = self.read_start(response, ERROR_BODY_MAX, &action).await;
        let refusal = Refusal::parse(status, &body, self.redactor());
        let mut kind = classify(purpose, &refusal, wish);
        if elsewhere.is_some() {
            kind = classify_elsewhere(purpose, kind);
        }
        if let Kind::RateLimited(wish) = kind
            && limit_in(status, wish) == Limit::None
            && wish.is_none_or(|wish| wish <= self.policy.timing.longest_wait)
        {
            // Only the body says so. Whoever else is about to ask should know at once, whatever this one does first.
            self.close_for(wish.max(Some(own_pause(&self.policy.timing, 1))).unwrap_or_default());
        }
        let remedy = self.remedy(&kind, refusal.said, repository);
        let (remedy, cause) = match proxy {
            Some(proxy) => {
                let trouble = ProxyTrouble::WantsLogin;
                (Some(Remedy::ProxyLogin), Cause::Proxy { proxy: proxy.shown(), trouble })
            }
            None => (remedy, Cause::Answer(Box::new(refusal.into_answer(elsewhere)))),
        };
        Error {
            status: Some(status.as_u16()),
            remedy: remedy.map(Box::new),
            ..self.error(kind, action, cause)
        }
    }

    fn remedy(&self, kind: &Kind, said: Option<Said>, repository: &Repository) -> Option<Remedy> {
        Some(match (self.side, kind, said) {
            (_, Kind::Invalid, Some(Said::WantsCertificate)) => Remedy::ClientCertificate(self.host.clone()),
            (_, Kind::Invalid, Some(Said::WantsTls)) => Remedy::Tls,
            (_, Kind::RateLimited(Some(wish)), _) if *wish > self.policy.timing.longest_wait => {
                Remedy::RateLimitTooLong(*wish)
            }
            (_, Kind::RateLimited(wish), _) => Remedy::RateLimit(*wish),
            (Side::Source, ..) => return None,
            (Side::Target, Kind::Immutable, _) => Remedy::TagsImmutable,
            (Side::Target, Kind::NotFound, Some(Said::IsAmazon)) => {
                Remedy::CreateAtAmazon(repository.clone())
            }
            (Side::Target, Kind::NotFound, _) => Remedy::Create,
            (Side::Target, Kind::Denied, _) => Remedy::MayNotPush,
            (Side::Target, Kind::TooLarge, _) => Remedy::BodyLimit,
            (Side::Target, Kind::Unsupported, _) => Remedy::ReadOnly,
            (Side::Target, ..) => return None,
        })
    }

    /// The host of `url` if that is not this one but one that it redirected to.
    pub(super) fn storage_host(&self, url: &Url) -> Option<String> {
        self.addresses.elsewhere(url)
    }

    /// A body of at most `limit` bytes, which must keep coming.
    pub(super) async fn read_body(
        &self,
        response: Response,
        limit: usize,
        action: &str,
    ) -> Result<Bytes, Error> {
        match self.read_start(response, limit, action).await {
            (body, None) => Ok(body),
            (_, Some(error)) => Err(error),
        }
    }

    /// As much of a body as comes, up to about `limit` bytes, and why that is not all of it.
    async fn read_start(&self, mut response: Response, limit: usize, action: &str) -> (Bytes, Option<Error>) {
        let mut body = BytesMut::new();
        let (stall, window, began) =
            (self.policy.timing.stall, self.policy.timing.slow_window, Instant::now());
        loop {
            let time = began.elapsed();
            if time > window && (body.len() as u64) < SLOWEST * time.as_secs() {
                let why = "the answer comes too slowly".to_owned();
                return (body.freeze(), Some(self.error(Kind::Transient, action.to_owned(), why)));
            }
            let chunk = match timeout(stall, response.chunk()).await {
                Ok(Ok(None)) => return (body.freeze(), None),
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Err(error)) => return (body.freeze(), Some(self.transport_error(action, &error))),
                Err(_) => {
                    let why = format!("the answer stalled for {}", text::duration(stall));
                    return (body.freeze(), Some(self.error(Kind::Transient, action.to_owned(), why)));
                }
            };
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                let why = format!("the answer is larger than {}", text::bytes(limit as u64));
                return (body.freeze(), Some(self.error(Kind::Invalid, action.to_owned(), why)));
            }
        }
    }
}

/// Whether an answer is for people: a page of maintenance, of a login portal, of a proxy.
pub(super) fn is_web_page(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    media_type.is_some_and(|media_type| media_type.starts_with(b"text/html"))
}

/// What an answer says by its head about a limit of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    None,
    /// With how long the server wants to be left alone, if it says so.
    Reached(Option<Duration>),
}

/// Whether the answer says that a limit of requests is reached (RFC 6585, section 4; RFC 9110, section 15.6.4).
pub(super) fn limit_of(response: &Response) -> Limit {
    limit_in(response.status(), wish_of(response.headers()))
}

fn limit_in(status: StatusCode, wish: Option<Duration>) -> Limit {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Limit::Reached(wish),
        StatusCode::SERVICE_UNAVAILABLE if wish.is_some() => Limit::Reached(wish),
        _ => Limit::None,
    }
}

/// How long the server wants to be left alone. A date is read by the clock of who gave it, where the answer shows that
/// clock (RFC 9110, section 6.6.1): another's may be an hour off.
fn wish_of(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let its_now = text(DATE).and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    retry_after(text(RETRY_AFTER)?, its_now.unwrap_or_else(SystemTime::now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::Scheme;

    #[test]
    fn what_helps_depends_on_the_side_and_on_facts() {
        let host: crate::image::reference::Host = "r.example.com".parse().unwrap();
        let repository: Repository = "a/b".parse().unwrap();
        let (seven, year) = (Duration::from_secs(7), Duration::from_secs(31_536_000));
        let certificate = Some(Said::WantsCertificate);
        let table = [
            (Kind::Invalid, certificate, true, Some(Remedy::ClientCertificate(host))),
            (Kind::Invalid, Some(Said::WantsTls), true, Some(Remedy::Tls)),
            (Kind::Invalid, None, false, None),
            (Kind::RateLimited(None), None, true, Some(Remedy::RateLimit(None))),
            (Kind::RateLimited(Some(seven)), None, true, Some(Remedy::RateLimit(Some(seven)))),
            (Kind::RateLimited(Some(year)), None, true, Some(Remedy::RateLimitTooLong(year))),
            (Kind::NotFound, Some(Said::IsAmazon), false, Some(Remedy::CreateAtAmazon(repository.clone()))),
            (Kind::NotFound, None, false, Some(Remedy::Create)),
            (Kind::Immutable, None, false, Some(Remedy::TagsImmutable)),
            (Kind::Denied, None, false, Some(Remedy::MayNotPush)),
            (Kind::TooLarge, None, false, Some(Remedy::BodyLimit)),
            (Kind::Unsupported, None, false, Some(Remedy::ReadOnly)),
            (Kind::Transient, None, false, None),
        ];
        let registry = |side| Registry::for_test(side, "r.example.com", Scheme::Https, 0);
        let (source, target) = (registry(Side::Source), registry(Side::Target));
        for (kind, said, of_both, expected) in table {
            assert_eq!(target.remedy(&kind, said, &repository), expected, "{kind:?}");
            let of_source = expected.filter(|_| of_both);
            assert_eq!(source.remedy(&kind, said, &repository), of_source, "{kind:?}");
        }
    }

    fn wish(retry_after: &str, date: Option<SystemTime>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, httpdate::fmt_http_date(date).parse().unwrap());
        }
        wish_of(&headers)
    }

    #[test]
    fn a_date_is_read_by_the_clock_of_the_server() {
        let hour = Duration::from_secs(3600);
        let seven = Duration::from_secs(7);
        for its_now in [SystemTime::now() - hour, SystemTime::now(), SystemTime::now() + hour] {
            let until = httpdate::fmt_http_date(its_now + seven);
            assert_eq!(wish(&until, Some(its_now)), Some(seven));
        }
        assert_eq!(wish("7", Some(SystemTime::now() - hour)), Some(seven));
    }

    #[test]
    fn a_date_from_a_server_without_a_clock_is_read_by_ours() {
        let minute = Duration::from_secs(60);
        let until = httpdate::fmt_http_date(SystemTime::now() + minute);
        let wish = wish(&until, None).unwrap();
        assert!(wish <= minute && wish > minute - Duration::from_secs(10), "{wish:?}");
    }
}
