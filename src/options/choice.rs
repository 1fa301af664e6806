//! Which images the user wants, and where they go: flags first, then the manifest, then the environment.

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{Environment, Lock, Supply};
use crate::cli::{Filter, SelectionArgs};
use crate::selection::Choice;
use crate::selection::catalog::{Group, Query};
use crate::selection::cluster::{ByHand, Cluster};
use crate::selection::kubernetes::Named;
use crate::selection::list;
use crate::store::name::StoreName;
use crate::util::text::quoted;

/// What has images of its own, which are all chosen where flags select nothing.
#[derive(Clone, Copy)]
pub(super) struct Given<'g> {
    pub lock: Option<&'g Lock>,
    pub from: &'g Supply,
}

impl Given<'_> {
    pub(super) fn nothing() -> Self {
        Self { lock: None, from: &Supply::Upstream }
    }

    /// All of them, if there are any; `warnings` hears of what is left out.
    fn images(self, warnings: &mut Vec<String>) -> Result<Vec<Named>> {
        match self.lock {
            Some(lock) => lock.all_images(warnings),
            None => self.from.all_images(warnings),
        }
    }
}

/// The choice, the target and whether it is insecure. Where flags select nothing, all is chosen that is `given`.
pub(super) fn chosen(
    argument: Option<&str>,
    selection: SelectionArgs,
    insecure: bool,
    given: Given<'_>,
    get: Environment<'_>,
) -> Result<(Choice, StoreName, bool)> {
    let cluster = selection.manifest.as_deref().map(Cluster::read).transpose().context("--manifest")?;
    let named = named_target(argument, selection.registry.as_deref())?;
    let (target, insecure) = match (named, cluster.as_ref().and_then(|cluster| cluster.registry.as_ref())) {
        (Some(text), _) => (text.trim().parse()?, insecure),
        (None, Some(registry)) => {
            (StoreName::Registry(registry.target.clone()), insecure || registry.insecure)
        }
        (None, None) => match get("TARGET_REGISTRY") {
            Some(text) => (text.trim().parse()?, insecure),
            None => bail!(
                "no target: name a registry, as in mirror-images registry.example.com:5000, or set TARGET_REGISTRY"
            ),
        },
    };
    let mut images = images(&selection)?;
    let catalog = selection.catalog.clone();
    let by_hand = ByHand {
        providers: words(&selection.provider, "--provider")?,
        cnis: words(&selection.cni, "--cni")?,
        addons: words(&selection.addon, "--addon")?,
    };
    let mut warnings = Vec::new();
    if !is_any_asked_for(&selection, cluster.is_some() || !by_hand.is_empty()) && images.is_empty() {
        images = given.images(&mut warnings)?;
        if !images.is_empty() {
            return Ok((
                Choice { catalog, query: None, cluster, by_hand, images, warnings },
                target,
                insecure,
            ));
        }
    }
    let query = query(selection, cluster.as_ref(), &by_hand, get, &mut warnings)?;
    Ok((Choice { catalog, query, cluster, by_hand, images, warnings }, target, insecure))
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
        images.append(&mut list::read(path).context("--images-from")?);
    }
    Ok(images)
}

fn words(texts: &[String], flag: &str) -> Result<Vec<String>> {
    let words: Vec<String> = texts.iter().map(|text| text.trim().to_owned()).collect();
    ensure!(!words.iter().any(String::is_empty), "{flag}: an empty name is given");
    Ok(words)
}

/// What to take from the catalog; `None` where images are named and no flag asks for anything else. The environment
/// decides only where no flag selects, and `warnings` hears what it takes away from the flags' selection.
fn query(
    selection: SelectionArgs,
    cluster: Option<&Cluster>,
    by_hand: &ByHand,
    get: Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Query>> {
    let named = !selection.image.is_empty() || !selection.images_from.is_empty();
    // These say which addons to take, and so does a filter.
    let described = cluster.is_some() || !by_hand.is_empty();
    let asked = is_any_asked_for(&selection, described);
    if named && !asked {
        return Ok(None);
    }
    let mut groups = groups(&selection.filter)?;
    if selection.filter.is_empty() && !described && without_optional(get)? {
        groups = vec![Group::Base, Group::ControlPlane];
        if asked {
            warnings.push(
                "PULL_OPTIONAL_IMAGES=false in the environment leaves the optional images out: --filter names the \
                 groups to take"
                    .to_owned(),
            );
        }
    }
    let mut kubernetes = named_versions(selection.kubernetes_versions, cluster)?;
    if kubernetes.is_empty()
        && let Some((variable, versions)) = versions_of(get)
    {
        if asked {
            warnings.push(format!(
                "{variable} in the environment leaves all versions out but {}: -k names those to take",
                versions.join(", ")
            ));
        }
        kubernetes = versions;
    }
    Ok(Some(Query { groups, kubernetes, kubeone: selection.kubeone_version, only: None }))
}

/// Whether any flag says which images are meant.
pub(super) fn chooses_images(selection: &SelectionArgs) -> bool {
    let is_described = selection.manifest.is_some()
        || !(selection.provider.is_empty() && selection.cni.is_empty() && selection.addon.is_empty());
    let is_named = !(selection.image.is_empty() && selection.images_from.is_empty());
    is_any_asked_for(selection, is_described) || is_named || selection.catalog.is_some()
}

/// Whether flags ask for anything of the catalog.
fn is_any_asked_for(selection: &SelectionArgs, described: bool) -> bool {
    described
        || !selection.filter.is_empty()
        || !selection.kubernetes_versions.is_empty()
        || selection.kubeone_version.is_some()
}

/// Those of the flag, else the manifest's, which is named on the command line too.
fn named_versions(versions: Vec<String>, cluster: Option<&Cluster>) -> Result<Vec<String>> {
    let versions = match (versions.as_slice(), cluster) {
        ([], Some(cluster)) => vec![cluster.kubernetes.clone()],
        _ => versions,
    };
    let versions: Vec<String> = versions.iter().map(|version| version.trim().to_owned()).collect();
    ensure!(!versions.iter().any(String::is_empty), "an empty Kubernetes version is named");
    Ok(versions)
}

/// The variable that names versions, and those.
fn versions_of(get: Environment<'_>) -> Option<(&'static str, Vec<String>)> {
    let variable =
        ["KUBERNETES_VERSIONS", "KUBERNETES_VERSION"].into_iter().find(|name| get(name).is_some())?;
    let versions: Vec<String> =
        get(variable)?.split([',', ' ']).filter(|version| !version.is_empty()).map(str::to_owned).collect();
    (!versions.is_empty()).then_some((variable, versions))
}

fn without_optional(get: Environment<'_>) -> Result<bool> {
    match get("PULL_OPTIONAL_IMAGES").as_deref() {
        Some("false") => Ok(true),
        Some("true") | None => Ok(false),
        Some(other) => Err(anyhow!("PULL_OPTIONAL_IMAGES is {other:?}: it can be true or false")),
    }
}

fn groups(filter: &[Filter]) -> Result<Vec<Group>> {
    if filter.contains(&Filter::None) {
        ensure!(
            filter.iter().all(|filter| *filter == Filter::None),
            "--filter names none, which means all groups, and others beside it: leave none out, or the others"
        );
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
