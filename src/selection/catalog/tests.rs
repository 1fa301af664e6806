//! What must hold of the embedded catalog, so that a wrong edit is noticed, and of reading any catalog.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::image::reference::{Digest, Reference, check_collisions};

mod control_plane;
mod gone;
mod patches;
mod reading;
mod select;

/// A catalog of two documents.
pub(super) const KUBERNETES: &str = r#"kubernetes:
  "1.36":
    latest: "1.36.3"
    since:
      "1.36.0":
        coredns: registry.k8s.io/coredns/coredns:v1.14.2
        etcd: registry.k8s.io/etcd:3.6.8-0
        pause: registry.k8s.io/pause:3.10.2
"#;

pub(super) const KUBEONE: &str = r#"kubeone: "1.14"
patch: v1.14.2
released: 2026-08-13
kubernetes: ["1.36"]
base:
  CalicoCNI:
    addons: [cni-canal]
    image: quay.io/calico/cni:v3.32.0
optional:
  AwsCCM:
    addons: []
    image:
      "1.36": registry.k8s.io/provider-aws/cloud-controller-manager:v1.35.0
"#;

fn embedded() -> Catalog {
    Catalog::embedded().unwrap()
}

fn minor(text: &str) -> Minor {
    text.parse().unwrap()
}

fn releases(catalog: &Catalog) -> impl Iterator<Item = &Release> {
    catalog.releases().map(|(kubeone, _)| catalog.release(kubeone).unwrap().unwrap())
}

fn resources(release: &Release) -> impl Iterator<Item = &(String, Resource)> {
    release.base.0.iter().chain(&release.optional.0)
}

/// A mistake of KubeOne 1.12.0, which the catalog has as it is.
const MISSPELT: &str = "quay.io/cilium/v1.34.7-1757592137-";

/// Every reference that a catalog spells out, with where it stands, but for the one that is misspelt.
fn references(catalog: &Catalog) -> Vec<(String, &Reference)> {
    let mut all = Vec::new();
    for release in releases(catalog) {
        let earlier = release.earlier.iter();
        let earlier =
            earlier.flat_map(|e| e.images.iter().filter_map(|(name, image)| Some((name, image.as_ref()?))));
        let newest = resources(release).map(|(name, resource)| (name, &resource.image));
        let is_misspelt =
            |image: &Image| matches!(image, Image::Same(i) if i.to_string().starts_with(MISSPELT));
        for (name, image) in newest.chain(earlier).filter(|(_, image)| !is_misspelt(image)) {
            let at = format!("KubeOne {} {name}", release.kubeone);
            match image {
                Image::Same(image) => all.push((at, image)),
                Image::ByMinor(images) => all.extend(images.values().flatten().map(|i| (at.clone(), i))),
            }
        }
        all.extend(
            release.unlisted.iter().map(|u| (format!("KubeOne {} unlisted", release.kubeone), &u.image)),
        );
        all.extend(release.etcd.iter().map(|e| (format!("KubeOne {} etcd", release.kubeone), &e.image)));
        let sandbox = release.sandbox.iter().flat_map(|s| s.values());
        all.extend(sandbox.map(|i| (format!("KubeOne {} sandbox", release.kubeone), i)));
    }
    for (minor, patches) in &catalog.kubernetes().minors {
        let changes = patches.since.values().flat_map(|c| [&c.coredns, &c.etcd, &c.pause]);
        all.extend(changes.flatten().map(|i| (format!("Kubernetes {minor}"), i)));
    }
    all
}

#[test]
fn every_file_is_embedded_and_named_after_its_release() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/selection/catalog");
    let on_disk: BTreeSet<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    let expected: Vec<_> = std::iter::once("kubernetes.yaml".to_owned())
        .chain(embedded().releases().map(|(kubeone, _)| format!("kubeone-{kubeone}.yaml")))
        .collect();
    assert_eq!(EMBEDDED.iter().map(|(file, _)| *file).collect::<Vec<_>>(), expected);
    assert_eq!(on_disk, expected.into_iter().collect());
}

#[test]
fn the_embedded_catalog_keeps_every_rule() {
    // Unlike the embedded one, a catalog from a text is checked as a whole.
    Catalog::from_yaml(&Catalog::embedded_yaml(), "embedded").unwrap();
}

#[test]
fn releases_are_in_numeric_order_and_follow_each_other() {
    let known: Vec<_> = embedded().releases().map(|(kubeone, _)| kubeone.to_string()).collect();
    let expected: Vec<_> = (3..=14).map(|n| format!("1.{n}")).collect();
    assert_eq!(known, expected);
}

#[test]
fn a_release_supports_consecutive_minors_not_older_than_its_predecessors() {
    let catalog = embedded();
    let mut before = minor("1.0");
    for (kubeone, minors) in catalog.releases() {
        assert!(minors.windows(2).all(|w| w[0].minor + 1 == w[1].minor), "KubeOne {kubeone}: {minors:?}");
        assert!(minors[0] >= before, "KubeOne {kubeone}: {minors:?}");
        before = minors[0];
    }
}

#[test]
fn every_minor_of_kubernetes_but_the_newest_is_supported_by_some_release() {
    let catalog = embedded();
    let supported: BTreeSet<_> = catalog.releases().flat_map(|(_, minors)| minors.to_vec()).collect();
    let known: BTreeSet<_> = catalog.kubernetes().minors.keys().copied().collect();
    let from_19_to = |last| (19..=last).map(|n| Minor { major: 1, minor: n }).collect::<BTreeSet<_>>();
    // No release of KubeOne is as new as the newest Kubernetes.
    assert_eq!(known, from_19_to(37));
    assert_eq!(supported, from_19_to(36));
}

