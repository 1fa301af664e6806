//! Proxies, as curl reads the environment (H01, H02), and what they must not open (S02).

use base64::Engine as _;

use crate::program::{Ended, Program};
use crate::single::REPOSITORY;
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;
use crate::support::{Content, Fault, Image, Kind, Op, on};

const PASSWORD: &str = "pr0xy-canary";
/// A name that no resolver knows: only a proxy can lead there.
const SOURCE: &str = "registry.invalid";
const IMAGE: &str = "registry.invalid/group/app:1";

/// A source under a name, which only the proxy knows, and a target on loopback.
struct World {
    source: Registry,
    target: Registry,
    proxy: Proxy,
    net: Net,
}

impl World {
    fn new() -> Self {
        let net = Net::new();
        let mut content = Content::new();
        content.add(REPOSITORY, "1", &Image::generated(Kind::Oci, 1, &[3_000]));
        let source = net.registry("source").content(&content).tls_names(&[SOURCE]).start();
        let target = net.registry("target").start();
        let proxy = Proxy::start(&net, source.addr());
        Self { source, target, proxy, net }
    }

    fn program(&self) -> Program {
        let program = Program::new(&[&self.target.host(), "--image", IMAGE, "--retries", "0", "-vvv"]);
        program.env("SSL_CERT_FILE", self.net.ca_file())
    }

    /// The source came through the proxy and the target did not.
    #[track_caller]
    fn assert_only_the_source_was_proxied(&self) {
        assert_eq!(self.proxy.hosts().into_iter().collect::<Vec<_>>(), [format!("{SOURCE}:443")]);
        assert!(self.proxy.requests().iter().all(|request| request.starts_with("CONNECT ")));
        assert!(self.target.digest_of(REPOSITORY, "1").is_some());
    }
}

#[track_caller]
fn assert_no_secret(ended: &Ended) {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("u:{PASSWORD}"));
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("canary") && !text.contains(&pair), "{text}");
    }
}

/// H01: loopback needs no `NO_PROXY`.
#[test]
fn a_target_on_loopback_is_never_proxied() {
    for (https, http, no) in [
        ("HTTPS_PROXY", "HTTP_PROXY", None),
        ("https_proxy", "http_proxy", None),
        ("ALL_PROXY", "all_proxy", None),
        ("HTTPS_PROXY", "HTTP_PROXY", Some("127.0.0.1,another.example.com")),
    ] {
        let world = World::new();
        let program = world.program().env(https, world.proxy.url()).env(http, world.proxy.url());
        let program = match no {
            Some(no) => program.env("NO_PROXY", no),
            None => program,
        };
        program.run().expect(0);
        world.assert_only_the_source_was_proxied();
    }
}

/// H01: what `NO_PROXY` names is reached directly, in every way to name it. Here that means: not at all.
#[test]
fn what_no_proxy_names_is_not_proxied() {
    for (variable, value) in [
        ("NO_PROXY", SOURCE),
        ("NO_PROXY", ".invalid"),
        ("no_proxy", "example.com, invalid"),
        ("NO_PROXY", "registry.invalid:443"),
        ("NO_PROXY", "*"),
    ] {
        let world = World::new();
        let program = world.program().env("HTTPS_PROXY", world.proxy.url()).env(variable, value);
        let run = program.run().expect(1);
        assert!(run.stdout.contains(SOURCE), "{}", run.stdout);
        assert_eq!(world.proxy.requests(), Vec::<String>::new(), "{variable}={value}");
        assert_eq!(world.net.journal().requests("source"), 0);
    }
    for value in ["notregistry.invalid", "egistry.invalid", "10.0.0.0/8", "registry.invalid:5000"] {
        let world = World::new();
        world.program().env("HTTPS_PROXY", world.proxy.url()).env("NO_PROXY", value).run().expect(0);
        world.assert_only_the_source_was_proxied();
    }
}

/// H01: the proxy's login is for the proxy, and nobody else sees it, at whatever level of detail.
#[test]
fn a_login_at_the_proxy_is_shown_to_the_proxy_alone() {
    let world = World::new();
    let program = world.program().env("HTTPS_PROXY", world.proxy.url_with("u", PASSWORD));
    let program = program.env("RUST_LOG", "trace").login(SOURCE, "v", "source-canary");
    let run = program.run().expect(0);
    world.assert_only_the_source_was_proxied();
    assert_no_secret(&run);
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("u:{PASSWORD}"));
    for head in world.proxy.heads() {
        let head = head.to_ascii_lowercase();
        assert!(head.contains(&format!("proxy-authorization: basic {pair}").to_ascii_lowercase()), "{head}");
        assert!(!head.contains("\r\nauthorization:"), "{head}");
    }
    for entry in world.net.journal().entries() {
        assert!(entry.header("proxy-authorization").is_none(), "{entry}");
    }
    drop(world.source);
}

