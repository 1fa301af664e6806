//! What `config` prints, read with the consumers' field names; and what a cluster with it would ask the mirror for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cluster::Manifest;
use crate::program::{Ended, Program};

const TARGETS: [&str; 5] = [
    "registry.example.com:5000",
    "ghcr.io/acme/kubeone",
    "127.0.0.1:5000",
    "127.0.0.1:5000/example",
    "[::1]:5000/a/b",
];

const SELECTIONS: [&[&str]; 4] = [
    &["-k", "1.36.3"],
    &["-k", "1.21.14,1.20.15,1.22.17"],
    &["-k", "1.36.3", "--provider", "openstack", "--cni", "cilium"],
    &["-k", "1.30", "--filter", "control-plane", "--image", "ghcr.io/acme/app:v1"],
];

fn config(format: &str, target: &str, flags: &[&str]) -> Ended {
    Program::new(&["config", "--format", format, target]).args(flags).run().expect(0)
}

fn yaml(ended: &Ended) -> Vec<Value> {
    serde_saphyr::from_multiple(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// An image that a cluster asks for: host, repository, and the tag, or the digest where there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Image {
    host: String,
    repository: String,
    name: String,
}

/// The images of a selection, each with the paths `/v2/…/manifests/…` under which the mirror has it.
fn mirrored(target: &str, flags: &[&str]) -> BTreeMap<Image, BTreeSet<String>> {
    let dry = Program::new(&["--dry-run", "-o", "json", target]).args(flags).run().expect(0);
    let mut images = BTreeMap::<Image, BTreeSet<String>>::new();
    for line in dry.report().as_array().unwrap() {
        let source = line["source"].as_str().unwrap().split('@').next().unwrap();
        let (host, rest) = source.split_once('/').unwrap();
        let (repository, name) = rest.rsplit_once(':').unwrap();
        let image = Image { host: host.into(), repository: repository.into(), name: name.into() };
        let (_, path) = line["target"].as_str().unwrap().split_once('/').unwrap();
        let (repository, name) = path.rsplit_once(':').unwrap();
        images.entry(image).or_default().insert(format!("/v2/{repository}/manifests/{name}"));
    }
    images
}

/// The host and the path of a URL.
fn apart(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (scheme, host, path)
}

/// containerd's rule for the root of the API below a mirror's URL.
fn root(path: &str, override_path: bool) -> String {
    if override_path { path.to_owned() } else { format!("{path}/v2") }
}

/// How the mirror may be spoken to.
fn schemes(target: &str, insecure: bool) -> Vec<&'static str> {
    let loopback = target.starts_with("127.") || target.starts_with("[::1]");
    match (insecure, loopback) {
        (true, _) => vec!["https", "http"],
        (false, true) => vec!["http"],
        (false, false) => vec!["https"],
    }
}

fn host_of(target: &str) -> &str {
    target.split('/').next().unwrap()
}

/// Runs `check` for all targets and selections, with and without `--insecure`.
fn for_all(check: impl Fn(&str, &[&str], bool, &BTreeMap<Image, BTreeSet<String>>)) {
    for target in TARGETS {
        for (flags, insecure) in SELECTIONS.iter().zip([false, true, false, true]) {
            let images = mirrored(target, flags);
            let mut flags = flags.to_vec();
            if insecure {
                flags.push("--insecure");
            }
            check(target, &flags, insecure, &images);
        }
    }
}

