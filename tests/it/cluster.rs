//! What a cluster's manifest, or flags in its place, select.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::program::{Ended, Program};
use crate::stage::closed_port;

/// Images of the newest release for Kubernetes 1.36.3, by provider with Canal, Cilium, WeaveNet and no CNI; and one
/// image that is the provider's own.
const COUNTS: &[(&str, [usize; 4], &str)] = &[
    ("aws", [25, 24, 23, 21], "registry.k8s.io/provider-aws/cloud-controller-manager:v1.35.0"),
    ("azure", [28, 27, 26, 24], "mcr.microsoft.com/oss/v2/kubernetes/azure-cloud-node-manager:v1.36.1"),
    ("digitalocean", [25, 24, 23, 21], "docker.io/digitalocean/do-csi-plugin:v4.17.0"),
    ("equinixmetal", [16, 15, 14, 12], "quay.io/equinix-oss/cloud-provider-equinix-metal:v3.8.1"),
    ("gce", [24, 23, 22, 20], "registry.k8s.io/cloud-provider-gcp/cloud-controller-manager:v36.0.7"),
    ("hetzner", [24, 23, 22, 20], "docker.io/hetznercloud/hcloud-csi-driver:v2.21.2"),
    ("kubevirt", [23, 22, 21, 19], "quay.io/kubermatic/kubevirt-csi-driver:v0.4.5"),
    ("none", [13, 12, 11, 9], "registry.k8s.io/metrics-server/metrics-server:v0.8.1"),
    ("nutanix", [27, 26, 25, 23], "docker.io/nutanix/ntnx-csi:3.3.4"),
    ("openstack", [25, 24, 23, 21], "registry.k8s.io/provider-os/cinder-csi-plugin:v1.36.0"),
    (
        "vmwareCloudDirector",
        [22, 21, 20, 18],
        "projects.registry.vmware.com/vmware-cloud-director/cloud-director-named-disk-csi-driver:1.6.0",
    ),
    ("vsphere", [26, 25, 24, 22], "registry.k8s.io/csi-vsphere/syncer:v3.7.1"),
];

const CNIS: [&str; 4] = ["canal", "cilium", "weaveNet", "external"];

/// The addons of a provider, written down a second time.
fn addons_of(provider: &str) -> &'static [&'static str] {
    match provider {
        "aws" => &["ccm-aws", "csi-aws-ebs"],
        "azure" => &["ccm-azure", "csi-azuredisk", "csi-azurefile"],
        "digitalocean" => &["ccm-digitalocean", "csi-digitalocean"],
        "equinixmetal" => &["ccm-equinixmetal"],
        "gce" => &["ccm-gcp", "csi-gcp-compute-persistent"],
        "hetzner" => &["ccm-hetzner", "csi-hetzner"],
        "kubevirt" => &["ccm-kubevirt", "csi-kubevirt"],
        "nutanix" => &["ccm-nutanix", "csi-nutanix"],
        "openstack" => &["ccm-openstack", "csi-openstack-cinder"],
        "vmwareCloudDirector" => &["csi-vmware-cloud-director"],
        "vsphere" => &["ccm-vsphere", "csi-vsphere"],
        _ => &[],
    }
}

/// Resources of the newest release as (name, addons, image for 1.36), read from what the program prints.
fn catalog() -> Vec<(String, BTreeSet<String>, String)> {
    let text = Program::new(&["catalog"]).run().expect(0).stdout;
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).expect("it is YAML");
    let release = documents.iter().find(|d| d["kubeone"] == "1.14").expect("the newest release");
    let resources = ["base", "optional"].into_iter().flat_map(|group| release[group].as_object().unwrap());
    let addons = |r: &serde_json::Value| {
        r["addons"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect()
    };
    let image = |r: &serde_json::Value| {
        r["image"].as_str().or_else(|| r["image"]["1.36"].as_str()).unwrap_or_default().to_owned()
    };
    resources.map(|(name, resource)| (name.clone(), addons(resource), image(resource))).collect()
}

