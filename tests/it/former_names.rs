//! k8s.gcr.io and registry.k8s.io, two names of one registry.

use std::collections::BTreeSet;

use crate::program::Program;

const FORMER: &str = "k8s.gcr.io";
const PRESENT: &str = "registry.k8s.io";

/// The hosts that `config` redirects, in a form that has each on a line of its own.
fn redirected(format: &str, flags: &[&str]) -> BTreeSet<String> {
    let ended =
        Program::new(&["config", "--format", format, "r.example.com/kubeone"]).args(flags).run().expect(0);
    let host = |line: &str| match format {
        "containerd" => {
            line.strip_prefix("# /etc/containerd/certs.d/")?.strip_suffix("/hosts.toml").map(str::to_owned)
        }
        _ => line.trim().strip_prefix('"')?.strip_suffix("\":").map(str::to_owned),
    };
    ended.stdout.lines().filter_map(host).collect()
}

#[test]
fn a_cluster_that_asks_for_the_former_name_is_redirected_too() {
    let cases: [(&[&str], bool); 12] = [
        (&["-k", "1.22.5", "--kubeone-version", "1.3"], true),
        (&["-k", "1.22.5", "--kubeone-version", "1.3", "--filter", "base"], true),
        (&["-k", "1.22.5", "--kubeone-version", "1.4.11", "--filter", "base"], true),
        (&["-k", "1.22.5", "--kubeone-version", "1.4.12", "--filter", "base"], false),
        (&["-k", "1.24", "--kubeone-version", "1.5.3", "--filter", "base"], true),
        (&["-k", "1.24", "--kubeone-version", "1.5.4", "--filter", "base"], false),
        (&["-k", "1.27", "--kubeone-version", "1.7"], true),
        // What kubeadm names itself, up to 1.24.
        (&["-k", "1.24.9", "--filter", "control-plane"], true),
        (&["-k", "1.25.0", "--filter", "control-plane"], false),
        (&["-k", "1.26", "--kubeone-version", "1.6"], false),
        (&["-k", "1.36.3"], false),
        (&["--image", "registry.k8s.io/pause:3.10"], false),
    ];
    for (flags, asks) in cases {
        for format in ["kubeone-containerd", "containerd", "k3s"] {
            let hosts = redirected(format, flags);
            assert!(hosts.contains(PRESENT), "{format} {flags:?}: {hosts:?}");
            assert_eq!(hosts.contains(FORMER), asks, "{format} {flags:?}: {hosts:?}");
        }
    }
    let printed = Program::new(&["config", "--format", "kubeone-containerd", "r.example.com/kubeone"]);
    let printed = printed.args(cases[0].0).run().expect(0).stdout;
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&printed).unwrap();
    let registries = &documents[0]["containerRuntime"]["containerd"]["registries"];
    assert_eq!(registries[FORMER], registries[PRESENT]);
}

/// What a dry run would mirror, and whether it says nothing.
fn sources(flags: &[&str]) -> Vec<String> {
    let ended = Program::new(&["--dry-run", "-o", "json", "r:1"]).args(flags).run().expect(0);
    let report = ended.report();
    let lines = report.as_array().expect("a list").iter();
    lines
        .map(|line| format!("{} {}", line["source"].as_str().unwrap(), line["target"].as_str().unwrap()))
        .collect()
}

#[test]
fn an_image_by_both_names_is_one_image() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("own")).unwrap();
    let pod = "kind: Pod\nspec: {containers: [{image: 'k8s.gcr.io/metrics-server/metrics-server:v0.5.0'}]}\n";
    std::fs::write(directory.path().join("own/pod.yaml"), pod).unwrap();
    let manifest = directory.path().join("kubeone.yaml");
    std::fs::write(
        &manifest,
        "apiVersion: kubeone.k8c.io/v1beta2\nkind: KubeOneCluster\nversions: {kubernetes: 1.22.5}\n\
         cloudProvider: {aws: {}}\naddons: {enable: true, path: own}\n",
    )
    .unwrap();
    let metrics =
        "registry.k8s.io/metrics-server/metrics-server:v0.5.0 r:1/metrics-server/metrics-server:v0.5.0";
    for release in ["1.3", "1.4.5"] {
        let flags = ["-m", manifest.to_str().unwrap(), "--kubeone-version", release];
        let all = sources(&flags);
        let of_it: Vec<&String> = all.iter().filter(|line| line.contains("metrics-server")).collect();
        assert_eq!(of_it, [metrics], "{release}");
        assert!(redirected("kubeone-containerd", &flags).contains(FORMER));
    }
    let pause = ["-k", "1.36.3", "--filter", "control-plane", "--image", "k8s.gcr.io/pause:3.10.2"];
    let plain = sources(&pause[..4]);
    assert_eq!(sources(&pause), plain);
    assert!(plain.contains(&"registry.k8s.io/pause:3.10.2 r:1/pause:3.10.2".to_owned()), "{plain:?}");
    // Who names it asks for it by that name.
    assert!(redirected("containerd", &pause).contains(FORMER));
    assert!(!redirected("containerd", &pause[..4]).contains(FORMER));
}

#[test]
fn an_image_that_a_user_names_by_the_former_name_alone_is_asked_for_by_it() {
    let former = "k8s.gcr.io/coredns/coredns:v1.8.4";
    assert_eq!(
        sources(&["--image", former]),
        [format!("{former} r:1/coredns/coredns:v1.8.4"), format!("{former} r:1/coredns:v1.8.4")]
    );
    // By both, in whatever order, it is the present one that is asked.
    for images in
        [["k8s.gcr.io/a/b:1", "registry.k8s.io/a/b:1"], ["registry.k8s.io/a/b:1", "k8s.gcr.io/a/b:1"]]
    {
        let flags = ["--image", images[0], "--image", images[1]];
        assert_eq!(sources(&flags), ["registry.k8s.io/a/b:1 r:1/a/b:1"]);
        assert_eq!(redirected("k3s", &flags), BTreeSet::from([FORMER.to_owned(), PRESENT.to_owned()]));
    }
    // A catalog may have either name, or both.
    let catalog = "kubernetes:\n  \"1.40\":\n    latest: \"1.40.0\"\n    since:\n      \"1.40.0\":\n        \
                   coredns: k8s.gcr.io/coredns/coredns:v1.15.0\n        etcd: k8s.gcr.io/etcd:3.7.0-0\n        \
                   pause: registry.k8s.io/pause:3.11\n---\nkubeone: \"1.18\"\npatch: v1.18.0\n\
                   released: 2028-01-31\nkubernetes: [\"1.40\"]\nsandbox: {\"1.40\": k8s.gcr.io/pause:3.11}\n\
                   base: {}\noptional: {}\n";
    let path = directory_with(catalog);
    let flags = ["--catalog", path.1.as_str(), "-k", "1.40"];
    let all = sources(&flags);
    let of = |name: &str| all.iter().filter(|line| line.contains(name)).cloned().collect::<Vec<_>>();
    let wanted: [Vec<String>; 2] = [
        vec!["k8s.gcr.io/etcd:3.7.0-0 r:1/etcd:3.7.0-0".to_owned()],
        vec!["registry.k8s.io/pause:3.11 r:1/pause:3.11".to_owned()],
    ];
    assert_eq!([of("etcd"), of("pause")], wanted, "{all:?}");
    assert!(redirected("k3s", &flags).contains(FORMER));
}

fn directory_with(catalog: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.yaml");
    std::fs::write(&path, catalog).unwrap();
    let path = path.display().to_string();
    (directory, path)
}