/// H02: it is the proxy that is in the way, and it is called by its address, without its login.
#[test]
fn a_proxy_that_refuses_is_named() {
    let refusals = [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
            "wants a login (407)",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "does not let it through: 502 Bad Gateway"),
        ("HTTP/1.0 503\r\n\r\n", "does not let it through: 503"),
        (
            "HTTP/1.1 403 \u{1b}[2JNo\r\nContent-Length: 0\r\n\r\n",
            "does not let it through: 403 \\u{1b}[2JNo",
        ),
        ("HTTP/1.1 403 not with pr0xy-canary\r\n\r\n", "does not let it through: 403 not with ***"),
        ("", "does not let it through: tunnel error: unexpected end of file"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not let it through"),
    ];
    for (answer, reason) in refusals {
        let net = Net::new();
        let target = net.registry("target").start();
        let proxy = Proxy::refusing(&net, answer);
        let program = Program::new(&[&target.host(), "--image", IMAGE, "--retries", "0", "-vvv"]);
        let run = program.env("HTTPS_PROXY", proxy.url_with("u", PASSWORD)).run().expect(1);
        let told = format!("from {SOURCE}: the proxy {} {reason}", proxy.host());
        assert!(run.stdout.contains(&told), "no {told:?} in\n{}", run.stdout);
        assert_no_secret(&run);
        assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'));
        // Once for the image, and once more to hear why not.
        let asked = proxy.requests();
        assert!(
            asked.len() <= 2 && asked.iter().all(|asked| asked == "CONNECT registry.invalid:443"),
            "{asked:?}"
        );
    }
    let net = Net::new();
    let target = net.registry("target").start();
    let nobody = crate::stage::closed_port();
    let program = Program::new(&[&target.host(), "--image", IMAGE, "--retries", "0"]);
    let run = program.env("HTTPS_PROXY", format!("http://u:{PASSWORD}@{nobody}")).run().expect(1);
    assert!(run.stdout.contains(&format!("cannot connect to the proxy {nobody}")), "{}", run.stdout);
    assert_no_secret(&run);
}

/// H01, H02: a source without TLS, through the proxy that is for such.
#[test]
fn a_plain_http_source_goes_through_the_proxy_for_plain_http() {
    let mirror = format!("--source-mirror=quay.io=http://{SOURCE}");
    let arguments = |target: &str| {
        let program = Program::new(&[target, "--image", crate::single::IMAGE, "--retries", "0", "-vvv"]);
        program.args(&[&mirror]).env("RUST_LOG", "trace")
    };
    let mut content = Content::new();
    content.add(REPOSITORY, "1", &Image::generated(Kind::Oci, 1, &[3_000]));
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let net = Net::new();
        let source = net.registry("source").content(&content).start();
        let target = net.registry("target").start();
        let proxy = Proxy::forwarding(&net, source.addr());
        let run = arguments(&target.host()).env(variable, proxy.url_with("u", PASSWORD)).run().expect(0);
        assert!(target.digest_of(REPOSITORY, "1").is_some());
        assert_no_secret(&run);
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("u:{PASSWORD}"));
        let heads = proxy.heads();
        assert!(heads.iter().all(|head| head.contains(&pair)), "{heads:?}");
        let asked = proxy.requests();
        assert!(asked.iter().all(|asked| asked.contains(&format!(" http://{SOURCE}/v2/"))), "{asked:?}");
    }
    let refusals = [
        ("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "the proxy PLACE wants a login (407)"),
        ("HTTP/1.1 403 No\r\nContent-Length: 21\r\n\r\nyou said pr0xy-canary", "403 you said ***"),
    ];
    for (answer, reason) in refusals {
        let net = Net::new();
        let target = net.registry("target").start();
        let proxy = Proxy::refusing(&net, answer);
        let run = arguments(&target.host()).env("HTTP_PROXY", proxy.url_with("u", PASSWORD)).run().expect(1);
        let told = reason.replace("PLACE", &proxy.host());
        assert!(run.stdout.contains(&told), "no {told:?} in\n{}", run.stdout);
        assert_no_secret(&run);
    }
    let net = Net::new();
    let target = net.registry("target").start();
    let nobody = crate::stage::closed_port();
    let run = arguments(&target.host()).env("HTTP_PROXY", &nobody).run().expect(1);
    assert!(run.stdout.contains(&format!("cannot connect to the proxy {nobody}")), "{}", run.stdout);
}