pub struct Manifest {
    directory: tempfile::TempDir,
}

impl Manifest {
    pub fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kubeone.yaml"), text).unwrap();
        Self { directory }
    }

    /// A manifest of the newest Kubernetes with `more` in it.
    pub fn with(provider: &str, more: &str) -> Self {
        Self::new(&format!(
            "apiVersion: kubeone.k8c.io/v1beta2\nkind: KubeOneCluster\nversions:\n  kubernetes: v1.36.3\n\
             cloudProvider:\n  {provider}: {{}}\n{more}"
        ))
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("kubeone.yaml")
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn run(&self, more: &[&str]) -> Ended {
        Program::new(&["--dry-run", "-o", "json", "r:1", "-m", self.path().to_str().unwrap()])
            .args(more)
            .run()
    }

    fn images(&self) -> BTreeSet<String> {
        sources(&self.run(&[]).expect(0))
    }
}

fn sources(ended: &Ended) -> BTreeSet<String> {
    let report = ended.report();
    let lines = report.as_array().expect("a list").iter();
    lines.map(|line| line["source"].as_str().expect("a source").to_owned()).collect()
}

fn selected(flags: &[&str]) -> BTreeSet<String> {
    sources(&Program::new(&["--dry-run", "-o", "json", "r:1"]).args(flags).run().expect(0))
}

#[test]
fn every_provider_and_cni_selects_what_kubeone_deploys_for_it() {
    let catalog = catalog();
    let control_plane = selected(&["-k", "1.36.3", "--filter", "control-plane"]);
    assert_eq!(control_plane.len(), 7);
    for (provider, counts, own) in COUNTS {
        for (cni, count) in CNIS.iter().zip(counts) {
            let manifest = Manifest::with(provider, &format!("clusterNetwork: {{cni: {{{cni}: {{}}}}}}\n"));
            let images = manifest.images();
            assert_eq!(images.len(), *count, "{provider} {cni}: {images:#?}");
            assert!(images.contains(*own), "{provider} {cni}: {images:#?}");
            let mut addons: BTreeSet<&str> = addons_of(provider).iter().copied().collect();
            addons.extend(["metrics-server", "nodelocaldns"]);
            if *provider != "none" {
                addons.extend(["machinecontroller", "operating-system-manager"]);
            }
            if addons.iter().any(|addon| addon.starts_with("csi-")) {
                addons.insert("csi-external-snapshotter");
            }
            let cni_addon = format!("cni-{}", cni.to_lowercase());
            addons.insert(&cni_addon);
            let mut expected = control_plane.clone();
            for (name, of, image) in &catalog {
                let hubble = name.starts_with("Hubble") || name == "CiliumCertGen";
                if of.iter().any(|addon| addons.contains(addon.as_str())) && !hubble {
                    expected.insert(image.clone());
                }
            }
            assert_eq!(images, expected, "{provider} {cni}");
        }
    }
}

#[test]
fn flags_select_the_same_as_the_manifest_that_they_stand_for() {
    let flags =
        ["-k", "1.36.3", "--provider", "hetzner", "--cni", "weaveNet", "--addon", "cluster-autoscaler"];
    let more = "clusterNetwork: {cni: {weaveNet: {}}}\naddons: {addons: [{name: cluster-autoscaler}]}\n";
    assert_eq!(selected(&flags), Manifest::with("hetzner", more).images());
    let aws = ["-k", "1.36.3", "--provider", "aws"];
    assert_eq!(selected(&aws), Manifest::with("aws", "").images());
    let optional = selected(&[&aws[..], &["--filter", "optional"]].concat());
    assert_eq!(optional.len(), 10);
    assert!(optional.is_subset(&selected(&aws)) && !optional.iter().any(|i| i.contains("calico")));
    let two = selected(&["-k", "1.36.3", "--provider", "aws,hetzner", "--cni", "canal", "--cni", "cilium"]);
    assert!(two.is_superset(&selected(&aws)));
    assert!(two.iter().any(|i| i.contains("hcloud-csi")) && two.iter().any(|i| i.contains("cilium-envoy")));
    let named = selected(&[&aws[..], &["--image", "alpine:3.9"]].concat());
    assert_eq!(named.len(), 26);
}

