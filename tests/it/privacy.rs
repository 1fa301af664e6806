//! Who gets to see a login, and who does not: token services, redirects and upload locations that a stranger chose
//! (S01, S02).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::program::{Ended, Program};
use crate::single::{IMAGE, Single};
use crate::support::fault::Form;
use crate::support::net::Plain;
use crate::support::proxy::Proxy;
use crate::support::{Auth, Fault, Net, Op, any, on};

const PASSWORD: &str = "pa55word-canary";

/// The run ended at once, with one line that has this in it, and without a word of the login.
#[track_caller]
fn assert_refused(began: Instant, run: &Ended, code: i32, reason: &str) {
    assert_eq!(run.code, Some(code), "{run:?}");
    let lines: Vec<_> = run.stdout.lines().filter(|line| line.contains(reason)).collect();
    assert_eq!(lines.len(), 1, "no {reason:?} in\n{}", run.stdout);
    // A connection to an address that is nobody's here would hang for longer.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let pair = STANDARD.encode(format!("u:{PASSWORD}"));
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains("canary") && !text.contains(&pair), "{text}");
    }
}

/// A target that sends whoever comes to the token service at `realm`, and a run with a login for it.
fn run_with_realm(single: &Single, realm: &str) -> Ended {
    let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
    let refused = Fault::Status(401).header("WWW-Authenticate", &challenge);
    let target = single.net.registry("target").rule(any().then(refused)).start();
    let program = single.program(&target.host()).args(&["-vvv"]);
    program.login(&target.host(), "u", PASSWORD).run()
}

/// S01 d: the address where clouds keep the keys of a machine, in every disguise, and others of its kind.
#[test]
fn a_token_service_at_a_metadata_address_gets_nothing() {
    let single = Single::new();
    for scheme in ["http", "https"] {
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "0.0.0.0",
            "255.255.255.255",
        ] {
            let began = Instant::now();
            let run = run_with_realm(&single, &format!("{scheme}://{host}/latest/meta-data"));
            // By plain HTTP some are refused for that already.
            let refused =
                run.stdout.contains("which is refused") || run.stdout.contains("plain HTTP address");
            assert!(refused, "{scheme}://{host}\n{}", run.stdout);
            assert_refused(began, &run, 3, "All failed: ");
        }
    }
    assert_eq!(single.net.journal().requests("source"), 0);
}

/// S01, B06: addresses that are none.
#[test]
fn a_token_service_that_is_no_plain_address_gets_nothing() {
    let single = Single::new();
    let trap = single.net.trap("trap");
    let long = format!("{}/{}", trap.url(), "x".repeat(100_000));
    for realm in [
        &trap.url().replace("http://", "http://evil:pw@"),
        &trap.url().replace("http://", "http://registry.example.com@"),
        &trap.url().replace("http://", "ftp://"),
        "file:///etc/passwd",
        "javascript:alert(1)",
        "/token",
        "",
        &long,
    ] {
        let began = Instant::now();
        let run = run_with_realm(&single, realm);
        assert_refused(began, &run, 3, "its challenge names no usable token service");
    }
    assert_eq!(single.net.journal().requests("trap"), 0);
}

/// S01 c, d: a registry out in the world, under a name that only a proxy can lead to.
#[test]
fn a_public_registry_cannot_send_the_login_to_plain_http_or_into_a_private_network() {
    let single = Single::new();
    let (trap, trap_tls) = (single.net.trap("trap"), single.net.trap_tls("trap"));
    for (realm, reason) in [
        ("http://auth.invalid/token", "its token service is at a plain HTTP address"),
        ("http://registry.invalid/token", "its token service is at a plain HTTP address"),
        (&format!("{}/token", trap.url()), "its token service is at a plain HTTP address"),
        (&format!("{}/token", trap_tls.url()), "which is refused"),
        (&format!("{}/token", trap_tls.url().replace("127.0.0.1", "localhost")), "which is refused"),
        ("https://10.0.0.1/token", "which is refused"),
        ("https://[::ffff:10.0.0.1]/token", "which is refused"),
        ("https://169.254.169.254/token", "which is refused"),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        let refused = Fault::Status(401).header("WWW-Authenticate", &challenge);
        let target = single.net.registry("target").tls_names(&["registry.invalid"]);
        let target = target.rule(any().then(refused)).start();
        let proxy = Proxy::start(&single.net, target.addr());
        let began = Instant::now();
        let program = single.program("registry.invalid").args(&["-vvv"]);
        let program = program.env("SSL_CERT_FILE", single.net.ca_file());
        let program = program.env("HTTPS_PROXY", proxy.url()).env("HTTP_PROXY", proxy.url());
        let run = program.login("registry.invalid", "u", PASSWORD).run();
        assert_refused(began, &run, 3, reason);
        assert_eq!(proxy.hosts().into_iter().collect::<Vec<_>>(), ["registry.invalid:443"], "{realm}");
    }
    let journal = single.net.journal();
    assert_eq!(journal.requests("trap"), 0);
    journal.assert_no_authorization_outside(&[]);
}

