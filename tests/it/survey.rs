//! `catalog verify` and, in a room of its own, `catalog pin`: sources asked about all images of a catalog.

mod answers;
mod pinning;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mirror_images::selection::catalog::Catalog;
use serde_json::{Value, json};

use crate::program::{Ended, Program};
use crate::scene::place_of;
use crate::support::content::{Child, Content};
use crate::support::registry::{Auth, Registry, RegistryBuilder};
use crate::support::{Fault, Image, Kind, Net, Op, on};

/// One version of Kubernetes, one release with an image at Docker Hub, one that moves and one that is gone.
/// Images that the program itself has no record of, but for the one that moves.
const CATALOG: &str = r#"kubernetes:
  "1.40":
    latest: "1.40.0"
    since:
      "1.40.0":
        coredns: registry.k8s.io/coredns/coredns:v1.99.0
        etcd: registry.k8s.io/etcd:3.99.0-0
        pause: registry.k8s.io/pause:3.99
---
kubeone: "1.18"
patch: v1.18.0
released: 2028-01-31
kubernetes: ["1.40"]
gone:
  - {below: SOURCE/old, gone: 2026-01-02, why: the project was deleted}
moving: [docker.io/library/alpine:3]
base:
  CNI: {addons: [cni], image: quay.io/acme/cni:v1}
  Hub: {addons: [hub], image: docker.io/acme/hub:v1}
  Moving: {addons: [moving], image: docker.io/library/alpine:3}
optional:
  Old: {addons: [old], image: SOURCE/old/driver:v1}
"#;

/// The catalog's images, its file, and the registry that stands for all sources.
struct Shelf {
    net: Net,
    content: Content,
    images: BTreeMap<String, Image>,
    source: Registry,
    directory: tempfile::TempDir,
    hosts: BTreeSet<String>,
}

impl Shelf {
    fn new() -> Self {
        Self::with(Net::new(), |source| source)
    }

    fn with(net: Net, source: impl FnOnce(RegistryBuilder) -> RegistryBuilder) -> Self {
        let source = source(net.registry("source")).start();
        let text = CATALOG.replace("SOURCE", &source.host());
        let all = Catalog::from_yaml(&text, "test").unwrap().references(None).unwrap().references;
        let mut content = Content::new();
        let mut images = BTreeMap::new();
        for (seed, (reference, _)) in (1..).zip(all.iter().filter(|(_, gone)| gone.is_none())) {
            let (repository, tag) = place_of(&reference.to_string());
            let image = two_platforms(seed);
            content.add(&repository, &tag, &image);
            images.insert(reference.to_string(), image);
        }
        source.add(&content);
        let hosts = all.keys().map(|reference| reference.host.to_string());
        let hosts = hosts.filter(|host| *host != source.host()).collect();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("catalog.yaml"), text).unwrap();
        Self { net, content, images, source, directory, hosts }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// `catalog COMMAND` about this catalog.
    fn program(&self, command: &str) -> Program {
        let program = Program::new(&["catalog", command, "--catalog", &self.path("catalog.yaml")]);
        // By HTTPS, which loopback may do without, as the images are that name the source themselves.
        let of = |host: &String| format!("--source-mirror={host}={}", self.source.host());
        let mirrors: Vec<String> = self.hosts.iter().map(of).collect();
        program.args(&mirrors.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn verify(&self, more: &[&str]) -> Ended {
        self.program("verify").args(&["--retries", "0", "-o", "json"]).args(more).run()
    }

    /// What is gone.
    fn old(&self) -> String {
        format!("{}/old/driver:v1", self.source.host())
    }

    fn digest(&self, reference: &str) -> String {
        let (repository, tag) = place_of(reference);
        self.content.digest_of(&repository, &tag).expect("it is of the catalog").clone()
    }

    /// Writes a file of records.
    fn pins(&self, records: &[Value]) -> String {
        let path = self.path("pins.json");
        let document = json!({"version": 1, "kind": "pins", "images": records});
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }

    fn fetched(&self) -> usize {
        self.net.journal().count("source", Op::ManifestGet) + self.net.journal().count("source", Op::BlobGet)
    }
}

/// An index of amd64 and arm64 with an attestation.
fn two_platforms(seed: u64) -> Image {
    let of = |number: u64| Image::generated(Kind::Oci, 10 * seed + number, &[500, 700]);
    let attestation = Child::attestation(&of(1), seed);
    Image::index(
        Kind::Oci,
        vec![Child::platform("linux/amd64", of(1)), Child::platform("linux/arm64", of(2)), attestation],
    )
}

/// The lines of a report by their source.
fn by_source(report: &Value) -> BTreeMap<String, Value> {
    let lines = report["references"].as_array().expect("a list");
    lines.iter().map(|line| (line["source"].as_str().expect("a text").to_owned(), line.clone())).collect()
}

fn state(report: &Value, source: &str) -> String {
    by_source(report)[source]["state"].as_str().expect("a state").to_owned()
}

const OTHER: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
const CNI: &str = "quay.io/acme/cni:v1";
const HUB: &str = "docker.io/acme/hub:v1";
const MOVING: &str = "docker.io/library/alpine:3";

/// The numbers of a report.
fn numbers(report: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| report[*name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))).collect()
}

