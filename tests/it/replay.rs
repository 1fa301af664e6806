//! What `config` prints, obeyed: everything that a cluster would ask a mirror for is asked of one, the way the consumer
//! of each form would ask, and read back to the last byte.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use reqwest::Client;
use serde_json::Value;

use crate::program::{Ended, Program};
use crate::stage::{Line, content_for, lines_of, mirror_flags};
use crate::support::content::SetOptions;
use crate::support::digest::Digest;
use crate::support::process::{DockerRegistry, Setup, require};
use crate::support::reader::{Depth, Reader};
use crate::support::registry::Registry;
use crate::support::{Image, Kind, Net, http_client};

/// The oldest is the one whose kubeadm asks for CoreDNS in a way of its own.
const VERSIONS: [&str; 2] = ["1.36.3", "1.21.14"];
const CLUSTER: [&str; 4] = ["-k", "1.36.3,1.21.14", "--provider", "hetzner"];

/// What is mirrored: a cluster in two versions, an image of Docker Hub's own and one that is asked for by its digest.
struct Set {
    net: Net,
    flags: Vec<String>,
    images: Vec<Asked>,
    /// Trusts nobody, and everybody.
    clients: [Client; 2],
    _source: Registry,
    source_flags: Vec<String>,
}

/// An image as a pod names it.
#[derive(Clone)]
struct Asked {
    host: String,
    repository: String,
    /// A tag, or the digest.
    name: String,
    is_kubeones: bool,
    digest: Digest,
}

impl Set {
    fn new() -> Self {
        let net = Net::new();
        let pinned = Image::generated(Kind::Oci, 4711, &[5_000]);
        let by_digest = format!("ghcr.io/acme/pinned:v1@{}", pinned.digest());
        let own = ["--image", "alpine:3.23", "--image", &by_digest];
        let flags: Vec<&str> = CLUSTER.into_iter().chain(own).collect();
        let lines = lines_of(&flags);
        let options =
            SetOptions { layer_size: 1_000..=4_000, base_layers: 1, own_layers: 1, ..SetOptions::default() };
        let mut content = content_for(&lines, &options);
        content.add_untagged("acme/pinned", &pinned);
        let kubeones = lines_of(&CLUSTER);
        let asked = |line: &Line| Asked {
            host: line.host.clone(),
            repository: line.repository.clone(),
            name: if line.pinned { pinned.digest() } else { line.tag.clone() },
            is_kubeones: kubeones.contains(line),
            digest: if line.pinned {
                pinned.digest()
            } else {
                content.digest_of(&line.repository, &line.tag).unwrap().clone()
            },
        };
        let mut images: Vec<Asked> = lines.iter().map(asked).collect();
        // CoreDNS is one image with two lines.
        images.dedup_by(|a, b| (&a.repository, &a.name) == (&b.repository, &b.name));
        assert!(images.len() > 40 && images.iter().filter(|image| !image.is_kubeones).count() == 2);
        let source = net.registry("source").content(&content).start();
        let source_flags = mirror_flags(&lines, &source.url());
        let flags = flags.into_iter().map(str::to_owned).collect();
        let clients = [http_client(None), trusting()];
        Self { net, flags, images, clients, _source: source, source_flags }
    }

    fn program(&self, arguments: &[&str]) -> Program {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        Program::new(arguments).args(&flags)
    }

    fn mirror(&self, target: &str, more: &[&str]) {
        let sources: Vec<&str> = self.source_flags.iter().map(String::as_str).collect();
        self.program(&[target, "-o", "json"]).args(&sources).args(more).run().expect(0);
    }

    fn config(&self, format: &str, target: &str, more: &[&str]) -> Ended {
        self.program(&["config", "--format", format, target]).args(more).run().expect(0)
    }

    /// Every form, obeyed at `target`.
    #[track_caller]
    fn replay(&self, target: &str, insecure: bool) {
        let more: &[&str] = if insecure { &["--insecure"] } else { &[] };
        let pulls = [
            ("containerd", self.by_hosts_toml(&self.config("containerd", target, more))),
            ("kubeone-containerd", self.by_registries(&self.config("kubeone-containerd", target, more))),
            ("k3s", self.by_k3s(&self.config("k3s", target, more))),
            ("kubeone", self.by_overwrite(&self.config("kubeone", target, more))),
            ("kubeadm", self.by_kubeadm(&self.config("kubeadm", target, more), insecure)),
        ];
        for (form, pulls) in pulls {
            let wrong = self.pull_all(&pulls);
            assert!(wrong.is_empty(), "{form}, {target}:\n{}", wrong.join("\n"));
        }
    }

