//! Every image that a catalog names, whatever asks for it.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

use super::deployment::{VERSIONED, versioned};
use super::select::{SelectError, parse};
use super::{Catalog, Gone, Group, Minor, Release};
use crate::image::reference::Reference;

/// The images of a catalog, or of a release in it.
#[derive(Debug, Default)]
pub struct References {
    /// Each with why it can be had nowhere any more, where that is so.
    pub references: BTreeMap<Reference, Option<Gone>>,
    /// Those of them whose tags are meant to move.
    pub moving: BTreeSet<Reference>,
    /// What the user should know about the answer, a sentence each.
    pub warnings: Vec<String>,
}

impl Catalog {
    /// The images of all releases and all versions of Kubernetes; or those of `kubeone`, which is `1.13` for all its patch
    /// releases or `1.13.2`, and of the versions of Kubernetes that it supports.
    ///
    /// # Errors
    /// The catalog does not know the release, or a document of it is broken.
    pub fn references(&self, kubeone: Option<&str>) -> Result<References, SelectError> {
        let mut all = References::default();
        let mut minors: BTreeSet<Minor> = BTreeSet::new();
        let mut add = |release: &Release| {
            minors.extend(&release.kubernetes);
            all.add_release(release, |minor| self.versions_of(minor));
        };
        if let Some(text) = kubeone {
            let mut warnings = Vec::new();
            let named = self.named_release(text, &mut warnings)?;
            add(&named.release);
            if parse(text).is_some_and(|(_, patch)| patch.is_none()) {
                with_earlier(&named.release).for_each(|earlier| add(&earlier));
            }
            all.warnings = warnings;
        } else {
            for entry in self.releases.values() {
                let newest = entry.release()?;
                add(newest);
                with_earlier(newest).for_each(|earlier| add(&earlier));
            }
            minors.extend(self.kubernetes.minors.keys());
        }
        for version in minors.iter().flat_map(|minor| self.versions_of(*minor)) {
            all.add_kubernetes(self, &version);
        }
        Ok(all)
    }

    /// Every known patch of a minor of Kubernetes.
    fn versions_of(&self, minor: Minor) -> impl Iterator<Item = Version> + use<> {
        let latest = self.kubernetes.minors.get(&minor).map(|patches| patches.latest.0.patch);
        latest.into_iter().flat_map(move |latest| (0..=latest).map(move |patch| minor.patch(patch)))
    }
}

/// A release as of each patch release before its newest one.
fn with_earlier(newest: &Release) -> impl Iterator<Item = Release> {
    newest.patches.iter().filter_map(|earlier| newest.at(&earlier.patch.0))
}

impl References {
    fn add(&mut self, reference: &Reference, release: Option<&Release>) {
        let gone = release.and_then(|release| release.gone.iter().find(|gone| gone.has(reference)));
        let known = self.references.entry(reference.clone()).or_default();
        if known.is_none() {
            *known = gone.cloned();
        }
        if release.is_some_and(|release| release.moving.contains(reference)) {
            self.moving.insert(reference.clone());
        }
    }

    fn add_release<V: Iterator<Item = Version>>(
        &mut self,
        release: &Release,
        versions_of: impl Fn(Minor) -> V,
    ) {
        let resources = [Group::Base, Group::Optional].into_iter().flat_map(|group| release.resources(group));
        for (_, resource) in resources {
            let images = release.kubernetes.iter().filter_map(|minor| resource.image.of(*minor));
            images.for_each(|image| self.add(image, Some(release)));
        }
        release.unlisted.iter().for_each(|unlisted| self.add(&unlisted.image, Some(release)));
        for minor in &release.kubernetes {
            let sandbox = release.sandbox.as_ref().and_then(|sandbox| sandbox.get(minor));
            sandbox.into_iter().for_each(|image| self.add(image, Some(release)));
            let etcds: BTreeSet<&Reference> =
                versions_of(*minor).filter_map(|version| release.etcd(&version)).collect();
            etcds.into_iter().for_each(|image| self.add(image, Some(release)));
        }
    }

