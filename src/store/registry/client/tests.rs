use super::*;
use crate::store::registry::Scheme;

fn registry() -> Registry {
    Registry::for_test(Side::Target, "r.example.com:5000", Scheme::Https, 0)
}

fn repository() -> Repository {
    "a/b".parse().unwrap()
}

#[test]
fn a_call_asks_for_no_more_than_its_side_may_do() {
    let repository = repository();
    for (side, scopes) in [(Side::Source, Scopes::pull("a/b")), (Side::Target, Scopes::push("a/b"))] {
        let registry = Registry::for_test(side, "r.example.com", Scheme::Https, 0);
        let path = "/v2/a/b/manifests/1".to_owned();
        let call = registry.call(Method::GET, Purpose::Manifest, &repository, path, "GET".to_owned());
        assert_eq!(call.scopes, scopes);
    }
}

#[test]
fn a_call_is_built_from_its_parts() {
    let (registry, repository) = (registry(), repository());
    let call = || registry.call(Method::GET, Purpose::Blob, &repository, "/v2/".to_owned(), "GET".to_owned());
    let built = call().accept("a/b").range(5, 9).past_caches(true);
    assert_eq!(built.headers[RANGE], "bytes=5-9");
    assert_eq!(built.headers[ACCEPT], "a/b");
    assert_eq!(built.headers[CACHE_CONTROL], "no-cache");
    assert!(call().past_caches(false).headers.is_empty());
}

#[test]
fn what_is_sent_follows_only_redirects_that_keep_the_method() {
    let (registry, repository) = (registry(), repository());
    let table = [
        (Method::GET, Purpose::Blob, [true, true]),
        (Method::HEAD, Purpose::Manifest, [true, true]),
        (Method::PUT, Purpose::ManifestPut, [false, true]),
        (Method::PATCH, Purpose::Session, [false, true]),
        (Method::POST, Purpose::Upload, [false, true]),
        (Method::GET, Purpose::Token, [false, false]),
    ];
    for (method, purpose, follows) in table {
        let call = registry.call(method, purpose, &repository, "/v2/".to_owned(), String::new());
        let may_follow = |statuses: &[u16]| {
            statuses.iter().all(|status| call.may_follow(StatusCode::from_u16(*status).unwrap()))
        };
        assert_eq!([&[301, 302, 303][..], &[307, 308]].map(may_follow), follows, "{purpose:?}");
        assert!(!may_follow(&[200]) && !may_follow(&[304]), "{purpose:?}");
    }
}

#[test]
fn an_upload_location_stays_on_tls() {
    let registry = registry();
    let from: Url = "https://r.example.com:5000/v2/a/b/blobs/uploads/".parse().unwrap();
    let table = [
        ("/v2/u/1?s=a%2Fb", Some("https://r.example.com:5000/v2/u/1?s=a%2Fb")),
        ("https://s3.example.com/u/1", Some("https://s3.example.com/u/1")),
        ("http://r.example.com:5000/u", Some("https://r.example.com:5000/u")),
        ("http://r.example.com/u", Some("https://r.example.com:5000/u")),
        ("http://r.example.com:5001/u", None),
        ("http://s3.example.com/u", None),
        ("ftp://r.example.com/u", None),
        ("https://", None),
    ];
    for (location, expected) in table {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        let found = registry.location(&from, &headers, "POST").ok();
        assert_eq!(found.as_ref().map(Url::as_str), expected, "{location}");
    }
    assert!(registry.location(&from, &HeaderMap::new(), "POST").is_err());
}

#[tokio::test]
async fn a_client_is_given_for_no_address_that_a_stranger_may_not_name() {
    let registry = Registry::for_test(Side::Source, "192.0.2.7", Scheme::Https, 0);
    for (url, role, allowed) in [
        ("https://192.0.2.7/", Role::Registry, true),
        ("https://8.8.8.8/", Role::TokenService, true),
        ("https://10.0.0.1/", Role::Registry, true),
        ("https://10.0.0.1/", Role::TokenService, false),
        ("https://10.0.0.1/", Role::Foreign, false),
        ("https://169.254.169.254/", Role::Registry, false),
        ("https://127.0.0.1/", Role::Registry, false),
    ] {
        match registry.client(&url.parse().unwrap(), role, "GET").await {
            Ok(_) => assert!(allowed, "{url} {role:?}"),
            Err(error) => {
                assert!(!allowed && matches!(error.cause, Cause::Forbidden(Some(_))), "{url} {role:?}");
            }
        }
    }
}