const SUMS: [&str; 7] = ["there", "missing", "moved", "lacking", "failed", "gone", "back"];

#[test]
fn a_catalog_that_is_as_it_should_be_costs_one_head_for_each_image_and_a_token_for_each_repository() {
    let net = Net::new();
    let tokens = net.token_service("auth").anonymous_pull().start();
    let auth = Auth::Token(tokens.clone());
    let shelf = Shelf::with(net, |source| source.auth(auth));
    let pins = shelf.pins(&[
        json!({"source": CNI, "digest": shelf.digest(CNI)}),
        json!({"source": MOVING, "digest": OTHER, "moving": true}),
    ]);
    let ended = shelf.verify(&["--pins", &pins]).expect(0);
    let found = ended.report();
    assert_eq!(numbers(&found, &SUMS), [10, 0, 0, 0, 0, 1, 0], "{found}");
    assert_eq!(found["compared"], 1);
    let lines = by_source(&found);
    assert_eq!(lines[CNI]["pinned_digest"], lines[CNI]["digest"]);
    assert_eq!(lines[CNI]["digest"], shelf.digest(CNI));
    assert_eq!(lines[MOVING].get("pinned_digest"), None);
    assert_eq!(lines[&shelf.old()]["gone_since"], "2026-01-02");
    let journal = shelf.net.journal();
    assert_eq!(shelf.fetched(), 0, "{}", journal.dump());
    let heads = journal.of("source", Op::ManifestHead);
    assert_eq!(heads.iter().filter(|head| head.status == Some(200)).count(), 10);
    assert_eq!(tokens.issued(), 11, "{}", journal.dump());
    journal.assert_read_only();
    let text = shelf.program("verify").args(&["--pins", &pins]).run().expect(0).stdout;
    assert_eq!(text, "11 images: 10 there, 1 gone as the catalog says; 1 compared with a recorded digest\n");
}