#[test]
fn a_filter_takes_its_part_of_a_cluster() {
    let manifest = Manifest::with("aws", "addons: {path: own}\n");
    let manifest = manifest.file("own/pod.yaml", "kind: Pod\nspec: {containers: [{image: a/b:1}]}\n");
    let counts = [("base", 8 + 1), ("optional", 10 + 1), ("control-plane", 7)];
    for (filter, count) in counts {
        assert_eq!(sources(&manifest.run(&["--filter", filter]).expect(0)).len(), count, "{filter}");
    }
    let more = sources(&manifest.run(&["--addon", "backups-restic", "--image", "x/y:2"]).expect(0));
    assert_eq!(more.len(), 25 + 1 + 2 + 1);
}

#[test]
fn the_readme_has_the_numbers_of_three_typical_clusters() {
    let count = |provider: &str, more: &str| Manifest::with(provider, more).images().len();
    let cilium = |hubble: bool| {
        count("openstack", &format!("clusterNetwork: {{cni: {{cilium: {{enableHubble: {hubble}}}}}}}\n"))
    };
    let readme = include_str!("../../README.md");
    for row in [
        format!("| `aws: {{}}` and nothing else, so Canal | {} |", count("aws", "")),
        format!(
            "| `openstack: {{}}` with Cilium | {}, with `enableHubble` {} |",
            cilium(false),
            cilium(true)
        ),
        format!("| `hetzner: {{}}` with Canal | {} |", count("hetzner", "")),
        format!("| all that the catalog has | {} |", selected(&["-k", "1.36.3"]).len()),
    ] {
        assert!(readme.contains(&row), "{row}");
    }
}

#[test]
fn features_switch_their_addons() {
    let all = Manifest::with("aws", "").images();
    let lost =
        |more: &str| all.difference(&Manifest::with("aws", more).images()).cloned().collect::<Vec<_>>();
    let one = |more: &str, part: &str| {
        let lost = lost(more);
        assert!(lost.len() == 1 && lost[0].contains(part), "{more}: {lost:?}");
    };
    one("features: {metricsServer: {enable: false}}\n", "metrics-server");
    one("features: {nodeLocalDNS: {deploy: false}}\n", "k8s-dns-node-cache");
    one("operatingSystemManager: {deploy: false}\n", "operating-system-manager");
    assert_eq!(lost("machineController: {deploy: false}\n").len(), 2);
    assert_eq!(lost("clusterNetwork: {cni: {external: {}}}\n").len(), 4);
    one(
        "cloudProvider_: ~\nmachineController: {deploy: true}\noperatingSystemManager: {}\n",
        "operating-system",
    );
    let cloud = |fields: &str| Manifest::with(&format!("{fields}\n  aws"), "").images().len();
    assert_eq!(cloud("disableBundledCSIDrivers: true"), 16);
    let cilium = |fields: &str| {
        Manifest::with("aws", &format!("clusterNetwork: {{cni: {{cilium: {{{fields}}}}}}}\n")).images().len()
    };
    assert_eq!((cilium("enableHubble: false"), cilium("enableHubble: true")), (24, 28));
}

