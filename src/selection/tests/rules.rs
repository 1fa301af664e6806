//! One row or more for each rule of a release.

use super::*;

const HETZNER: &str = "hetzner: {}";
const NONE: &str = "none: {}";

/// The release, Kubernetes, the provider, more of the manifest, images that are selected and images that are not: parts
/// of their names.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const ROWS: &[Row] = &[
    // nodelocaldns: always, then by its field.
    (
        "1.3",
        "1.22.17",
        NONE,
        "features: {nodeLocalDNS: {deploy: false}}\n",
        &["k8s-dns-node-cache:1.15.13"],
        &[],
    ),
    (
        "1.4",
        "1.23.17",
        NONE,
        "features: {nodeLocalDNS: {deploy: false}}\n",
        &["k8s-dns-node-cache:1.15.13"],
        &[],
    ),
    ("1.5", "1.24.17", NONE, "features: {nodeLocalDNS: {deploy: false}}\n", &[], &["k8s-dns-node-cache"]),
    // nodelocaldns-cilium, instead of it, since 1.14.
    (
        "1.14",
        "1.36.3",
        NONE,
        "clusterNetwork: {cni: {cilium: {enableLocalRedirectPolicy: true}}}\nfeatures: {nodeLocalDNS: {deploy: false}}\n",
        &["k8s-dns-node-cache:1.26.7"],
        &[],
    ),
    (
        "1.13",
        "1.35.7",
        NONE,
        "clusterNetwork: {cni: {cilium: {enableLocalRedirectPolicy: true}}}\nfeatures: {nodeLocalDNS: {deploy: false}}\n",
        &[],
        &["k8s-dns-node-cache"],
    ),
    // operating-system-manager: never, where it is named, then by default.
    ("1.3", "1.22.17", HETZNER, "", &["machine-controller"], &["operating-system-manager"]),
    ("1.4", "1.23.17", HETZNER, "", &["machine-controller"], &["operating-system-manager"]),
    (
        "1.4",
        "1.23.17",
        HETZNER,
        "addons: {enable: true, addons: [{name: operating-system-manager}]}\n",
        &["operating-system-manager"],
        &[],
    ),
    ("1.5", "1.24.17", HETZNER, "", &["operating-system-manager"], &[]),
    (
        "1.5",
        "1.24.17",
        HETZNER,
        "operatingSystemManager: {deploy: false}\naddons: {enable: true, addons: [{name: operating-system-manager}]}\n",
        &[],
        &["operating-system-manager"],
    ),
    // Since 1.14 it is no addon that KubeOne alone decides on.
    (
        "1.13",
        "1.35.7",
        NONE,
        "addons: {addons: [{name: operating-system-manager}, {name: machinecontroller}]}\n",
        &[],
        &["operating-system-manager", "machine-controller"],
    ),
    (
        "1.14",
        "1.36.3",
        NONE,
        "addons: {addons: [{name: operating-system-manager}, {name: machinecontroller}]}\n",
        &["operating-system-manager", "machine-controller"],
        &[],
    ),
    // Clouds are external since Kubernetes 1.29, from KubeOne 1.8 on, but for two or three providers.
    ("1.8", "1.28.15", "openstack: {}", "", &["cinder-csi-plugin"], &["openstack-cloud-controller-manager"]),
    ("1.8", "1.29.15", "openstack: {}, external: false", "", &["openstack-cloud-controller-manager"], &[]),
    ("1.13", "1.35.7", "kubevirt: {}", "", &["kubevirt-csi-driver"], &["kubevirt-cloud-controller-manager"]),
    ("1.13", "1.35.7", "kubevirt: {}, external: true", "", &["kubevirt-cloud-controller-manager"], &[]),
    ("1.14", "1.36.3", "kubevirt: {}", "", &["kubevirt-cloud-controller-manager"], &[]),
    // Azure of 1.3 has neither.
    ("1.3", "1.22.17", "azure: {}, external: true", "", &[], &["azure"]),
    (
        "1.4",
        "1.22.17",
        "azure: {}, external: true",
        "",
        &["azure-cloud-controller-manager", "azuredisk-csi"],
        &[],
    ),
    // CSI drivers of 1.3, of large clouds, and of vSphere.
    ("1.3", "1.22.17", "openstack: {}", "", &[], &["cinder"]),
    ("1.3", "1.22.17", "openstack: {}, external: true", "", &["cinder-csi-plugin"], &[]),
    ("1.5", "1.22.17", "aws: {}", "", &[], &["ebs-csi"]),
    ("1.5", "1.23.17", "aws: {}", "", &["ebs-csi"], &["provider-aws/cloud-controller-manager"]),
    ("1.7", "1.27.16", "vsphere: {}", "", &[], &["csi"]),
    ("1.8", "1.28.15", "vsphere: {}", "", &["csi/release/driver"], &[]),
    ("1.8", "1.28.15", "vsphere: {}, disableBundledCSIDrivers: true", "", &[], &["csi"]),
    // addons.enable up to 1.8.
    (
        "1.8",
        "1.28.15",
        NONE,
        "addons: {addons: [{name: cluster-autoscaler}]}\n",
        &[],
        &["cluster-autoscaler"],
    ),
    (
        "1.8",
        "1.28.15",
        NONE,
        "addons: {enable: true, addons: [{name: cluster-autoscaler}]}\n",
        &["cluster-autoscaler"],
        &[],
    ),
    (
        "1.9",
        "1.29.15",
        NONE,
        "addons: {addons: [{name: cluster-autoscaler}]}\n",
        &["cluster-autoscaler"],
        &[],
    ),
    // cluster-autoscaler is embedded since 1.12, and deployed where it is named all the same.
    (
        "1.14",
        "1.36.3",
        NONE,
        "addons: {addons: [{name: cluster-autoscaler}]}\n",
        &["cluster-autoscaler"],
        &[],
    ),
    ("1.14", "1.36.3", NONE, "", &[], &["cluster-autoscaler"]),
    // ccm-gcp is embedded since 1.13: naming it deploys it before, and nothing from then on.
    ("1.12", "1.34.10", NONE, "addons: {addons: [{name: ccm-gcp}]}\n", &["cloud-provider-gcp"], &[]),
    ("1.13", "1.34.10", NONE, "addons: {addons: [{name: ccm-gcp}]}\n", &[], &["cloud-provider-gcp"]),
    // Images that no list has come with the addon that is named.
    (
        "1.7",
        "1.27.16",
        NONE,
        "addons: {enable: true, addons: [{name: backups-restic}, {name: unattended-upgrades}]}\n",
        &[
            "gcr.io/etcd-development/etcd:v3.5.11",
            "docker.io/restic/restic:0.16.0",
            "library/alpine:3.12.4",
            "kured:1.13.2",
        ],
        &[],
    ),
    (
        "1.4",
        "1.23.17",
        NONE,
        "clusterNetwork: {cni: {external: {}}}\naddons: {enable: true, addons: [{name: calico-vxlan}]}\n",
        &[
            "quay.io/calico/cni:v3.22.2",
            "quay.io/calico/node:v3.22.2",
            "quay.io/calico/kube-controllers:v3.22.2",
        ],
        &["calico/cni:v3.22.4"],
    ),
];

