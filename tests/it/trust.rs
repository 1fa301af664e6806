//! Whom the program trusts, and what it says where it does not (H05, H06, H07, R2, R8, C01).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::program::{Ended, Program};
use crate::single::Single;
use crate::support::nginx::{self, Nginx};
use crate::support::process::{DockerRegistry, Setup, TokenSetup, require};
use crate::support::proxy::Proxy;
use crate::support::tls::{Ca, Identity};
use crate::support::{Auth, Fault, Net, any};

const PASSWORD: &str = "pa55word-canary";

fn loopback(net: &Net) -> Identity {
    net.ca().issue(&["127.0.0.1".to_owned()])
}

/// Where the certificates of one registry are, below the home directory.
fn certs_d(host: &str, file: &str) -> String {
    format!(".config/containers/certs.d/{host}/{file}")
}

/// The target was not let near anything, for this reason; which flag helps is told with it.
#[track_caller]
fn assert_untrusted(ended: Ended, reasons: &[&str]) {
    let ended = ended.expect(3);
    for reason in reasons.iter().chain(&["its certificate is not trusted", "--ca-file", "--insecure"]) {
        assert!(ended.stdout.contains(reason), "no {reason:?} in\n{}", ended.stdout);
    }
}

/// R2, H05: a docker-registry with an authority of its own.
#[test]
fn an_authority_of_ones_own_is_trusted_by_flag_by_variable_or_by_directory() {
    if !require("docker-registry") || !require("htpasswd") {
        return;
    }
    let single = Single::new();
    let identity = loopback(&single.net);
    let setup = Setup { tls: Some(&identity), htpasswd: Some(("u", PASSWORD)), ..Setup::default() };
    let target = DockerRegistry::start(&setup).unwrap();
    let host = target.host();
    let program = || single.program(&host).login(&host, "u", PASSWORD);
    let another = Ca::new("another authority").pem;
    assert_untrusted(program().run(), &["UnknownIssuer"]);
    let wrong = program().file("another.pem", &another);
    let path = wrong.home("another.pem").to_str().unwrap().to_owned();
    assert_untrusted(wrong.args(&["--ca-file", &path]).run(), &["UnknownIssuer"]);
    assert_untrusted(program().file(&certs_d(&host, "ca.crt"), &another).run(), &["UnknownIssuer"]);
    // A directory is for the registry that it is named after.
    assert_untrusted(program().file(&certs_d("127.0.0.1:1", "ca.crt"), &single.net.ca().pem).run(), &[]);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(target.accesses(), vec![], "nothing was asked before it was trusted");

    let ca = single.net.ca_file();
    program().args(&["--ca-file", ca.to_str().unwrap()]).run().expect(0);
    program().env("SSL_CERT_FILE", &ca).run().expect(0);
    let directory = program().file("certs/any.pem", "");
    let certs = directory.home("certs");
    // OpenSSL's names in such a directory are hashes; ours are read as well.
    std::fs::copy(&ca, certs.join("any.pem")).unwrap();
    directory.env("SSL_CERT_DIR", certs).run().expect(0);
    // Whoever names a directory does not mean the public authorities.
    for nothing in ["empty", "nowhere"] {
        let program = program().file("empty/README", "no certificate");
        let nothing = program.home(nothing);
        let run = program.env("SSL_CERT_DIR", nothing).run().expect(2);
        assert!(run.stderr.contains("SSL_CERT_DIR names no directory with"), "{}", run.stderr);
    }
    let endless = program().args(&["--ca-file", "/dev/zero"]).run().expect(2);
    assert!(endless.stderr.contains("larger than 16 MiB"), "{}", endless.stderr);
    program().file(&certs_d(&host, "anything.crt"), &single.net.ca().pem).run().expect(0);
    program().args(&["--insecure"]).run().expect(0);
}

/// H05: the reason is the exact one, and no request gets through.
#[test]
fn an_expired_certificate_and_one_for_another_name_are_told_apart() {
    let single = Single::new();
    let ca = single.net.ca_file();
    let day = Duration::from_secs(24 * 3600);
    let names = ["127.0.0.1".to_owned()];
    let expired = single.net.ca().issue_with(&names, |params| {
        params.not_before = (SystemTime::now() - 9 * day).into();
        params.not_after = (SystemTime::now() - 2 * day).into();
    });
    let early = single.net.ca().issue_with(&names, |params| {
        params.not_before = (SystemTime::now() + 2 * day).into();
        params.not_after = (SystemTime::now() + 9 * day).into();
    });
    let misnamed = single.net.ca().issue(&["registry.example.com".to_owned()]);
    for (identity, reason) in
        [(expired, "expired"), (early, "not valid yet"), (misnamed, "registry.example.com")]
    {
        let target = single.net.registry("target").tls_identity(identity).start();
        let program = single.program(&target.host()).login(&target.host(), "u", PASSWORD);
        assert_untrusted(program.args(&["--ca-file", ca.to_str().unwrap()]).run(), &[reason]);
    }
    assert!(single.net.journal().entries().is_empty());
}

/// docker-registry behind nginx, which knows clients by their certificates.
struct BehindNginx {
    single: Single,
    registry: DockerRegistry,
    nginx: Nginx,
}

