//! The user's own addons: the directory that `addons.path` names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::template;
pub use super::template::Known;
use super::{Addons, FILE_MAX};
use crate::image::reference::Reference;
use crate::selection::kubernetes;
use crate::selection::kubernetes::Named;
use crate::util::input;

/// What the directory holds for a cluster.
#[derive(Debug, Default)]
pub struct Local {
    /// Addons of the catalog whose place a directory takes.
    pub replaced: BTreeSet<String>,
    pub images: Vec<Named>,
    /// What cannot be resolved, by file and line.
    pub warnings: Vec<String>,
}

/// The images of the catalog by KubeOne's names.
pub type Resources = BTreeMap<String, BTreeSet<Reference>>;

/// Reads what KubeOne would apply: the files of the directory itself, and those of each directory in it, but for
/// those that KubeOne `passes_over`. It looks no deeper.
///
/// # Errors
/// A directory or file cannot be read, or is no YAML.
pub fn read(
    directory: &Path,
    addons: &Addons,
    known: &Known<'_>,
    passes_over: impl Fn(&str) -> bool,
) -> Result<Local> {
    let mut local = Local::default();
    let (directories, files) = contents(directory).context("addons.path")?;
    local.read_addon("", files, addons, known)?;
    for path in directories {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if passes_over(&name) {
            continue;
        }
        local.read_addon(&name, contents(&path)?.1, addons, known)?;
        local.replaced.insert(name);
    }
    Ok(local)
}

impl Local {
    /// The manifests of one addon, filled in as the cluster's manifest says.
    fn read_addon(
        &mut self,
        addon: &str,
        files: Vec<PathBuf>,
        addons: &Addons,
        known: &Known<'_>,
    ) -> Result<()> {
        let filling = addons.fillings.get(addon);
        let mut known = known.clone();
        known.params.extend(filling.map(|filling| filling.params.clone()).unwrap_or_default());
        for path in files {
            let name = path.display().to_string();
            let text = input::read(&path, FILE_MAX).with_context(|| format!("cannot read {name}"))?;
            if template::is_template(&text) && !filling.is_some_and(|filling| filling.plain) {
                let mut found = template::images(&text, &name, &known);
                self.images.append(&mut found.images);
                self.warnings.append(&mut found.warnings);
            } else {
                self.images.append(&mut kubernetes::images(&text, &name)?);
            }
        }
        Ok(())
    }
}

/// Directories and manifests in `directory`, sorted.
fn contents(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let cannot = || format!("cannot read the directory {}", directory.display());
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.is_dir() {
            directories.push(path);
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    directories.sort();
    files.sort();
    Ok((directories, files))
}

/// The extensions that KubeOne applies.
fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    ["yaml", "yml", "json"].iter().any(|known| extension == *known)
}