#[test]
fn containerd_finds_every_image_by_the_hosts_files() {
    for_all(|target, flags, insecure, images| {
        let text = config("containerd", target, flags).stdout;
        let mut files = BTreeMap::new();
        for file in text.split("# /etc/containerd/certs.d/").skip(1) {
            let (path, content) = file.split_once('\n').unwrap();
            let parsed: toml::Table = toml::from_str(content).unwrap();
            files.insert(path.strip_suffix("/hosts.toml").unwrap().to_owned(), parsed);
        }
        let hosts: BTreeSet<&str> = images.keys().map(|image| image.host.as_str()).collect();
        // The host of images that are gone is there too: the mirror may have them from elsewhere.
        let others: Vec<&str> =
            files.keys().map(String::as_str).filter(|host| !hosts.contains(host)).collect();
        // And so is what old clusters call registry.k8s.io.
        assert!(
            hosts.iter().all(|host| files.contains_key(*host))
                && others.iter().all(|other| ["gcr.io", "k8s.gcr.io"].contains(other))
        );
        for (image, paths) in images {
            let file = &files[&image.host];
            assert!(file["server"].as_str().unwrap().starts_with("https://"));
            let mirrors = file["host"].as_table().unwrap();
            let mut spoken: Vec<&str> = mirrors.keys().map(|url| apart(url).0).collect();
            spoken.sort_by_key(|scheme| text.find(&format!("[host.\"{scheme}://{}", host_of(target))));
            assert_eq!(spoken, schemes(target, insecure));
            for (url, mirror) in mirrors {
                let (scheme, host, path) = apart(url);
                assert_eq!(host, host_of(target));
                let override_path = mirror.get("override_path").is_some_and(|v| v.as_bool().unwrap());
                let asked =
                    format!("{}/{}/manifests/{}", root(path, override_path), image.repository, image.name);
                assert!(paths.contains(&asked), "{asked} is not among {paths:?}");
                let skip = mirror.get("skip_verify").is_some_and(|v| v.as_bool().unwrap());
                assert_eq!(skip, insecure && scheme == "https");
                let capabilities: Vec<&str> =
                    mirror["capabilities"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
                assert_eq!(capabilities, ["pull", "resolve"]);
            }
        }
    });
}

#[test]
fn kubeones_containerd_registries_find_every_image() {
    for_all(|target, flags, insecure, images| {
        let printed = yaml(&config("kubeone-containerd", target, flags));
        let registries = &printed[0]["containerRuntime"]["containerd"]["registries"];
        for (image, paths) in images {
            let registry = &registries[&image.host];
            let mirrors = registry["mirrors"].as_array().unwrap();
            let spoken: Vec<&str> = mirrors.iter().map(|url| apart(url.as_str().unwrap()).0).collect();
            assert_eq!(spoken, schemes(target, insecure));
            let override_path = registry["overridePath"].as_bool().unwrap_or(false);
            assert_eq!(override_path, target.contains('/'));
            assert_eq!(registry["tlsConfig"]["insecureSkipVerify"].as_bool().unwrap_or(false), insecure);
            for url in mirrors {
                let (_, host, path) = apart(url.as_str().unwrap());
                assert_eq!(host, host_of(target));
                let asked =
                    format!("{}/{}/manifests/{}", root(path, override_path), image.repository, image.name);
                assert!(paths.contains(&asked), "{asked} is not among {paths:?}");
            }
        }
    });
}

#[test]
fn k3s_finds_every_image_by_its_registries() {
    for_all(|target, flags, insecure, images| {
        let printed = yaml(&config("k3s", target, flags));
        for (image, paths) in images {
            let mirror = &printed[0]["mirrors"][&image.host];
            let repository = match mirror["rewrite"].as_object() {
                None => image.repository.clone(),
                Some(rules) => {
                    let (pattern, replacement) = rules.iter().next().unwrap();
                    assert_eq!((rules.len(), pattern.as_str()), (1, "^(.*)$"));
                    replacement.as_str().unwrap().replace("$1", &image.repository)
                }
            };
            let endpoints = mirror["endpoint"].as_array().unwrap();
            let spoken: Vec<&str> = endpoints.iter().map(|url| apart(url.as_str().unwrap()).0).collect();
            assert_eq!(spoken, schemes(target, insecure));
            for url in endpoints {
                let (_, host, path) = apart(url.as_str().unwrap());
                assert_eq!((host, path), (host_of(target), ""));
            }
            let asked = format!("/v2/{repository}/manifests/{}", image.name);
            assert!(paths.contains(&asked), "{asked} is not among {paths:?}");
        }
        let tls = &printed[0]["configs"][host_of(target)]["tls"];
        assert_eq!(tls["insecure_skip_verify"].as_bool().unwrap_or(false), insecure);
    });
}

/// The path under which a registry of one's own is asked for an image of the form `registry/path`.
fn path_at(registry: &str, repository: &str, name: &str) -> String {
    let (_, prefix) =
        registry.split_once('/').map_or((registry, String::new()), |(h, p)| (h, format!("{p}/")));
    format!("/v2/{prefix}{repository}/manifests/{name}")
}

#[test]
fn kubeone_finds_every_image_below_its_one_registry() {
    for_all(|target, flags, insecure, images| {
        let ended = config("kubeone", target, flags);
        let registry = &yaml(&ended)[0]["registryConfiguration"];
        assert_eq!(registry["overwriteRegistry"], target);
        assert_eq!(registry["insecureRegistry"].as_bool().unwrap_or(false), insecure);
        let warned = ended.stderr.contains("does not support insecureRegistry with containerd");
        assert_eq!(warned, insecure, "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("not those that you named"), flags.contains(&"--image"));
        for (image, paths) in images {
            let asked = path_at(target, &image.repository, &image.name);
            assert!(paths.contains(&asked), "{asked} is not among {paths:?}");
        }
    });
}

#[test]
fn kubeadm_finds_every_image_by_the_rules_of_its_version() {
    let apis = [
        ("1.19.16", "v1beta2", "coredns"),
        ("1.20.15", "v1beta2", "coredns"),
        ("1.21.14", "v1beta2", "coredns/coredns"),
        ("1.22.17", "v1beta3", "coredns"),
        ("1.30.0", "v1beta3", "coredns"),
        ("1.31.0", "v1beta4", "coredns"),
        ("1.36.3", "v1beta4", "coredns"),
    ];
    for target in TARGETS {
        for (version, api, coredns) in apis {
            let flags = ["-k", version, "--filter", "control-plane"];
            let ended = config("kubeadm", target, &flags);
            let printed = yaml(&ended);
            assert_eq!(printed.len(), 1);
            assert_eq!(printed[0]["apiVersion"], format!("kubeadm.k8s.io/{api}"));
            assert_eq!(printed[0]["kind"], "ClusterConfiguration");
            assert_eq!(printed[0]["kubernetesVersion"], format!("v{version}"));
            let registry = printed[0]["imageRepository"].as_str().unwrap();
            for (image, paths) in mirrored(target, &flags) {
                let repository = match image.repository.rsplit('/').next().unwrap() {
                    "coredns" => coredns,
                    other => other,
                };
                let asked = path_at(registry, repository, &image.name);
                assert!(paths.contains(&asked), "{asked} is not among {paths:?}");
                if repository == coredns {
                    let told = format!("# CoreDNS is pulled as {target}/{coredns}:{}\n", image.name);
                    assert!(ended.stdout.contains(&told), "{told}: {}", ended.stdout);
                }
            }
            let loopback = target.starts_with("127.") || target.starts_with('[');
            assert_eq!(ended.stderr.contains("hosts.toml"), loopback, "{ended:?}");
        }
    }
    let several = config("kubeadm", "r.example", &["-k", "1.35,1.36"]);
    assert_eq!(yaml(&several).len(), 2);
}

#[test]
fn a_manifest_gives_the_target_of_the_configuration() {
    let registry =
        "registryConfiguration: {overwriteRegistry: 'r.example/kubeone', insecureRegistry: true}\n";
    let manifest = Manifest::with("aws", registry);
    let path = manifest.path();
    let ended =
        Program::new(&["config", "--format", "containerd", "-m", path.to_str().unwrap()]).run().expect(0);
    assert_eq!(ended.stdout.matches("/hosts.toml\n").count(), 4, "{}", ended.stdout);
    assert!(ended.stdout.contains("[host.\"http://r.example/v2/kubeone\"]"), "{}", ended.stdout);
}

#[test]
fn wrong_use_of_the_subcommands_is_told() {
    let table: &[(&[&str], &[&str])] = &[
        (&["config"], &["no target"]),
        (
            &["config", "--format", "podman", "r"],
            &["podman", "kubeone-containerd", "containerd", "kubeadm", "k3s"],
        ),
        (&["config", "--format", "kubeadm", "--image", "a:1", "r"], &["-k"]),
        (&["config", "https://r"], &["without a scheme"]),
        (&["--dry-run", "config", "r"], &["cannot be used with", "--dry-run"]),
        (&["completions", "csh"], &["csh", "bash", "fish", "zsh"]),
        (&["catalog", "r"], &["r"]),
    ];
    for (arguments, words) in table {
        let ended = Program::new(arguments).run().expect(2);
        for word in *words {
            assert!(ended.stderr.contains(word), "{arguments:?}: {word:?} is not in {}", ended.stderr);
        }
    }
}