impl BehindNginx {
    fn new(headers: &str, client_ca: bool) -> Option<Self> {
        if !require("docker-registry") || !require("nginx") {
            return None;
        }
        let single = Single::on(Net::new(), &[500_000], |source| source);
        let registry = DockerRegistry::start(&Setup::default()).unwrap();
        let identity = loopback(&single.net);
        let pem = single.net.ca().pem.clone();
        let nginx = Nginx::start(&nginx::Setup {
            to: registry.addr(),
            tls: Some(&identity),
            client_ca: client_ca.then_some(&pem),
            http: "",
            server: "client_max_body_size 0;",
            location: headers,
        });
        Some(Self { single, registry, nginx: nginx.unwrap() })
    }

    /// With the authority in the registry's own directory.
    fn program(&self) -> Program {
        let host = self.nginx.host();
        self.single.program(&host).file(&certs_d(&host, "ca.crt"), &self.single.net.ca().pem)
    }

    fn program_with(&self, identity: &Identity) -> Program {
        let host = self.nginx.host();
        let program = self.program().file(&certs_d(&host, "client.cert"), &identity.certificate_pem);
        program.file(&certs_d(&host, "client.key"), &identity.key_pem)
    }
}

const FORWARDED: &str = "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;";

/// H05: mutual TLS, as docker and podman users set it up.
#[test]
fn a_client_certificate_opens_a_registry_behind_nginx() {
    let Some(behind) = BehindNginx::new(FORWARDED, true) else { return };
    let ours = behind.single.net.ca().issue(&["a client".to_owned()]);
    behind.program_with(&ours).run().expect(0);
    behind.single.assert_mirrored(&behind.registry.url(), None);

    let hint = format!("client.cert and client.key in ~/.config/containers/certs.d/{}", behind.nginx.host());
    let without = behind.program().run().expect(3);
    assert!(without.stdout.contains("SSL certificate"), "{}", without.stdout);
    assert!(without.stdout.contains(&hint), "{}", without.stdout);
    let theirs = Ca::new("another authority").issue(&["a client".to_owned()]);
    let wrong = behind.program_with(&theirs).run().expect(3);
    assert!(wrong.stdout.contains("SSL certificate") && wrong.stdout.contains(&hint), "{}", wrong.stdout);

    let host = behind.nginx.host();
    let key_alone = behind.program().file(&certs_d(&host, "client.key"), &ours.key_pem).run().expect(3);
    assert!(key_alone.stdout.contains("no certificate beside it"), "{}", key_alone.stdout);
}

/// H05: the same where the registry itself ends TLS, and says so by closing the connection.
#[test]
fn a_docker_registry_that_wants_a_client_certificate_is_told_as_such() {
    if !require("docker-registry") {
        return;
    }
    let single = Single::new();
    let (identity, pem) = (loopback(&single.net), single.net.ca().pem.clone());
    let setup = Setup { tls: Some(&identity), client_ca: Some(&pem), ..Setup::default() };
    let target = DockerRegistry::start(&setup).unwrap();
    let host = target.host();
    let program = || single.program(&host).file(&certs_d(&host, "ca.crt"), &pem);
    let without = program().run().expect(3);
    let hint = format!("client.cert and client.key in ~/.config/containers/certs.d/{host}");
    assert!(without.stdout.contains(&hint), "{}", without.stdout);
    let ours = single.net.ca().issue(&["a client".to_owned()]);
    let program = program().file(&certs_d(&host, "client.cert"), &ours.certificate_pem);
    program.file(&certs_d(&host, "client.key"), &ours.key_pem).run().expect(0);
}

/// L2, C01: a registry that does not know of the TLS before it calls its uploads `http://`.
#[test]
fn an_upload_location_that_lost_its_tls_behind_nginx_gets_it_back() {
    for host in ["$http_host", "$host"] {
        let Some(behind) = BehindNginx::new(&format!("proxy_set_header Host {host};"), false) else { return };
        behind.program().run().expect(0);
        behind.single.assert_mirrored(&behind.registry.url(), None);
    }
    // Here it calls itself by the address that only nginx can reach it at.
    let Some(behind) = BehindNginx::new("proxy_redirect off;", false) else { return };
    let refused = behind.program().run().expect(3);
    assert!(refused.stdout.contains("X-Forwarded-Proto"), "{}", refused.stdout);
    assert_eq!(behind.registry.count("PUT", "/blobs/"), 0, "nothing goes round the TLS");
}

/// A docker-registry and its token service under names of one authority, as GitLab and Harbor come.
fn with_token_service(single: &Single) -> (DockerRegistry, crate::support::registry::TokenService) {
    let tokens = single.net.token_service("auth").user("u", PASSWORD).signed().tls().start();
    // By another name than the registry's, so that it is another host.
    let realm = format!("https://localhost:{}/token", tokens.host().parse::<SocketAddr>().unwrap().port());
    let identity = loopback(&single.net);
    let TokenSetup { issuer, certificates, service, .. } = tokens.setup("", "real");
    let token = TokenSetup { realm: &realm, service, issuer, certificates };
    let setup = Setup { tls: Some(&identity), token: Some(token), ..Setup::default() };
    (DockerRegistry::start(&setup).unwrap(), tokens)
}

