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

/// Counted once with KubeOne's own code.
#[test]
fn kubeone_sets_another_etcd_in_193_of_595_pairs_of_a_release_and_a_version() {
    let catalog = embedded();
    let (mut pairs, mut other) = (0, 0);
    let (mut versions, mut by_default) = (0, 0);
    for (minor, patches) in &catalog.kubernetes().minors {
        let supporting = || releases(&catalog).filter(|release| release.kubernetes.contains(minor));
        for patch in 0..=patches.latest.0.patch {
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