#[test]
fn the_version_decides_on_what_clouds_need() {
    let provider = |provider: &str, version: &str, more: &str| {
        let manifest = Manifest::new(&format!(
            "apiVersion: kubeone.k8c.io/v1beta2\nkind: KubeOneCluster\nversions: {{kubernetes: {version}}}\n\
             cloudProvider: {{{provider}: {{}}{more}}}\n"
        ));
        const MANAGERS: [&str; 2] = ["cloud-controller-manager", "cloud-provider-vsphere"];
        let has = |more: &[&str], parts: &[&str]| {
            let images = sources(&manifest.run(more).expect(0));
            images.iter().any(|image| parts.iter().any(|part| image.contains(part)))
        };
        let later = format!("{version},1.29");
        (has(&[], &MANAGERS), has(&[], &["csi"]), has(&["-k", &later], &MANAGERS))
    };
    let (no, yes) = (", external: false", ", external: true");
    // Since 1.29 a cloud is external, even against the manifest; an upgrade to it is seen as well.
    assert_eq!(provider("aws", "1.29.14", no), (true, true, true));
    assert_eq!(provider("aws", "1.28.15", ""), (false, true, true));
    assert_eq!(provider("aws", "1.28.15", yes), (true, true, true));
    assert_eq!(provider("vmwareCloudDirector", "1.29.14", ""), (false, true, false));
    // Up to KubeOne 1.7 the CSI driver of vSphere comes with the controller manager, those of large clouds since 1.23 too.
    assert_eq!(provider("vsphere", "1.26.15", ""), (false, false, true));
    assert_eq!(provider("openstack", "1.28.15", ""), (false, true, true));
    let csi = |version: &str, more: &str| {
        let text = format!(
            "apiVersion: kubeone.k8c.io/v1beta2\nkind: KubeOneCluster\nversions: {{kubernetes: {version}}}\n\
             cloudProvider: {{azure: {{}}{more}}}\n"
        );
        Manifest::new(&text).images().iter().any(|image| image.contains("azuredisk-csi"))
    };
    assert_eq!([csi("1.22.17", ""), csi("1.22.17", yes), csi("1.23.17", "")], [false, true, true]);
}

#[test]
fn all_three_versions_of_the_api_are_read() {
    let head = "kind: KubeOneCluster\nversions: {kubernetes: 1.22.17}\ncloudProvider: {aws: {}}\n";
    let old = Manifest::new(&format!("apiVersion: kubeone.io/v1beta1\n{head}"));
    assert!(old.run(&[crate::stage::NO_PINS]).expect(0).stderr.is_empty());
    let never = Manifest::new(&format!("apiVersion: kubeone.k8c.io/v1beta1\n{head}"));
    let told = never.run(&[]).expect(0).stderr;
    assert!(told.contains("line 1: KubeOne reads no kubeone.k8c.io/v1beta1"), "{told}");
    assert_eq!(old.images(), never.images());
    assert!(!old.images().iter().any(|image| image.contains("operating-system-manager")));
    let new = Manifest::new(&format!(
        "apiVersion: kubeone.k8c.io/v1beta3\n{}addons:\n  addons:\n  - addon: {{name: unattended-upgrades}}\n  \
         - addon: {{name: backups-restic, delete: true}}\n  - helmRelease: {{chart: cilium, releaseName: my-chart}}\n",
        head.replace("1.22.17", "1.36.3")
    ));
    let ended = new.run(&[]).expect(0);
    assert_eq!(sources(&ended).len(), 25 + 2);
    let note = "KubeOne 1.14 deploys no manifest of kubeone.k8c.io/v1beta3";
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("kubeone.yaml, line 9: ") && ended.stderr.contains("my-chart"),
        "{ended:?}"
    );
}

#[test]
fn the_manifest_gives_version_and_target_where_the_command_line_does_not() {
    let registry =
        "registryConfiguration:\n  overwriteRegistry: 127.0.0.1:5000/example\n  insecureRegistry: true\n";
    let manifest = Manifest::with("none", registry);
    let path = manifest.path();
    let dry =
        || Program::new(&["--dry-run", "-m", path.to_str().unwrap()]).env("TARGET_REGISTRY", "env.example");
    let first = |program: Program| program.run().expect(0).stdout;
    let text = first(dry().env("KUBERNETES_VERSION", "1.35.1"));
    assert!(text.lines().all(|line| line.contains(" → 127.0.0.1:5000/example/")), "{text}");
    assert!(text.contains("kube-proxy:v1.36.3"), "{text}");
    let text = first(dry().args(&["-k", "1.35.2", "other.example"]));
    assert!(text.lines().all(|line| line.contains(" → other.example/")), "{text}");
    assert!(text.contains("kube-proxy:v1.35.2") && !text.contains("v1.36.3"), "{text}");
}

