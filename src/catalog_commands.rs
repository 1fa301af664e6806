//! `mirror-images catalog`, and what there is to do with one besides printing it.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result};
use mirror_images::cli::{CatalogArgs, CatalogCommand, InfoArgs, PinArgs, VerifyArgs};
use mirror_images::options::{OutputOptions, PinOptions, VerifyOptions, pins};
use mirror_images::output::file::{self, Holds, check_place};
use mirror_images::output::info::{Info, today};
use mirror_images::output::report::Exit;
use mirror_images::progress::Display;
use mirror_images::selection::catalog::{Catalog, Pins, json_schema};
use mirror_images::store::registry::credentials::end_helpers;
use mirror_images::survey::Pinning;
use mirror_images::{pin_catalog, verify_catalog};
use tokio::runtime::Runtime;

use crate::logging::start_logging;
use crate::results::{after, give, in_form, print, write_report};
use crate::signals::watch_signals;

pub(crate) fn run(arguments: CatalogArgs) -> Result<u8> {
    match arguments.command {
        None => print(&Catalog::embedded_yaml()).map(|()| Exit::Done as u8),
        Some(CatalogCommand::Info(arguments)) => info(&arguments),
        Some(CatalogCommand::Verify(arguments)) => verify(arguments),
        Some(CatalogCommand::Pin(arguments)) => pin(arguments),
        Some(CatalogCommand::Schema) => print(&json_schema()).map(|()| Exit::Done as u8),
    }
}

fn info(arguments: &InfoArgs) -> Result<u8> {
    let catalog = match &arguments.which.catalog {
        Some(path) => Catalog::read(path).context("--catalog")?,
        None => Catalog::embedded()?,
    };
    let info = Info::new(&catalog, &*pins(arguments.pins.as_deref())?, today())?;
    print(&in_form(arguments.output, &info)?)?;
    Ok(Exit::Done as u8)
}

fn verify(arguments: VerifyArgs) -> Result<u8> {
    let options = VerifyOptions::new(arguments, &|name| std::env::var(name).ok())?;
    let output = &options.asked.output;
    let display = begin(output)?;
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let (interrupted, by) = runtime.block_on(async { watch_signals() })?;
    let found = runtime.block_on(verify_catalog(&options, display.listener(), interrupted));
    end(display, runtime);
    let found = found?;
    Ok(give(output, &found, status(found.exit(), &by)))
}

fn pin(arguments: PinArgs) -> Result<u8> {
    let options = PinOptions::new(arguments, &|name| std::env::var(name).ok())?;
    let output = &options.asked.output;
    if let Some(path) = &options.file {
        check_place(path, Holds::Pins)?;
    }
    let display = begin(output)?;
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let (interrupted, by) = runtime.block_on(async { watch_signals() })?;
    let pinned = runtime.block_on(pin_catalog(&options, display.listener(), interrupted));
    end(display, runtime);
    let pinned = pinned?;
    let status = status(pinned.exit(), &by);
    if let Some(path) = &options.file {
        let status = after(write_records(path, &pinned), status);
        return Ok(give(output, &pinned, status));
    }
    // Standard output is for the records; what came of them is told beside it.
    for record in pinned.references.iter().filter(|record| record.is_told()) {
        tracing::warn!("{record}");
    }
    Ok(write_report(output, &pinned, after(print(&pinned.pins.to_json()), status)))
}

/// Writes what has been recorded to `path`. Another one may have written there meanwhile: what that has changed stays.
fn write_records(path: &Path, pinned: &Pinning) -> Result<()> {
    let _lock = file::lock(path)?;
    let mut records = pinned.pins.clone();
    if path.is_file() {
        records = Pins::read(path)?;
        records.apply(pinned.changes.clone());
    }
    file::write(path, &records.to_json(), Holds::Pins)
}

/// The exit status; of what was interrupted, that of the signal.
fn status(exit: Exit, by: &AtomicU8) -> u8 {
    match exit {
        Exit::Interrupted => by.load(Ordering::Relaxed),
        exit => exit as u8,
    }
}

fn begin(output: &OutputOptions) -> Result<Display> {
    let display = Display::new(output);
    start_logging(output, display.log_writer());
    if let Some(path) = &output.report {
        check_place(path, Holds::Report)?;
    }
    Ok(display)
}

fn end(display: Display, runtime: Runtime) {
    display.finish();
    end_helpers();
    // A name that is still being looked up is nothing to wait for.
    runtime.shutdown_background();
}
