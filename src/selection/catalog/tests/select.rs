//! What a query takes, and what a wrong one is told.
//!
//! Where a test spells out an image, it is one of a release that has had its last patch: a new patch release is one
//! edit, of the catalog.

use semver::Version;

use super::*;

fn query(groups: &[Group], kubernetes: &[&str], kubeone: Option<&str>) -> Query {
    Query {
        groups: groups.to_vec(),
        kubernetes: kubernetes.iter().map(|&v| v.to_owned()).collect(),
        kubeone: kubeone.map(str::to_owned),
        only: None,
    }
}

pub(super) fn select(groups: &[Group], kubernetes: &[&str], kubeone: Option<&str>) -> Selection {
    embedded().select(&query(groups, kubernetes, kubeone)).unwrap()
}

pub(super) fn error(kubernetes: &[&str], kubeone: Option<&str>) -> String {
    embedded().select(&query(&[], kubernetes, kubeone)).unwrap_err().to_string()
}

pub(super) fn names(selection: &Selection) -> Vec<String> {
    selection.images.iter().map(|image| image.reference.to_string()).collect()
}

fn versions(selection: &Selection) -> Vec<String> {
    selection.kubernetes.iter().map(ToString::to_string).collect()
}

#[test]
fn each_release_and_minor_has_so_many_images() {
    // For the newest patch of each minor, ascending.
    let expected: [(&str, &[usize]); 12] = [
        ("1.3", &[34, 34, 34, 35]),
        ("1.4", &[84, 85, 85, 85]),
        ("1.5", &[85, 85, 85]),
        ("1.6", &[85, 85, 86]),
        ("1.7", &[90, 90, 88]),
        ("1.8", &[95, 95, 95, 95]),
        ("1.9", &[98, 98, 98]),
        ("1.10", &[100, 100, 100]),
        ("1.11", &[101, 101, 101, 101]),
        ("1.12", &[103, 104, 103]),
        ("1.13", &[110, 109, 109]),
        ("1.14", &[108, 108, 108]),
    ];
    let catalog = embedded();
    let counted: Vec<(String, Vec<usize>)> = catalog
        .releases()
        .map(|(kubeone, minors)| {
            let kubeone = kubeone.to_string();
            let count = |minor: &Minor| select(&[], &[&minor.to_string()], Some(&kubeone)).images.len();
            let counts = minors.iter().map(count).collect();
            (kubeone, counts)
        })
        .collect();
    let expected: Vec<_> = expected.into_iter().map(|(k, counts)| (k.to_owned(), counts.to_vec())).collect();
    assert_eq!(counted, expected);
}

#[test]
fn the_default_is_every_patch_that_the_newest_release_supports() {
    let catalog = embedded();
    let (newest, minors) = catalog.releases().next_back().unwrap();
    let latest = |minor: &Minor| catalog.kubernetes().minors[minor].latest.0.patch;
    let expected: Vec<Version> =
        minors.iter().flat_map(|minor| (0..=latest(minor)).map(|patch| minor.patch(patch))).collect();
    let selection = select(&[], &[], None);
    assert_eq!(selection.kubernetes, expected);
    assert!(selection.warnings.iter().all(|warning| warning.contains("are not verified")));
    let releases: BTreeSet<_> =
        selection.images.iter().flat_map(|i| &i.reasons).filter_map(|r| r.kubeone).collect();
    assert_eq!(releases, [newest].into());
}

#[test]
fn a_named_release_without_versions_is_every_patch_of_its_minors() {
    let selection = select(&[], &[], Some("1.3"));
    let versions = versions(&selection);
    assert_eq!(versions.len(), 17 + 16 + 15 + 18);
    assert_eq!((versions[0].as_str(), versions.last().unwrap().as_str()), ("1.19.0", "1.22.17"));
}

#[test]
fn every_known_version_at_once_is_free_of_collisions() {
    let minors: Vec<String> = (19..=36).map(|n| format!("1.{n}")).collect();
    let minors: Vec<&str> = minors.iter().map(String::as_str).collect();
    assert_eq!(select(&[], &minors, None).kubernetes.len(), 18);
}

#[test]
fn each_group_is_exactly_itself() {
    let base = select(&[Group::Base], &["1.28"], Some("1.8"));
    assert_eq!(base.images.len(), 8);
    assert!(base.images.iter().flat_map(|i| &i.reasons).all(|r| r.group == Group::Base));
    let optional = select(&[Group::Optional], &["1.28"], Some("1.8"));
    assert_eq!(optional.images.len(), 80);
    assert!(optional.images.iter().flat_map(|i| &i.reasons).all(|r| r.group == Group::Optional));
    assert_eq!(
        names(&select(&[Group::ControlPlane], &["v1.28.8"], Some("1.8"))),
        [
            "registry.k8s.io/kube-apiserver:v1.28.8",
            "registry.k8s.io/kube-controller-manager:v1.28.8",
            "registry.k8s.io/kube-scheduler:v1.28.8",
            "registry.k8s.io/kube-proxy:v1.28.8",
            "registry.k8s.io/etcd:3.5.12-0",
            "registry.k8s.io/coredns/coredns:v1.10.1",
            "registry.k8s.io/pause:3.9",
        ]
    );
}

