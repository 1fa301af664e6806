//! What the HTTP client's errors mean.

use std::error::Error as _;

use super::error::{Error, Kind, Side};
use super::exchange::Peer;
use super::reach::FORBIDDEN;
use crate::text;

/// How it is said that a host answers, but not with TLS.
pub(super) const NO_TLS: &str = "it does not speak TLS";

impl Peer {
    /// What a failed connection or a broken transfer means.
    pub(super) fn transport_error(&self, doing: &str, error: &reqwest::Error) -> Error {
        let tls = tls_error(error);
        let (kind, why) = match &tls {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                (Kind::Untrusted, format!("its certificate is not trusted: {reason}"))
            }
            Some(rustls::Error::InvalidMessage(_)) => (Kind::Untrusted, NO_TLS.to_owned()),
            Some(other) => (Kind::Untrusted, format!("TLS: {other}")),
            None if root_cause(error).contains(FORBIDDEN) => (Kind::Invalid, root_cause(error)),
            None if root_cause(error).contains("tunnel error") => {
                (Kind::Unreachable, format!("the proxy does not let it through: {}", root_cause(error)))
            }
            None if error.is_dns() => match root_cause(error) {
                cause if cause.contains("Temporary failure") => (Kind::Unreachable, cause),
                cause => (Kind::Invalid, format!("no such host: {cause}")),
            },
            None if error.is_connect() => {
                (Kind::Unreachable, format!("cannot connect: {}", root_cause(error)))
            }
            None => (Kind::Transient, root_cause(error)),
        };
        let hint = match (self.side, &tls) {
            (Side::Target, Some(rustls::Error::InvalidMessage(_))) => {
                Some("--insecure allows plain HTTP".to_owned())
            }
            (Side::Target, Some(_)) => {
                Some("--ca-file names the authority to trust, --insecure does without".to_owned())
            }
            (Side::Source, Some(rustls::Error::InvalidCertificate(_))) => {
                Some("--ca-file names the authority to trust".to_owned())
            }
            _ => None,
        };
        Error { hint, ..self.error(kind, doing.to_owned(), text::printable(&why)) }
    }
}

/// The TLS library's own error, somewhere inside.
fn tls_error(error: &reqwest::Error) -> Option<rustls::Error> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Some(tls.clone());
        }
        // An io error hides what it wraps from the chain, at times several times over.
        let mut io = inner.downcast_ref::<std::io::Error>();
        while let Some(wrapped) = io.and_then(std::io::Error::get_ref) {
            if let Some(tls) = wrapped.downcast_ref::<rustls::Error>() {
                return Some(tls.clone());
            }
            io = wrapped.downcast_ref::<std::io::Error>();
        }
        source = inner.source();
    }
    None
}

/// The innermost reason; the layers around it repeat themselves and quote URLs.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        // An error of reqwest's own prints its URL, which may be signed.
        None => "the request failed".to_owned(),
    }
}