    /// The images of kubeadm.
    fn add_kubernetes(&mut self, catalog: &Catalog, version: &Version) {
        for name in VERSIONED {
            self.add(&versioned(name, version), None);
        }
        let patches = catalog.kubernetes.minors.get(&Minor::of(version));
        for (_, image) in patches.into_iter().flat_map(|patches| patches.images(version)) {
            self.add(image, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Query;
    use super::*;

    /// What runs for `queries` take.
    fn selected(catalog: &Catalog, queries: &[Query]) -> BTreeSet<Reference> {
        let selections = queries.iter().map(|query| catalog.select(query).unwrap());
        selections.flat_map(|selection| selection.images).map(|image| image.reference).collect()
    }

    fn listed(catalog: &Catalog, kubeone: Option<&str>) -> BTreeSet<Reference> {
        catalog.references(kubeone).unwrap().references.into_keys().collect()
    }

    #[test]
    fn the_references_of_a_release_are_those_that_its_selections_take() {
        let catalog = Catalog::embedded().unwrap();
        let query = |kubeone: &str| Query { kubeone: Some(kubeone.to_owned()), ..Query::default() };
        for kubeone in ["1.8.2", "1.13.2", "1.14.2"] {
            let release = catalog.release(parse(kubeone).unwrap().0).unwrap().unwrap();
            let unlisted: BTreeSet<Reference> =
                release.unlisted.iter().map(|unlisted| unlisted.image.clone()).collect();
            let mut wanted = selected(&catalog, &[query(kubeone)]);
            wanted.extend(unlisted);
            assert_eq!(listed(&catalog, Some(kubeone)), wanted, "{kubeone}");
        }
        let patches = catalog.release("1.13".parse().unwrap()).unwrap().unwrap().patches.len();
        let queries: Vec<Query> = (0..=patches).map(|patch| query(&format!("1.13.{patch}"))).collect();
        let (minor, all) = (listed(&catalog, Some("1.13")), listed(&catalog, None));
        assert!(selected(&catalog, &queries).is_subset(&minor));
        assert!(minor.len() > listed(&catalog, Some("1.13.2")).len());
        assert!(minor.is_subset(&all) && minor.len() * 3 < all.len(), "{} of {}", minor.len(), all.len());
        assert!((1_800..2_500).contains(&all.len()), "{}", all.len());
    }

    #[test]
    fn what_no_release_supports_yet_and_what_is_gone_are_references_too() {
        let catalog = Catalog::embedded().unwrap();
        let all = catalog.references(None).unwrap().references;
        let newest = catalog.kubernetes().minors.values().next_back().unwrap();
        assert!(all.contains_key(&versioned("kube-proxy", &newest.latest.0)));
        let gone: Vec<String> = all
            .iter()
            .filter(|(_, gone)| gone.is_some())
            .map(|(reference, _)| reference.to_string())
            .collect();
        let of_vsphere =
            gone.iter().filter(|name| name.starts_with("gcr.io/cloud-provider-vsphere/")).count();
        // More than the 19 of the newest patch releases.
        assert!(of_vsphere > 19 && gone.len() < of_vsphere + 10, "{gone:?}");
    }

    #[test]
    fn two_tags_of_the_embedded_catalog_are_meant_to_move() {
        let all = Catalog::embedded().unwrap().references(None).unwrap();
        let moving: Vec<String> = all.moving.iter().map(ToString::to_string).collect();
        assert_eq!(moving, ["docker.io/library/alpine:3", "docker.io/library/alpine:3.23"]);
    }

    #[test]
    fn a_release_that_is_not_known_is_told_with_those_that_are() {
        let told = Catalog::embedded().unwrap().references(Some("1.99")).unwrap_err().to_string();
        assert!(told.contains("KubeOne 1.99 is not known"), "{told}");
    }
}
