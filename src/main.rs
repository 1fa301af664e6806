//! The program: reads the command line, shows progress, runs, reports.

mod catalog_commands;
mod inventory_command;
mod logging;
mod results;
mod signals;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use mirror_images::cli::{Cli, Command, SchemaName};
use mirror_images::options::{ConfigOptions, Mode, Options, OutputOptions};
use mirror_images::output::dry_run::DryRun;
use mirror_images::output::file::{self, Holds, check_place};
use mirror_images::output::report::{Exit, Report};
use mirror_images::progress::Display;
use mirror_images::receipt::beside;
use mirror_images::record::Inventory;
use mirror_images::selection::catalog::{self, Selection};
use mirror_images::store::registry::credentials::end_helpers;
use mirror_images::{audit, check, configuration, receipt, record, run, select};
use tokio::runtime::Runtime;

use crate::logging::start_logging;
use crate::results::{after, give, give_beside, heard, in_form, print, write_report};
use crate::signals::watch_signals;

/// Wrong use, or anything else that keeps a run from beginning.
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::from_arguments() {
        Ok(cli) => cli,
        Err(other) => return ExitCode::from(tell(&other)),
    };
    match start(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(WRONG_USE)
        }
    }
}

/// Prints what clap has in place of arguments: help, the version, or a mistake.
fn tell(other: &clap::Error) -> u8 {
    if other.use_stderr() {
        let _ = other.print();
        return WRONG_USE;
    }
    match heard(other.print().and_then(|()| io::stdout().flush())) {
        Ok(()) => Exit::Done as u8,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            WRONG_USE
        }
    }
}

fn start(mut cli: Cli) -> Result<u8> {
    match cli.command.take() {
        Some(command) => side_job(command),
        None => main_job(cli),
    }
}

fn side_job(command: Command) -> Result<u8> {
    match command {
        Command::Catalog(arguments) => return catalog_commands::run(*arguments),
        Command::Config(arguments) => {
            let options = ConfigOptions::new(*arguments, &|name| std::env::var(name).ok())?;
            let output = OutputOptions::plain();
            start_logging(&output, Display::new(&output).log_writer());
            print(&configuration(&options)?)?;
        }
        Command::Inventory(arguments) => return inventory_command::run(*arguments),
        Command::Schema { name: SchemaName::Catalog } => print(&catalog::json_schema())?,
        Command::Schema { name: SchemaName::Lock } => print(&record::json_schema())?,
        Command::Completions { shell } => print(&String::from_utf8(Cli::completions(shell))?)?,
    }
    Ok(Exit::Done as u8)
}

fn main_job(cli: Cli) -> Result<u8> {
    let mut options = Options::new(cli, &|name| std::env::var(name).ok())?;
    let display = Display::new(&options.output);
    start_logging(&options.output, display.log_writer());
    if options.mode == Mode::Audit {
        return look_through(&options, display);
    }
    let selection = select(&mut options)?;
    check_report(&options.output)?;
    if let Some(path) = &options.lock_out {
        check_place(path, Holds::Lock)?;
        if options.sign_key.is_some() {
            check_place(&beside(path), Holds::Lock)?;
        }
    }
    if options.mode == Mode::DryRun {
        let dry_run = DryRun { options: &options, selection: &selection };
        let printed = in_form(options.output.format, &dry_run).and_then(|text| print(&text));
        if let Some(sizes) = dry_run.sizes().filter(|_| !options.output.quiet) {
            let _ = writeln!(io::stderr(), "{sizes}");
        }
        let status = write_report(&options.output, &dry_run, Exit::Done as u8);
        return printed.map(|()| status);
    }
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let status = match options.mode {
        Mode::Check => compare(&runtime, &options, selection, display),
        _ => mirror(&runtime, &options, selection, display),
    };
    end_helpers();
    // A name that is still being looked up is nothing to wait for.
    runtime.shutdown_background();
    status
}

/// Whether the report can be written once there is one.
fn check_report(output: &OutputOptions) -> Result<()> {
    output.report.as_ref().map_or(Ok(()), |path| check_place(path, Holds::Report))
}

fn compare(runtime: &Runtime, options: &Options, selection: Selection, display: Display) -> Result<u8> {
    let found = check(options, selection, display.listener());
    let found = match unless_interrupted(runtime, found, display)? {
        Ok(found) => found,
        Err(by) => return Ok(by),
    };
    let status = write_lock(options, found.lock.as_ref(), found.exit() as u8);
    Ok(give(&options.output, &found, status))
}

/// Holds a layout against its own names.
fn look_through(options: &Options, display: Display) -> Result<u8> {
    check_report(&options.output)?;
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let found = unless_interrupted(&runtime, audit(options, display.listener()), display);
    // What is being read is nothing to wait for.
    runtime.shutdown_background();
    let found = found?;
    Ok(found.map_or_else(|by| by, |found| give(&options.output, &found, found.exit() as u8)))
}

/// What is found out; the exit status where a signal comes before.
fn unless_interrupted<T>(
    runtime: &Runtime,
    finding: impl Future<Output = Result<T>>,
    display: Display,
) -> Result<Result<T, u8>> {
    let (interrupted, by) = runtime.block_on(async { watch_signals() })?;
    let found = runtime.block_on(async {
        tokio::select! {
            found = finding => Some(found),
            () = interrupted => None,
        }
    });
    display.finish();
    match found {
        Some(found) => found.map(Ok),
        None => Ok(Err(by.load(Ordering::Relaxed))),
    }
}

fn mirror(runtime: &Runtime, options: &Options, selection: Selection, display: Display) -> Result<u8> {
    let (interrupted, by) = runtime.block_on(async { watch_signals() })?;
    let report = runtime.block_on(run(options, selection, display.listener(), interrupted));
    display.finish();
    let report = report?;
    let status = match report.exit() {
        Exit::Interrupted => by.load(Ordering::Relaxed),
        exit => exit as u8,
    };
    let status = write_lock(options, report.lock.as_ref(), status);
    let status = write_receipt(options, &report, status);
    if options.target.is_stream() {
        return Ok(give_beside(&options.output, &report, status));
    }
    Ok(give(&options.output, &report, status))
}

/// Writes the receipt of a run beside its lock, if it is to be signed; the exit status after that.
fn write_receipt(options: &Options, report: &Report, status: u8) -> u8 {
    match (&options.lock_out, receipt(options, report)) {
        (Some(lock), Some(receipt)) => {
            let place = beside(lock);
            after(receipt.and_then(|text| file::write(&place, &text, Holds::Lock)), status)
        }
        _ => status,
    }
}

/// Writes what a run has found out of its images, if that is wanted; the exit status after that.
fn write_lock(options: &Options, lock: Option<&Inventory>, status: u8) -> u8 {
    match (&options.lock_out, lock) {
        (Some(path), Some(lock)) => after(file::write(path, &lock.to_json(), Holds::Lock), status),
        _ => status,
    }
}
