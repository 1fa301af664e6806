//! The patch releases of KubeOne.

use super::select::{error, names, select};
use super::*;

const LISTED: [Group; 2] = [Group::Base, Group::Optional];

/// So many images each patch release lists for the newest Kubernetes that it supports, from X.Y.0 on: counted from
/// KubeOne's own lists.
const COUNTS: &[(&str, &[usize])] = &[
    ("1.3", &[26, 27, 27, 27, 27, 27]),
    ("1.4", &[66, 66, 66, 66, 66, 74, 78, 78, 78, 78, 78, 78, 78, 78, 78]),
    ("1.5", &[74, 74, 74, 73, 78, 78, 78, 78, 78]),
    ("1.6", &[80, 79, 79, 79, 79, 79, 79]),
    ("1.7", &[81, 81, 81, 81, 81, 81, 81]),
    ("1.8", &[82, 88, 88, 88, 88, 88, 88]),
    ("1.9", &[86, 91, 91]),
    ("1.10", &[92, 93, 93, 93, 93]),
    ("1.11", &[94, 94, 94, 94, 94]),
    ("1.12", &[93, 93, 95, 96, 96]),
    ("1.13", &[100, 100, 100, 100, 102, 102, 102, 102]),
    ("1.14", &[101, 101, 101]),
];

#[test]
fn every_patch_release_is_known_with_its_images() {
    let catalog = embedded();
    let mut known = 0;
    for (kubeone, counts) in COUNTS {
        let release = catalog.release(minor(kubeone)).unwrap().unwrap();
        let patches = release.patches.iter().map(|known| &known.patch.0).chain([&release.patch.0]);
        let expected: Vec<_> = (0..).map(|patch| minor(kubeone).patch(patch)).take(counts.len()).collect();
        assert_eq!(patches.cloned().collect::<Vec<_>>(), expected);
        for (patch, count) in expected.iter().zip(*counts) {
            let of = release.at(patch);
            let newest = of.as_ref().unwrap_or(release).kubernetes.last().unwrap();
            let selection = select(&LISTED, &[&newest.to_string()], Some(&patch.to_string()));
            assert_eq!(selection.images.len(), *count, "KubeOne {patch}");
            assert_eq!(selection.warnings, Vec::<String>::new(), "KubeOne {patch}");
            known += 1;
        }
    }
    assert_eq!(known, 80);
}

#[test]
fn a_named_patch_release_has_its_own_images_and_a_minor_those_of_its_newest() {
    for (kubeone, kubernetes, expected, others) in [
        ("1.13.2", "1.35.7", "machine-controller:v1.65.0", "cilium/cilium:v1.19.6"),
        ("v1.13.3", "1.35.7", "quay.io/cilium/cilium:v1.19.2@sha256:7bc7e0be", "csi/azuredisk-csi:v1.34"),
        ("1.8.0", "1.28.15", "quay.io/calico/cni:v3.27.2", "quay.io/calico/cni:v3.27.4"),
        ("1.8.1", "1.28.15", "quay.io/calico/cni:v3.27.3", "quay.io/calico/cni:v3.27.4"),
        ("1.8.6", "1.28.15", "quay.io/calico/cni:v3.27.4", "quay.io/calico/cni:v3.27.3"),
        ("1.8", "1.28.15", "quay.io/calico/cni:v3.27.4", "quay.io/calico/cni:v3.27.3"),
        ("1.4.3", "1.23.17", "docker.io/calico/cni:v3.22.0", "gcp-compute-persistent-disk-csi-driver"),
        ("1.3.0", "1.22.17", "hcloud-cloud-controller-manager:v1.9.1", "cluster-autoscaler"),
        ("1.3", "1.22.17", "cluster-autoscaler:v1.22.0", "hcloud-cloud-controller-manager:v1.9.1"),
    ] {
        let found = names(&select(&LISTED, &[kubernetes], Some(kubeone)));
        let has = |part: &str| found.iter().any(|image| image.contains(part));
        assert!(has(expected) && !has(others), "KubeOne {kubeone}: {found:#?}");
    }
}

#[test]
fn a_patch_release_supports_what_it_supports() {
    assert_eq!(
        error(&["1.30"], Some("1.8.0")),
        "KubeOne 1.8.0 supports Kubernetes 1.27, 1.28 and 1.29, not 1.30"
    );
    assert_eq!(select(&[], &["1.30"], Some("1.8.1")).kubernetes.len(), 1);
    let all = select(&[Group::ControlPlane], &[], Some("1.8.0"));
    assert_eq!(all.kubernetes.last().unwrap().minor, 29);
}

#[test]
fn an_earlier_image_is_another_than_the_newest_ones() {
    let catalog = embedded();
    for release in releases(&catalog) {
        for Earlier { from, to, images, .. } in &release.earlier {
            let minors = release.at(&from.0).unwrap().kubernetes;
            for (name, image) in images {
                let newest = &resources(release).find(|(known, _)| known == name).unwrap().1.image;
                let differs =
                    |image: &Image| minors.iter().any(|minor| image.of(*minor) != newest.of(*minor));
                let at = format!("KubeOne {} to {}: {name}", from.0, to.0);
                assert!(image.as_ref().is_none_or(differs), "{at}");
            }
        }
    }
}

#[test]
fn wrong_patch_releases_are_told_why() {
    let patches =
        "patches: [{patch: v1.14.0, released: 2026-07-27}, {patch: v1.14.1, released: 2026-08-05}]\n";
    let earlier = |more: &str| format!("{patches}earlier: [{{from: v1.14.0, to: v1.14.1, {more}}}]\n");
    let read = |more: &str| Catalog::from_yaml(&format!("{KUBERNETES}---\n{KUBEONE}{more}"), "mine.yaml");
    let sound = read(&earlier("images: {CalicoCNI: null, AwsCCM: quay.io/a/b:1}")).unwrap();
    let query = Query { kubeone: Some("1.14.1".to_owned()), groups: LISTED.to_vec(), ..Query::default() };
    assert_eq!(names(&sound.select(&query).unwrap()), ["quay.io/a/b:1"]);
    for (more, why) in [
        (patches.replace("v1.14.1", "v1.14.2"), "`patches` lists those before `patch`"),
        (patches.replace("v1.14.0", "v1.13.0"), "`patches` lists those before `patch`"),
        (earlier("images: {}").replace("to: v1.14.1", "to: v1.14.2"), "is not of `patches`"),
        (earlier("images: {Other: null}"), "names Other, which the release does not have"),
        (earlier("base: {AwsCCM: {addons: [], image: quay.io/a/b:1}}"), "has AwsCCM anew"),
        (earlier("images: {AwsCCM: {\"1.35\": quay.io/a/b:1}}"), "1.14.0 has no AwsCCM for Kubernetes 1.36"),
        (earlier("imgaes: {}"), "unknown field `imgaes`"),
    ] {
        let told = read(&more).unwrap_err().to_string();
        assert!(told.starts_with("catalog mine.yaml") && told.contains(why), "{more}\n{told}");
    }
}
