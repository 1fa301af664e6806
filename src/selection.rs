//! From what the user wants to the images: the catalog asked, a cluster's own additions made.

pub mod catalog;
pub mod cluster;
pub mod kubernetes;
pub mod list;

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result};

use crate::image::reference::{Reference, check_collisions};
use crate::options::Choice;
use crate::selection::catalog::{Catalog, Group, Minor, Only, Query, SelectedImage, Selection, minor_of};
use crate::selection::cluster::{Api, Cluster, by_hand, local};
use crate::selection::kubernetes::Named;

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
        None => Selection::default(),
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
    let minors = query.kubernetes.iter().filter_map(|version| minor_of(version));
    let mut addons: BTreeSet<String> = minors.flat_map(|minor| cluster.features.addons(minor)).collect();
    let mut own = match &cluster.directory {
        Some(directory) => local::read(directory, cluster, &addons, &catalog.by_resource(&query)?)?,
        None => local::Local::default(),
    };
    addons.extend(cluster.named.iter().cloned());
    let mut only = Only { addons, without: cluster.without.clone(), named: cluster.named.clone() };
    for set in [&mut only.addons, &mut only.named] {
        set.retain(|addon| !own.replaced.contains(addon));
    }
    if let Some(more) = query.only.take() {
        only.addons.extend(more.named.iter().cloned());
        only.named.extend(more.named);
    }
    query.only = Some(only);
    let mut selection = catalog.select(&query)?;
    if query.groups.is_empty() || query.groups.contains(&Group::ControlPlane) {
        add(&mut selection, cluster.sandbox.as_slice());
    }
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
    let minor = minor_of(version)?;
    let mut old = catalog.releases().filter(|(release, _)| *release <= LAST_OF_V1BETA1);
    old.rfind(|(_, minors)| minors.contains(&minor)).map(|(release, _)| release.to_string())
}

/// Adds `images`, and to those that are there already who else names them.
fn add(selection: &mut Selection, images: &[Named]) {
    let mut numbers: HashMap<Reference, usize> = HashMap::new();
    let mut named: HashSet<(usize, String)> = HashSet::new();
    for (number, image) in selection.images.iter().enumerate() {
        numbers.insert(image.reference.clone(), number);
        named.extend(image.named_by.iter().map(|by| (number, by.clone())));
    }
    for Named { reference, by } in images {
        let number = *numbers.entry(reference.clone()).or_insert_with(|| {
            selection.images.push(SelectedImage {
                reference: reference.clone(),
                reasons: Vec::new(),
                named_by: Vec::new(),
                gone: None,
            });
            selection.images.len() - 1
        });
        if named.insert((number, by.clone())) {
            selection.images[number].named_by.push(by.clone());
        }
    }
}
