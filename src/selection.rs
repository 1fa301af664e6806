//! From what the user wants to the images: the catalog asked, a cluster's own additions made.

pub mod catalog;
pub mod cluster;
pub mod kubernetes;
pub mod list;
pub(crate) mod why;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::image::reference::Reference;
use crate::selection::catalog::{Catalog, Group, Only, Query, SelectedImage, Selection, minor_of};
use crate::selection::cluster::local::Known;
use crate::selection::cluster::{ByHand, Cluster, Fields, by_hand, local, not_deployed};
use crate::selection::kubernetes::Named;

/// What the user wants, before a catalog has been asked.
#[derive(Debug)]
pub struct Choice {
    /// The catalog to ask instead of the embedded one.
    pub catalog: Option<PathBuf>,
    /// What to take from the catalog; nothing where the user named images alone.
    pub query: Option<Query>,
    /// The cluster whose addons to take.
    pub cluster: Option<Cluster>,
    pub by_hand: ByHand,
    /// Images that the user named, in any case.
    pub images: Vec<Named>,
    /// What the environment takes away from the flags' selection, a sentence each.
    pub warnings: Vec<String>,
}

/// The images that `choice` takes: from the catalog, by name, or both.
///
/// # Errors
/// A version, a release or an addon that the catalog does not know, with those that it does; a file that cannot be read.
pub fn choose(choice: &Choice) -> Result<Selection> {
    let catalog = catalog(choice)?;
    let mut selection = match &choice.query {
        Some(query) => {
            let selection = from_catalog(choice, query, &catalog)?;
            Selection { catalog: Some(catalog.edition()?), ..selection }
        }
        None => Selection::default(),
    };
    add(&mut selection, &choice.images);
    Ok(selection)
}

fn catalog(choice: &Choice) -> Result<Catalog> {
    match &choice.catalog {
        Some(path) => Catalog::read(path).context("--catalog"),
        None => Ok(Catalog::embedded()?),
    }
}

/// The images whose tags are meant to move, by any release of the catalog that `choice` asks.
///
/// # Errors
/// The catalog, or a document of it, is broken.
pub fn moving(choice: &Choice) -> Result<BTreeSet<Reference>> {
    let catalog = catalog(choice)?;
    let mut moving = BTreeSet::new();
    for (kubeone, _) in catalog.releases() {
        moving.extend(catalog.release(kubeone)?.into_iter().flat_map(|release| release.moving.clone()));
    }
    Ok(moving)
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
    if query.kubeone.is_none() {
        query.kubeone = release_that_deploys(cluster, &query, catalog)?;
    }
    let deployments = catalog.deployments(&query)?;
    let fields = Fields::of(cluster, &deployments);
    let features = std::slice::from_ref(&cluster.features);
    let named = if fields.addons { cluster.addons.named.clone() } else { BTreeSet::new() };
    let mut own = match &cluster.addons.directory {
        Some(directory) if fields.path => {
            let passes_over = |addon: &str| {
                deployments.iter().all(|deployment| {
                    deployment.rules.is_some_and(|rules| rules.embedded.contains(addon))
                        && !deployment.addons(features, &named).contains(addon)
                })
            };
            let known = Known {
                resources: &catalog.by_resource(&query)?,
                kubernetes: deployments.iter().map(|deployment| deployment.version.to_string()).collect(),
                params: if fields.params { cluster.addons.params.clone() } else { BTreeMap::new() },
            };
            local::read(directory, &cluster.addons, &known, passes_over)?
        }
        _ => local::Local::default(),
    };
    let added = query.only.take().map(|only| only.added).unwrap_or_default();
    query.only = Some(Only {
        features: features.to_vec(),
        named,
        added,
        replaced: std::mem::take(&mut own.replaced),
        without: cluster.without.clone(),
    });
    let mut selection = catalog.select(&query)?;
    selection.warnings.extend(not_deployed(cluster, &deployments));
    if query.groups.is_empty() || query.groups.contains(&Group::ControlPlane) {
        add(&mut selection, cluster.sandbox.as_slice());
    }
    // The user's addons are of no group; who asks for the control plane alone does not want them.
    if query.groups.is_empty() || query.groups.iter().any(|group| *group != Group::ControlPlane) {
        selection.warnings.extend(cluster.warnings.iter().cloned());
        selection.warnings.extend(fields.warnings);
        selection.warnings.append(&mut own.warnings);
        add(&mut selection, &own.images);
    }
    Ok(selection)
}

/// The newest release that both deploys such a manifest and supports its version of Kubernetes, if there is one.
fn release_that_deploys(cluster: &Cluster, query: &Query, catalog: &Catalog) -> Result<Option<String>> {
    let [version] = query.kubernetes.as_slice() else { return Ok(None) };
    let Some(minor) = minor_of(version) else { return Ok(None) };
    for (kubeone, _) in catalog.releases().rev().filter(|(_, minors)| minors.contains(&minor)) {
        let Some(release) = catalog.release(kubeone)? else { continue };
        if catalog.rules(release).manifests.iter().any(|api| api == cluster.api.name()) {
            return Ok(Some(kubeone.to_string()));
        }
    }
    Ok(None)
}

/// Adds `images`, and to those that are there already who else names them.
fn add(selection: &mut Selection, images: &[Named]) {
    let mut numbers: HashMap<Reference, usize> = HashMap::new();
    let mut named: HashSet<(usize, String)> = HashSet::new();
    for (number, image) in selection.images.iter().enumerate() {
        numbers.insert(image.reference.by_present_name().into_owned(), number);
        named.extend(image.named_by.iter().map(|by| (number, by.clone())));
    }
    for Named { reference, by } in images {
        let number = *numbers.entry(reference.by_present_name().into_owned()).or_insert_with(|| {
            selection.images.push(SelectedImage::new(reference));
            selection.images.len() - 1
        });
        selection.images[number].is_also(reference);
        if named.insert((number, by.clone())) {
            selection.images[number].named_by.push(by.clone());
        }
    }
}

#[cfg(test)]
mod tests;