fn has(images: &BTreeSet<String>, part: &str) -> bool {
    images.iter().any(|image| image.contains(part))
}

#[test]
fn every_rule_of_a_release_holds() {
    let catalog = Catalog::embedded().unwrap();
    for (kubeone, kubernetes, provider, more, expected, others) in ROWS {
        let (images, _) = Case::new(kubeone, kubernetes, provider, more).select(&catalog);
        let at = format!("KubeOne {kubeone}, Kubernetes {kubernetes}, {provider}, {more}");
        for part in *expected {
            assert!(has(&images, part), "{at}lacks {part}: {images:#?}");
        }
        for part in *others {
            assert!(!has(&images, part), "{at}has {part}: {images:#?}");
        }
    }
}

const OWN: &[(&str, &str)] = &[("own/a.yaml", "root/app:1")];

#[test]
fn a_directory_is_read_where_the_release_reads_it() {
    let catalog = Catalog::embedded().unwrap();
    let path = "addons: {path: own}\n";
    let enabled = "addons: {enable: true, path: own}\n";
    let listed = "addons: {path: own, addons: [{name: cluster-autoscaler}]}\n";
    for (kubeone, kubernetes, more, expected, told) in [
        ("1.8", "1.28.15", path, false, "without addons.enable KubeOne 1.8 does not deploy them"),
        ("1.8", "1.28.15", enabled, true, ""),
        ("1.9", "1.29.15", enabled, false, "KubeOne 1.9 does so only where addons.addons has an entry"),
        ("1.10", "1.30.14", path, false, "addons.path is not read"),
        ("1.10", "1.30.14", listed, true, ""),
        ("1.11", "1.30.14", path, true, ""),
        ("1.11.3", "1.30.14", path, false, "addons.path is not read"),
        ("1.11.3", "1.30.14", listed, true, ""),
        ("1.11.4", "1.30.14", path, true, ""),
        ("1.14", "1.36.3", path, true, ""),
    ] {
        let (images, warnings) = Case::new(kubeone, kubernetes, NONE, more).with_files(OWN).select(&catalog);
        assert_eq!(has(&images, "root/app:1"), expected, "KubeOne {kubeone}, {more}");
        assert!(
            warnings.contains(told) && warnings.is_empty() == told.is_empty(),
            "{kubeone} {more}: {warnings}"
        );
    }
}

