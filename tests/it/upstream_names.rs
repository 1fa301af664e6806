//! The main job under the upstreams' own names: TLS on loopback with an authority of its own, reached through a
//! proxy, so that no name has to be resolved.

use std::collections::BTreeSet;
use std::path::Path;

use crate::program::{Ended, Program};
use crate::stage::{
    ALWAYS, CONTROL_PLANE, EVERYTHING, Line, NO_PINS, assert_mirrored, content_for, hosts_of, lines_of,
};
use crate::support::content::{Content, SetOptions};
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;

/// All upstreams at one TLS address behind a proxy, and a target on loopback.
struct World {
    lines: Vec<Line>,
    content: Content,
    source: Registry,
    target: Registry,
    proxy: Proxy,
    selection: &'static [&'static str],
    net: Net,
}

/// The name that a host of references is reached by.
fn network_name(host: &str) -> &str {
    if host == "docker.io" { "registry-1.docker.io" } else { host }
}

impl World {
    fn new(selection: &'static [&'static str]) -> Self {
        let net = Net::new();
        let lines = lines_of(selection);
        let content = content_for(&lines, &SetOptions { own_layers: 1, ..SetOptions::default() });
        let names: Vec<&str> = hosts_of(&lines).into_iter().map(network_name).collect();
        let source = net.registry("source").content(&content).tls_names(&names).start();
        let target = net.registry("target").start();
        let proxy = Proxy::start(&net, source.addr());
        Self { lines, content, source, target, proxy, selection, net }
    }

    /// The program behind the proxy, which is to be used for everything that is not loopback.
    fn program(&self) -> Program {
        let program = Program::new(&[&self.target.host(), NO_PINS]).args(self.selection);
        program.env("HTTPS_PROXY", self.proxy.url()).env("HTTP_PROXY", self.proxy.url())
    }

    #[track_caller]
    fn assert_mirrored(&self) {
        let unpinned = self.lines.iter().filter(|line| !line.pinned);
        let digest = |line: &Line| self.content.digest_of(&line.repository, &line.tag).unwrap().clone();
        let wanted = unpinned.map(|line| (line.to.clone(), digest(line))).collect();
        assert_mirrored(&self.net, &self.target.url(), &wanted);
    }

    /// Every image failed since nobody vouches for the certificate, and the way out is told.
    #[track_caller]
    fn assert_untrusted(&self, run: Ended) {
        let run = run.expect(1);
        let results = run.sources_by_result();
        assert_eq!(results.keys().collect::<Vec<_>>(), ["failed"]);
        assert_eq!(results["failed"].len(), self.lines.len());
        for line in run.report()["images"].as_array().unwrap() {
            let cause = line["cause"].as_str().unwrap();
            assert!(
                cause.contains("its certificate is not trusted") && cause.contains("--ca-file"),
                "{cause}"
            );
        }
        assert_eq!(self.net.journal().requests("source"), 0);
        assert!(self.net.journal().writes().is_empty());
    }
}

#[test]
fn the_whole_selection_comes_from_the_upstreams_own_names() {
    let world = World::new(EVERYTHING);
    let run = world.program().env("SSL_CERT_FILE", world.net.ca_file()).args(&["-o", "json"]).run().expect(1);
    assert_eq!((run.number("copied"), run.number("failed")), (102, 7), "pins have no generated content");
    let hosts: BTreeSet<String> =
        hosts_of(&world.lines).into_iter().map(|host| format!("{}:443", network_name(host))).collect();
    assert_eq!(world.proxy.hosts(), hosts);
    assert!(hosts.contains("registry-1.docker.io:443") && hosts.contains("public.ecr.aws:443"), "{hosts:?}");
    let plain: Vec<String> =
        world.proxy.requests().into_iter().filter(|r| !r.starts_with("CONNECT ")).collect();
    assert!(plain.is_empty(), "a loopback target is no matter for a proxy: {plain:?}");
    // Each host is asked by its own name.
    for line in world.lines.iter().filter(|line| !line.pinned) {
        let asked = world.net.journal().filter(|e| e.host == "source" && e.repository == line.repository);
        assert!(asked.iter().all(|entry| entry.header("host") == Some(network_name(&line.host))), "{line:?}");
    }
    world.net.journal().assert_tag_last("target");
    world.assert_mirrored();
}

