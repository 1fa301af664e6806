//! From what the user wants to the images: the catalog asked, a cluster's own additions made.

use anyhow::{Context, Result};

use crate::catalog::{Catalog, Group, Minor, Only, Query, SelectedImage, Selection};
use crate::cluster::{Api, Cluster, by_hand, local};
use crate::options::Choice;
use crate::reference::{Reference, check_collisions};

/// The last release of KubeOne that reads v1beta1.
const LAST_OF_V1BETA1: Minor = Minor { major: 1, minor: 4 };

/// The images that `choice` takes: from the catalog, by name, or both.
///
/// # Errors
/// A version, a release or an addon that the catalog does not know, with those that it does; a file that cannot be
/// read; two images that would overwrite each other at the target.
pub fn choose(choice: &Choice) -> Result<Selection> {
    let catalog = match &choice.catalog {
        Some(path) => Catalog::read(path).context("--catalog")?,
        None => Catalog::embedded()?,
    };
    let mut selection = match &choice.query {
        Some(query) => from_catalog(choice, query, &catalog)?,
        None => Selection { images: Vec::new(), warnings: Vec::new(), kubernetes: Vec::new() },
    };
    add(&mut selection, &choice.images);
    check_collisions(selection.images.iter().map(|image| &image.reference))?;
    Ok(selection)
}

fn from_catalog(choice: &Choice, query: &Query, catalog: &Catalog) -> Result<Selection> {
    let mut query = query.clone();
    if !choice.by_hand.is_empty() {
        query.only = Some(by_hand(&choice.by_hand, catalog)?);
    }
    match &choice.cluster {
        Some(cluster) => {
            of_cluster(cluster, query, catalog).with_context(|| format!("the cluster of {}", cluster.name))
        }
        None => Ok(catalog.select(&query)?),
    }
}

fn of_cluster(cluster: &Cluster, mut query: Query, catalog: &Catalog) -> Result<Selection> {
    if cluster.api == Api::V1Beta1 && query.kubeone.is_none() {
        query.kubeone = release_of_v1beta1(&query, catalog);
    }
    let mut only = Only {
        addons: cluster.addons.clone(),
        without: cluster.without.clone(),
        named: cluster.named.clone(),
    };
    let mut own = match &cluster.directory {
        Some(directory) => local::read(directory, cluster, &catalog.by_resource(&query)?)?,
        None => local::Local::default(),
    };
    for set in [&mut only.addons, &mut only.named] {
        set.retain(|addon| !own.replaced.contains(addon));
    }
    if let Some(more) = query.only.take() {
        only.addons.extend(more.named.iter().cloned());
        only.named.extend(more.named);
    }
    query.only = Some(only);
    let mut selection = catalog.select(&query)?;
    // The user's addons are of no group; who asks for the control plane alone does not want them.
    if query.groups.is_empty() || query.groups.iter().any(|group| *group != Group::ControlPlane) {
        selection.warnings.extend(cluster.warnings.iter().cloned());
        selection.warnings.append(&mut own.warnings);
        add(&mut selection, &own.images);
    }
    Ok(selection)
}

/// The newest release that both reads such a manifest and supports its version of Kubernetes, if there is one.
fn release_of_v1beta1(query: &Query, catalog: &Catalog) -> Option<String> {
    let [version] = query.kubernetes.as_slice() else { return None };
    let version = version.strip_prefix('v').unwrap_or(version);
    let supports = |minors: &[Minor]| {
        minors.iter().any(|minor| version == minor.to_string() || version.starts_with(&format!("{minor}.")))
    };
    let mut old = catalog.releases().filter(|(release, _)| *release <= LAST_OF_V1BETA1);
    old.rfind(|(_, minors)| supports(minors)).map(|(release, _)| release.to_string())
}

/// Adds those of `images` that are not there yet.
fn add(selection: &mut Selection, images: &[Reference]) {
    for reference in images {
        if !selection.images.iter().any(|image| image.reference == *reference) {
            selection.images.push(SelectedImage { reference: reference.clone(), reasons: Vec::new() });
        }
    }
}
