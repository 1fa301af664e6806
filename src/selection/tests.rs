//! What KubeOne deploys for a manifest, release by release.

use std::collections::BTreeSet;
use std::fs;

use super::catalog::{Catalog, Image, Query, Release};
use super::cluster::Cluster;
use super::of_cluster;

mod plain;
mod rules;

/// A manifest of `api` in a directory of its own, with the files of the user's addons.
struct Case<'c> {
    kubeone: &'c str,
    kubernetes: &'c str,
    api: &'c str,
    provider: &'c str,
    /// Further fields.
    more: &'c str,
    /// Names and the images in them.
    files: &'c [(&'c str, &'c str)],
}

impl<'c> Case<'c> {
    fn new(kubeone: &'c str, kubernetes: &'c str, provider: &'c str, more: &'c str) -> Self {
        Self { kubeone, kubernetes, api: "kubeone.k8c.io/v1beta2", provider, more, files: &[] }
    }

    fn with_files(self, files: &'c [(&'c str, &'c str)]) -> Self {
        Self { files, ..self }
    }

    /// The images that are selected, and what is said about them.
    fn select(&self, catalog: &Catalog) -> (BTreeSet<String>, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeone.yaml");
        let text = format!(
            "apiVersion: {}\nkind: KubeOneCluster\nversions: {{kubernetes: {}}}\ncloudProvider: {{{}}}\n{}",
            self.api, self.kubernetes, self.provider, self.more
        );
        fs::write(&path, text).unwrap();
        for (name, image) in self.files {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("spec:\n  containers:\n  - image: {image}\n")).unwrap();
        }
        let cluster = Cluster::read(&path).unwrap();
        let query = Query {
            kubernetes: vec![cluster.kubernetes.clone()],
            kubeone: (!self.kubeone.is_empty()).then(|| self.kubeone.to_owned()),
            ..Query::default()
        };
        let selection = of_cluster(&cluster, query, catalog).unwrap_or_else(|error| panic!("{error:#}"));
        let images = selection.images.iter().map(|image| image.reference.to_string()).collect();
        (images, selection.warnings.join("\n"))
    }
}

/// The images of some addons of a release, by what the release's file says.
fn images_of(release: &Release, kubernetes: &str, addons: &BTreeSet<&str>) -> BTreeSet<String> {
    let minor = super::catalog::minor_of(kubernetes).unwrap();
    let listed = release.base.0.iter().chain(&release.optional.0);
    let of_addons =
        listed.filter(|(_, resource)| resource.addons.iter().any(|a| addons.contains(a.as_str())));
    // These come with Hubble alone.
    let without_hubble = of_addons.filter(|(name, _)| !name.starts_with("Hubble") && name != "CiliumCertGen");
    let image = |image: &Image| image.of(minor).map(ToString::to_string);
    without_hubble.filter_map(|(_, resource)| image(&resource.image)).collect()
}