/// H01: SOCKS, which is told the name, or the address that it has here.
#[test]
fn a_socks_proxy_is_told_the_name_or_the_address() {
    for login in [None, Some(("u", PASSWORD))] {
        let world = World::new();
        let proxy = Proxy::socks(&world.net, world.source.addr(), login);
        let userinfo = login.map_or(String::new(), |(user, password)| format!("{user}:{password}@"));
        let url = format!("socks5h://{userinfo}{}", proxy.host());
        let run = world.program().env("ALL_PROXY", url).env("RUST_LOG", "trace").run().expect(0);
        assert!(world.target.digest_of(REPOSITORY, "1").is_some());
        let asked = proxy.requests();
        assert!(!asked.is_empty() && asked.iter().all(|a| a == "SOCKS registry.invalid:443"), "{asked:?}");
        assert_no_secret(&run);
    }
    let world = World::new();
    let proxy = Proxy::socks(&world.net, world.source.addr(), Some(("u", "another")));
    let url = format!("socks5h://u:{PASSWORD}@{}", proxy.host());
    let run = world.program().env("https_proxy", url).run().expect(1);
    let told = format!("the proxy {} does not let it through: SOCKS error: credentials", proxy.host());
    assert!(run.stdout.contains(&told), "no {told:?} in\n{}", run.stdout);
    assert_no_secret(&run);

    // A name is looked up here; this one nobody knows.
    let run = world.program().env("ALL_PROXY", format!("socks5://{}", proxy.host())).run().expect(1);
    assert!(run.stdout.contains("no such host") && run.stdout.contains("socks5h"), "{}", run.stdout);
    let net = Net::new();
    let mut content = Content::new();
    content.add(REPOSITORY, "1", &Image::generated(Kind::Oci, 1, &[3_000]));
    // An address that is nobody's (RFC 5737).
    let source = net.registry("source").content(&content).tls_names(&["192.0.2.7"]).start();
    let target = net.registry("target").start();
    let proxy = Proxy::socks(&net, source.addr(), None);
    let program = Program::new(&[&target.host(), "--image", "192.0.2.7/group/app:1", "--retries", "0"]);
    let program = program.env("SSL_CERT_FILE", net.ca_file());
    program.env("ALL_PROXY", format!("socks5://{}", proxy.host())).run().expect(0);
    assert!(proxy.requests().iter().all(|asked| asked == "SOCKS 192.0.2.7:443"), "{:?}", proxy.requests());
}

/// H01, H02: a proxy that is itself spoken to over TLS is verified before it gets a login or a name.
#[test]
fn a_proxy_behind_tls_is_verified_like_any_host() {
    let world = World::new();
    let identity = world.net.ca().issue(&["127.0.0.1".to_owned()]);
    let proxy = Proxy::start_tls(&world.net, world.source.addr(), &identity);
    let url = format!("https://u:{PASSWORD}@{}", proxy.host());
    let program = || Program::new(&[&world.target.host(), "--image", IMAGE, "--retries", "0", "-vvv"]);
    let told = |run: &Ended, reasons: &[&str]| {
        for reason in reasons {
            assert!(run.stdout.contains(reason), "no {reason:?} in\n{}", run.stdout);
        }
        assert_no_secret(run);
        assert_eq!(proxy.requests(), Vec::<String>::new());
    };
    let run = program().env("HTTPS_PROXY", &url).run().expect(1);
    let place = format!("cannot connect to the proxy {}: its certificate is not trusted", proxy.host());
    told(&run, &[&place, "UnknownIssuer", "--ca-file"]);
    // What the target may do, a proxy before it may not.
    let insecure = Program::new(&[SOURCE, "--image", crate::single::IMAGE, "--retries", "0", "--insecure"]);
    let mirror = format!("--source-mirror=quay.io={}", world.target.host());
    let run = insecure.args(&[&mirror]).env("HTTPS_PROXY", &url).run().expect(3);
    told(&run, &["with --insecure the certificate of the proxy", "NO_PROXY"]);
    // A proxy without TLS where TLS was asked for is not spoken to, and the registry not without TLS either.
    let plain = Proxy::start(&world.net, world.source.addr());
    let run = program().env("HTTPS_PROXY", format!("https://u:{PASSWORD}@{}", plain.host())).run().expect(1);
    told(&run, &[&format!("cannot connect to the proxy {}: it does not speak TLS", plain.host())]);

    let ca = world.net.ca_file().to_str().unwrap().to_owned();
    let run = program().args(&["--ca-file", &ca]).env("HTTPS_PROXY", &url).run().expect(0);
    assert_no_secret(&run);
    assert_eq!(proxy.hosts().into_iter().collect::<Vec<_>>(), [format!("{SOURCE}:443")]);
}

/// H01: what is no proxy is wrong use, and no reason to do without; the value is not shown.
#[test]
fn a_proxy_that_cannot_be_used_is_not_passed_over() {
    let world = World::new();
    for value in [format!("socks://u:{PASSWORD}@p:1"), format!("http://u:{PASSWORD}@p:no-port")] {
        let run = world.program().env("HTTPS_PROXY", value).run().expect(2);
        assert!(run.stderr.contains("HTTPS_PROXY names no proxy that can be used"), "{}", run.stderr);
        assert_no_secret(&run);
    }
}

/// S02: that the proxy is on this machine does not let a registry in the world point to this machine.
#[test]
fn a_proxy_called_localhost_opens_no_way_to_this_machine() {
    let world = World::new();
    let trap = world.net.trap_tls("trap");
    let port = trap.host().rsplit_once(':').unwrap().1.to_owned();
    let elsewhere = format!("https://localhost:{port}/blob");
    world.source.fault(on(Op::BlobGet).then(Fault::redirect_to(&elsewhere)));
    let proxy = world.proxy.url().replace("127.0.0.1", "localhost");
    let run = world.program().env("HTTPS_PROXY", proxy).run().expect(1);
    assert!(run.stdout.contains("this machine, which is refused"), "{}", run.stdout);
    assert_eq!(world.net.journal().requests("trap"), 0);
}
