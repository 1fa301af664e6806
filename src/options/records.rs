//! What is recorded of a run's images, and what was recorded before.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use super::{Environment, Mode};
use crate::record::Made;
use crate::util::text::quoted;

/// # Errors
/// Nothing could be written there, or there is nothing to write.
pub(super) fn check_lock_out(file: Option<&Path>, mode: Mode) -> Result<()> {
    ensure!(
        file != Some(Path::new("-")),
        "--lock-out -: the lock goes to a file, and a file of that name is ./-"
    );
    ensure!(
        file.is_none() || mode != Mode::DryRun,
        "--lock-out tells which digests registries have, and --dry-run uses no network: --check finds them out and \
         writes nothing but the lock"
    );
    Ok(())
}

/// Who makes what is recorded, if anything `is_recorded`.
///
/// # Errors
/// The environment names a time that is none.
pub(super) fn made(is_recorded: bool, get: Environment<'_>) -> Result<Made> {
    let time = get("SOURCE_DATE_EPOCH").filter(|_| is_recorded);
    let time = time.map(|text| {
        text.trim().parse().map_err(|_| {
            anyhow!("SOURCE_DATE_EPOCH is {}: it is a number of seconds since 1970", quoted(&text))
        })
    });
    let tool = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Made { tool, time: time.transpose()?, ..Made::default() })
}