#[test]
fn every_known_patch_has_etcd_coredns_and_pause() {
    for (minor, patches) in &embedded().kubernetes().minors {
        for patch in 0..=patches.latest.0.patch {
            let names: Vec<_> = patches.images(&minor.patch(patch)).map(|(name, _)| name).collect();
            assert_eq!(names, ["etcd", "coredns", "pause"], "{minor}.{patch}");
        }
    }
}

#[test]
fn a_change_changes_something() {
    for (minor, patches) in &embedded().kubernetes().minors {
        for Full(version) in patches.since.keys().skip(1) {
            let now: Vec<_> = patches.images(version).collect();
            let before: Vec<_> = patches.images(&minor.patch(version.patch - 1)).collect();
            assert_ne!(now, before, "since {version}");
        }
    }
}

#[test]
fn kubeadm_images_are_under_their_own_names() {
    for (minor, patches) in &embedded().kubernetes().minors {
        for (name, image) in patches.images(&patches.latest.0) {
            assert_eq!(image.host.as_str(), "registry.k8s.io", "{minor}");
            let nested = name == "coredns" && *minor >= self::minor("1.21");
            let expected = if nested { "coredns/coredns" } else { name };
            assert_eq!(image.repository.as_str(), expected, "{minor}");
        }
    }
}

#[test]
fn every_reference_has_a_tag_and_a_living_host() {
    for (at, image) in references(&embedded()) {
        assert!(image.tag.is_some(), "{at}: {image}");
        // Frozen in 2023; registry.k8s.io serves the same repositories.
        assert_ne!(image.host.as_str(), "k8s.gcr.io", "{at}: {image}");
        assert_ne!(image.tag.as_ref().unwrap().as_str(), "latest", "{at}: {image}");
    }
}

#[test]
fn every_resource_has_one_image_for_every_minor_but_one() {
    let catalog = embedded();
    let mut missing = Vec::new();
    for release in releases(&catalog) {
        for (name, resource) in resources(release) {
            for minor in &release.kubernetes {
                if resource.image.of(*minor).is_none() {
                    missing.push(format!("KubeOne {} {name} {minor}", release.kubeone));
                }
            }
        }
    }
    assert_eq!(missing, ["KubeOne 1.4 GCPComputeCSIDriver 1.20"]);
}

#[test]
fn an_image_by_minor_differs_by_minor() {
    for release in releases(&embedded()) {
        for (name, resource) in resources(release) {
            if let Image::ByMinor(images) = &resource.image {
                let different: BTreeSet<_> = images.values().collect();
                assert!(different.len() > 1, "KubeOne {} {name} is the same for all minors", release.kubeone);
            }
        }
    }
}

#[test]
fn names_of_resources_and_addons_are_well_formed() {
    let addon_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    for release in releases(&embedded()) {
        for (name, resource) in resources(release) {
            let at = format!("KubeOne {} {name}", release.kubeone);
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{at}");
            assert!(resource.addons.iter().all(|a| !a.is_empty() && a.chars().all(addon_char)), "{at}");
            let unique: BTreeSet<_> = resource.addons.iter().collect();
            assert_eq!(unique.len(), resource.addons.len(), "{at}");
        }
    }
}

#[test]
fn sandbox_images_are_pause_from_kubeone_1_7_on() {
    for release in releases(&embedded()) {
        assert_eq!(release.sandbox.is_some(), release.kubeone >= minor("1.7"), "KubeOne {}", release.kubeone);
        for image in release.sandbox.iter().flat_map(|s| s.values()) {
            assert!(image.to_string().starts_with("registry.k8s.io/pause:3."), "{image}");
        }
    }
}

#[test]
fn no_two_images_of_the_whole_catalog_share_a_destination() {
    let catalog = embedded();
    // Any mix of versions can be mirrored; and a digest mistyped in one release of two that pin the same tag shows.
    check_collisions(references(&catalog).into_iter().map(|(_, image)| image)).unwrap();
}

#[test]
fn a_digest_pins_one_image() {
    let catalog = embedded();
    let mut pinned: BTreeMap<&Digest, &Reference> = BTreeMap::new();
    for (at, image) in references(&catalog) {
        if let Some(digest) = &image.digest {
            assert_eq!(*pinned.entry(digest).or_insert(image), image, "{at}");
        }
    }
}

#[test]
fn kubeone_1_14_pins_the_seven_images_of_cilium() {
    let catalog = embedded();
    let release = catalog.release(minor("1.14")).unwrap().unwrap();
    let pinned: Vec<_> = resources(release)
        .filter_map(|(name, resource)| match &resource.image {
            Image::Same(image) if image.digest.is_some() => Some((name.as_str(), image.repository.as_str())),
            _ => None,
        })
        .collect();
    let expected = [
        ("Cilium", "cilium/cilium"),
        ("CiliumOperator", "cilium/operator-generic"),
        ("CiliumEnvoy", "cilium/cilium-envoy"),
        ("HubbleRelay", "cilium/hubble-relay"),
        ("HubbleUI", "cilium/hubble-ui"),
        ("HubbleUIBackend", "cilium/hubble-ui-backend"),
        ("CiliumCertGen", "cilium/certgen"),
    ];
    assert_eq!(pinned, expected);
}
