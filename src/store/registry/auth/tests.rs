use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::HeaderMap;

use super::*;
use crate::image::reference::Repository;
use crate::store::registry::Scheme;
use crate::store::registry::canned::Canned;
use crate::store::registry::credentials::{Given, Keyring};

fn repository() -> Repository {
    "a/b".parse().unwrap()
}

/// A registry whose tokens are good for as many requests as `uses` says, and that takes no identity tokens.
async fn server(uses: usize) -> Canned {
    server_of(uses, 300).await
}

/// The same with tokens that live for so many seconds, by their word.
async fn server_of(uses: usize, lifetime: u64) -> Canned {
    let issued = Arc::new(AtomicUsize::new(0));
    let used = Arc::new(AtomicUsize::new(0));
    Canned::start(move |head| {
        let lower = head.to_ascii_lowercase();
        let header = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        if head.starts_with("POST /token") {
            return (404, String::new(), String::new());
        }
        if head.starts_with("GET /token") {
            used.store(0, Ordering::Relaxed);
            let token = issued.fetch_add(1, Ordering::Relaxed) + 1;
            return (200, String::new(), format!(r#"{{"token":"token-{token}","expires_in":{lifetime}}}"#));
        }
        let good = format!(" bearer token-{}", issued.load(Ordering::Relaxed));
        if header("authorization:") == Some(good) && used.fetch_add(1, Ordering::Relaxed) < uses {
            return (200, String::new(), "{}".to_owned());
        }
        let host = header("host:").unwrap_or_default();
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"\r\n", host.trim());
        (401, challenge, String::new())
    })
    .await
}

fn registry(host: &str, login: Option<Login>) -> Registry {
    let mut registry = Registry::for_test(Side::Target, host, Scheme::Http, 0);
    if let Some(login) = login {
        let given = Given { target: Some((registry.host.clone(), login)), authfile: None };
        let keyring = Arc::new(Keyring::new(given, &|_| None).unwrap());
        registry.auth = Authenticator::new(Side::Target, registry.host.clone(), keyring.clone());
        registry.keyring = keyring;
    }
    registry
}

async fn get(registry: &Registry) -> Result<Response, Error> {
    let repository = repository();
    let path = "/v2/a/b/blobs/x".to_owned();
    registry.ask(&registry.call(Method::GET, Purpose::Blob, &repository, path, "GET".to_owned())).await
}

#[tokio::test]
async fn a_token_is_fetched_once_and_again_when_it_is_worth_nothing_any_more() {
    let server = server(2).await;
    let registry = registry(&server.host, None);
    get(&registry).await.unwrap();
    assert_eq!((server.count("/v2/"), server.count("GET /token")), (2, 1));
    get(&registry).await.unwrap();
    assert_eq!((server.count("/v2/"), server.count("GET /token")), (3, 1));
    get(&registry).await.unwrap();
    assert_eq!((server.count("/v2/"), server.count("GET /token")), (5, 2));
}

#[tokio::test]
async fn a_request_that_is_not_let_in_with_two_tokens_is_given_up() {
    let server = server(0).await;
    let error = get(&registry(&server.host, None)).await.unwrap_err();
    assert_eq!((server.count("/v2/"), server.count("GET /token")), (3, 2));
    assert_eq!(error.kind, Kind::Unauthorized);
    assert!(matches!(error.remedy.as_deref(), Some(Remedy::LogIn(host)) if host.as_str() == server.host));
}

#[tokio::test]
async fn a_token_that_has_run_out_before_it_was_shown_is_not_counted() {
    // Two requests wait for longer than their token lives, as at a host that has asked for a pause.
    let lifetime = Duration::from_secs(1);
    let tokens = Arc::new(AtomicUsize::new(0));
    let server = Canned::start(move |head| {
        let realm = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        if head.starts_with("GET /token") {
            let number = tokens.fetch_add(1, Ordering::Relaxed) + 1;
            let seconds = lifetime.as_secs();
            return (200, String::new(), format!(r#"{{"token":"token-{number}","expires_in":{seconds}}}"#));
        }
        let is_late = head.contains("Bearer token-1") || head.contains("Bearer token-2");
        if is_late {
            std::thread::sleep(lifetime);
        }
        if head.contains("Bearer") && !is_late {
            return (200, String::new(), String::new());
        }
        (401, format!("WWW-Authenticate: Bearer realm=\"http://{realm}/token\"\r\n"), String::new())
    })
    .await;
    get(&registry(&server.host, None)).await.unwrap();
    assert_eq!((server.count("/v2/"), server.count("GET /token")), (4, 3));
}

#[tokio::test]
async fn a_token_that_runs_out_during_a_pause_is_never_shown() {
    let server = server_of(1, 1).await;
    let registry = registry(&server.host, None);
    get(&registry).await.unwrap();
    registry.gate.close_for(Duration::from_secs(1));
    get(&registry).await.unwrap();
    assert_eq!((server.count("/v2/"), server.count("GET /token")), (3, 2));
}

#[tokio::test]
async fn an_identity_token_is_exchanged_or_shown_the_older_way() {
    let server = server(9).await;
    let login = Login {
        user: "u".to_owned(),
        password: Secret::new(String::new()),
        identity_token: Some(Secret::new("identity".to_owned())),
        origin: "a test".to_owned(),
    };
    get(&registry(&server.host, Some(login))).await.unwrap();
    assert_eq!((server.count("POST /token"), server.count("GET /token")), (1, 1));
}

#[tokio::test]
async fn a_request_that_cannot_be_repeated_renews_the_token_for_the_next_one() {
    let server = server(9).await;
    let registry = registry(&server.host, None);
    get(&registry).await.unwrap();
    let repository = repository();
    let path = "/v2/a/b/blobs/uploads/1".to_owned();
    let call = registry.call(Method::PUT, Purpose::Session, &repository, path, "PUT".to_owned());
    let shown = registry.proof(&call).await.unwrap();
    let realm = format!("Bearer realm=\"http://{}/token\"", registry.host);
    let headers = HeaderMap::from_iter([(reqwest::header::WWW_AUTHENTICATE, realm.parse().unwrap())]);
    registry.renew_after(&call.scopes, &shown, &headers);
    let renewed = registry.proof(&call).await.unwrap();
    let text = |proof: &Proof| proof.header().map(|header| header.reveal().to_owned());
    assert_eq!(text(&shown).as_deref(), Some("Bearer token-1"));
    assert_eq!(text(&renewed).as_deref(), Some("Bearer token-2"));
}
