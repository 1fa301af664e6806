//! What the HTTP client's errors mean.

use std::error::Error as _;

use rustls::AlertDescription;

use super::error::{Error, Kind, Side};
use super::exchange::Peer;
use super::reach::{FORBIDDEN, proxy_for_https};
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
            None if is_about_proxy(error) => proxy_trouble(&root_cause(error)),
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
            (Side::Source, Some(rustls::Error::InvalidMessage(_))) => {
                Some("--source-mirror HOST=http://… allows plain HTTP".to_owned())
            }
            (_, Some(rustls::Error::AlertReceived(alert))) if wants_certificate(*alert) => {
                Some(self.client_certificate_hint())
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

impl Peer {
    pub(super) fn client_certificate_hint(&self) -> String {
        format!(
            "it wants a certificate of ours: client.cert and client.key in ~/.config/containers/certs.d/{}",
            self.host
        )
    }
}

/// How servers end a connection whose client shows no certificate, or one that they do not know.
fn wants_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::{BadCertificate, CertificateRequired, CertificateUnknown, UnknownCA};
    matches!(alert, BadCertificate | CertificateRequired | CertificateUnknown | UnknownCA)
}

/// Whether it is the proxy that was not to be had, or that would not connect us.
fn is_about_proxy(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.to_string().contains("tunnel error") {
            return true;
        }
        source = inner.source();
    }
    false
}

fn proxy_trouble(cause: &str) -> (Kind, String) {
    let proxy = proxy_for_https().map_or("the proxy".to_owned(), |host| format!("the proxy {host}"));
    match cause {
        cause if cause.contains("authorization required") => (
            Kind::Invalid,
            format!("{proxy} wants a login (407), as in HTTPS_PROXY=http://user:password@host"),
        ),
        cause if cause.contains("tunnel error") => {
            (Kind::Unreachable, format!("{proxy} does not let it through: {cause}"))
        }
        cause => (Kind::Unreachable, format!("cannot connect to {proxy}: {cause}")),
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
