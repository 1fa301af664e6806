//! A minor release of KubeOne, read off its tags.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use mirror_images::selection::catalog::Minor;
use semver::Version;

use super::addons::{Addons, Written};
use super::decisions::{self, ETCD_TAG, Etcd};
use super::earlier::{self, Run};
use super::go;
use super::images::{self, Images, Listed};
use super::rules::{self, Hashes};
use super::upstream::{Checkout, Tag};

const IMAGES: &str = "pkg/templates/images/images.go";
const VALIDATION: &str = "pkg/apis/kubeone/validation/validation.go";
const HELPERS: &str = "pkg/apis/kubeone/helpers.go";
const ENSURE: &str = "pkg/addons/ensure.go";
const ADDON_NAMES: &str = "pkg/templates/resources/resources.go";
const KUBEADM: &str = "pkg/templates/kubeadm";

/// What a tag has, as far as every patch release is compared by it.
#[derive(Debug)]
pub struct Patch {
    pub tag: Tag,
    pub kubernetes: Vec<Minor>,
    pub listed: Listed,
}

/// All that the catalog takes from upstream about a release.
#[derive(Debug)]
pub struct Release {
    pub newest: Patch,
    /// The patch releases before it, ascending.
    pub patches: Vec<Patch>,
    /// What they have other than the newest.
    pub earlier: Vec<Run>,
    pub sandbox: Option<BTreeMap<Minor, String>>,
    pub etcd: Vec<Etcd>,
    /// The addons of each resource of the newest.
    pub addons: BTreeMap<String, BTreeSet<String>>,
    /// For the reviewer: images that addons name themselves, addons that KubeOne alone decides on, and what decides.
    pub written: BTreeSet<Written>,
    pub embedded: BTreeSet<String>,
    pub hashes: Hashes,
}

impl Release {
    /// The release whose tags these are, ascending.
    pub fn read(checkout: &Checkout, tags: &[Tag]) -> Result<Self> {
        let (newest, tags) = tags.split_last().context("a release without tags")?;
        let newest = patch(checkout, newest, None)?;
        let patches = tags.iter().map(|tag| patch(checkout, tag, Some(&newest.kubernetes)));
        let patches = patches.collect::<Result<Vec<_>>>()?;
        let tag = newest.tag.name.clone();
        let addons = Addons::read(checkout, &tag, |name| newest.listed.get(name).is_some())?;
        let mut earlier = earlier::runs(&newest, &patches);
        for run in earlier.iter_mut().filter(|run| !(run.base.is_empty() && run.optional.is_empty())) {
            let last = patches.iter().find(|patch| patch.tag.version == run.to);
            let Some(last) = last else { continue };
            let then = Addons::read(checkout, &last.tag.name, |name| last.listed.get(name).is_some())?;
            run.set_addons(&then.of_resource);
        }
        let ensure = checkout.file(&tag, ENSURE)?;
        Ok(Self {
            sandbox: decisions::sandbox(&checkout.file(&tag, HELPERS)?, &newest.kubernetes)?,
            etcd: etcd(checkout, &tag, &newest.kubernetes)?,
            embedded: rules::embedded(&ensure, &checkout.file(&tag, ADDON_NAMES)?)?,
            hashes: rules::hashes(checkout, &tag)?,
            addons: addons.of_resource,
            written: addons.written,
            newest,
            patches,
            earlier,
        })
    }

    /// The addons that deploy a resource.
    pub fn addons_of(&self, resource: &str) -> Vec<String> {
        self.addons.get(resource).into_iter().flatten().cloned().collect()
    }
}

fn patch(checkout: &Checkout, tag: &Tag, newest: Option<&[Minor]>) -> Result<Patch> {
    let kubernetes = decisions::minors(&checkout.file(&tag.name, VALIDATION)?, newest)?;
    let listed = images::read(&checkout.file(&tag.name, IMAGES)?, &kubernetes)?;
    Ok(Patch { tag: tag.clone(), kubernetes, listed })
}

/// The APIs of kubeadm for which KubeOne writes a configuration, and the first Kubernetes whose kubeadm has each.
const KUBEADM_APIS: [(&str, u64); 3] = [("v1beta2", 15), ("v1beta3", 22), ("v1beta4", 31)];

/// The one of them for which KubeOne has set etcd's tag.
const WITH_ETCD: &str = "v1beta3";

fn etcd(checkout: &Checkout, tag: &str, kubernetes: &[Minor]) -> Result<Vec<Etcd>> {
    let paths = checkout.paths(tag, KUBEADM)?;
    let mut apis = Vec::new();
    for path in &paths {
        let Some(api) = path.strip_prefix(KUBEADM).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let Some(api) = api.strip_suffix("/kubeadm.go") else { continue };
        let file = checkout.file(tag, path)?;
        let Some((api, first)) = KUBEADM_APIS.into_iter().find(|(known, _)| *known == api) else {
            return Err(file.wrong(1, format!("{api} is an API of kubeadm that is not known")));
        };
        let tokens = go::tokens(&file.text).map_err(|unknown| file.unknown(&unknown))?;
        if let Some(token) = tokens.iter().find(|token| api != WITH_ETCD && token.is_name(ETCD_TAG)) {
            return Err(
                file.wrong(token.line, format!("sets etcd's tag for {api}, in a way that is not known"))
            );
        }
        apis.push((api, first, file));
    }
    ensure!(!apis.is_empty(), "{KUBEADM} at {tag} has no configuration for any API of kubeadm");
    let Some((_, first, file)) = apis.iter().find(|(api, ..)| *api == WITH_ETCD) else {
        return Ok(Vec::new());
    };
    // The next API takes over with the first Kubernetes that has it.
    let next = apis.iter().map(|(_, first, _)| *first).filter(|other| other > first).min();
    let is_for = |version: &Version| version.minor >= *first && next.is_none_or(|next| version.minor < next);
    decisions::etcd(file, kubernetes, is_for)
}

/// One image for all minors, where it is one.
pub fn same(images: &Images) -> Option<&str> {
    let mut all = images.values();
    let first = all.next()?.as_deref()?;
    all.all(|image| image.as_deref() == Some(first)).then_some(first)
}
