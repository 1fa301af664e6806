//! What the HTTP client's errors mean.

use rustls::AlertDescription;

use super::error::{Error, Kind, Side};
use super::exchange::Peer;
use super::proxies::Proxy;
use super::reach::FORBIDDEN;
use crate::text;

/// How it is said that a host answers, but not with TLS.
pub(super) const NO_TLS: &str = "it does not speak TLS";

/// How the HTTP library says that a proxy answered otherwise than by 200 or 407.
const REFUSED: &str = "tunnel error: unsuccessful";

impl Peer {
    /// What a request that got no answer means. Of a proxy that refused, its own words are asked for.
    pub(super) async fn connection_error(&self, doing: &str, error: &reqwest::Error) -> Error {
        let told = self.transport_error(doing, error);
        let (Some(url), Some(proxy)) = (error.url(), self.proxy_of(error)) else { return told };
        if root_cause(error) != REFUSED {
            return told;
        }
        let Some(status) = proxy.refusal(url).await else { return told };
        let may_pass = ["408", "429"].iter().any(|code| status.starts_with(code)) || !status.starts_with('4');
        let kind = if may_pass { told.kind } else { Kind::Invalid };
        let why = format!("the proxy {} does not let it through: {status}", proxy.shown());
        Error { hint: told.hint, ..self.error(kind, doing.to_owned(), text::printable(&why)) }
    }

    /// What a failed connection or a broken transfer means.
    pub(super) fn transport_error(&self, doing: &str, error: &reqwest::Error) -> Error {
        let tls = tls_error(error);
        let (kind, why) = match (self.trouble_with_proxy(error, tls.as_ref()), &tls) {
            (Some(trouble), _) => trouble,
            (None, Some(tls)) => (Kind::Untrusted, tls_trouble(tls)),
            (None, None) if root_cause(error).contains(FORBIDDEN) => (Kind::Invalid, root_cause(error)),
            (None, None) if error.is_dns() => match root_cause(error) {
                cause if cause.contains("Temporary failure") => (Kind::Unreachable, cause),
                cause => (Kind::Invalid, format!("no such host: {cause}")),
            },
            (None, None) if error.is_connect() => {
                (Kind::Unreachable, format!("cannot connect: {}", root_cause(error)))
            }
            (None, None) => (Kind::Transient, root_cause(error)),
        };
        let hint = match tls {
            Some(tls) => {
                let elsewhere = error.url().is_some_and(|url| self.storage_host(url).is_some());
                self.tls_hint(&tls, kind == Kind::Untrusted && !elsewhere)
            }
            None if error.is_dns() && self.proxy_of(error).is_some_and(Proxy::wants_addresses) => {
                Some("socks5h:// lets the proxy look names up".to_owned())
            }
            None => None,
        };
        Error { hint, ..self.error(kind, doing.to_owned(), text::printable(&why)) }
    }

    /// What helps against a TLS error, of the host itself or of another on the way: a proxy, or where it points to.
    fn tls_hint(&self, error: &rustls::Error, of_host: bool) -> Option<String> {
        let authority = || match self.clients.system_has_none() {
            true => "--ca-file names the authority to trust; this system has none, so only public ones are",
            false => "--ca-file names the authority to trust",
        };
        match (self.side, error) {
            (_, rustls::Error::InvalidCertificate(_)) if !of_host => Some(authority().to_owned()),
            _ if !of_host => None,
            (Side::Target, rustls::Error::InvalidMessage(_)) => {
                Some("--insecure allows plain HTTP".to_owned())
            }
            (Side::Source, rustls::Error::InvalidMessage(_)) => {
                Some("--source-mirror HOST=http://… allows plain HTTP".to_owned())
            }
            (_, rustls::Error::AlertReceived(alert)) if wants_certificate(*alert) => {
                Some(self.client_certificate_hint())
            }
            (Side::Target, _) => Some(format!("{}, --insecure does without", authority())),
            (Side::Source, rustls::Error::InvalidCertificate(_)) => Some(authority().to_owned()),
            _ => None,
        }
    }

    fn proxy_of(&self, error: &reqwest::Error) -> Option<&Proxy> {
        self.clients.proxies.for_url(error.url()?)
    }

    /// What is told where it is the proxy that was not to be had, or that would not connect us.
    ///
    /// Never [`Kind::Untrusted`]: that a proxy speaks no TLS is no reason to speak to the host without.
    fn trouble_with_proxy(
        &self,
        error: &reqwest::Error,
        tls: Option<&rustls::Error>,
    ) -> Option<(Kind, String)> {
        let proxy = self.proxy_of(error)?;
        let (shown, cause) = (proxy.shown(), root_cause(error));
        let layers: Vec<String> = chain(error).map(ToString::to_string).collect();
        let says = |text: &str| layers.iter().any(|layer| layer.contains(text));
        let tunnelled = says("tunnel error") || says("SOCKS error");
        let forwarded = error.url().is_some_and(|url| url.scheme() == "http") && !says("socks proxy");
        Some(match tls {
            _ if cause.contains(FORBIDDEN) => return None,
            _ if says("proxy authorization required") => (Kind::Invalid, wants_login(proxy)),
            _ if says("credentials not accepted") || says("user/pass authentication") => {
                (Kind::Invalid, format!("the proxy {shown} does not take the login that its address has"))
            }
            Some(tls) if says(CONNECTING) || forwarded => {
                (Kind::Invalid, format!("cannot connect to the proxy {shown}: {}", tls_trouble(tls)))
            }
            None if says(CONNECTING) || forwarded && error.is_connect() => {
                (Kind::Unreachable, format!("cannot connect to the proxy {shown}: {cause}"))
            }
            None if tunnelled => {
                (Kind::Unreachable, format!("the proxy {shown} does not let it through: {cause}"))
            }
            None if error.is_connect() && !error.is_dns() => {
                (Kind::Unreachable, format!("cannot connect through the proxy {shown}: {cause}"))
            }
            _ => return None,
        })
    }
}

/// How the HTTP library says that it did not get as far as the proxy.
const CONNECTING: &str = "failed to create underlying connection";

/// How it is said that a proxy refuses whom it does not know.
pub(super) fn wants_login(proxy: &Proxy) -> String {
    format!(
        "the proxy {} wants a login (407): its address may hold one, as in http://user:password@host:port",
        proxy.shown()
    )
}

fn tls_trouble(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => format!("its certificate is not trusted: {reason}"),
        rustls::Error::InvalidMessage(_) => NO_TLS.to_owned(),
        other => format!("TLS: {other}"),
    }
}

/// An error and all that it was made of, outermost first.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source())
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
