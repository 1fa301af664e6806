//! `mirror-images inventory`: what a place has, for those who save what it lacks.

use std::io::{self, Write as _};
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use mirror_images::cli::InventoryArgs;
use mirror_images::options::InventoryOptions;
use mirror_images::progress::Display;
use mirror_images::store::registry::credentials::end_helpers;
use mirror_images::util::text;
use mirror_images::{Taken, inventory};
use tokio::runtime::Runtime;

use crate::logging::start_logging;
use crate::results::{after, print};
use crate::signals::watch_signals;

pub(crate) fn run(arguments: InventoryArgs) -> Result<u8> {
    let options = InventoryOptions::new(arguments, &|name| std::env::var(name).ok())?;
    let display = Display::new(&options.output);
    start_logging(&options.output, display.log_writer());
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let (interrupted, by) = runtime.block_on(async { watch_signals() })?;
    let taken = runtime.block_on(async {
        tokio::select! {
            taken = inventory(&options, display.listener()) => Some(taken),
            () = interrupted => None,
        }
    });
    display.finish();
    end_helpers();
    runtime.shutdown_background();
    let Some(taken) = taken else { return Ok(by.load(Ordering::Relaxed)) };
    let taken = taken?;
    if !options.output.quiet {
        let _ = writeln!(io::stderr(), "{}: {}", options.store, summary(&taken));
    }
    Ok(after(print(&taken.inventory.to_json()), taken.exit() as u8))
}

fn summary(taken: &Taken) -> String {
    let blobs = &taken.inventory.blobs;
    let bytes = blobs.values().fold(0, |sum: u64, blob| sum.saturating_add(blob.0));
    let mut summary = format!(
        "{} of {} there, {} in {}",
        taken.inventory.images.len(),
        text::count(taken.asked, "image"),
        text::bytes(bytes),
        text::count(blobs.len(), "blob")
    );
    if taken.failed > 0 {
        summary += &format!(", {} not found out", taken.failed);
    }
    summary
}
