//! What the HTTP library's errors mean, read from their types.

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use reqwest::Url;
use rustls::AlertDescription;
use tower_service::Service;

use super::Registry;
use super::address::Unresolved;
use super::proxies::Proxy;
use crate::error::{Cause, Error, Kind, ProxyTrouble, Quote, Remedy, Side};
use crate::redact::Redactor;

/// The library does not name these two, but for what its connectors say that they fail with.
type TunnelError = <Tunnel<HttpConnector> as Service<http::Uri>>::Error;
type SocksError = <SocksV5<HttpConnector> as Service<http::Uri>>::Error;

/// A request that got no answer, or a body that broke off.
struct Trouble {
    kind: Kind,
    cause: Cause,
    tls: Option<rustls::Error>,
    /// The proxy answered that it will not connect us; which status it gave the library keeps to itself.
    turned_away: bool,
}

impl Trouble {
    fn read(error: &reqwest::Error, proxy: Option<&Proxy>, redactor: &Redactor) -> Self {
        let (tls, unresolved) = (tls_error(error), unresolved(error));
        let cause = Quote::new(root_cause(error), redactor);
        let handshake = handshake(error);
        let turned_away = matches!(handshake, Some(Handshake::TurnedAway));
        let forbidden = matches!(unresolved, Some(Unresolved::Forbidden));
        if let Some(proxy) = proxy.filter(|_| !forbidden) {
            let in_the_way = proxy_trouble(error, proxy, handshake, tls.as_ref(), &cause);
            if let Some((kind, trouble)) = in_the_way {
                let cause = Cause::Proxy { proxy: proxy.shown(), trouble };
                return Self { kind, cause, tls, turned_away };
            }
        }
        let (kind, cause) = match (&tls, unresolved) {
            (Some(tls), _) => (Kind::Untrusted, tls_cause(tls)),
            (None, Some(Unresolved::Forbidden)) => (Kind::Invalid, Cause::Forbidden(None)),
            (None, Some(Unresolved::Failed { passing, .. })) => {
                let kind = if *passing { Kind::Unreachable } else { Kind::Invalid };
                (kind, Cause::Dns { passing: *passing, detail: cause })
            }
            (None, None) if error.is_connect() => (Kind::Unreachable, Cause::NoConnection(cause)),
            (None, None) => (Kind::Transient, Cause::Quoted(cause)),
        };
        Self { kind, cause, tls, turned_away }
    }
}

/// What is told where it is the proxy that was not to be had, or that would not connect us.
///
/// Never [`Kind::Untrusted`]: that a proxy speaks no TLS is no reason to speak to the host without.
fn proxy_trouble(
    error: &reqwest::Error,
    proxy: &Proxy,
    handshake: Option<Handshake>,
    tls: Option<&rustls::Error>,
    cause: &Quote,
) -> Option<(Kind, ProxyTrouble)> {
    // Requests without TLS are handed to the proxy as they are.
    let forwarded = !proxy.is_socks() && error.url().is_some_and(|url| url.scheme() == "http");
    let not_there = matches!(handshake, Some(Handshake::NotThere));
    let cause = cause.clone();
    Some(match (handshake, tls) {
        (Some(Handshake::WantsLogin), _) => (Kind::Invalid, ProxyTrouble::WantsLogin),
        (_, Some(tls)) if not_there || forwarded => {
            (Kind::Invalid, ProxyTrouble::Tls(Box::new(tls_cause(tls))))
        }
        (_, Some(_)) => return None,
        (_, None) if not_there || forwarded && error.is_connect() => {
            (Kind::Unreachable, ProxyTrouble::Unreachable(cause))
        }
        (Some(_), None) => (Kind::Unreachable, ProxyTrouble::Refuses(cause)),
        (None, None) if error.is_connect() && !error.is_dns() => {
            (Kind::Unreachable, ProxyTrouble::Broken(cause))
        }
        (None, None) => return None,
    })
}

/// How far it came with a proxy that was to connect us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handshake {
    /// There is no connection to it.
    NotThere,
    WantsLogin,
    /// It answered that it will not.
    TurnedAway,
    /// It did not keep to the protocol, or refused without saying what can be decided on: why a SOCKS5 proxy refuses has
    /// a type without a name, so that its words are shown and no more.
    Failed,
}

fn handshake(error: &reqwest::Error) -> Option<Handshake> {
    chain(error).find_map(|inner| {
        if let Some(error) = inner.downcast_ref::<TunnelError>() {
            return Some(match error {
                TunnelError::ConnectFailed(_) => Handshake::NotThere,
                TunnelError::ProxyAuthRequired => Handshake::WantsLogin,
                TunnelError::TunnelUnsuccessful => Handshake::TurnedAway,
                _ => Handshake::Failed,
            });
        }
        inner.downcast_ref::<SocksError>().map(|error| match error {
            SocksError::Inner(_) => Handshake::NotThere,
            _ => Handshake::Failed,
        })
    })
}