#[test]
fn groups_are_a_union_in_their_own_order() {
    let both = select(&[Group::ControlPlane, Group::Base, Group::Base], &["1.36"], None);
    let mut expected = names(&select(&[Group::Base], &["1.36"], None));
    expected.extend(names(&select(&[Group::ControlPlane], &["1.36"], None)));
    assert_eq!(names(&both), expected);
    assert_eq!(select(&Group::ALL, &["1.36"], None), select(&[], &["1.36"], None));
}

#[test]
fn versions_ascend_and_count_once() {
    let spelled = ["1.29.15", " v1.29.15", "1.29", "1.28.15", "1.28.9 ", "v1.28"];
    let selection = select(&[Group::ControlPlane], &spelled, None);
    assert_eq!(versions(&selection), ["1.28.9", "1.28.15", "1.29.15"]);
    assert_eq!(names(&selection)[0], "registry.k8s.io/kube-apiserver:v1.28.9");
}

#[test]
fn an_image_appears_once_with_all_its_reasons() {
    let selection = select(&[], &["1.27", "1.30"], Some("1.8"));
    let unique: BTreeSet<_> = selection.images.iter().map(|i| &i.reference).collect();
    assert_eq!(unique.len(), selection.images.len());
    let reasons = |name: &str| {
        let found = selection.images.iter().find(|image| image.reference.to_string() == name);
        found.unwrap_or_else(|| panic!("{name}")).reasons.clone()
    };
    let asked = |resource: &str, kubeone: Option<&str>, kubernetes: &str| Reason {
        group: Group::ControlPlane,
        resource: resource.to_owned(),
        addons: vec![],
        kubeone: kubeone.map(minor),
        kubernetes: kubernetes.parse().unwrap(),
        overwritten: true,
    };
    assert_eq!(
        reasons("registry.k8s.io/pause:3.9"),
        [
            asked("pause", None, "1.27.16"),
            asked("sandbox", Some("1.8"), "1.27.16"),
            asked("pause", None, "1.30.14"),
            asked("sandbox", Some("1.8"), "1.30.14"),
        ]
    );
    assert_eq!(
        reasons("registry.k8s.io/provider-aws/cloud-controller-manager:v1.27.7"),
        [Reason {
            group: Group::Optional,
            addons: vec!["ccm-aws".to_owned()],
            ..asked("AwsCCM", Some("1.8"), "1.27.16")
        }]
    );
}

#[test]
fn a_version_gets_the_newest_release_that_supports_it() {
    let releases = |kubernetes: &[&str], kubeone| -> BTreeSet<String> {
        let selection = select(&[], kubernetes, kubeone);
        selection
            .images
            .iter()
            .flat_map(|i| &i.reasons)
            .filter_map(|r| Some(r.kubeone?.to_string()))
            .collect()
    };
    assert_eq!(releases(&["1.33"], None), ["1.13".to_owned()].into());
    assert_eq!(releases(&["1.19", "1.32.5"], None), ["1.3".to_owned(), "1.12".to_owned()].into());
    for spelling in ["1.11", "v1.11", "1.11.4", "v1.11.4"] {
        assert_eq!(releases(&["1.33"], Some(spelling)), ["1.11".to_owned()].into());
    }
}

#[test]
fn the_sandbox_image_comes_beside_kubeadms_pause() {
    let control_plane = names(&select(&[Group::ControlPlane], &["1.33"], Some("1.12")));
    assert_eq!(control_plane[6..], ["registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10.1"]);
    assert_eq!(select(&[Group::ControlPlane], &["1.19"], None).images.len(), 7);
}

#[test]
fn etcd_follows_the_table_of_changes() {
    let cases = [
        ("1.19.0", "3.4.9-1"),
        ("1.19.1", "3.4.13-0"),
        ("1.20.0", "3.4.13-0"),
        ("1.22.16", "3.5.0-0"),
        ("1.22.17", "3.5.6-0"),
        ("1.28.7", "3.5.10-0"),
        ("1.28.8", "3.5.12-0"),
        ("1.28.13", "3.5.12-0"),
        ("1.28.14", "3.5.15-0"),
        ("1.34.1", "3.6.4-0"),
        ("1.34.10", "3.6.5-0"),
    ];
    for (version, etcd) in cases {
        let control_plane = names(&select(&[Group::ControlPlane], &[version], None));
        assert_eq!(control_plane[4], format!("registry.k8s.io/etcd:{etcd}"), "{version}");
    }
}

#[test]
fn a_patch_newer_than_the_catalog_is_served_with_a_warning() {
    let selection = select(&[], &["1.28.99", "1.27.17", "1.29.15"], None);
    assert_eq!(
        selection.warnings,
        [
            "Kubernetes 1.27.17 is newer than the catalog, which knows up to 1.27.16; \
             taking the etcd, CoreDNS and pause images of 1.27.16",
            "Kubernetes 1.28.99 is newer than the catalog, which knows up to 1.28.15; \
             taking the etcd, CoreDNS and pause images of 1.28.15",
        ]
    );
    let names = names(&selection);
    for expected in ["registry.k8s.io/kube-apiserver:v1.28.99", "registry.k8s.io/etcd:3.5.15-0"] {
        assert!(names.contains(&expected.to_owned()), "{expected}");
    }
    // Where none of the three is taken, there is nothing to warn of.
    assert_eq!(select(&[Group::Base], &["1.28.99"], None).warnings, Vec::<String>::new());
}

