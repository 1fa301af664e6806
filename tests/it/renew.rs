//! The renewal of the catalog, an example of its own, over small checkouts that are written here.

#[path = "../renew/renewal/mod.rs"]
mod renewal;

mod checkout;
mod errors;
mod project;
mod upstream;
mod workflow;

use self::checkout::Checkout;
use self::project::{CATALOG, Project};
use self::upstream::{kubeone, kubernetes};
use crate::support::process::require;

/// The document of 1.3 afterwards: of 1.3.1, and with all that is written by hand.
const FIRST: &str = r#"# The images that KubeOne 1.3 deploys.
#
# By hand.

kubeone: "1.3"
patch: v1.3.1
released: 2021-11-18
kubernetes: ["1.20", "1.21", "1.22"]

# The etcd that KubeOne has kubeadm run for these versions of Kubernetes, `from` to one before `below`.
etcd:
  - {from: "1.22.0", below: "1.23.0", image: registry.k8s.io/etcd:3.5.3-0}

# Names, by hand.
former_names_until: v1.3.0

# What is gone, by hand.
gone:
  - below: gcr.io/acme
    gone: 2024-09-17
    why: it was deleted

# What moves, by hand.
moving: [docker.io/acme/net:v1]

# Rules, by hand.
rules:
  manifests: [kubeone.k8c.io/v1beta2]
  fields: [net]

  # Within the rules.
  providers:
    acme: {drivers: [volume]}
  embedded:
    [net,
     other]

base:
  # Above the net.
  Net:
    addons: [net]
    image: docker.io/acme/net:v2

optional:
  Volume:
    addons: [volume]
    image:
      "1.20": registry.k8s.io/acme/volume:v1.20.0 # For 1.20
      "1.21": registry.k8s.io/acme/volume:v1.21.0
      "1.22": registry.k8s.io/acme/volume:v1.21.0
  Old:
    addons: []
    image:
      "1.20": quay.io/acme/old:v1
      "1.21": quay.io/acme/old:v1
      "1.22": null

# Not listed, by hand.
unlisted:
  - {addons: [tools], image: quay.io/acme/tool:v1}

# The earlier patch releases, with the minors that they support where these are others. `earlier` has what they have in
# place of the above, from `from` to `to`: `null` is a resource that is not there yet, and what has its addons with it is
# one that is there no more. All else is taken to be as above, `etcd` and `unlisted` too.
patches:
  - {patch: v1.3.0, released: 2021-09-15}
earlier:
  - from: v1.3.0
    to: v1.3.0
    images:
      Net: docker.io/acme/net:v1
      Old: null
    optional:
      Left: {addons: [volume], image: quay.io/acme/left:v1}
# The end.
"#;

/// What is new in the document of 1.4, which begins as that of 1.3.
const SECOND_HEAD: &str = r#"# The images that KubeOne 1.4 deploys.
#
# By hand.

kubeone: "1.4"
patch: v1.4.1
released: 2022-04-04
kubernetes: ["1.21", "1.22", "1.23"]

# The pause image that KubeOne sets in containerd; kubeadm's own may differ.
sandbox:
  "1.21": registry.k8s.io/pause:3.4
  "1.22": registry.k8s.io/pause:3.5
  "1.23": registry.k8s.io/pause:3.5

# The etcd that KubeOne has kubeadm run for these versions of Kubernetes, `from` to one before `below`.
etcd:
  - {from: "1.22.0", below: "1.22.9", image: registry.k8s.io/etcd:3.5.6-0}
  - {from: "1.23.0", below: "1.24.0", image: registry.k8s.io/etcd:3.5.6-0}
"#;

const SECOND_IMAGES: &str = r#"base:
  Net:
    addons: [net]
    image: docker.io/acme/net:v3

optional:
  Volume:
    addons: [volume]
    image:
      "1.21": registry.k8s.io/acme/volume:v1.21.0
      "1.22": registry.k8s.io/acme/volume:v1.22.0
      "1.23": registry.k8s.io/acme/volume:v1.22.0
  Old:
    addons: []
    image:
      "1.21": quay.io/acme/old:v1
      "1.22": null
      "1.23": null
"#;

const SECOND_EARLIER: &str = r#"patches:
  - {patch: v1.4.0, released: 2022-02-16}
earlier:
  - from: v1.4.0
    to: v1.4.0
    images:
      Net: docker.io/acme/net:v2
"#;

/// The document about Kubernetes afterwards, from 1.21 on.
const KUBERNETES: &str = r#"  "1.21":
    latest: "1.21.2"
    since:
      "1.21.0":
        coredns: registry.k8s.io/coredns/coredns:v1.8.0
        etcd: registry.k8s.io/etcd:3.4.13-0
        pause: registry.k8s.io/pause:3.4.1
      "1.21.2":
        etcd: registry.k8s.io/etcd:3.4.13-3
  "1.22":
    latest: "1.22.1"
    since:
      "1.22.0":
        coredns: registry.k8s.io/coredns/coredns:v1.8.0
        etcd: registry.k8s.io/etcd:3.5.0-0
        pause: registry.k8s.io/pause:3.4.1
  "1.23":
    latest: "1.23.0"
    since:
      "1.23.0":
        coredns: registry.k8s.io/coredns/coredns:v1.8.0
        etcd: registry.k8s.io/etcd:3.5.1-0
        pause: registry.k8s.io/pause:3.4.1
"#;