#[test]
fn what_the_catalog_cannot_know_is_pointed_out_by_name() {
    let more = "\
addons: {addons: [{name: my-monitoring}, {name: default-storage-class}, {name: metrics-server, delete: true}]}
helmReleases:
- {releaseName: ingress, chart: ingress-nginx}
- {chart: prometheus}
";
    let ended = Manifest::with("aws", more).run(&[]).expect(0);
    assert_eq!(sources(&ended).len(), 25);
    assert_eq!(ended.stderr.matches("WARN ").count(), 3, "{}", ended.stderr);
    let core_dns = "features: {coreDNS: {replicas: 3, imageRepository: registry.example.com/own/}}\n";
    let core_dns = Manifest::with("aws", core_dns).run(&[]).expect(0);
    assert!(core_dns.stderr.contains(", line "), "{}", core_dns.stderr);
    assert!(core_dns.stderr.contains("CoreDNS from registry.example.com/own/coredns"), "{}", core_dns.stderr);
    for word in ["my-monitoring", "Helm release ingress", "Helm release prometheus", "--image"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}

#[test]
fn the_users_own_addons_add_to_the_images_and_replace_embedded_ones() {
    let container = |image: &str| format!("spec:\n  containers:\n  - image: {image}\n");
    let manifest = Manifest::with("aws", "addons:\n  enable: true\n  path: ./addons\n")
        .file("addons/root.yml", &container("root/app:1"))
        .file("addons/notes.txt", "image: not/taken:1")
        .file("addons/mine/a.yaml", &container("{{ .InternalImages.Get \"HetznerCCM\" }}"))
        .file("addons/mine/deeper/b.yaml", &container("not/taken:2"))
        .file("addons/metrics-server/m.yaml", &container("'{{ Registry \"quay.io\" }}/own/metrics:2'"))
        .file("addons/csi-hetzner/c.yaml", &container("not/deployed:1"))
        .file("addons/broken/d.yaml", &container("{{ .Params.image }}"));
    let ended = manifest.run(&[]).expect(0);
    let images = sources(&ended);
    for expected in [
        "docker.io/root/app:1",
        "docker.io/hetznercloud/hcloud-cloud-controller-manager:v1.34.0",
        "quay.io/own/metrics:2",
    ] {
        assert!(images.contains(expected), "{images:#?}");
    }
    assert_eq!(images.len(), 25 - 1 + 3, "{images:#?}");
    assert!(!images.iter().any(|image| image.contains("metrics-server") || image.contains("/taken")));
    assert!(ended.stderr.contains("addons/broken/d.yaml, line 3: "), "{}", ended.stderr);
    assert_eq!(reasons(&ended, "quay.io/own/metrics:2"), [own("addons/metrics-server/m.yaml, line 3")]);
    let missing = Manifest::with("aws", "addons: {path: nowhere}\n").run(&[]).expect(2);
    assert!(missing.stderr.contains("addons.path") && missing.stderr.contains("nowhere"), "{missing:?}");
    // KubeOne before 1.9 wants addons enabled, with v1beta1 it has a directory unasked; newer ones do not care, but up to
    // 1.11.3 want an entry.
    let listed = "addons: {path: addons, addons: [{name: x, delete: true}]}";
    let (on, off) = ("addons: {enable: true, path: addons}", "addons: {enable: false, path: addons}");
    for (api, version, addons, expected, warnings) in [
        ("v1beta1", "1.22.17", "addons: {path: ./addons}", false, 1),
        ("v1beta1", "1.22.17", "addons: {enable: true}", true, 0),
        ("v1beta2", "1.28.15", "addons: {path: addons}", false, 1),
        ("v1beta2", "1.28.15", off, false, 0),
        ("v1beta2", "1.28.15", on, true, 0),
        ("v1beta2", "1.29.14", on, false, 0),
        ("v1beta2", "1.29.14", listed, true, 0),
        ("v1beta2", "1.30.14", on, true, 0),
        ("v1beta2", "1.30.14", off, true, 1),
    ] {
        let group = if api == "v1beta1" { "kubeone.io" } else { "kubeone.k8c.io" };
        let head = format!("apiVersion: {group}/{api}\nkind: KubeOneCluster\n");
        let cluster =
            format!("versions: {{kubernetes: {version}}}\ncloudProvider: {{none: {{}}}}\n{addons}\n");
        let manifest = Manifest::new(&(head + &cluster)).file("addons/a.yaml", &container("root/app:1"));
        let ended = manifest.run(&[]).expect(0);
        assert_eq!(sources(&ended).contains("docker.io/root/app:1"), expected, "{cluster}");
        assert_eq!(ended.stderr.matches("addons.enable").count(), warnings, "{cluster}{}", ended.stderr);
    }
}

#[test]
fn addons_are_filled_in_as_the_manifest_says() {
    let container = |image: &str| format!("spec:\n  containers:\n  - image: {image}\n");
    let more = "\
addons:
  path: own
  addons:
  - {name: mine, params: {tag: v2, registry: quay.io/all, hidden: 'env:SECRET'}}
  - {name: plain, disableTemplating: true}
  - {name: ccm-nutanix}
containerRuntime:
  containerd: {sandboxImage: quay.io/own/pause:9}
";
    let manifest = Manifest::with("aws", more)
        .file("own/mine/a.yaml", &container("{{ .Params.registry }}/mine:{{ .Params.tag }}"))
        .file("own/mine/b.yaml", &container("hidden:{{ .Params.hidden }}"))
        .file("own/plain/c.yaml", &format!("{}    args: ['{{{{ x }}}}']\n", container("[bracket/c]")))
        .file("own/plain/d.yaml", "spec: {containers: [{image: plain/d:1, args: ['{{ x }}']}]}\n")
        .file("own/ccm-kubevirt/e.yaml", &container("kubevirt/e:1"));
    let wrong = manifest.run(&[]).expect(2);
    assert!(wrong.stderr.contains("own/plain/c.yaml, line 3: "), "{}", wrong.stderr);
    let ended = manifest.file("own/plain/c.yaml", "").run(&[]).expect(0);
    let images = sources(&ended);
    for expected in
        ["quay.io/all/mine:v2", "docker.io/plain/d:1", "docker.io/kubevirt/e:1", "quay.io/own/pause:9"]
    {
        assert!(images.contains(expected), "{expected}: {images:#?}");
    }
    // KubeOne's own list of addons that it decides on lacks this one.
    assert!(images.iter().any(|image| image.contains("nutanix")), "{images:#?}");
    assert!(ended.stderr.contains("own/mine/b.yaml, line 3: ") && ended.stderr.contains("environment"));
    assert_eq!(reasons(&ended, "quay.io/own/pause:9"), [own("kubeone.yaml, line 14")]);
}

/// What the JSON form says of who asks for an image.
fn reasons(ended: &Ended, source: &str) -> Vec<serde_json::Value> {
    let report = ended.report();
    let line = report.as_array().unwrap().iter().find(|line| line["source"] == source);
    let reasons =
        line.unwrap_or_else(|| panic!("{source}: {ended:?}"))["reasons"].as_array().unwrap().clone();
    // Files are named as they were found, in a directory of the test's own.
    let short = |mut reason: serde_json::Value| {
        if let Some(path) = reason["named_by"].as_str().and_then(|text| text.strip_prefix('/')) {
            let short = path.splitn(3, '/').last().unwrap().to_owned();
            reason["named_by"] = short.into();
        }
        reason
    };
    reasons.into_iter().map(short).collect()
}

fn own(place: &str) -> serde_json::Value {
    serde_json::json!({ "named_by": place })
}

#[test]
fn who_names_an_image_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name).to_str().unwrap().to_owned()
    };
    let list = file("list.txt", "# mine\nalpine:3\nregistry.k8s.io/pause:3.10.2\n");
    let yaml = file("pod.yaml", "spec:\n  containers:\n  - {name: a, image: alpine:3}\n");
    let flags = ["--image", "quay.io/a/b:1", "--images-from", &list, "--images-from", &yaml];
    let program = |more: &[&str]| Program::new(&["--dry-run", "r:1"]).args(&flags).args(more).run().expect(0);
    let ended = program(&["-o", "json"]);
    assert_eq!(reasons(&ended, "quay.io/a/b:1"), [own("--image")]);
    let alpine = [own("list.txt, line 2"), own("pod.yaml, line 3")];
    assert_eq!(reasons(&ended, "docker.io/library/alpine:3"), alpine);
    // What the catalog asks for as well has its reasons first.
    let ended = program(&["-o", "json", "-k", "1.36.3", "--filter", "control-plane"]);
    let pause = reasons(&ended, "registry.k8s.io/pause:3.10.2");
    assert_eq!((pause.len(), &pause[0]["group"]), (3, &"control-plane".into()));
    assert_eq!(pause[2], own("list.txt, line 3"));
    let text = program(&["-v"]).stdout;
    assert!(text.contains("quay.io/a/b:1 → r:1/a/b:1\n    named by --image\n"), "{text}");
    let piped =
        Program::new(&["--dry-run", "-v", "r:1", "--images-from", "-"]).stdin("a/b:1\n").run().expect(0);
    assert!(piped.stdout.contains("    named by standard input, line 1\n"), "{}", piped.stdout);
}

