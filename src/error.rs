//! What can go wrong between here and a registry, as a value that decisions are made on.
//!
//! An [`Error`] says which end failed, at what, why, and what a person can do about it. Code decides on its [`Kind`] and
//! on the facts in its [`Cause`]; words are made of them only when it is shown.

mod cause;
mod remedy;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::cause::{Answer, Cause, Code, ProxyTrouble, Quote};
pub(crate) use self::remedy::Remedy;

use crate::image::reference::Digest;
use crate::redact::Redactor;

/// Which end of the transfer something concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Source,
    Target,
}

/// What an error means for what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// May pass: network trouble, time-outs, 5xx. Worth another try after a pause.
    Transient,
    /// 502, 503 or 504: overloaded at the moment.
    Busy,
    /// No connection came about. May pass too, but says that the host, not the content, is the trouble.
    Unreachable,
    /// The server asks for a pause (429, or 503 with `Retry-After`) of this length, where it said one.
    RateLimited(Option<Duration>),
    /// 401, after a fresh token where one could be had.
    Unauthorized,
    /// 403.
    Denied,
    /// The storage service that the registry redirects to refuses: its signed addresses run out, its regions lag
    /// behind. The registry may name a better one.
    Storage,
    /// The manifest, blob or repository does not exist.
    NotFound,
    /// The registry does not do this at all: 405, 501, `UNSUPPORTED`.
    Unsupported,
    /// 413, or its disguises: the body is larger than the target or a proxy before it takes.
    TooLarge,
    /// The target keeps what a tag names now.
    Immutable,
    /// The upload session is gone; a new one may work.
    SessionGone,
    /// The target lacks content that a manifest names, by its own word (`MANIFEST_BLOB_UNKNOWN`): this, where it says.
    BlobUnknown(Vec<Digest>),
    /// Bytes that are not what their digest or size promises.
    Corrupt,
    /// A certificate that nobody here vouches for, or no TLS where TLS must be.
    Untrusted,
    /// There is no room left at the target, or it may not be written to.
    Full,
    /// Whoever reads what is written takes no more, or was given what cannot be taken back.
    Closed,
    /// Anything else that will not pass by itself.
    Invalid,
}

impl Kind {
    /// Whether the same request may succeed a little later.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Kind::Transient | Kind::Busy | Kind::Unreachable | Kind::Storage | Kind::RateLimited(_)
        )
    }
}

/// An exchange with a registry that failed: which end, which place, what was tried, why.
#[derive(Debug, Clone)]
pub struct Error {
    pub side: Side,
    pub kind: Kind,
    /// Where the exchange was with, as a person knows it.
    pub place: String,
    /// What was being done, e.g. `GET manifest library/alpine:3`.
    pub action: String,
    pub cause: Cause,
    /// What a person can do about it.
    pub remedy: Option<Box<Remedy>>,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    /// Takes secrets out of what others said, once it is shown.
    pub(crate) redactor: Arc<Redactor>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.reason())
    }
}

impl Error {
    /// Whether the target would not take something. A tag that is to stay what it is is none of that, and neither is a
    /// damaged copy that stays where the target has taken another, or a reader that has gone away.
    pub fn is_refusal(&self) -> bool {
        let stays = matches!(self.kind, Kind::Immutable | Kind::Closed)
            || matches!(self.cause, Cause::DamagedCopy(_));
        self.side == Side::Target && !stays
    }

    /// Whether no connection came about: to the host's name, to its address, or by TLS. Whatever was asked for, it would
    /// have failed.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        let no_way = matches!(
            self.cause,
            Cause::NoConnection(_)
                | Cause::Dns { .. }
                | Cause::Proxy { .. }
                | Cause::Certificate(_)
                | Cause::Tls(_)
                | Cause::NoTls
        );
        self.status.is_none() && (no_way || matches!(self.kind, Kind::Unreachable | Kind::Untrusted))
    }

    /// Where and why, without what was being done: the same for all that fail for one cause.
    pub fn reason(&self) -> String {
        let preposition = match self.side {
            Side::Source => "from",
            Side::Target => "at",
        };
        let remedy = self.remedy.as_ref().map_or(String::new(), |remedy| format!(" ({remedy})"));
        format!("{preposition} {}: {}{remedy}", self.place, self.cause.shown(&self.redactor))
    }

    /// An error of a place that exists in a test alone.
    #[cfg(test)]
    pub(crate) fn of_test(side: Side, kind: Kind, place: &str, action: String, why: String) -> Self {
        let (place, cause, redactor) = (place.to_owned(), why.into(), Arc::default());
        Self { side, kind, place, action, cause, remedy: None, status: None, redactor }
    }

    /// The error with what a person can do about it.
    #[must_use]
    pub(crate) fn with_remedy(self, remedy: Remedy) -> Self {
        Self { remedy: Some(Box::new(remedy)), ..self }
    }

    /// Whether the other side gave this code in its answer (distribution-spec, "Error Codes").
    pub(crate) fn has(&self, code: Code) -> bool {
        matches!(&self.cause, Cause::Answer(answer) if answer.has(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_nobody_sees_is_not_searched_for_secrets() {
        let redactor = Arc::new(Redactor::default());
        redactor.learn("hunter2");
        let message = Quote::new("MANIFEST_UNKNOWN no hunter2 here".to_owned(), &redactor);
        let answer = Answer { status: 404, codes: vec![], message, elsewhere: None };
        let error = Error {
            side: Side::Source,
            kind: Kind::NotFound,
            place: "r.example.com".to_owned(),
            action: "GET manifest a:1".to_owned(),
            cause: Cause::Answer(Box::new(answer)),
            remedy: None,
            status: Some(404),
            redactor: redactor.clone(),
        };
        let _ = (error.clone().kind.may_pass(), error.has(Code::NameUnknown));
        assert_eq!(redactor.searches(), 0);
        let debug = format!("{error:?}");
        assert!(!debug.contains("hunter2"), "{debug}");
        assert_eq!(
            error.to_string(),
            "GET manifest a:1 from r.example.com: 404 MANIFEST_UNKNOWN no *** here"
        );
        assert_eq!(redactor.searches(), 1);
    }
}