/// A project after one renewal, with what it was renewed from; none where git is missing.
fn renewed() -> Option<(Project, Checkout, Checkout, String)> {
    if !require("git") {
        return None;
    }
    let (project, kubeone, kubernetes) = (Project::new(), kubeone(), kubernetes());
    let review = project.renew(kubeone.path(), Some(kubernetes.path())).expect("a renewal");
    Some((project, kubeone, kubernetes, review))
}

#[test]
fn a_renewal_takes_over_what_upstream_has_and_keeps_what_is_written_by_hand() {
    let Some((project, ..)) = renewed() else { return };
    assert_eq!(project.read(&format!("{CATALOG}/kubeone-1.3.yaml")), FIRST);
    let kubernetes = project.read(&format!("{CATALOG}/kubernetes.yaml"));
    let before = Project::new().read(&format!("{CATALOG}/kubernetes.yaml"));
    let (first, _) = before.split_once("  \"1.21\":").expect("it is there");
    assert_eq!(kubernetes, format!("{first}{KUBERNETES}"));
}

#[test]
fn a_new_release_begins_with_the_hand_written_keys_of_the_newest_and_a_loud_word() {
    let Some((project, _, _, review)) = renewed() else { return };
    let between = |from: &str, to: &str| {
        let start = FIRST.find(from).expect("it is there");
        &FIRST[start..FIRST.find(to).expect("it is there")]
    };
    let by_hand = between("\n# What is gone", "base:");
    let unlisted = between("\n# Not listed", "patches:");
    let expected = format!("{SECOND_HEAD}{by_hand}{SECOND_IMAGES}{unlisted}{SECOND_EARLIER}# The end.\n");
    assert_eq!(project.read(&format!("{CATALOG}/kubeone-1.4.yaml")), expected);
    let list = "    \"kubeone-1.3.yaml\",\n    \"kubeone-1.4.yaml\",\n];";
    assert!(project.read("src/selection/catalog.rs").contains(list));
    let loud = "**A new minor release, v1.4.1: its `gone`, `rules` and `unlisted` are those of KubeOne 1.3 and nobody";
    assert!(review.contains(loud), "{review}");
}

#[test]
fn two_new_releases_at_once_both_begin_with_the_newest_that_somebody_has_looked_at() {
    if !require("git") {
        return;
    }
    let (project, kubeone, kubernetes) = (Project::new(), kubeone(), kubernetes());
    kubeone.tag("v1.5.0", "2022-08-30");
    let review = project.renew(kubeone.path(), Some(kubernetes.path())).expect("a renewal");
    for release in ["v1.4.1", "v1.5.0"] {
        assert!(review.contains(&format!("A new minor release, {release}: its `gone`, `rules`")), "{review}");
    }
    let list = ["1.3", "1.4", "1.5"].map(|release| format!("    \"kubeone-{release}.yaml\",\n")).concat();
    assert!(project.read("src/selection/catalog.rs").contains(&list));
    assert!(!project.read(&format!("{CATALOG}/kubeone-1.5.yaml")).contains("earlier:"));
}

#[test]
fn the_reviewer_is_told_of_every_difference() {
    let Some((.., review)) = renewed() else { return };
    let expected = [
        "## Kubernetes",
        "- verified of 1.21: up to 1.21.1 → all",
        "- changed: 1.21.2: registry.k8s.io/coredns/coredns:v1.8.0 registry.k8s.io/etcd:3.4.13-0 ",
        "- newest patch: 1.22.0 → 1.22.1",
        "- added: 1.23, up to 1.23.0",
        "## KubeOne 1.3",
        "- newest patch release: v1.3.0 → v1.3.1",
        "- changed: Net: docker.io/acme/net:v1 → docker.io/acme/net:v2",
        "- added: Old (no addon): 1.20 quay.io/acme/old:v1, 1.21 quay.io/acme/old:v1, 1.22 none",
        "- gone: Left",
        "- etcd: [] → [1.22.0 to below 1.23.0: registry.k8s.io/etcd:3.5.3-0]",
        "- a comment had to go from `base`: # Of the net",
        "- `EnsureUserAddons` of pkg/addons/ensure.go has changed since the last look: do the `rules` say",
        "- `embeddedAddons` of pkg/addons/ensure.go is new since the last look: do the `rules` say",
        "- `rules.embedded` has other, KubeOne no more",
        "- `unlisted`: tools names quay.io/acme/tool:v1 itself: no more, **to be removed by hand**",
        "## KubeOne 1.4",
        "- **A new minor release",
        "- `EnsureUserAddons` of pkg/addons/ensure.go has changed since KubeOne 1.3: do the `rules` say",
        "- `rules.embedded` has other, KubeOne no more",
        "- `unlisted`: tools names docker.io/library/alpine:3 itself, where overwriteRegistry does not reach it: **to be added",
    ];
    let told: Vec<_> = review.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(told.len(), expected.len(), "{review}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{expected:?}, and there is {told:?}");
    }
}

#[test]
fn a_second_renewal_changes_nothing() {
    let Some((project, kubeone, kubernetes, _)) = renewed() else { return };
    let bare = kubeone.bare();
    for path in [kubeone.path(), bare.path()] {
        let again = project.renewal(path, Some(kubernetes.path())).expect("a renewal");
        assert_eq!(again.files.keys().collect::<Vec<_>>(), Vec::<&std::path::PathBuf>::new());
        // What only a person can do is told until it is done.
        let told = again.review.to_string();
        let by_hand =
            |line: &&str| line.starts_with("- ") && !(line.contains("rules") || line.contains("unlisted"));
        assert_eq!(told.lines().filter(by_hand).collect::<Vec<_>>(), Vec::<&str>::new(), "{told}");
    }
}