#[test]
fn a_wrong_manifest_is_told_by_line_and_without_its_secrets() {
    let head = "kind: KubeOneCluster\nversions: {kubernetes: 1.36.3}\n";
    let api = "apiVersion: kubeone.k8c.io/v1beta2\n";
    let table: &[(String, &[&str])] = &[
        ("kind: Pod\n".into(), &["apiVersion", "v1beta3"]),
        (format!("apiVersion: v1\n{head}"), &["line 1", "v1", "v1beta2"]),
        (format!("{api}kind: Machine\n"), &["line 2", "Machine", "KubeOneCluster"]),
        (format!("{api}{head}"), &["cloudProvider", "aws", "vsphere"]),
        (format!("{api}{head}cloudProvider:\n  asw: {{}}\n"), &["line 5", "asw", "aws"]),
        (format!("{api}{head}cloudProvider: {{aws: {{}}, gce: {{}}}}\n"), &["two providers", "aws", "gce"]),
        (
            format!("{api}{head}cloudProvider: {{aws: {{}}}}\nclusterNetwork:\n  cni: {{flannel: {{}}}}\n"),
            &["line 6", "flannel", "canal", "external"],
        ),
        (format!("{api}kind: KubeOneCluster\ncloudProvider: {{aws: {{}}}}\n"), &["versions.kubernetes"]),
        (
            format!("{api}{}cloudProvider: {{aws: {{}}}}\n", head.replace("1.36.3", "1.99.0")),
            &["1.99.0", "kubeone.yaml"],
        ),
        (format!("{api}{head}cloudProvider:\n  aws: {{}}\n  cloudConfig: [\n"), &["line"]),
        (
            format!(
                "{api}{head}cloudProvider: {{aws: {{}}}}\nregistryConfiguration: {{overwriteRegistry: u:s3cr3t@r}}\n"
            ),
            &["line 5", "login"],
        ),
        (format!("{api}{head}cloudProvider: {{external: maybe, aws: {{}}}}\n"), &["line 4", "external"]),
    ];
    let secret = "staticWorkers: {token: s3cr3t}\nproxy: {http: 'http://u:s3cr3t@p'}\n";
    for (text, words) in table {
        let ended = Manifest::new(&format!("{text}{secret}")).run(&[]).expect(2);
        for word in *words {
            assert!(ended.stderr.contains(word), "{text}\n{word:?} is not in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("s3cr3t") && ended.stdout.is_empty(), "{ended:?}");
    }
}

#[test]
fn wrong_names_are_told_with_the_right_ones_before_any_request() {
    let target = closed_port();
    let table: &[(&[&str], &[&str])] = &[
        (&["--provider", "azur"], &["--provider", "azur", "aws, azure", "vmwareCloudDirector", "none"]),
        (&["--cni", "calico"], &["--cni", "calico", "canal, cilium, weavenet and external"]),
        (
            &["--addon", "csi-azure"],
            &["--addon", "csi-azure", "csi-azuredisk", "csi-external-snapshotter_v8.2.1"],
        ),
        (&["--addon", ""], &["--addon"]),
        (&["-m", "/nonexistent/kubeone.yaml"], &["--manifest", "/nonexistent/kubeone.yaml"]),
        (&["-m", "x.yaml", "--provider", "aws"], &["--provider"]),
        (&["--catalog", "/nonexistent/c.yaml"], &["--catalog", "/nonexistent/c.yaml"]),
    ];
    for (flags, words) in table {
        let ended = Program::new(flags).args(&[&target]).run().expect(2);
        for word in *words {
            assert!(ended.stderr.contains(word), "{flags:?}: {word:?} is not in {}", ended.stderr);
        }
    }
    // A name of another release is known, but has nothing to give here.
    let old = Program::new(&["--dry-run", "--addon", "etcd-defrag", "-k", "1.22", "r:1"]).run().expect(0);
    assert!(old.stderr.contains("etcd-defrag") && old.stderr.contains("KubeOne 1."), "{old:?}");
}

#[test]
fn a_catalog_of_ones_own_takes_the_embedded_ones_place() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let embedded = Program::new(&["catalog"]).run().expect(0).stdout;
    let same = write("same.yaml", &embedded);
    assert_eq!(selected(&["--catalog", &same]), selected(&[]));
    let small = include_str!("small-catalog.yaml");
    let small_file = write("small.yaml", small);
    let images = selected(&["--catalog", &small_file, "-k", "1.40.1"]);
    assert_eq!(images.len(), 9, "{images:#?}");
    assert!(images.contains("registry.example.com/acme/cni:v1"));
    let line = small.lines().position(|line| line.contains("acme/cni")).unwrap() + 1;
    let broken = write("broken.yaml", &small.replace("acme/cni:v1", "Acme CNI"));
    let ended = Program::new(&["--dry-run", "--catalog", &broken, "r:1"]).run().expect(2);
    let place = format!("line {line}, column ");
    assert!(ended.stderr.contains("broken.yaml") && ended.stderr.contains(&place), "{ended:?}");
    assert_eq!(ended.stderr.matches(&place).count(), 1, "{}", ended.stderr);
    let readme = include_str!("../../README.md");
    assert!(readme.contains(small.trim_end()), "the README shows the same catalog");
}

#[test]
fn kubernetes_yaml_and_lists_add_images() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.yaml");
    std::fs::write(
        &path,
        "kind: Pod\nspec:\n  containers:\n  - image: a/b:1\n---\nspec: {containers: [{image: c}]}\n",
    )
    .unwrap();
    let file = path.to_str().unwrap();
    let expected: BTreeSet<String> =
        ["docker.io/a/b:1", "docker.io/library/c:latest"].map(str::to_owned).into();
    assert_eq!(selected(&["--images-from", file]), expected);
    std::fs::write(&path, "kind: Pod\nspec:\n  containers:\n  - image: 'a b'\n").unwrap();
    let ended = Program::new(&["--dry-run", "--images-from", file, "r:1"]).run().expect(2);
    assert!(ended.stderr.contains("app.yaml, line 4: "), "{ended:?}");
}

#[test]
fn a_huge_or_nested_manifest_is_refused_at_once() {
    let deep = Manifest::with("aws", &format!("x: {}\n", "[".repeat(50_000)));
    deep.run(&[]).expect(2);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    Manifest::with("aws", &bomb).run(&[]).expect(2);
    let path = Path::new("/dev/zero");
    let ended = Program::new(&["--dry-run", "-m", path.to_str().unwrap(), "r:1"]).run().expect(2);
    assert!(ended.stderr.contains("MiB"), "{ended:?}");
}
