//! The proxies that the environment names, as curl reads them.
//!
//! Which proxy a request takes is decided here and not in the HTTP library, so that an error can name the proxy, a
//! proxy that cannot be used is not passed over in silence, and a name is judged by who looks it up.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::credentials::{Login, Secret};

/// The kinds of proxies that are spoken to, with the port of each where none is named.
const SCHEMES: [(&str, u16); 6] =
    [("http", 80), ("https", 443), ("socks4", 1080), ("socks4a", 1080), ("socks5", 1080), ("socks5h", 1080)];
/// How long a proxy is listened to that has refused already.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest first line of its answer, in bytes.
const REFUSAL_MAX: u64 = 1024;

/// Which requests go through which proxy.
#[derive(Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

impl Proxies {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in lower case first. `environment` gives variables
    /// that are not blank.
    ///
    /// # Errors
    /// What is no proxy that can be used. The message names the variable and not its value, which may hold a login.
    pub fn new(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let value = |name: &str| {
            let upper = name.to_ascii_uppercase();
            // A web server hands its clients' headers to a CGI program like this: `Proxy:` becomes HTTP_PROXY.
            let foreign = name == "http_proxy" && environment("REQUEST_METHOD").is_some();
            let given = |name: String| environment(&name).map(|value| (name, value));
            given(name.to_owned()).or_else(|| given(upper).filter(|_| !foreign))
        };
        let proxy = |name: &str| {
            let Some((name, text)) = value(name).or_else(|| value("all_proxy")) else { return Ok(None) };
            let schemes = SCHEMES.map(|(scheme, _)| scheme).join(", ");
            let unusable = || {
                format!("{name} names no proxy that can be used: SCHEME://HOST:PORT, with one of {schemes}")
            };
            Proxy::parse(&text).with_context(unusable).map(Some)
        };
        let exceptions = value("no_proxy").map_or(Vec::new(), |(_, text)| exceptions(&text));
        Ok(Self { http: proxy("http_proxy")?, https: proxy("https_proxy")?, exceptions })
    }

    /// The proxy for `url`. Loopback is this very machine: no proxy can reach it.
    pub(super) fn for_url(&self, url: &Url) -> Option<&Proxy> {
        if is_loopback(url) || self.exceptions.iter().any(|exception| exception.covers(url)) {
            return None;
        }
        if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() }
    }

    /// What the proxies are shown, and may say back.
    pub(super) fn logins(&self) -> impl Iterator<Item = Login> {
        [&self.http, &self.https].into_iter().flatten().filter_map(Proxy::login)
    }
}

/// Whether `url` is on this machine, by its literal address or by the name that means it.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// One proxy, at times with a login.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Proxy(Url);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Proxy {
    /// `host:port` alone is a proxy that is spoken to in plain HTTP.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url: Url = with_scheme.parse().ok()?;
        let (_, port) = SCHEMES.iter().find(|(scheme, _)| *scheme == url.scheme())?;
        let of_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        // What the library cannot read it passes over, and connects directly.
        if url.host_str().is_none_or(|host| host.is_empty() || !host.chars().all(of_host)) {
            return None;
        }
        // It knows no port of its own for SOCKS.
        url.set_port(url.port().or(Some(*port))).ok()?;
        url.set_path("");
        url.set_query(None);
        url.set_fragment(None);
        Some(Self(url))
    }

    /// For the HTTP library, which reads the login in it as well.
    pub(super) fn url(&self) -> Url {
        self.0.clone()
    }

    /// Its place, without its login.
    pub(super) fn shown(&self) -> String {
        crate::util::text::printable(&format!("{}:{}", self.host(), self.port()))
    }

    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// Whether it is itself spoken to over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub(super) fn is_socks(&self) -> bool {
        !matches!(self.0.scheme(), "http" | "https")
    }

    /// Whether it is told addresses, and not names that it looks up.
    pub(super) fn wants_addresses(&self) -> bool {
        matches!(self.0.scheme(), "socks4" | "socks5")
    }

    fn login(&self) -> Option<Login> {
        let password = self.0.password().map(decoded)?;
        Some(Login {
            user: decoded(self.0.username()),
            password: Secret::new(password),
            identity_token: None,
            origin: "the address of the proxy".to_owned(),
        })
    }

    /// The line with which it refuses to connect us to `to`, e.g. `502 Bad Gateway`. The HTTP library keeps that to
    /// itself, so it is asked once more.
    pub(super) async fn refusal(&self, to: &Url) -> Option<Refusal> {
        if self.0.scheme() != "http" {
            return None;
        }
        timeout(REFUSAL_TIME_MAX, self.ask_to_connect(to)).await.ok()?
    }

    async fn ask_to_connect(&self, to: &Url) -> Option<Refusal> {
        let place = format!("{}:{}", to.host_str()?, to.port_or_known_default()?);
        let login = self.login().map(|login| login.basic());
        let login = login.map_or(String::new(), |l| format!("Proxy-Authorization: {}\r\n", l.reveal()));
        let host = self.host().trim_matches(['[', ']']);
        let mut stream = TcpStream::connect((host, self.port())).await.ok()?;
        let question = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n");
        stream.write_all(question.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        let mut start = stream.take(REFUSAL_MAX);
        while !answer.contains(&b'\n') && start.read_buf(&mut answer).await.ok()? > 0 {}
        let line = String::from_utf8_lossy(&answer).lines().next()?.to_owned();
        let (version, status) = line.split_once(' ')?;
        let line = status.trim();
        let status = line.split(' ').next().and_then(|status| status.parse().ok());
        let refused = version.starts_with("HTTP/") && !matches!(status, Some(200..=299));
        refused.then(|| Refusal { status, line: line.to_owned() })
    }
}