#[test]
fn a_directory_of_an_embedded_addons_name_takes_its_place_and_no_other() {
    let catalog = Catalog::embedded().unwrap();
    let own = |addon: &str| format!("own/{addon}/a.yaml");
    let more = "addons: {enable: true, path: own, addons: [{name: x, delete: true}]}\n";
    for (kubeone, kubernetes, addon, deployed) in [
        ("1.12", "1.34.10", "ccm-gcp", true),
        ("1.13", "1.34.10", "ccm-gcp", false),
        ("1.11", "1.33", "cluster-autoscaler", true),
        ("1.12", "1.33", "cluster-autoscaler", false),
        ("1.13", "1.35.7", "machinecontroller", false),
        ("1.14", "1.36.3", "machinecontroller", true),
        ("1.7", "1.27.16", "csi-external-snapshotter", true),
        ("1.8", "1.27.16", "csi-external-snapshotter", false),
        ("1.14", "1.36.3", "ccm-nutanix", true),
        ("1.14", "1.36.3", "metrics-server", true),
    ] {
        let files = [(own(addon), "own/addon:1")];
        let files: Vec<(&str, &str)> = files.iter().map(|(name, image)| (name.as_str(), *image)).collect();
        let (images, _) = Case::new(kubeone, kubernetes, NONE, more).with_files(&files).select(&catalog);
        assert_eq!(has(&images, "own/addon:1"), deployed, "KubeOne {kubeone}, {addon}: {images:#?}");
        assert_eq!(has(&images, "metrics-server/metrics-server"), addon != "metrics-server", "{addon}");
    }
}

#[test]
fn global_params_have_an_effect_up_to_1_8() {
    let catalog = Catalog::embedded().unwrap();
    let files = &[("own/a.yaml", "root/app:{{ .Params.tag | default \"v1\" }}")];
    let more =
        "addons: {enable: true, path: own, globalParams: {tag: v2}, addons: [{name: x, delete: true}]}\n";
    for (kubeone, kubernetes, tag, told) in [
        ("1.5", "1.24.17", "v2", ""),
        ("1.8", "1.28.15", "v2", ""),
        ("1.9", "1.29.15", "v1", "addons.globalParams has no effect in KubeOne 1.9"),
        ("1.14", "1.36.3", "v1", "addons.globalParams has no effect in KubeOne 1.14"),
    ] {
        let (images, warnings) =
            Case::new(kubeone, kubernetes, NONE, more).with_files(files).select(&catalog);
        assert!(images.contains(&format!("docker.io/root/app:{tag}")), "KubeOne {kubeone}: {images:#?}");
        assert!(warnings.contains(told) && warnings.is_empty() == told.is_empty(), "{kubeone}: {warnings}");
    }
}

#[test]
fn the_version_of_kubernetes_is_filled_in() {
    let catalog = Catalog::embedded().unwrap();
    let files = &[("own/a.yaml", "root/kubectl:v{{ .Config.Versions.Kubernetes }}")];
    let case = Case::new("", "v1.36.3", NONE, "addons: {path: own}\n").with_files(files);
    let (images, warnings) = case.select(&catalog);
    assert!(images.contains("docker.io/root/kubectl:v1.36.3") && warnings.is_empty(), "{warnings}");
}

#[test]
fn an_old_manifest_is_for_the_newest_release_that_deploys_it() {
    let catalog = Catalog::embedded().unwrap();
    let of = |kubeone, kubernetes, api| {
        let case = Case { api, ..Case::new(kubeone, kubernetes, HETZNER, "") };
        case.select(&catalog)
    };
    let (old, new) = ("kubeone.io/v1beta1", "kubeone.k8c.io/v1beta2");
    let machines = "quay.io/kubermatic/machine-controller:";
    // 1.24 is supported by 1.5 and 1.6, which reads v1beta1 and refuses it.
    let (images, warnings) = of("", "1.24.17", old);
    assert!(has(&images, &format!("{machines}v1.54")) && warnings.is_empty(), "{images:#?} {warnings}");
    assert!(!has(&images, "operating-system-manager"), "{images:#?}");
    assert!(has(&of("", "1.24.17", new).0, &format!("{machines}v1.56")));
    for (kubeone, kubernetes, api, told) in [
        ("1.6", "1.24.17", old, "KubeOne 1.6 deploys no manifest of kubeone.io/v1beta1"),
        (
            "1.8",
            "1.28.15",
            "kubeone.k8c.io/v1beta3",
            "KubeOne 1.8 deploys no manifest of kubeone.k8c.io/v1beta3",
        ),
        ("", "1.30.14", old, "KubeOne 1.11 deploys no manifest of kubeone.io/v1beta1"),
        (
            "",
            "1.36.3",
            "kubeone.k8c.io/v1beta3",
            "KubeOne 1.14 deploys no manifest of kubeone.k8c.io/v1beta3",
        ),
    ] {
        let (images, warnings) = of(kubeone, kubernetes, api);
        assert!(
            warnings.contains(told)
                && has(&images, "hcloud-cloud-controller-manager") | has(&images, "hcloud-csi"),
            "{warnings}"
        );
    }
}
