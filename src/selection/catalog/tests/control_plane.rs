//! What kubeadm and KubeOne have a control plane run.

use super::select::{names, select};
use super::*;

/// The etcd images that are selected for a version, with who asks for each.
fn etcds(kubernetes: &str, kubeone: Option<&str>) -> Vec<(String, Vec<Option<Minor>>)> {
    let selection = select(&[Group::ControlPlane], &[kubernetes], kubeone);
    let etcd = |image: &&SelectedImage| image.reasons.iter().any(|reason| reason.resource == "etcd");
    let asked = |image: &SelectedImage| {
        let reasons = image.reasons.iter().filter(|reason| reason.resource == "etcd");
        reasons.map(|reason| reason.kubeone).collect()
    };
    let found = selection.images.iter().filter(etcd);
    found.map(|image| (image.reference.to_string(), asked(image))).collect()
}

#[test]
fn the_etcd_that_kubeone_sets_comes_beside_kubeadms() {
    let etcd = |tag: &str| format!("registry.k8s.io/etcd:{tag}");
    let both = [(etcd("3.5.6-0"), vec![None]), (etcd("3.5.10-0"), vec![Some(minor("1.7"))])];
    assert_eq!(etcds("1.25.6", None), both);
    for (kubernetes, kubeone, expected) in [
        ("1.21.14", "1.4", &["3.4.13-0"][..]),
        ("1.22.0", "1.3", &["3.5.0-0", "3.5.3-0"]),
        ("1.22.0", "1.4", &["3.5.0-0", "3.5.6-0"]),
        ("1.26.12", "1.7", &["3.5.9-0", "3.5.10-0"]),
        ("1.26.13", "1.7", &["3.5.10-0"]),
        ("1.27.8", "1.8", &["3.5.9-0", "3.5.10-0"]),
        ("1.27.9", "1.8", &["3.5.9-0"]),
        ("1.28.6", "1.8", &["3.5.10-0"]),
        ("1.29.0", "1.8", &["3.5.10-0"]),
        ("1.30.0", "1.9", &["3.5.12-0"]),
    ] {
        let found: Vec<String> =
            etcds(kubernetes, Some(kubeone)).into_iter().map(|(image, _)| image).collect();
        let expected: Vec<String> = expected.iter().map(|tag| etcd(tag)).collect();
        assert_eq!(found, expected, "Kubernetes {kubernetes}, KubeOne {kubeone}");
    }
    assert!(names(&select(&[], &["1.25.6"], None)).contains(&etcd("3.5.10-0")));
}

/// Counted once with KubeOne's own code, over the versions that KubeOne supports and whose images somebody has looked at.
#[test]
fn kubeone_sets_another_etcd_in_193_of_595_pairs_of_a_release_and_a_version() {
    let catalog = embedded();
    let (mut pairs, mut other) = (0, 0);
    let (mut versions, mut by_default) = (0, 0);
    for (minor, patches) in &catalog.kubernetes().minors {
        let supporting = || releases(&catalog).filter(|release| release.kubernetes.contains(minor));
        let verified = patches.verified.as_ref().unwrap_or(&patches.latest);
        for patch in (0..=verified.0.patch).filter(|_| supporting().count() > 0) {
            let version = minor.patch(patch);
            let kubeadms = patches.images(&version).find(|(name, _)| *name == "etcd").unwrap().1;
            let differs = |release: &Release| release.etcd(&version).is_some_and(|etcd| etcd != kubeadms);
            pairs += supporting().count();
            other += supporting().filter(|release| differs(release)).count();
            versions += 1;
            by_default += usize::from(supporting().last().is_some_and(differs));
        }
    }
    assert_eq!((other, pairs, by_default, versions), (193, 595, 95, 265));
}

#[test]
fn patches_whose_images_nobody_has_looked_at_are_told_once() {
    let told = |kubernetes: &[&str], groups: &[Group]| select(groups, kubernetes, None).warnings;
    let sentence = |versions: &str| {
        format!(
            "the etcd, CoreDNS and pause images of Kubernetes {versions} are not verified: those of the patch before are taken"
        )
    };
    let all = ["1.34.10", "1.34.11", "1.34.12", "1.34.13", "1.35", "1.36.3", "1.36.6"];
    assert_eq!(told(&all, &[]), [sentence("1.34.11 to 1.34.13, 1.35.10, 1.36.6")]);
    assert_eq!(told(&["1.36"], &[Group::ControlPlane]), [sentence("1.36.6")]);
    let silent = Vec::<String>::new();
    assert_eq!(told(&["1.36"], &[Group::Base]), silent);
    assert_eq!(told(&["1.34.10", "1.35.7", "1.36.3", "1.33"], &[]), silent);
    // A patch that the catalog does not know is told of as before.
    assert_eq!(told(&["1.36.7"], &[]).len(), 1);
    assert!(told(&["1.36.7"], &[])[0].contains("is newer than the catalog, which knows up to 1.36.6"));
}

#[test]
fn the_newest_kubernetes_has_its_control_plane() {
    let found = names(&select(&[Group::ControlPlane], &["1.37"], None));
    let expected = [
        "registry.k8s.io/kube-apiserver:v1.37.2",
        "registry.k8s.io/etcd:3.7.0-0",
        "registry.k8s.io/coredns/coredns:v1.14.6",
        "registry.k8s.io/pause:3.10.2",
    ];
    assert!(expected.iter().all(|image| found.contains(&(*image).to_owned())), "{found:?}");
    assert_eq!(found.len(), 7);
}