/// How a proxy refuses to connect us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: Option<u16>,
    /// The status and what follows it on its line, e.g. `502 Bad Gateway`.
    pub line: String,
}

/// `p%40ss` → `p@ss`
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What `NO_PROXY` keeps away from proxies.
#[derive(Debug, PartialEq, Eq)]
struct Exception {
    place: Place,
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    /// This name and all below it.
    Name(String),
    /// All addresses that begin with so many bits of this one.
    Network(IpAddr, u32),
}

/// Names, addresses and networks, separated by commas or blanks. What is none of these covers nothing.
fn exceptions(text: &str) -> Vec<Exception> {
    text.split([',', ' ', '\t']).filter_map(|entry| Exception::parse(entry.trim())).collect()
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self { place: Place::Everywhere, port: None });
        }
        if let Some(network) = Place::network(entry) {
            return Some(Self { place: network, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let place = Place::network(bare).or_else(|| {
            let name = bare.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
            (!name.is_empty()).then_some(Place::Name(name))
        })?;
        Some(Self { place, port })
    }

    fn covers(&self, url: &Url) -> bool {
        let port = self.port.is_none() || self.port == url.port_or_known_default();
        port && match (&self.place, url.host()) {
            (Place::Everywhere, _) => true,
            (Place::Name(name), Some(url::Host::Domain(host))) => {
                let above = host.trim_end_matches('.').strip_suffix(name.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            (Place::Network(network, bits), Some(url::Host::Ipv4(ip))) => share(*network, ip.into(), *bits),
            (Place::Network(network, bits), Some(url::Host::Ipv6(ip))) => share(*network, ip.into(), *bits),
            _ => false,
        }
    }
}

impl Place {
    /// `10.0.0.0/8`, or one address.
    fn network(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, bits)| (a, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(all), |bits| bits.parse().ok())?;
        (bits <= all).then_some(Place::Network(address, bits))
    }
}

/// Whether two addresses have their first bits in common.
fn share(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies> {
        Proxies::new(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    fn shown(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.for_url(&url.parse().unwrap()).map(Proxy::shown)
    }

    #[test]
    fn each_scheme_has_its_variables_and_all_proxy_is_for_both() {
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Option<&'a str>);
        let table: [Row; 9] = [
            (&[], None, None),
            (&[("HTTPS_PROXY", "http://p:1")], None, Some("p:1")),
            (&[("HTTP_PROXY", "p:2")], Some("p:2"), None),
            (&[("https_proxy", "p:1"), ("HTTPS_PROXY", "p:2")], None, Some("p:1")),
            (&[("ALL_PROXY", "socks5h://p")], Some("p:1080"), Some("p:1080")),
            (&[("all_proxy", "p:1"), ("HTTP_PROXY", "p:2")], Some("p:2"), Some("p:1")),
            (&[("HTTPS_PROXY", "https://u:pw@P.example.com/path")], None, Some("p.example.com:443")),
            (&[("HTTP_PROXY", "p"), ("REQUEST_METHOD", "GET")], None, None),
            (&[("http_proxy", "p"), ("REQUEST_METHOD", "GET")], Some("p:80"), None),
        ];
        for (variables, http, https) in table {
            let proxies = proxies(variables).unwrap();
            assert_eq!(shown(&proxies, "http://a.example.com/").as_deref(), http, "{variables:?}");
            assert_eq!(shown(&proxies, "https://a.example.com/").as_deref(), https, "{variables:?}");
        }
    }

    #[test]
    fn what_no_proxy_covers_is_reached_directly() {
        let table = [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://a.example.com:5000/", true),
            (".example.com", "https://a.example.com/", true),
            (".example.com", "https://example.com/", true),
            ("*.example.com", "https://a.example.com/", true),
            ("EXAMPLE.com.", "https://a.example.com./", true),
            ("example.com", "https://notexample.com/", false),
            ("ample.com", "https://example.com/", false),
            ("a.example.com", "https://example.com/", false),
            ("example.com:443", "https://example.com/", true),
            ("example.com:5000", "https://example.com/", false),
            ("x, example.com", "https://example.com/", true),
            ("x example.com", "https://example.com/", true),
            ("*", "https://example.com/", true),
            ("192.0.2.1", "https://192.0.2.1/", true),
            ("192.0.2.1", "https://192.0.2.11/", false),
            ("192.0.2.1:5000", "https://192.0.2.1:5000/", true),
            ("192.0.2.0/24", "https://192.0.2.77/", true),
            ("192.0.2.0/24", "https://192.0.3.77/", false),
            ("0.0.0.0/0", "https://192.0.3.77/", true),
            ("192.0.2.0/33", "https://192.0.2.77/", false),
            ("2001:db8::/32", "https://[2001:db8::7]/", true),
            ("2001:db8::7", "https://[2001:db8::7]/", true),
            ("[2001:db8::7]:443", "https://[2001:db8::7]/", true),
            ("192.0.2.0/24", "https://192.0.2.example.com/", false),
            ("", "https://example.com/", false),
            (".", "https://example.com/", false),
        ];
        for (value, url, direct) in table {
            let proxies = proxies(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", value)]).unwrap();
            assert_eq!(shown(&proxies, url).is_none(), direct, "{value:?} {url}");
        }
    }

    #[test]
    fn loopback_has_no_proxy() {
        let proxies = proxies(&[("ALL_PROXY", "p:1")]).unwrap();
        for url in ["http://localhost:1/", "https://a.localhost/", "https://127.1.2.3/", "https://[::1]/"] {
            assert_eq!(shown(&proxies, url), None, "{url}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_by_its_variable_alone() {
        for value in ["ftp://u:pr0xy@p:1", "socks://p", "http://", "http://u:pr0xy@p:port", "u:pr0xy@a b"] {
            let told = format!("{:#}", proxies(&[("https_proxy", value)]).unwrap_err());
            assert!(told.starts_with("https_proxy names no proxy") && !told.contains("pr0xy"), "{told}");
        }
    }

    #[test]
    fn a_login_is_decoded_and_never_shown() {
        let proxies = proxies(&[("HTTPS_PROXY", "http://u%3a1:p%40ss%zz%@p:1")]).unwrap();
        let login = proxies.logins().next().unwrap();
        assert_eq!((login.user.as_str(), login.password.reveal()), ("u:1", "p@ss%zz%"));
        assert!(!format!("{proxies:?}").contains("ss%"), "{proxies:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_value_makes_the_parser_fail(proxy in ".{0,60}", no in ".{0,60}") {
            if let Ok(proxies) = proxies(&[("ALL_PROXY", &proxy), ("NO_PROXY", &no)]) {
                let _ = shown(&proxies, "https://a.example.com/");
            }
        }
    }
}