/// As docker has it: the authorities of a registry's directory vouch for its token service too.
#[test]
fn a_registrys_directory_is_good_for_its_token_service() {
    if !require("docker-registry") {
        return;
    }
    let single = Single::new();
    let (target, tokens) = with_token_service(&single);
    let host = target.host();
    let program = single.program(&host).login(&host, "u", PASSWORD);
    program.file(&certs_d(&host, "ca.crt"), &single.net.ca().pem).run().expect(0);
    assert!(tokens.issued() > 0);
}

/// H07: what the user allowed is the target, not whom the target sends the login to.
#[test]
fn insecure_does_not_cover_the_targets_token_service() {
    if !require("docker-registry") {
        return;
    }
    let single = Single::new();
    let (target, tokens) = with_token_service(&single);
    let program = single.program(&target.host()).login(&target.host(), "u", PASSWORD);
    let refused = program.args(&["--insecure"]).run().expect(3);
    assert!(refused.stdout.contains("its certificate is not trusted"), "{}", refused.stdout);
    assert_eq!((tokens.issued(), single.net.journal().requests("auth")), (0, 0));
}

/// H07: a source with a certificate that nobody vouches for stays one.
#[test]
fn insecure_does_not_cover_a_source() {
    let single = Single::with(|source| source.tls());
    let target = single.net.registry("target").start();
    let mirror = single.source.host();
    let mirror = format!("--source-mirror=quay.io={mirror}");
    let program = Program::new(&[&target.host(), "--insecure", "--image", crate::single::IMAGE, &mirror]);
    let refused = program.args(&["--retries", "0"]).run().expect(1);
    assert!(refused.stdout.contains("its certificate is not trusted"), "{}", refused.stdout);
    assert!(refused.stdout.contains("--ca-file") && !refused.stdout.contains("--insecure"));
    assert_eq!(single.net.journal().requests("source"), 0);
}

/// H06: a login goes to a host without TLS only where the user said so. The host has a name, so it is not loopback.
#[test]
fn a_host_that_speaks_no_tls_is_shown_nothing_and_the_way_out_is_told() {
    let net = Net::new();
    let plain = net.registry("plain").auth(Auth::basic("u", PASSWORD)).start();
    let proxy = Proxy::start(&net, plain.addr());
    let program = |target: &str| {
        let program = Program::new(&[target, "--retries", "0"]).env("HTTPS_PROXY", proxy.url());
        program.env("HTTP_PROXY", proxy.url())
    };
    let target = program("registry.invalid").args(&["--image", crate::single::IMAGE]);
    let refused = target.login("registry.invalid", "u", PASSWORD).run().expect(3);
    assert!(
        refused.stdout.contains("does not speak TLS (--insecure allows plain HTTP)"),
        "{}",
        refused.stdout
    );

    let target = net.registry("target").start();
    let source = program(&target.host()).args(&["--image", "registry.invalid/group/app:1"]);
    let refused = source.login("registry.invalid", "u", PASSWORD).run().expect(1);
    assert!(refused.stdout.contains("does not speak TLS (--source-mirror"), "{}", refused.stdout);
    assert_eq!(net.journal().requests("plain"), 0);
    assert!(proxy.requests().iter().all(|request| request.starts_with("CONNECT ")), "no silent downgrade");
}

/// H06: that a token service speaks no TLS is no reason to speak to the registry without.
#[test]
fn a_token_service_without_tls_does_not_take_it_from_the_registry() {
    let single = Single::new();
    let service = single.net.trap("service");
    let challenge = format!("Bearer realm=\"https://{}/token\",service=\"x\"", service.host());
    let refused = Fault::Status(401).header("WWW-Authenticate", &challenge);
    let target = single.net.registry("target").tls().rule(any().then(refused)).start();
    let ca = single.net.ca_file().to_str().unwrap().to_owned();
    let run = single.program(&target.host()).args(&["--ca-file", &ca]).run().expect(3);
    let told = "asking 127.0.0.1 for a token at";
    assert!(run.stdout.contains(told) && run.stdout.contains("does not speak TLS"), "{}", run.stdout);
    assert!(!run.stdout.contains("--insecure"), "{}", run.stdout);
    assert_eq!(single.net.journal().requests("service"), 0);
}

/// H06, L21: plain HTTP to a port that speaks TLS.
#[test]
fn plain_http_to_a_port_with_tls_is_told_as_such() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let identity = loopback(&net);
    let source = DockerRegistry::start(&Setup { tls: Some(&identity), ..Setup::default() }).unwrap();
    let target = net.registry("target").start();
    let mirror = format!("--source-mirror=quay.io=http://{}", source.host());
    let program = Program::new(&[&target.host(), &mirror, "--image", crate::single::IMAGE, "--retries", "0"]);
    let refused = program.login(&source.host(), "u", PASSWORD).run().expect(1);
    assert!(refused.stdout.contains("it speaks TLS: leave out http://"), "{}", refused.stdout);
}