#[test]
fn what_is_missing_has_moved_or_lacks_a_platform_is_told_and_the_rest_is_looked_at() {
    let shelf = Shelf::new();
    shelf.source.delete_tag("etcd", "3.99.0-0");
    shelf.source.fault(on(Op::ManifestHead).repo("pause").then(Fault::Status(403)));
    // One that is for another platform alone, and one that has moved to such an image.
    let single = Image::index(
        Kind::Oci,
        vec![Child::platform("linux/s390x", Image::generated(Kind::Oci, 900, &[100]))],
    );
    let mut content = Content::new();
    content.add("kube-proxy", "v1.40.0", &single).add("acme/cni", "v1", &single);
    shelf.source.add(&content);
    let platform = |name: &str| json!({"platform": name, "digest": OTHER, "bytes": 1});
    let pins = shelf.pins(&[json!({
        "source": CNI, "digest": OTHER, "platforms": [platform("linux/amd64"), platform("linux/s390x")],
    })]);
    let found = shelf.verify(&["--pins", &pins]).expect(1).report();
    assert_eq!(numbers(&found, &SUMS), [7, 1, 1, 0, 1, 1, 0], "{found}");
    assert_eq!(by_source(&found)[CNI]["lacks"], json!(["linux/amd64"]));
    // Only of what has moved its platforms are asked for.
    assert_eq!(shelf.fetched(), 1);

    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let found = shelf.verify(&platforms).expect(1).report();
    assert_eq!(state(&found, "registry.k8s.io/kube-proxy:v1.40.0"), "lacking", "{found}");
    assert_eq!(numbers(&found, &SUMS), [6, 1, 0, 2, 1, 1, 0], "{found}");
    // Those at Docker Hub would cost pulls.
    assert_eq!(found["platforms_unknown"], 2);
    let gets = shelf.net.journal().of("source", Op::ManifestGet);
    assert!(gets.iter().all(|get| !get.repository.contains("hub") && !get.repository.contains("alpine")));

    let text = shelf.program("verify").args(&["--pins", &pins]).args(&platforms).run().expect(1).stdout;
    for told in [
        "missing   registry.k8s.io/etcd:3.99.0-0\n".to_owned(),
        format!(
            "moved     {CNI}: {OTHER} is recorded of it, and it has {} now; without linux/amd64 and linux/arm64\n",
            single.digest()
        ),
        "lacking   registry.k8s.io/kube-proxy:v1.40.0: without linux/amd64 and linux/arm64\n".to_owned(),
        "FAILED    registry.k8s.io/pause:3.99: HEAD manifest pause:3.99 from ".to_owned(),
        "11 images: 6 there, 1 missing, 1 moved, 1 lacking a platform, 1 failed, 1 gone as the catalog says; 1 \
         compared with a recorded digest\n"
            .to_owned(),
        "The platforms of 2 images of Docker Hub are not recorded, and only a pull would tell.\n".to_owned(),
    ] {
        assert!(text.contains(&told), "{told}\n{text}");
    }
    assert_eq!(text.lines().count(), 7, "{text}");
}

#[test]
fn a_host_that_asks_for_a_pause_gets_it_and_loses_nothing() {
    let shelf = Shelf::new();
    shelf.source.fault(on(Op::ManifestHead).nth(3).then(Fault::Status(429).retry_after("1")));
    let began = Instant::now();
    let found = shelf.verify(&[]).expect(0).report();
    assert_eq!(numbers(&found, &SUMS), [10, 0, 0, 0, 0, 1, 0], "{found}");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(shelf.net.journal().count("source", Op::ManifestHead), 12);
    // Where it asks for more than the user waits, its images fail, each by itself.
    shelf.source.fault(on(Op::ManifestHead).repo("acme/cni").then(Fault::Status(429).retry_after("3600")));
    let found = shelf.verify(&["-p", "1"]).expect(1).report();
    assert_eq!(state(&found, CNI), "failed", "{found}");
    assert_eq!(by_source(&found)[CNI]["may_pass"], true);
}

#[test]
fn what_is_gone_may_be_there_again_or_be_kept_by_a_mirror() {
    let shelf = Shelf::new();
    // Of what was deleted a registry may say that nobody may see it.
    shelf.source.fault(on(Op::ManifestHead).repo("old/driver").times(1).then(Fault::Status(403)));
    assert_eq!(state(&shelf.verify(&[]).expect(0).report(), &shelf.old()), "gone");
    let mut content = Content::new();
    content.add("old/driver", "v1", &two_platforms(99));
    shelf.source.add(&content);
    let found = shelf.verify(&[]).expect(0).report();
    assert_eq!(numbers(&found, &SUMS), [10, 0, 0, 0, 0, 0, 1], "{found}");
    let text = shelf.program("verify").run().expect(0).stdout;
    let told = format!(
        "back      {}: it is there, and the catalog says that it is gone since 2026-01-02\n",
        shelf.old()
    );
    assert!(text.contains(&told), "{text}");
    let mirror = format!("--source-mirror={0}={0}", shelf.source.host());
    assert_eq!(state(&shelf.verify(&[&mirror]).expect(0).report(), &shelf.old()), "there");
    shelf.source.delete_tag("old/driver", "v1");
    assert_eq!(state(&shelf.verify(&[&mirror]).expect(0).report(), &shelf.old()), "gone");
}

