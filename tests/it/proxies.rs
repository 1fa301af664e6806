//! Proxies, as curl reads the environment (H01, H02).

use base64::Engine as _;

use crate::program::{Ended, Program};
use crate::single::REPOSITORY;
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;
use crate::support::{Content, Image, Kind};

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
        ("NO_PROXY", "*"),
    ] {
        let world = World::new();
        let program = world.program().env("HTTPS_PROXY", world.proxy.url()).env(variable, value);
        let run = program.run().expect(1);
        assert!(run.stdout.contains(SOURCE), "{}", run.stdout);
        assert_eq!(world.proxy.requests(), Vec::<String>::new(), "{variable}={value}");
        assert_eq!(world.net.journal().requests("source"), 0);
    }
    for value in ["notregistry.invalid", "egistry.invalid", "10.0.0.0/8"] {
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
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "does not let it through"),
        ("HTTP/1.1 403 \u{1b}[2JForbidden\r\nContent-Length: 0\r\n\r\n", "does not let it through"),
        ("", "does not let it through"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not let it through"),
    ];
    for (answer, reason) in refusals {
        let net = Net::new();
        let target = net.registry("target").start();
        let proxy = Proxy::refusing(&net, answer);
        let program = Program::new(&[&target.host(), "--image", IMAGE, "--retries", "0", "-vvv"]);
        let run = program.env("HTTPS_PROXY", proxy.url_with("u", PASSWORD)).run().expect(1);
        let told = format!("the proxy {} {reason}", proxy.host());
        assert!(run.stdout.contains(&told), "no {told:?} in\n{}", run.stdout);
        assert_no_secret(&run);
        assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'));
        assert_eq!(proxy.requests(), [format!("CONNECT {SOURCE}:443")]);
    }
    let net = Net::new();
    let target = net.registry("target").start();
    let nobody = crate::stage::closed_port();
    let program = Program::new(&[&target.host(), "--image", IMAGE, "--retries", "0"]);
    let run = program.env("HTTPS_PROXY", format!("http://u:{PASSWORD}@{nobody}")).run().expect(1);
    assert!(run.stdout.contains(&format!("cannot connect to the proxy {nobody}")), "{}", run.stdout);
    assert_no_secret(&run);
}
