//! What the subcommands of `mirror-images catalog` depend on.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::{Access, Environment, OutputOptions, check_report};
use crate::cli::{AskedArgs, OutputArgs, PinArgs, SourceArgs, VerifyArgs, WhichArgs};
use crate::image::platforms::Platform;
use crate::selection::catalog::Pins;

/// The images that sources are asked about, and how.
#[derive(Debug)]
pub struct Asked {
    /// The catalog to take them from instead of the embedded one.
    pub catalog: Option<PathBuf>,
    /// The one release whose images they are.
    pub kubeone: Option<String>,
    /// Images that one host is asked for at a time.
    pub parallel: NonZeroUsize,
    pub access: Access,
    pub output: OutputOptions,
}

/// What `mirror-images catalog verify` depends on.
#[derive(Debug)]
pub struct VerifyOptions {
    pub asked: Asked,
    pub pins: Arc<Pins>,
    /// Those that each image has to have.
    pub platforms: Vec<Platform>,
}

/// What `mirror-images catalog pin` depends on.
#[derive(Debug)]
pub struct PinOptions {
    pub asked: Asked,
    /// The file to write; standard output where there is none.
    pub file: Option<PathBuf>,
    /// What is recorded already.
    pub pins: Arc<Pins>,
    /// Whether to record platforms with their sizes.
    pub platforms: bool,
    /// Whether to remove the records of images that the catalog does not have.
    pub prune: bool,
}

impl Asked {
    fn new(
        which: WhichArgs,
        asked: AskedArgs,
        sources: &SourceArgs,
        output: OutputArgs,
        environment: Environment<'_>,
    ) -> Result<Self> {
        let get = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        check_report(&output)?;
        Ok(Self {
            catalog: which.catalog,
            kubeone: asked.kubeone_version,
            parallel: asked.parallel,
            access: Access::new(sources, None, &get, false)?,
            output: output.into(),
        })
    }
}

impl VerifyOptions {
    /// # Errors
    /// What the user has to put right, in words that say how.
    pub fn new(arguments: VerifyArgs, environment: Environment<'_>) -> Result<Self> {
        let VerifyArgs { which, asked, pins: file, platform, sources, output } = arguments;
        let platforms = platform.iter().map(|text| {
            ensure!(text.trim() != "all", "--platform all: name the platforms that each image has to have");
            text.parse::<Platform>().context("--platform")
        });
        Ok(Self {
            platforms: platforms.collect::<Result<_>>()?,
            pins: pins(file.as_deref())?,
            asked: Asked::new(which, asked, &sources, output, environment)?,
        })
    }
}

impl PinOptions {
    /// # Errors
    /// What the user has to put right, in words that say how.
    pub fn new(arguments: PinArgs, environment: Environment<'_>) -> Result<Self> {
        let PinArgs { file, which, asked, platforms, prune, sources, output } = arguments;
        ensure!(
            file.as_deref() != Some(Path::new("-")),
            "-: without a FILE the records go to standard output, and a file of that name is ./-"
        );
        let file = file.map(followed).transpose()?;
        let known = match &file {
            Some(path) if path.is_file() => Arc::new(Pins::read(path)?),
            _ => Pins::embedded(),
        };
        Ok(Self {
            file,
            pins: known,
            platforms,
            prune,
            asked: Asked::new(which, asked, &sources, output, environment)?,
        })
    }
}

/// The file that `path` names, where that is a link: it is read and written there, so that all who name it by whichever
/// path have one file.
fn followed(path: PathBuf) -> Result<PathBuf> {
    if !path.is_symlink() {
        return Ok(path);
    }
    let file = fs::canonicalize(&path)
        .with_context(|| format!("{}: it is a link that leads to no file: remove it", path.display()))?;
    // What is no file is written to by the name that it has here.
    Ok(if file.is_file() { file } else { path })
}

/// The records in a file, or those that the program carries.
///
/// # Errors
/// The file cannot be read, or is no such file.
pub fn pins(file: Option<&Path>) -> Result<Arc<Pins>> {
    match file {
        Some(path) => Ok(Arc::new(Pins::read(path).context("--pins")?)),
        None => Ok(Pins::embedded()),
    }
}