/// S01 e: a token service answers by itself or not at all.
#[test]
fn a_token_service_that_redirects_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let single = Single::new();
        let (trap, auth) = (single.net.trap("trap"), single.net.trap("auth"));
        auth.fault(any().then(Fault::redirect_to(&trap.url()).status(status)));
        let began = Instant::now();
        let run = run_with_realm(&single, &format!("{}/token", auth.url()));
        assert_refused(began, &run, 3, "asking 127.0.0.1 for a token at 127.0.0.1");
        assert!(run.stdout.contains(&status.to_string()), "{}", run.stdout);
        assert_eq!(single.net.journal().requests("trap"), 0);
    }
}

/// S02: where a source may send us to.
#[test]
fn a_redirect_to_a_metadata_address_is_refused() {
    let single = Single::new();
    let target = single.net.registry("target").start();
    for to in [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://[::ffff:a9fe:a9fe]/",
        "https://[fd00:ec2::254]/",
        "//169.254.169.254/",
        "http://0.0.0.0:1/",
    ] {
        for op in [Op::ManifestGet, Op::BlobGet] {
            single.source.fault(on(op).then(Fault::redirect_to(to)));
            let began = Instant::now();
            let program = single.program(&target.host()).login(&single.source.host(), "u", PASSWORD);
            assert_refused(began, &program.run(), 1, "which is refused");
            single.source.clear_faults();
        }
    }
    for to in ["file:///etc/passwd", "ftp://x/", "javascript:1"] {
        single.source.fault(on(Op::BlobGet).then(Fault::redirect_to(to)));
        let began = Instant::now();
        assert_refused(began, &single.program(&target.host()).run(), 1, "not on the web");
        single.source.clear_faults();
    }
}

/// A host that asks everyone who comes to log in, at a token service of its own.
fn greedy(net: &Net) -> (Plain, Plain) {
    let (evil, service) = (net.trap("evil"), net.trap("evil's service"));
    let challenge = format!("Bearer realm=\"{}/token\",service=\"s\"", service.url());
    let wants = Fault::Status(401).header("WWW-Authenticate", &challenge);
    evil.fault(any().then(wants.header("WWW-Authenticate", "Basic realm=\"x\"")));
    service.fault(any().then(Fault::Status(200).body("application/json", r#"{"token":"stolen"}"#)));
    (evil, service)
}

/// A run that tries again, with what it has learned from the try before.
fn patient(single: &Single, target: &str) -> Program {
    let mirror = format!("--source-mirror=quay.io={}", single.source.url());
    Program::new(&[target, "--image", IMAGE, &mirror, "--retries", "2"])
}

/// S01 f: storage that asks for a login gets none, and nobody asks the token service that it names.
#[test]
fn a_redirected_host_that_asks_for_a_login_gets_none() {
    for op in [Op::ManifestGet, Op::BlobGet] {
        for auth in [Auth::None, Auth::basic("u", PASSWORD)] {
            let single = Single::with(|source| source.auth(auth));
            let (evil, _service) = greedy(&single.net);
            single.source.fault(on(op).with_header("authorization").then(Fault::redirect_to(&evil.url())));
            single.source.fault(
                on(op)
                    .when(|call| call.header("authorization").is_none())
                    .then(Fault::redirect_to(&evil.url())),
            );
            let target = single.net.registry("target").start();
            let began = Instant::now();
            let program = patient(&single, &target.host()).login(&single.source.host(), "u", PASSWORD);
            assert_refused(began, &program.run(), 1, "where it points to");
            let journal = single.net.journal();
            assert!(journal.requests("evil") > 0);
            assert_eq!(journal.requests("evil's service"), 0, "{}", journal.dump());
            journal.assert_no_authorization_outside(&["source"]);
        }
    }
}

/// S01 g: the same for the place where a target wants its uploads.
#[test]
fn an_upload_location_on_another_host_that_asks_for_a_login_gets_none() {
    let tokens = |net: &Net| net.token_service("auth").user("u", PASSWORD).start();
    for with_tokens in [false, true] {
        let single = Single::new();
        let auth = if with_tokens { Auth::Token(tokens(&single.net)) } else { Auth::basic("u", PASSWORD) };
        let (evil, _service) = greedy(&single.net);
        let elsewhere = Fault::Location(Form::Host(evil.host()));
        let target = single.net.registry("target").auth(auth);
        let target = target.rule(on(Op::UploadStart).or(Op::Mount).then(elsewhere)).start();
        let began = Instant::now();
        let program = patient(&single, &target.host());
        assert_refused(began, &program.login(&target.host(), "u", PASSWORD).run(), 3, ": 401 ");
        let journal = single.net.journal();
        assert!(journal.requests("evil") > 0, "{}", journal.dump());
        assert_eq!(journal.requests("evil's service"), 0, "{}", journal.dump());
        journal.assert_no_authorization_outside(&["target", "auth"]);
    }
}

/// S01 g: and one at a metadata address gets no bytes.
#[test]
fn an_upload_location_at_a_metadata_address_is_refused() {
    let single = Single::new();
    let elsewhere = Fault::Location(Form::Host("169.254.169.254".to_owned()));
    let target =
        single.net.registry("target").rule(on(Op::UploadStart).or(Op::Mount).then(elsewhere)).start();
    let began = Instant::now();
    assert_refused(began, &single.program(&target.host()).run(), 3, "which is refused");
}
