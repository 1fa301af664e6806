//! The library's errors as it really gives them: their types are found only where its version is the one built against.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::redact::Redactor;
use crate::store::registry::address::{Allowed, Resolver};
use crate::store::registry::proxies::Proxies;

/// The address of a server that reads once before each of these answers, and then hangs up.
async fn server(answers: &'static [&'static [u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut question = [0; 4096];
                let _ = stream.read(&mut question).await;
                let _ = stream.write_all(answer).await;
            }
        }
    });
    address
}

/// An address that nobody listens at.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// What a GET of `url` fails with, by the proxy `proxy` where there is one.
async fn trouble(url: &str, proxy: Option<&str>, allowed: Option<Allowed>) -> Trouble {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let environment = |name: &str| proxy.filter(|_| name == "all_proxy").map(str::to_owned);
    let proxies = Proxies::new(&environment).unwrap();
    let proxy = proxies.for_url(&url.parse().unwrap());
    let builder = Client::builder().tls_certs_only([]).connect_timeout(Duration::from_secs(5));
    let builder = builder.dns_resolver(Arc::new(Resolver { allowed, proxy: None }));
    let builder = match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.url()).unwrap()),
        None => builder.no_proxy(),
    };
    let error = builder.build().unwrap().get(url).send().await.unwrap_err();
    Trouble::read(&error, proxy, &Redactor::default())
}

/// A host that needs no look-up, and that no proxy is left out for (RFC 5737).
const AWAY: &str = "https://192.0.2.7/";

#[tokio::test]
async fn a_host_without_tls_is_told_from_one_that_is_not_there() {
    let plain = server(&[b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"]).await;
    let found = trouble(&format!("https://{plain}/"), None, None).await;
    assert!(matches!((&found.kind, &found.cause), (Kind::Untrusted, Cause::NoTls)), "{:?}", found.cause);
    let found = trouble(&format!("https://{}/", nobody().await), None, None).await;
    assert!(matches!((&found.kind, &found.cause), (Kind::Unreachable, Cause::NoConnection(_))));
    let silent = server(&[b""]).await;
    let found = trouble(&format!("http://{silent}/"), None, None).await;
    assert!(matches!((&found.kind, &found.cause), (Kind::Transient, Cause::Quoted(_))), "{:?}", found.cause);
}

#[tokio::test]
async fn a_name_is_told_from_an_address_that_is_not_allowed() {
    // Too long for a name (RFC 1035, section 2.3.4): no name server is asked.
    let found = trouble(&format!("http://{}.example/", "x".repeat(64)), None, None).await;
    assert!(matches!((&found.kind, &found.cause), (Kind::Invalid, Cause::Dns { passing: false, .. })));
    let public = Some(Allowed { private: false, loopback: false });
    let found = trouble("http://localhost:1/", None, public).await;
    assert!(matches!((&found.kind, &found.cause), (Kind::Invalid, Cause::Forbidden(None))));
}

/// Whether the proxy's refusal is told with this word of the library's.
fn says(trouble: &ProxyTrouble, word: &str) -> bool {
    matches!(trouble, ProxyTrouble::Refuses(why) if why.shown(&Redactor::default()).contains(word))
}

#[tokio::test]
async fn how_a_proxy_refuses_is_read_from_the_types_of_the_library() {
    let wants_login = server(&[b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"]).await;
    let turns_away = server(&[b"HTTP/1.1 502 Bad Gateway\r\n\r\n"]).await;
    let hangs_up = server(&[b""]).await;
    // SOCKS5 (RFC 1928, RFC 1929): no way to log in, and a login that is refused.
    let (no_method, bad_login) = (server(&[&[5, 255]]).await, server(&[&[5, 2], &[1, 1]]).await);
    let not_there = nobody().await;
    let plain = server(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
    type Row = (String, Kind, bool, fn(&ProxyTrouble) -> bool);
    let table: [Row; 8] = [
        (format!("http://{wants_login}"), Kind::Invalid, false, |t| matches!(t, ProxyTrouble::WantsLogin)),
        (format!("http://{turns_away}"), Kind::Unreachable, true, |t| matches!(t, ProxyTrouble::Refuses(_))),
        (format!("http://{hangs_up}"), Kind::Unreachable, false, |t| matches!(t, ProxyTrouble::Refuses(_))),
        (format!("http://{not_there}"), Kind::Unreachable, false, |t| {
            matches!(t, ProxyTrouble::Unreachable(_))
        }),
        (format!("https://{plain}"), Kind::Invalid, false, |t| matches!(t, ProxyTrouble::Tls(_))),
        (format!("socks5h://u:p@{no_method}"), Kind::Unreachable, false, |t| says(t, "authentication")),
        (format!("socks5h://u:p@{bad_login}"), Kind::Unreachable, false, |t| says(t, "credentials")),
        (format!("socks5h://{not_there}"), Kind::Unreachable, false, |t| {
            matches!(t, ProxyTrouble::Unreachable(_))
        }),
    ];
    for (proxy, kind, turned_away, expected) in table {
        let found = trouble(AWAY, Some(&proxy), None).await;
        assert_eq!((&found.kind, found.turned_away), (&kind, turned_away), "{proxy}");
        let Cause::Proxy { trouble, .. } = &found.cause else { panic!("{proxy}: {:?}", found.cause) };
        assert!(expected(trouble), "{proxy}: {trouble:?}");
    }
}