#[test]
fn an_answer_that_tells_no_digest_is_asked_for_again_but_never_at_the_price_of_a_pull() {
    let shelf = Shelf::new();
    let absurd = ["sha256:00", "sha256:::", "md5:d41d8cd98f00b204e9800998ecf8427e", ""];
    for digest in absurd {
        shelf.source.clear_faults();
        shelf.net.journal().clear();
        let mute = || Fault::SetHeader("Docker-Content-Digest", digest.to_owned());
        shelf.source.fault(on(Op::ManifestHead).repo("acme/cni").then(mute()));
        shelf.source.fault(on(Op::ManifestHead).repo("acme/hub").then(mute()));
        let pins = shelf.pins(&[json!({"source": CNI, "digest": shelf.digest(CNI)})]);
        let ended = shelf.verify(&["--pins", &pins]).expect(1);
        let found = ended.report();
        assert_eq!(
            (state(&found, CNI).as_str(), state(&found, HUB).as_str()),
            ("there", "failed"),
            "{found}"
        );
        assert_eq!(by_source(&found)[CNI]["digest"], shelf.digest(CNI));
        assert!(by_source(&found)[HUB]["cause"].as_str().unwrap().contains("without a pull"), "{found}");
        assert_eq!(shelf.fetched(), 1, "{}", shelf.net.journal().dump());
        assert!(!ended.stdout.contains('\u{1b}') && !ended.stderr.contains('\u{1b}'), "{ended:?}");
    }
}

#[test]
fn hostile_answers_concern_their_image_alone_and_reach_no_terminal() {
    let shelf = Shelf::new();
    let html = "<html>\u{1b}]0;owned\u{7}</html>";
    let rules = [
        ("etcd", Fault::Raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".into())),
        ("pause", Fault::Raw("\u{1b}[2J".into())),
        ("kube-proxy", Fault::Status(401).header("WWW-Authenticate", "\u{9b}2J realm=\u{1b}")),
        ("coredns/coredns", Fault::Status(500).html(html)),
        ("acme/cni", Fault::Status(302).header("Location", "file:///etc/passwd")),
    ];
    for (repository, fault) in rules {
        shelf.source.fault(on(Op::ManifestHead).or(Op::ManifestGet).repo(repository).then(fault));
    }
    for form in ["text", "json"] {
        let ended = shelf.program("verify").args(&["--retries", "0", "-o", form]).run().expect(1);
        let told = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!told.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{told:?}");
        if form == "json" {
            assert_eq!(numbers(&ended.report(), &SUMS), [5, 0, 0, 0, 5, 1, 0], "{told}");
        }
    }
}

#[test]
fn a_release_that_is_named_is_the_only_one_that_is_asked_about() {
    let shelf = Shelf::new();
    let found = shelf.verify(&["--kubeone-version", "1.18"]).expect(0).report();
    assert_eq!(found["references"].as_array().unwrap().len(), 11);
    let ended = shelf.verify(&["--kubeone-version", "1.19"]).expect(2);
    assert!(ended.stderr.contains("KubeOne 1.19 is not known; known are 1.18"), "{ended:?}");
    assert!(shelf.verify(&["--pins", "/nowhere"]).expect(2).stderr.contains("/nowhere: cannot read it"));
    assert!(shelf.verify(&["--platform", "amd64"]).expect(2).stderr.contains("linux/amd64"));
    let broken = shelf.path("broken.json");
    std::fs::write(&broken, "{\"version\": 1,\n \"kind\": \u{1b}[2J").unwrap();
    let told = shelf.verify(&["--pins", &broken]).expect(2).stderr;
    assert!(told.contains("line 2 column") && !told.contains('\u{1b}'), "{told}");
}