impl Registry {
    /// What a request that got no answer means. Of a proxy that refused, its own words are asked for.
    pub(super) async fn connection_error(&self, action: &str, error: &reqwest::Error) -> Error {
        let trouble = self.trouble(error);
        let turned_away = trouble.turned_away;
        let told = self.trouble_told(action, error, trouble);
        let (Some(url), Some(proxy)) = (error.url().filter(|_| turned_away), self.proxy_of(error)) else {
            return told;
        };
        let Some(refusal) = proxy.refusal(url).await else { return told };
        let may_pass = !matches!(refusal.status, Some(400..=407 | 409..=428 | 430..=499));
        let kind = if may_pass { told.kind.clone() } else { Kind::Invalid };
        let trouble = ProxyTrouble::Refuses(Quote::new(refusal.line, self.redactor()));
        Error { kind, cause: Cause::Proxy { proxy: proxy.shown(), trouble }, ..told }
    }

    /// What a failed connection or a broken transfer means.
    pub(super) fn transport_error(&self, action: &str, error: &reqwest::Error) -> Error {
        self.trouble_told(action, error, self.trouble(error))
    }

    fn trouble(&self, error: &reqwest::Error) -> Trouble {
        Trouble::read(error, self.proxy_of(error), self.redactor())
    }

    fn trouble_told(&self, action: &str, error: &reqwest::Error, trouble: Trouble) -> Error {
        let Trouble { kind, cause, tls, .. } = trouble;
        let remedy = match (&cause, &tls) {
            (Cause::Proxy { trouble: ProxyTrouble::WantsLogin, .. }, _) => Some(Remedy::ProxyLogin),
            (_, Some(tls)) => {
                let elsewhere = error.url().is_some_and(|url| self.storage_host(url).is_some());
                let none_here = self.clients.system_has_none();
                if kind == Kind::Untrusted && !elsewhere {
                    self.tls_remedy(tls, none_here)
                } else {
                    is_untrusted(tls).then_some(Remedy::Authority { none_here })
                }
            }
            (Cause::Dns { .. }, None) if self.proxy_of(error).is_some_and(Proxy::wants_addresses) => {
                Some(Remedy::ProxyLooksUp)
            }
            _ => None,
        };
        Error { remedy: remedy.map(Box::new), ..self.error(kind, action.to_owned(), cause) }
    }

    /// What helps against a TLS error of the host itself.
    fn tls_remedy(&self, error: &rustls::Error, none_here: bool) -> Option<Remedy> {
        Some(match (self.side, error) {
            (Side::Target, rustls::Error::InvalidMessage(_)) => Remedy::PlainTarget,
            (Side::Source, rustls::Error::InvalidMessage(_)) => Remedy::PlainSource,
            (_, rustls::Error::AlertReceived(alert)) if wants_certificate(*alert) => {
                Remedy::ClientCertificate(self.host.clone())
            }
            (Side::Target, _) => Remedy::AuthorityOrNone { none_here },
            (Side::Source, error) if is_untrusted(error) => Remedy::Authority { none_here },
            (Side::Source, _) => return None,
        })
    }

    fn proxy_of(&self, error: &reqwest::Error) -> Option<&Proxy> {
        self.proxy_for(error.url()?)
    }

    pub(super) fn proxy_for(&self, url: &Url) -> Option<&Proxy> {
        self.clients.proxies.for_url(url)
    }
}

fn tls_cause(error: &rustls::Error) -> Cause {
    match error {
        rustls::Error::InvalidCertificate(reason) => Cause::Certificate(reason.to_string()),
        rustls::Error::InvalidMessage(_) => Cause::NoTls,
        other => Cause::Tls(other.to_string()),
    }
}

fn is_untrusted(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_))
}

/// How servers end a connection whose client shows no certificate, or one that they do not know.
fn wants_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::{BadCertificate, CertificateRequired, CertificateUnknown, UnknownCA};
    matches!(alert, BadCertificate | CertificateRequired | CertificateUnknown | UnknownCA)
}

/// An error and all that it was made of, outermost first.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source())
}

/// What our own look-up of a name failed with, somewhere inside.
fn unresolved(error: &reqwest::Error) -> Option<&Unresolved> {
    chain(error).find_map(|inner| inner.downcast_ref())
}

/// The TLS library's own error, somewhere inside.
fn tls_error(error: &reqwest::Error) -> Option<rustls::Error> {
    chain(error).find_map(|inner| {
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
        None
    })
}

/// The innermost reason; the layers around it repeat themselves and quote URLs.
fn root_cause(error: &reqwest::Error) -> String {
    match chain(error).skip(1).last() {
        Some(cause) => cause.to_string(),
        // An error of reqwest's own prints its URL, which may be signed.
        None => "the request failed".to_owned(),
    }
}

#[cfg(test)]
mod tests;