#[test]
fn a_ca_file_does_as_well() {
    let world = World::new(ALWAYS);
    let ca = world.net.ca_file();
    world.program().args(&["--ca-file", ca.to_str().unwrap()]).run().expect(0);
    world.assert_mirrored();
}

#[test]
fn a_certificate_that_nobody_vouches_for_fails_every_image_and_names_the_way_out() {
    let world = World::new(ALWAYS);
    world.assert_untrusted(world.program().args(&["-o", "json"]).run());
}

#[test]
fn insecure_concerns_the_target_alone() {
    let world = World::new(CONTROL_PLANE);
    world.assert_untrusted(world.program().args(&["--insecure", "-o", "json"]).run());
    let ca = world.net.ca_file();
    world.program().args(&["--insecure", "--ca-file", ca.to_str().unwrap()]).run().expect(0);
    world.assert_mirrored();
}

#[test]
fn insecure_accepts_any_certificate_of_the_target() {
    let world = World::new(CONTROL_PLANE);
    let other = Net::new();
    let target = other.registry("target").tls().start();
    let to = target.host();
    let program = || {
        let program = Program::new(&[&to, NO_PINS]).args(CONTROL_PLANE).env("HTTPS_PROXY", world.proxy.url());
        program.env("SSL_CERT_FILE", world.net.ca_file())
    };
    let refused = program().run().expect(3);
    assert!(
        refused.stdout.contains("--insecure") && refused.stdout.contains("--ca-file"),
        "{}",
        refused.stdout
    );
    assert!(other.journal().entries().is_empty());
    program().args(&["--insecure"]).run().expect(0);
    let digest = |line: &Line| world.content.digest_of(&line.repository, &line.tag).unwrap().clone();
    let wanted = world.lines.iter().map(|line| (line.to.clone(), digest(line))).collect();
    assert_mirrored(&other, &target.url(), &wanted);
}

#[test]
fn a_bundle_that_cannot_be_used_is_wrong_use() {
    let world = World::new(CONTROL_PLANE);
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let text = directory.path().join("text.pem");
    std::fs::write(&text, "not a certificate\n").unwrap();
    let broken = directory.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for bad in [Path::new("/nonexistent/ca.pem"), directory.path(), &empty, &text, &broken] {
        let by_variable = world.program().env("SSL_CERT_FILE", bad).run().expect(2);
        assert!(by_variable.stderr.contains("SSL_CERT_FILE"), "{}", by_variable.stderr);
        let by_flag = world.program().args(&["--ca-file", bad.to_str().unwrap()]).run().expect(2);
        assert!(by_flag.stderr.contains("--ca-file"), "{}", by_flag.stderr);
        for ended in [by_variable, by_flag] {
            assert!(ended.stderr.contains(bad.to_str().unwrap()), "{}", ended.stderr);
        }
    }
    assert!(world.net.journal().entries().is_empty() && world.proxy.requests().is_empty());
}

#[test]
fn a_proxy_that_is_not_there_is_told_for_the_sources_it_was_for() {
    let world = World::new(CONTROL_PLANE);
    let nobody = format!("http://{}", crate::stage::closed_port());
    let program = world.program().env("HTTPS_PROXY", nobody).args(&["--retries", "0"]);
    let run = program.run().expect(1);
    assert!(run.stdout.contains("cannot connect"), "{}", run.stdout);
    assert!(world.source.open_sessions() == 0 && world.net.journal().writes().is_empty());
}