#[test]
fn an_unknown_patch_of_a_kubeone_release_is_served_with_a_warning() {
    assert_eq!(
        select(&[], &["1.30"], Some("v1.8.7")).warnings,
        ["the catalog has KubeOne 1.8 as of 1.8.6; KubeOne 1.8.7 may deploy other versions of some images"]
    );
    assert_eq!(select(&[], &["1.30"], Some("v1.8.6")).warnings, Vec::<String>::new());
}

#[test]
fn wrong_queries_are_told_what_is_supported() {
    let cases: &[(&[&str], Option<&str>, &str)] = &[
        (&["1.18.2"], None, "Kubernetes 1.18.2 is not known; known are 1.19 to 1.37"),
        (&["1.36", "v1.38"], None, "Kubernetes 1.38 is not known; known are 1.19 to 1.37"),
        (&["2.0.0"], None, "Kubernetes 2.0.0 is not known; known are 1.19 to 1.37"),
        (&["1.31.0"], Some("1.8"), "KubeOne 1.8 supports Kubernetes 1.27, 1.28, 1.29 and 1.30, not 1.31.0"),
        (&["1.26"], Some("v1.8.6"), "KubeOne 1.8 supports Kubernetes 1.27, 1.28, 1.29 and 1.30, not 1.26"),
        (&["1.99"], Some("1.14"), "KubeOne 1.14 supports Kubernetes 1.34, 1.35 and 1.36, not 1.99"),
        (&[], Some("1.2"), "KubeOne 1.2 is not known; known are 1.3 to 1.14"),
        (&["1.36"], Some("1.15.0"), "KubeOne 1.15 is not known; known are 1.3 to 1.14"),
        (
            &[],
            Some("latest"),
            r#""latest" is not a KubeOne version such as 1.14, v1.14 or 1.14.2; known are 1.3 to 1.14"#,
        ),
        (
            &["1.36.0-rc.1"],
            None,
            "Kubernetes 1.36.0-rc.1 is a pre-release, and only releases have known images; known are 1.19 to 1.37",
        ),
        (
            &["stable"],
            Some("1.14"),
            r#""stable" is not a Kubernetes version such as 1.36.3, v1.36.3 or 1.36; known are 1.34, 1.35 and 1.36"#,
        ),
    ];
    for (kubernetes, kubeone, expected) in cases {
        assert_eq!(error(kubernetes, *kubeone), *expected);
    }
    for version in [
        "",
        "v",
        "1",
        "vv1.36",
        "1.36.",
        "1.36.3.1",
        "1.36.03",
        "1.36.x",
        "1.36.3+k3s1",
        "-1.36",
        "1.36\u{0}",
    ] {
        let text = error(&[version], None);
        assert!(text.contains("is not a Kubernetes version"), "{version:?}: {text}");
    }
    for version in ["1.14.0-rc.0", "1.14.0+x", "", "v", "1"] {
        let text = error(&[], Some(version));
        assert!(text.contains("is not a KubeOne version"), "{version:?}: {text}");
    }
}

#[test]
fn a_minor_ahead_of_every_release_has_its_control_plane_only() {
    let ahead = KUBERNETES.replace("1.36", "1.37").replace("kubernetes:\n", "");
    let text = format!("{KUBERNETES}{ahead}---\n{KUBEONE}");
    let catalog = Catalog::from_yaml(&text, "ahead.yaml").unwrap();
    assert_eq!(catalog.select(&query(&[Group::ControlPlane], &["1.37"], None)).unwrap().images.len(), 7);
    assert_eq!(
        catalog.select(&query(&[], &["1.37"], None)).unwrap_err().to_string(),
        "no known KubeOne release supports Kubernetes 1.37.3, so only its control-plane images are known"
    );
}

#[test]
fn two_sources_for_one_destination_collide() {
    let twice = KUBEONE.replace(
        "registry.k8s.io/provider-aws/cloud-controller-manager:v1.35.0",
        "ghcr.io/calico/cni:v3.32.0",
    );
    let catalog = Catalog::from_yaml(&format!("{KUBERNETES}---\n{twice}"), "twice.yaml").unwrap();
    let selection = catalog.select(&Query::default()).unwrap();
    let error = check_collisions(selection.images.iter().map(|image| &image.reference)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "quay.io/calico/cni:v3.32.0 and ghcr.io/calico/cni:v3.32.0 would both become calico/cni:v3.32.0 at the target"
    );
}

#[test]
fn groups_are_written_as_they_are_read() {
    for group in Group::ALL {
        assert_eq!(group.to_string().parse(), Ok(group));
    }
    assert_eq!(
        "none".parse::<Group>().unwrap_err().to_string(),
        r#""none" is not a group of images; there are base, optional and control-plane"#
    );
}
