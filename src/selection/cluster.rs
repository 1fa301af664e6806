//! A KubeOne cluster: what its manifest says, and which addons KubeOne then deploys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::reference::Target;
use crate::selection::catalog::Features;
use crate::selection::kubernetes::Named;
use crate::util::input;

mod addons;
mod fields;
pub mod local;
mod manifest;
mod template;

pub use addons::{ByHand, by_hand};
pub use fields::{Fields, not_deployed};

/// Largest manifest, and largest file of an addon, that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// What a manifest says about images, with KubeOne's defaults where it says nothing.
#[derive(Debug)]
pub struct Cluster {
    /// The manifest's file, as messages call it.
    pub name: String,
    pub api: Api,
    pub kubernetes: String,
    /// What decides on the addons that are deployed unasked.
    pub features: Features,
    /// `addons`.
    pub addons: Addons,
    /// KubeOne's names of images that are switched off within a deployed addon.
    pub without: BTreeSet<String>,
    /// `containerRuntime.containerd.sandboxImage`.
    pub sandbox: Option<Named>,
    pub registry: Option<OverwriteRegistry>,
    /// The hosts of `containerRuntime.containerd.registries`.
    pub redirected: BTreeSet<String>,
    /// What no catalog can know, a sentence each.
    pub warnings: Vec<String>,
}

/// What a manifest says of addons, whether or not a release looks at it.
#[derive(Debug, Default)]
pub struct Addons {
    /// `addons.enable`, and the line where it stands.
    pub enable: Option<(bool, u64)>,
    /// Whether `addons.addons` has an entry.
    pub is_listed: bool,
    /// Whether `addons.path` is given.
    pub has_path: bool,
    /// Addons that `addons.addons` names, and does not delete.
    pub named: BTreeSet<String>,
    /// The user's own addons.
    pub directory: Option<PathBuf>,
    /// How addons are filled in, by their names.
    pub fillings: BTreeMap<String, Filling>,
    /// `addons.globalParams`.
    pub params: BTreeMap<String, String>,
}

/// What an entry of `addons.addons` says about the addon's manifests.
#[derive(Debug, Default)]
pub struct Filling {
    pub params: BTreeMap<String, String>,
    /// They are no templates.
    pub plain: bool,
}

/// `registryConfiguration`.
#[derive(Debug)]
pub struct OverwriteRegistry {
    pub target: Target,
    pub insecure: bool,
}

/// The version of KubeOne's API that a manifest is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    V1Beta1,
    V1Beta2,
    V1Beta3,
}

impl Api {
    /// Its `apiVersion`.
    pub fn name(self) -> &'static str {
        match self {
            Api::V1Beta1 => "kubeone.io/v1beta1",
            Api::V1Beta2 => "kubeone.k8c.io/v1beta2",
            Api::V1Beta3 => "kubeone.k8c.io/v1beta3",
        }
    }
}

impl Cluster {
    /// # Errors
    /// The file cannot be read or is no KubeOne manifest; the message names the line where there is one.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = input::read(path, FILE_MAX).with_context(|| format!("cannot read {name}"))?;
        manifest::parse(&text, path)
    }
}