    fn pull_all(&self, pulls: &[Pull]) -> Vec<String> {
        assert!(pulls.len() >= 7, "{} pulls", pulls.len());
        let pulls = pulls.iter().map(|pull| pull.carry_out(&self.clients));
        let pulling = futures_util::stream::iter(pulls).buffer_unordered(8);
        self.net.block_on(pulling.filter_map(std::future::ready).collect())
    }

    /// containerd: `docs/hosts.md`. Mirrors in the order of the file; `/v2` behind their path unless `override_path`.
    fn by_hosts_toml(&self, printed: &Ended) -> Vec<Pull> {
        let mut files = BTreeMap::new();
        for file in printed.stdout.split("# /etc/containerd/certs.d/").skip(1) {
            let (path, text) = file.split_once('\n').unwrap();
            files.insert(path.strip_suffix("/hosts.toml").unwrap(), text);
        }
        let pull = |image: &Asked| {
            let text = files[image.host.as_str()];
            let file: toml::Table = toml::from_str(text).unwrap();
            let mut hosts: Vec<(&String, &toml::Value)> = file["host"].as_table().unwrap().iter().collect();
            hosts.sort_by_key(|(url, _)| text.find(url.as_str()));
            let flag = |host: &toml::Value, key| host.get(key).is_some_and(|value| value.as_bool().unwrap());
            let doors = hosts.into_iter().map(|(url, host)| Door {
                root: api_root(url, flag(host, "override_path")),
                trusts_all: flag(host, "skip_verify"),
            });
            Pull::new(image, &image.repository, doors.collect())
        };
        self.images.iter().map(pull).collect()
    }

    /// KubeOne writes such files from `containerRuntime.containerd.registries`.
    fn by_registries(&self, printed: &Ended) -> Vec<Pull> {
        let printed: Value = serde_saphyr::from_str(&printed.stdout).unwrap();
        let registries = &printed["containerRuntime"]["containerd"]["registries"];
        let pull = |image: &Asked| {
            let registry = &registries[&image.host];
            let over = registry["overridePath"].as_bool().unwrap_or(false);
            let trusts_all = registry["tlsConfig"]["insecureSkipVerify"].as_bool().unwrap_or(false);
            let mirrors = registry["mirrors"].as_array().unwrap().iter();
            let doors = mirrors.map(|url| Door { root: api_root(url.as_str().unwrap(), over), trusts_all });
            Pull::new(image, &image.repository, doors.collect())
        };
        self.images.iter().map(pull).collect()
    }

    /// k3s: the repository rewritten by a regular expression, `/v2` behind the endpoint.
    fn by_k3s(&self, printed: &Ended) -> Vec<Pull> {
        let printed: Value = serde_saphyr::from_str(&printed.stdout).unwrap();
        let pull = |image: &Asked| {
            let mirror = &printed["mirrors"][&image.host];
            let rules = mirror["rewrite"].as_object().into_iter().flatten();
            let mut repository = image.repository.clone();
            for (pattern, replacement) in rules {
                assert_eq!(pattern, "^(.*)$", "the one expression that this test understands");
                repository = replacement.as_str().unwrap().replace("$1", &repository);
            }
            let doors = mirror["endpoint"].as_array().unwrap().iter().map(|endpoint| {
                let endpoint = endpoint.as_str().unwrap();
                let (_, host) = endpoint.split_once("://").unwrap();
                let tls = &printed["configs"][host]["tls"];
                let trusts_all = tls["insecure_skip_verify"].as_bool().unwrap_or(false);
                Door { root: api_root(endpoint, false), trusts_all }
            });
            Pull::new(image, &repository, doors.collect())
        };
        self.images.iter().map(pull).collect()
    }

    /// KubeOne puts its one registry in the place of the host of all its images.
    fn by_overwrite(&self, printed: &Ended) -> Vec<Pull> {
        let printed: Value = serde_saphyr::from_str(&printed.stdout).unwrap();
        let registry = &printed["registryConfiguration"];
        let insecure = registry["insecureRegistry"].as_bool().unwrap_or(false);
        let place = registry["overwriteRegistry"].as_str().unwrap();
        let kubeones = self.images.iter().filter(|image| image.is_kubeones);
        kubeones.map(|image| Pull::at(image, place, &image.repository, insecure)).collect()
    }

