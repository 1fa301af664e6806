//! All providers, CNIs and releases with nothing else in the manifest.

use super::*;
use crate::selection::catalog::{Group, minor_of};

const PROVIDERS: [&str; 12] = [
    "aws",
    "azure",
    "digitalocean",
    "equinixmetal",
    "gce",
    "hetzner",
    "kubevirt",
    "none",
    "nutanix",
    "openstack",
    "vmwareCloudDirector",
    "vsphere",
];

/// Release, Kubernetes, `cloudProvider.external`, and how many images each provider has with Canal: counted from KubeOne's
/// own lists.
const COUNTS: &[(&str, &str, bool, [usize; 12])] = &[
    ("1.3", "1.19.16", false, [14, 14, 14, 14, 14, 14, 14, 13, 14, 14, 14, 14]),
    ("1.3", "1.19.16", true, [14, 14, 15, 15, 14, 21, 14, 13, 14, 22, 14, 22]),
    ("1.3", "1.22.17", false, [15, 15, 15, 15, 15, 15, 15, 14, 15, 15, 15, 15]),
    ("1.3", "1.22.17", true, [15, 15, 16, 16, 15, 22, 15, 14, 15, 23, 15, 23]),
    ("1.4", "1.20.15", false, [14, 14, 23, 14, 14, 20, 14, 13, 22, 23, 14, 14]),
    ("1.4", "1.20.15", true, [23, 30, 24, 15, 21, 21, 14, 13, 22, 24, 14, 22]),
    ("1.4", "1.23.17", false, [22, 28, 23, 14, 22, 20, 14, 13, 22, 23, 14, 14]),
    ("1.4", "1.23.17", true, [23, 30, 24, 15, 22, 21, 14, 13, 22, 24, 14, 22]),
    ("1.5", "1.22.17", false, [15, 15, 24, 15, 15, 21, 15, 13, 23, 24, 19, 15]),
    ("1.5", "1.22.17", true, [24, 26, 25, 16, 23, 22, 15, 13, 23, 25, 19, 26]),
    ("1.5", "1.24.17", false, [23, 24, 24, 15, 23, 21, 15, 13, 23, 24, 19, 15]),
    ("1.5", "1.24.17", true, [24, 26, 25, 16, 23, 22, 15, 13, 23, 25, 19, 26]),
    ("1.6", "1.24.17", false, [24, 25, 25, 16, 24, 22, 16, 14, 24, 25, 20, 16]),
    ("1.6", "1.24.17", true, [25, 27, 26, 17, 24, 23, 16, 14, 24, 26, 20, 27]),
    ("1.6", "1.26.15", false, [23, 24, 24, 15, 23, 21, 15, 13, 23, 24, 19, 15]),
    ("1.6", "1.26.15", true, [24, 26, 25, 16, 23, 22, 15, 13, 23, 25, 19, 26]),
    ("1.7", "1.25.16", false, [24, 25, 25, 16, 24, 22, 16, 14, 24, 25, 20, 16]),
    ("1.7", "1.25.16", true, [25, 27, 26, 17, 24, 23, 16, 14, 24, 26, 20, 27]),
    ("1.7", "1.27.16", false, [23, 24, 24, 15, 23, 21, 15, 13, 23, 24, 19, 15]),
    ("1.7", "1.27.16", true, [24, 26, 25, 16, 23, 22, 15, 13, 23, 25, 19, 26]),
    ("1.8", "1.27.16", false, [24, 25, 24, 15, 23, 23, 15, 13, 23, 24, 22, 25]),
    ("1.8", "1.27.16", true, [25, 27, 25, 16, 24, 24, 15, 13, 24, 25, 22, 26]),
    ("1.8", "1.30.14", false, [25, 27, 25, 16, 24, 24, 15, 13, 24, 25, 22, 26]),
    ("1.8", "1.30.14", true, [25, 27, 25, 16, 24, 24, 15, 13, 24, 25, 22, 26]),
    ("1.9", "1.29.15", false, [25, 27, 25, 16, 24, 24, 22, 13, 24, 25, 22, 26]),
    ("1.9", "1.29.15", true, [25, 27, 25, 16, 24, 24, 22, 13, 24, 25, 22, 26]),
    ("1.9", "1.31.14", false, [25, 27, 25, 16, 24, 24, 22, 13, 24, 25, 22, 26]),
    ("1.9", "1.31.14", true, [25, 27, 25, 16, 24, 24, 22, 13, 24, 25, 22, 26]),
    ("1.10", "1.30.14", false, [25, 28, 25, 16, 24, 24, 22, 13, 24, 25, 22, 26]),
    ("1.10", "1.30.14", true, [25, 28, 25, 16, 24, 24, 23, 13, 24, 25, 22, 26]),
    ("1.10", "1.32.13", false, [25, 28, 25, 16, 24, 24, 22, 13, 24, 25, 22, 26]),
    ("1.10", "1.32.13", true, [25, 28, 25, 16, 24, 24, 23, 13, 24, 25, 22, 26]),
    ("1.11", "1.30.14", false, [25, 30, 25, 16, 24, 24, 22, 13, 24, 25, 22, 26]),
    ("1.11", "1.30.14", true, [25, 30, 25, 16, 24, 24, 23, 13, 24, 25, 22, 26]),
    ("1.11", "1.33.13", false, [25, 30, 25, 16, 24, 24, 22, 13, 24, 25, 22, 26]),
    ("1.11", "1.33.13", true, [25, 30, 25, 16, 24, 24, 23, 13, 24, 25, 22, 26]),
    ("1.12", "1.32.13", false, [25, 27, 25, 16, 24, 24, 22, 13, 27, 25, 22, 26]),
    ("1.12", "1.32.13", true, [25, 27, 25, 16, 24, 24, 23, 13, 27, 25, 22, 26]),
    ("1.12", "1.34.10", false, [25, 27, 25, 16, 24, 24, 22, 13, 27, 25, 22, 26]),
    ("1.12", "1.34.10", true, [25, 27, 25, 16, 24, 24, 23, 13, 27, 25, 22, 26]),
    ("1.13", "1.33.13", false, [26, 29, 26, 17, 25, 25, 23, 14, 28, 26, 23, 27]),
    ("1.13", "1.33.13", true, [26, 29, 26, 17, 25, 25, 24, 14, 28, 26, 23, 27]),
    ("1.13", "1.35.7", false, [25, 28, 25, 16, 24, 24, 22, 13, 27, 25, 22, 26]),
    ("1.13", "1.35.7", true, [25, 28, 25, 16, 24, 24, 23, 13, 27, 25, 22, 26]),
    ("1.14", "1.34.10", false, [25, 28, 25, 16, 24, 24, 23, 13, 27, 25, 22, 26]),
    ("1.14", "1.34.10", true, [25, 28, 25, 16, 24, 24, 23, 13, 27, 25, 22, 26]),
    ("1.14", "1.36.3", false, [25, 28, 25, 16, 24, 24, 23, 13, 27, 25, 22, 26]),
    ("1.14", "1.36.3", true, [25, 28, 25, 16, 24, 24, 23, 13, 27, 25, 22, 26]),
];

