//! Which images the user wants, and where they go: flags first, then the manifest, then the environment.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::Environment;
use crate::catalog::{Group, Query};
use crate::cli::{Filter, SelectionArgs};
use crate::cluster::{ByHand, Cluster};
use crate::image_list;
use crate::reference::Target;
use crate::text::quoted;
use crate::workloads::Named;

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
}

/// The choice, the target and whether it is insecure.
pub(super) fn chosen(
    argument: Option<&str>,
    selection: SelectionArgs,
    insecure: bool,
    get: Environment<'_>,
) -> Result<(Choice, Target, bool)> {
    let cluster = selection.manifest.as_deref().map(Cluster::read).transpose().context("--manifest")?;
    let named = named_target(argument, selection.registry.as_deref())?;
    let (target, insecure) = match (named, cluster.as_ref().and_then(|cluster| cluster.registry.as_ref())) {
        (Some(text), _) => (text.trim().parse()?, insecure),
        (None, Some(registry)) => (registry.target.clone(), insecure || registry.insecure),
        (None, None) => match get("TARGET_REGISTRY") {
            Some(text) => (text.trim().parse()?, insecure),
            None => bail!(
                "no target: name a registry, as in mirror-images registry.example.com:5000, or set TARGET_REGISTRY"
            ),
        },
    };
    let images = images(&selection)?;
    let catalog = selection.catalog.clone();
    let by_hand = ByHand {
        providers: words(&selection.provider, "--provider")?,
        cnis: words(&selection.cni, "--cni")?,
        addons: words(&selection.addon, "--addon")?,
    };
    let query = query(selection, cluster.as_ref(), &by_hand, get)?;
    Ok((Choice { catalog, query, cluster, by_hand, images }, target, insecure))
}

fn named_target<'a>(argument: Option<&'a str>, flag: Option<&'a str>) -> Result<Option<&'a str>> {
    match (argument, flag) {
        (Some(argument), Some(flag)) if argument != flag => {
            bail!("two targets are named, {} and --registry {}: name one", quoted(argument), quoted(flag));
        }
        (argument, flag) => Ok(argument.or(flag)),
    }
}

fn images(selection: &SelectionArgs) -> Result<Vec<Named>> {
    let mut images = Vec::new();
    for text in &selection.image {
        let reference = text.trim().parse().context("--image")?;
        images.push(Named { reference, by: "--image".to_owned() });
    }
    for path in &selection.images_from {
        images.append(&mut image_list::read(path).context("--images-from")?);
    }
    Ok(images)
}

fn words(texts: &[String], flag: &str) -> Result<Vec<String>> {
    let words: Vec<String> = texts.iter().map(|text| text.trim().to_owned()).collect();
    ensure!(!words.iter().any(String::is_empty), "{flag}: an empty name is given");
    Ok(words)
}

/// `None` where images are named and nothing else is asked for.
fn query(
    selection: SelectionArgs,
    cluster: Option<&Cluster>,
    by_hand: &ByHand,
    get: Environment<'_>,
) -> Result<Option<Query>> {
    let kubernetes = kubernetes(selection.kubernetes_versions, cluster, get)?;
    let named = !selection.image.is_empty() || !selection.images_from.is_empty();
    let asked = !selection.filter.is_empty()
        || !kubernetes.is_empty()
        || selection.kubeone_version.is_some()
        || cluster.is_some()
        || !by_hand.is_empty();
    if named && !asked {
        return Ok(None);
    }
    Ok(Some(Query {
        groups: groups(&selection.filter, get)?,
        kubernetes,
        kubeone: selection.kubeone_version,
        only: None,
    }))
}

/// A manifest is named on the command line, and so its version beats the environment's.
fn kubernetes(
    mut kubernetes: Vec<String>,
    cluster: Option<&Cluster>,
    get: Environment<'_>,
) -> Result<Vec<String>> {
    if kubernetes.is_empty() {
        if let Some(cluster) = cluster {
            kubernetes = vec![cluster.kubernetes.clone()];
        } else if let Some(versions) = get("KUBERNETES_VERSIONS").or_else(|| get("KUBERNETES_VERSION")) {
            kubernetes = versions.split([',', ' ']).filter(|v| !v.is_empty()).map(str::to_owned).collect();
        }
    }
    let kubernetes: Vec<String> = kubernetes.iter().map(|v| v.trim().to_owned()).collect();
    ensure!(!kubernetes.iter().any(String::is_empty), "an empty Kubernetes version is named");
    Ok(kubernetes)
}

fn groups(filter: &[Filter], get: Environment<'_>) -> Result<Vec<Group>> {
    if filter.is_empty() {
        return match get("PULL_OPTIONAL_IMAGES").as_deref() {
            Some("false") => Ok(vec![Group::Base, Group::ControlPlane]),
            Some("true") | None => Ok(Vec::new()),
            Some(other) => Err(anyhow!("PULL_OPTIONAL_IMAGES is {other:?}: it can be true or false")),
        };
    }
    if filter.contains(&Filter::None) {
        return Ok(Vec::new());
    }
    let group = |filter: &Filter| match filter {
        Filter::Base => Some(Group::Base),
        Filter::Optional => Some(Group::Optional),
        Filter::ControlPlane => Some(Group::ControlPlane),
        Filter::None => None,
    };
    Ok(filter.iter().filter_map(group).collect())
}
