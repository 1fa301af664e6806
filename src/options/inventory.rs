//! What `mirror-images inventory` depends on.

use std::num::NonZeroUsize;

use anyhow::{Result, ensure};

use super::choice::{Given, chosen};
use super::records::made;
use super::{Access, Environment, Lock, OutputOptions, Supply, login, policy};
use crate::cli::{Format, InventoryArgs};
use crate::record::Made;
use crate::selection::Choice;
use crate::store::name::StoreName;
use crate::store::registry::Scheme;

/// What `mirror-images inventory` depends on.
#[derive(Debug)]
pub struct InventoryOptions {
    /// The place to ask.
    pub store: StoreName,
    pub scheme: Scheme,
    pub choice: Choice,
    /// Images that are asked for at a time.
    pub parallel: NonZeroUsize,
    pub access: Access,
    pub made: Made,
    pub output: OutputOptions,
}

impl InventoryOptions {
    /// # Errors
    /// What the user has to put right, in words that say how.
    pub fn new(arguments: InventoryArgs, environment: Environment<'_>) -> Result<Self> {
        let get = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        ensure!(
            arguments.selection.platform.is_empty(),
            "--platform: an inventory has all platforms that are there; leave it out"
        );
        ensure!(
            arguments.sources.source_mirror.is_empty(),
            "--source-mirror: an inventory asks no source; leave it out"
        );
        let lock = arguments.lock.as_deref().map(|path| Lock::read(path, None)).transpose()?;
        // All that a layout names is asked for where nothing is selected.
        let named = arguments.store.as_deref().map(str::trim);
        let is_layout = |text: &&str| text.starts_with("oci:") || text.starts_with("oci-archive:");
        let layout: Vec<String> = named.filter(is_layout).map(str::to_owned).into_iter().collect();
        let from = Supply::new(&layout, &policy(&arguments.sources))?;
        let given = Given { lock: lock.as_ref(), from: &from };
        let (choice, store, insecure) =
            chosen(arguments.store.as_deref(), arguments.selection, arguments.insecure, given, &get)?;
        let login = login(arguments.username.as_deref(), &store)?;
        let is_offline = store.registry().is_none();
        Ok(Self {
            scheme: if insecure { Scheme::Insecure } else { Scheme::Https },
            choice,
            parallel: arguments.parallel,
            access: Access::new(&arguments.sources, login, &get, is_offline)?,
            made: made(true, &get)?,
            output: OutputOptions {
                format: Format::Json,
                report: None,
                progress: arguments.progress,
                log_format: arguments.log_format,
                verbose: arguments.verbose,
                quiet: arguments.quiet,
            },
            store,
        })
    }
}