/// The addons of the provider and of the defaults, a second time, by number of the release and of Kubernetes.
fn addons_of(kubeone: u64, kubernetes: u64, provider: &str, external: bool) -> BTreeSet<&'static str> {
    let mut addons = BTreeSet::from(["metrics-server", "nodelocaldns"]);
    if provider != "none" {
        addons.insert("machinecontroller");
        if kubeone >= 5 {
            addons.insert("operating-system-manager");
        }
    }
    let asked = ["none", "vmwareCloudDirector"].contains(&provider)
        || (provider == "kubevirt" && (9..=13).contains(&kubeone));
    let external = external || (kubeone >= 8 && kubernetes >= 29 && !asked);
    let (manager, drivers): (&str, &[&str]) = match provider {
        "aws" => ("ccm-aws", &["csi-aws-ebs"]),
        "azure" => ("ccm-azure", &["csi-azuredisk", "csi-azurefile"]),
        "digitalocean" => ("ccm-digitalocean", &["csi-digitalocean"]),
        "equinixmetal" => (if kubeone == 3 { "ccm-packet" } else { "ccm-equinixmetal" }, &[]),
        "gce" => ("ccm-gcp", &["csi-gcp-compute-persistent"]),
        "hetzner" => ("ccm-hetzner", &["csi-hetzner"]),
        "kubevirt" => ("ccm-kubevirt", &["csi-kubevirt"]),
        "nutanix" => ("ccm-nutanix", &["csi-nutanix"]),
        "openstack" => ("ccm-openstack", &["csi-openstack-cinder"]),
        "vmwareCloudDirector" => ("", &["csi-vmware-cloud-director"]),
        "vsphere" => ("ccm-vsphere", &["csi-vsphere"]),
        _ => ("", &[]),
    };
    let azure_of_3 = kubeone == 3 && provider == "azure";
    if external && !azure_of_3 {
        addons.insert(manager);
    }
    let drivers_deployed = match provider {
        "hetzner" | "openstack" if kubeone == 3 => external,
        "vsphere" if kubeone <= 7 => external,
        "aws" | "azure" | "gce" if kubeone <= 7 => external || kubernetes >= 23,
        // A provider since 1.9.
        "kubevirt" => kubeone >= 9,
        _ => true,
    };
    if drivers_deployed {
        addons.extend(drivers);
        if !drivers.is_empty() && kubeone >= 8 {
            addons.insert("csi-external-snapshotter");
        }
    }
    addons
}

#[test]
fn every_release_deploys_its_addons_for_every_provider_and_cni() {
    let catalog = Catalog::embedded().unwrap();
    for (kubeone, kubernetes, external, counts) in COUNTS {
        let release = catalog.release(kubeone.parse().unwrap()).unwrap().unwrap();
        let query = Query {
            groups: vec![Group::ControlPlane],
            kubernetes: vec![(*kubernetes).to_owned()],
            kubeone: Some((*kubeone).to_owned()),
            only: None,
        };
        let control_plane = catalog.select(&query).unwrap().images;
        for (provider, count) in PROVIDERS.iter().zip(counts) {
            let minor = minor_of(kubernetes).unwrap().minor;
            let addons = addons_of(release.kubeone.minor, minor, provider, *external);
            for cni in ["canal", "cilium", "weaveNet", "external"] {
                let at = format!("KubeOne {kubeone}, Kubernetes {kubernetes}, {provider}, {external}, {cni}");
                let cloud = format!("{provider}: {{}}, external: {external}");
                let network = format!("clusterNetwork: {{cni: {{{cni}: {{}}}}}}\n");
                let (images, _) = Case::new(kubeone, kubernetes, &cloud, &network).select(&catalog);
                let addon = format!("cni-{}", cni.to_lowercase());
                let mut addons = addons.clone();
                addons.insert(&addon);
                let mut expected = images_of(release, kubernetes, &addons);
                expected.extend(control_plane.iter().map(|image| image.reference.to_string()));
                assert_eq!(images, expected, "{at}");
                if cni == "canal" {
                    assert_eq!(images.len(), *count, "{at}");
                }
            }
        }
    }
}
