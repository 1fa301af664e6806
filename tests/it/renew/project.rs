//! A project whose catalog is older than upstream.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use super::renewal::{Renewal, Request, renew};

pub const CATALOG: &str = "src/selection/catalog";

const KUBERNETES: &str = r#"# What kubeadm needs, by hand.

kubernetes:
  "1.20":
    latest: "1.20.1"
    since:
      # The first.
      "1.20.0":
        coredns: registry.k8s.io/coredns:1.7.0
        etcd: registry.k8s.io/etcd:3.4.13-0
        pause: registry.k8s.io/pause:3.2
  "1.21":
    latest: "1.21.2"
    verified: "1.21.1"
    since:
      "1.21.0":
        coredns: registry.k8s.io/coredns/coredns:v1.8.0
        etcd: registry.k8s.io/etcd:3.4.13-0
        pause: registry.k8s.io/pause:3.4.1
  "1.22":
    latest: "1.22.0"
    since:
      "1.22.0":
        coredns: registry.k8s.io/coredns/coredns:v1.8.0
        etcd: registry.k8s.io/etcd:3.5.0-0
        pause: registry.k8s.io/pause:3.4.1
"#;

/// 1.3.0, with all that is written by hand.
const RELEASE: &str = r#"# The images that KubeOne 1.3 deploys.
#
# By hand.

kubeone: "1.3"
patch: v1.3.0
released: 2021-09-15
kubernetes: ["1.20", "1.21", "1.22"]

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
    image: docker.io/acme/net:v1 # Of the net

optional:
  Volume:
    addons: [volume]
    image:
      "1.20": registry.k8s.io/acme/volume:v1.20.0 # For 1.20
      "1.21": registry.k8s.io/acme/volume:v1.21.0
      "1.22": registry.k8s.io/acme/volume:v1.21.0
  Left:
    addons: [volume]
    image: quay.io/acme/left:v1

# Not listed, by hand.
unlisted:
  - {addons: [tools], image: quay.io/acme/tool:v1}
# The end.
"#;

const REVIEWED: &str = "\
# By hand.
1.3 pkg/addons/ensure.go EnsureUserAddons 0000000000000000
";

const CODE: &str = "const EMBEDDED: &[(&str, &str)] = embed![
    \"kubernetes.yaml\",
    \"kubeone-1.3.yaml\",
];
";

pub struct Project {
    directory: TempDir,
}

impl Project {
    pub fn new() -> Self {
        let project = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        std::fs::create_dir_all(project.path().join(CATALOG)).expect("directories");
        std::fs::create_dir_all(project.path().join("tests/renew")).expect("directories");
        project.write(&format!("{CATALOG}/kubernetes.yaml"), KUBERNETES);
        project.write(&format!("{CATALOG}/kubeone-1.3.yaml"), RELEASE);
        project.write("src/selection/catalog.rs", CODE);
        project.write("tests/renew/reviewed.txt", REVIEWED);
        project
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).expect("the file")
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path().join(path), text).expect("a file");
    }

    /// What a renewal would be. Nothing is written.
    pub fn renewal(&self, kubeone: &Path, kubernetes: Option<&Path>) -> Result<Renewal> {
        renew(&Request { project: self.path(), kubeone, kubernetes })
    }

    /// Renews, and returns what a reviewer has to look at.
    pub fn renew(&self, kubeone: &Path, kubernetes: Option<&Path>) -> Result<String> {
        let renewal = self.renewal(kubeone, kubernetes)?;
        renewal.write(self.path())?;
        Ok(renewal.review.to_string())
    }
}
