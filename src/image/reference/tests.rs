use proptest::prelude::*;

use super::*;

const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SHA512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                      47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

fn reference(text: &str) -> Reference {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn target(text: &str) -> Target {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn locations(text: &str) -> Vec<String> {
    reference(text).destinations().iter().map(Location::to_string).collect()
}

#[test]
fn references_are_read_as_docker_reads_them() {
    let cases = [
        // Docker Hub's defaults.
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1", "docker.io/library/nginx:1"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/library/nginx:1", "docker.io/library/nginx:1"),
        ("docker.io/acme/app:1", "docker.io/acme/app:1"),
        ("acme/app", "docker.io/acme/app:latest"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("registry-1.docker.io/acme/app:1", "docker.io/acme/app:1"),
        ("a/b/c/d:1", "docker.io/a/b/c/d:1"),
        // What is a host, and what only looks like one.
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("host:5000/x", "host:5000/x:latest"),
        ("host:5000", "docker.io/library/host:5000"),
        ("localhost", "docker.io/library/localhost:latest"),
        ("docker.io", "docker.io/library/docker.io:latest"),
        ("docker.io:443/nginx", "docker.io:443/nginx:latest"),
        ("test.com:tag", "docker.io/library/test.com:tag"),
        ("test.com/repo:tag", "test.com/repo:tag"),
        ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080"),
        ("foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080"),
        ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com"),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com",
            "b.gcr.io/test.example.com/my-app:test.example.com",
        ),
        ("192.168.1.1", "docker.io/library/192.168.1.1:latest"),
        ("192.168.1.1:5000/repo", "192.168.1.1:5000/repo:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("[2001:db8::1]/repo:tag", "[2001:db8::1]/repo:tag"),
        // The host's case says nothing.
        ("GHCR.io/acme/app:V1", "ghcr.io/acme/app:V1"),
        ("DOCKER.IO/nginx:1", "docker.io/library/nginx:1"),
        // Separators inside a component.
        ("g/a.b_c__d-e---f:_T.-", "docker.io/g/a.b_c__d-e---f:_T.-"),
        ("0/0:0", "docker.io/0/0:0"),
    ];
    for (text, expected) in cases {
        assert_eq!(reference(text).to_string(), expected, "{text:?}");
    }
}

#[test]
fn a_digest_takes_the_place_of_latest() {
    for digest in [SHA256, SHA512] {
        let pinned = reference(&format!("nginx@{digest}"));
        assert_eq!(pinned.tag, None);
        assert_eq!(pinned.to_string(), format!("docker.io/library/nginx@{digest}"));
        let both = reference(&format!("host:5000/x:1@{digest}"));
        assert_eq!(both.tag.as_ref().map(Tag::as_str), Some("1"));
        assert_eq!(both.digest.as_ref().map(Digest::as_str), Some(digest));
    }
}

#[test]
fn what_is_no_reference_is_refused_with_a_reason() {
    let component = "a path component is";
    let case = "a repository is lower case";
    let tag = "a tag is up to 128";
    let port = "the port is not a number";
    let host = "a host is letters";
    let hex = "the hex part";
    let cases: Vec<(String, &str)> = [
        ("", component),
        (" ", component),
        (" nginx", component),
        ("nginx ", component),
        ("ng inx", component),
        ("nginx\n", component),
        ("nginx\0", component),
        ("nginx:1\0", tag),
        ("nginx:1 ", tag),
        ("nginx:", tag),
        ("nginx:-1", tag),
        ("nginx:.1", tag),
        ("nginx:1:2", component),
        ("nginx:é", tag),
        (":tag", component),
        ("/nginx", component),
        ("nginx/", component),
        ("a//b", component),
        ("host:5000//b", component),
        (".", component),
        ("..", component),
        ("../a", host),
        ("./a", host),
        ("a/../b", component),
        ("a/./b", component),
        ("a/b:c/d", component),
        ("a..b", component),
        ("a._b", component),
        ("a___b", component),
        ("-a", component),
        ("a-", component),
        ("a/-b", component),
        ("aa/asdf$$^/aa", component),
        ("a%2fb", component),
        ("a\\b", component),
        ("nginé", component),
        ("ｎginx", component),
        ("nginx\u{202e}", component),
        ("nginх/x", component),
        ("Nginx", case),
        ("Acme/app", case),
        ("test:5000/Uppercase/lower:tag", case),
        ("LOCALHOST/x", case),
        ("host:/x", port),
        ("host:port/x", port),
        ("host:+1/x", port),
        ("host:65536/x", port),
        ("host:1:2/x", port),
        ("-host.com/x", host),
        ("host-.com/x", host),
        ("host./x", host),
        (".host/x", host),
        ("foo_bar.com/x", host),
        ("user@host.com/x", "it has the form sha256:HEX"),
        ("user:pw.x/y", port),
        ("hóst.com/x", host),
        ("[::1]", tag),
        ("[::1/x", "lacks its closing bracket"),
        ("[::1]5000/x", "lacks its closing bracket"),
        ("[::1]:/x", port),
        ("[127.0.0.1]/x", "not an IPv6 address"),
        ("[fe80::1%eth0]:5000/x", "not an IPv6 address"),
        ("http://docker.io/nginx", "no scheme"),
        ("https://host:5000/x:1", "no scheme"),
        ("docker://nginx", "no scheme"),
        (SHA256.strip_prefix("sha256:").unwrap(), "an ID, not a name"),
        ("nginx@", "it has the form sha256:HEX"),
        ("nginx@sha256", "it has the form sha256:HEX"),
        ("nginx@sha256:", hex),
        ("nginx@sha256:e3b0c44298fc", hex),
        ("nginx@sha256:../../../etc/passwd", hex),
        ("nginx@md5:d41d8cd98f00b204e9800998ecf8427e", "only sha256 and sha512"),
        ("nginx@sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "only sha256 and sha512"),
    ]
    .into_iter()
    .map(|(text, why)| (text.to_owned(), why))
    .chain([
        (format!("@{SHA256}"), component),
        (format!("nginx:@{SHA256}"), tag),
        (format!("nginx@{SHA256}:1"), hex),
        (format!("nginx@{SHA256}@{SHA256}"), hex),
        (format!("nginx@{}", SHA256.to_uppercase()), "only sha256 and sha512"),
        (format!("nginx@sha256:{}", "A".repeat(64)), hex),
        (format!("nginx@sha256:{}", "g".repeat(64)), hex),
        (format!("nginx@sha256:{}/", "a".repeat(63)), hex),
        (format!("nginx@sha256:{}\0", "a".repeat(63)), hex),
        (format!("nginx@sha256:{}", "é".repeat(32)), hex),
        (format!("nginx@sha256:{}", "a".repeat(63)), hex),
        (format!("nginx@sha256:{}", "a".repeat(65)), hex),
        (format!("nginx@sha512:{}", "a".repeat(64)), hex),
        (format!("nginx@sha256:{}", "a".repeat(10_000)), hex),
        (format!("nginx:{}", "a".repeat(129)), tag),
        ("a".repeat(256), "longer than 255"),
        (format!("ghcr.io/{}", "a".repeat(248)), "longer than 255"),
        (format!("{}.com/x", "a".repeat(250)), host),
    ])
    .collect();
    for (text, why) in cases {
        let error = text.parse::<Reference>().expect_err(&text).to_string();
        assert!(error.contains("is not a valid image reference: ") && error.contains(why), "{error}");
    }
}

#[test]
fn the_longest_names_are_accepted() {
    assert_eq!(reference(&format!("nginx:{}", "a".repeat(128))).tag.unwrap().as_str().len(), 128);
    assert_eq!(reference(&format!("ghcr.io/{}", "a".repeat(247))).repository.as_str().len(), 247);
}

#[test]
fn errors_quote_shortened_and_escaped() {
    let error = format!("nginx\0\u{202e}\x1b[31m:{}", "a".repeat(10_000))
        .parse::<Reference>()
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(r#""nginx\u{0}\u{202e}\u{1b}[31m:aaa"#), "{error}");
    assert!(error.len() < 400 && error.contains("aaa…\" is not"), "{error}");
    assert!(!error.contains(char::is_control));
}

#[test]
fn targets_are_a_host_and_a_path() {
    let cases = [
        ("registry.example.com:5000", "registry.example.com:5000", None),
        ("ghcr.io/acme/kubeone", "ghcr.io", Some("acme/kubeone")),
        ("127.0.0.1:5000/mirror", "127.0.0.1:5000", Some("mirror")),
        ("[::1]:5000", "[::1]:5000", None),
        ("[::1]/a/b", "[::1]", Some("a/b")),
        ("localhost", "localhost", None),
        ("registry", "registry", None),
        ("docker.io/acme", "docker.io", Some("acme")),
        ("Registry.Example.com/acme", "registry.example.com", Some("acme")),
        // A slash at the end says nothing.
        ("registry.example.com/", "registry.example.com", None),
        ("ghcr.io/acme/", "ghcr.io", Some("acme")),
    ];
    for (text, host, prefix) in cases {
        let target = target(text);
        assert_eq!(
            (target.host.as_str(), target.prefix.as_ref().map(Repository::as_str)),
            (host, prefix),
            "{text}"
        );
        assert_eq!(target.to_string().parse(), Ok(target));
    }
}

#[test]
fn what_is_no_target_is_refused_with_a_reason() {
    let cases = [
        ("", "a host is letters"),
        ("/", "a host is letters"),
        ("/acme", "a host is letters"),
        ("ghcr.io//", "a path component is"),
        ("ghcr.io//acme", "a path component is"),
        ("ghcr.io/acme//", "a path component is"),
        ("ghcr.io/../acme", "a path component is"),
        ("ghcr.io/acme:1", "a path component is"),
        ("ghcr.io/acme?x=1", "a path component is"),
        ("ghcr.io/Acme", "a repository is lower case"),
        ("host:x", "the port is not a number"),
        ("host:", "the port is not a number"),
        ("[::1", "lacks its closing bracket"),
        ("::1", "the port is not a number"),
        ("user@host", "a host is letters"),
        ("host name", "a host is letters"),
        ("host\0", "a host is letters"),
        ("http://registry.example.com:5000", "without a scheme"),
        ("https://ghcr.io/acme", "without a scheme"),
    ];
    for (text, why) in cases {
        let error = text.parse::<Target>().expect_err(text).to_string();
        assert!(error.contains("is not a valid target registry: ") && error.contains(why), "{error}");
    }
}

#[test]
fn destinations_keep_the_repository_and_the_tag() {
    assert_eq!(locations("docker.io/library/alpine:3"), ["library/alpine:3"]);
    assert_eq!(locations("alpine"), ["library/alpine:latest"]);
    assert_eq!(locations("quay.io/calico/node:v3.32.0"), ["calico/node:v3.32.0"]);
    assert_eq!(locations("registry.k8s.io/pause:3.10"), ["pause:3.10"]);
    // A pin goes under its tag, and under one that is made of the digest only if it has no tag.
    assert_eq!(locations(&format!("quay.io/cilium/cilium:v1@{SHA256}")), ["cilium/cilium:v1"]);
    let tag = |digest: &str| {
        let (algorithm, hex) = digest.split_once(':').unwrap();
        format!("cilium/cilium:pinned-{algorithm}-{}", &hex[..64])
    };
    assert_eq!(locations(&format!("quay.io/cilium/cilium@{SHA256}")), [tag(SHA256)]);
    // By its SHA-512 a registry knows only what was put by that.
    let by_digest = format!("cilium/cilium@{SHA512}");
    assert_eq!(locations(&format!("quay.io/{by_digest}")), [by_digest, tag(SHA512)]);
}

#[test]
fn coredns_has_both_of_kubeadms_places() {
    assert_eq!(
        locations("registry.k8s.io/coredns/coredns:v1.14.2"),
        ["coredns/coredns:v1.14.2", "coredns:v1.14.2"]
    );
    assert_eq!(locations("registry.k8s.io/coredns:1.7.0"), ["coredns:1.7.0"]);
    assert_eq!(locations("docker.io/coredns/coredns:1.14.2"), ["coredns/coredns:1.14.2"]);
}

#[test]
fn sources_are_asked_for_the_digest_where_there_is_one() {
    assert_eq!(reference("alpine:3").location().to_string(), "library/alpine:3");
    assert_eq!(
        reference(&format!("alpine:3@{SHA256}")).location().to_string(),
        format!("library/alpine@{SHA256}")
    );
}

#[test]
fn places_at_a_target_are_below_its_path() {
    let location = reference("alpine:3").location();
    assert_eq!(target("ghcr.io/acme/kubeone").full_name(&location), "ghcr.io/acme/kubeone/library/alpine:3");
    assert_eq!(target("[::1]:5000").full_name(&location), "[::1]:5000/library/alpine:3");
}

#[test]
fn loopback_is_told_by_name_or_address() {
    for (host, name, loopback) in [
        ("localhost", "localhost", true),
        ("localhost:5000", "localhost", true),
        ("mirror.localhost:5000", "mirror.localhost", true),
        ("127.0.0.1:5000", "127.0.0.1", true),
        ("127.1.2.3", "127.1.2.3", true),
        ("[::1]:5000", "::1", true),
        ("[2001:db8::1]", "2001:db8::1", false),
        ("10.0.0.1:5000", "10.0.0.1", false),
        ("127.0.0.1.example.com", "127.0.0.1.example.com", false),
        ("localhost.example.com", "localhost.example.com", false),
    ] {
        let parsed: Host = host.parse().unwrap();
        assert_eq!((parsed.name(), parsed.is_loopback()), (name, loopback), "{host}");
    }
}

#[test]
fn digests_are_of_the_bytes_hashed() {
    assert_eq!(Digest::of(Algorithm::Sha256, b"").as_str(), SHA256);
    assert_eq!(Digest::of(Algorithm::Sha512, b"").as_str(), SHA512);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(b"a");
    hasher.update(b"bc");
    let digest = hasher.finish();
    assert_eq!(digest, Digest::of(Algorithm::Sha256, b"abc"));
    assert_eq!(digest.short(), "ba7816bf8f01");
    assert_eq!(digest.as_str().parse(), Ok(digest.clone()));
    assert_eq!(digest.algorithm(), Algorithm::Sha256);
}

#[test]
fn two_sources_of_one_place_collide_and_the_same_one_twice_does_not() {
    let check = |images: &[&str]| {
        let images: Vec<_> = images.iter().map(|text| reference(text)).collect();
        check_collisions(&images).map_err(|e| e.to_string())
    };
    assert_eq!(check(&["quay.io/a/b:v1", "quay.io/a/b:v2", "ghcr.io/a/c:v1", "quay.io/a/b:v1"]), Ok(()));
    assert_eq!(check(&["alpine:3", "docker.io/library/alpine:3", "Docker.IO/alpine:3"]), Ok(()));
    assert_eq!(check(&["registry.k8s.io/coredns:1.7.0", "registry.k8s.io/coredns/coredns:v1.8.0"]), Ok(()));
    // Two names of one registry.
    assert_eq!(check(&["k8s.gcr.io/pause:3.10", "registry.k8s.io/pause:3.10"]), Ok(()));
    let pinned = format!("quay.io/a/b:v1@{SHA256}");
    for (first, second, location) in [
        ("quay.io/a/b:v1", "ghcr.io/a/b:v1", "a/b:v1"),
        ("quay.io/a/b:v1", pinned.as_str(), "a/b:v1"),
        // Over the second of CoreDNS' places.
        ("registry.k8s.io/coredns/coredns:v1.8.0", "example.com/coredns:v1.8.0", "coredns:v1.8.0"),
        ("k8s.gcr.io/coredns/coredns:v1.8.0", "example.com/coredns:v1.8.0", "coredns:v1.8.0"),
    ] {
        for (first, second) in [(first, second), (second, first)] {
            let expected = format!("{first} and {second} would both become {location} at the target");
            assert_eq!(check(&["alpine:3", first, first, second]), Err(expected));
        }
    }
}

/// Texts near the grammar, where the interesting ones are.
fn near_reference() -> impl Strategy<Value = String> {
    let host = r"(\[?[0-9a-f:.]{0,12}\]?|localhost|[A-Za-z0-9.-]{0,8}|(index\.)?docker\.io)(:[0-9]{0,5})?";
    let path = r"[a-zA-Z0-9._/-]{0,12}";
    let digest = r"(@sha(256:[0-9a-f]{64}|512:[0-9a-f]{128}))?";
    let whole = format!("({host}/)?{path}(:[A-Za-z0-9_.-]{{0,6}})?{digest}");
    prop_oneof![proptest::string::string_regex(&whole).unwrap(), r"[a-zA-Z0-9:/@._\[\]% -]{0,40}", ".*",]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_a_reference_prints_to_itself(text in near_reference()) {
        if let Ok(reference) = text.parse::<Reference>() {
            let printed = reference.to_string();
            prop_assert_eq!(printed.parse(), Ok(reference.clone()));
            // Safe wherever it goes: a path, a URL, a terminal.
            let url = |s: &str| s.bytes().all(|b| b.is_ascii_graphic() && !b"%?#\\".contains(&b)) && !s.contains("..");
            let locations = reference.destinations();
            prop_assert!(locations.iter().all(|location| url(location.repository.as_str())));
            prop_assert!(reference.repository.as_str().split('/').all(|c| !c.is_empty()));
        }
    }

    #[test]
    fn what_is_a_target_prints_to_itself(text in near_reference()) {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>()) {
        let _ = (text.parse::<Reference>(), text.parse::<Target>(), text.parse::<Digest>(), text.parse::<Tag>());
    }
}