    /// kubeadm: `imageRepository` and the last part of the name, but for CoreDNS in 1.21 (kubeadm's `images.go`).
    fn by_kubeadm(&self, printed: &Ended, insecure: bool) -> Vec<Pull> {
        let printed: Vec<Value> = serde_saphyr::from_multiple(&printed.stdout).unwrap();
        assert_eq!(printed.len(), VERSIONS.len());
        let of_version = |version: &str| {
            let document = printed.iter().find(|d| d["kubernetesVersion"] == format!("v{version}")).unwrap();
            let place = document["imageRepository"].as_str().unwrap();
            let lines = lines_of(&["-k", version, "--filter", "control-plane"]);
            let images = self.images.iter().filter(|image| {
                lines.iter().any(|line| line.repository == image.repository && line.tag == image.name)
            });
            let name = |image: &Asked| match image.repository.as_str() {
                "coredns/coredns" if version.starts_with("1.21.") => "coredns/coredns".to_owned(),
                other => other.rsplit('/').next().unwrap().to_owned(),
            };
            let pulls: Vec<Pull> =
                images.map(|image| Pull::at(image, place, &name(image), insecure)).collect();
            pulls
        };
        VERSIONS.into_iter().flat_map(of_version).collect()
    }
}

/// Where a mirror has its API, given its URL.
fn api_root(url: &str, override_path: bool) -> String {
    if override_path { url.to_owned() } else { format!("{}/v2", url.trim_end_matches('/')) }
}

/// A way to reach the mirror.
struct Door {
    root: String,
    trusts_all: bool,
}

/// One image, asked for at the first door that opens.
struct Pull {
    image: Asked,
    repository: String,
    doors: Vec<Door>,
}

impl Pull {
    fn new(image: &Asked, repository: &str, doors: Vec<Door>) -> Self {
        Self { image: image.clone(), repository: repository.to_owned(), doors }
    }

    /// Named `place/repository`, and so not by a mirror's rule: loopback speaks plain HTTP to all of them.
    fn at(image: &Asked, place: &str, repository: &str, insecure: bool) -> Self {
        let (host, prefix) = place.split_once('/').map_or((place, None), |(host, path)| (host, Some(path)));
        let repository = prefix.map_or(repository.to_owned(), |prefix| format!("{prefix}/{repository}"));
        let schemes: &[&str] = if insecure { &["https", "http"] } else { &["http"] };
        let door = |scheme| Door { root: format!("{scheme}://{host}/v2"), trusts_all: insecure };
        Self::new(image, &repository, schemes.iter().map(door).collect())
    }

    /// What is wrong, if anything.
    async fn carry_out(&self, clients: &[Client; 2]) -> Option<String> {
        let Asked { host, name, digest, .. } = &self.image;
        let mut faults = Vec::new();
        for door in &self.doors {
            let client = &clients[usize::from(door.trusts_all)];
            let reader = Reader::of_mirror(client.clone(), &door.root, host);
            match reader.read(&self.repository, name, Depth::Bytes).await {
                Ok(tree) if tree.root == *digest => return None,
                Ok(tree) => faults.push(format!("{} is {}, not {digest}", door.root, tree.root)),
                Err(error) => faults.push(format!("{}: {error}", door.root)),
            }
        }
        Some(format!("{host}/{}:{name} as {}: {}", self.image.repository, self.repository, faults.join("; ")))
    }
}

/// A client to which every certificate is good.
fn trusting() -> Client {
    crate::support::install_crypto();
    let builder = Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    builder.build().expect("a client with fixed options")
}

#[test]
fn every_image_is_where_each_printed_rule_looks_for_it() {
    let set = Set::new();
    let registry = set.net.registry("target").start();
    for target in [registry.host(), format!("{}/example/kubeone", registry.host())] {
        set.mirror(&target, &[]);
        set.replay(&target, false);
    }
}

#[test]
fn at_a_mirror_that_nobody_vouches_for_too() {
    let set = Set::new();
    let tls = set.net.registry("tls").tls().start();
    let plain = set.net.registry("plain").start();
    for target in [format!("{}/deep", tls.host()), plain.host()] {
        set.mirror(&target, &["--insecure"]);
        set.replay(&target, true);
    }
}

#[test]
fn and_at_debians_docker_registry() {
    if !require("docker-registry") {
        return;
    }
    let set = Set::new();
    let registry = DockerRegistry::start(&Setup::default()).unwrap();
    for target in [registry.host(), format!("{}/kubeone", registry.host())] {
        set.mirror(&target, &[]);
        set.replay(&target, false);
    }
}

#[test]
fn a_replay_notices_what_is_not_where_a_rule_looks() {
    let set = Set::new();
    let registry = set.net.registry("target").start();
    set.mirror(&registry.host(), &[]);
    let printed = set.config("containerd", &format!("{}/elsewhere", registry.host()), &[]);
    assert_eq!(set.pull_all(&set.by_hosts_toml(&printed)).len(), set.images.len());
    registry.delete_tag("coredns/coredns", "v1.8.0");
    let printed = set.config("kubeadm", &registry.host(), &[]);
    let wrong = set.pull_all(&set.by_kubeadm(&printed, false));
    assert!(wrong.len() == 1 && wrong[0].contains("coredns/coredns:v1.8.0"), "{wrong:#?}");
}
