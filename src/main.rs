//! The program: reads the command line, shows progress, runs, reports.

use std::future::Future;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result};
use mirror_images::catalog::{Catalog, Selection};
use mirror_images::cli::{Cli, Command, Format};
use mirror_images::dry_run::DryRun;
use mirror_images::options::{ConfigOptions, Mode, Options, OutputOptions};
use mirror_images::progress::{Display, LogWriter};
use mirror_images::registry::credentials::end_helpers;
use mirror_images::report::{self, Exit, check_place};
use mirror_images::{check, configuration, run, select};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Wrong use, or anything else that keeps a run from beginning.
const WRONG_USE: u8 = 2;
/// Ended by a terminal that went away.
const HUNG_UP: u8 = 129;

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
        Command::Catalog => print(&Catalog::embedded_yaml())?,
        Command::Config(arguments) => {
            let options = ConfigOptions::new(*arguments, &|name| std::env::var(name).ok())?;
            let output = OutputOptions::plain();
            start_logging(&output, Display::new(&output).log_writer());
            print(&configuration(&options)?)?;
        }
        Command::Completions { shell } => print(&String::from_utf8(Cli::completions(shell))?)?,
    }
    Ok(Exit::Done as u8)
}

fn main_job(cli: Cli) -> Result<u8> {
    let options = Options::new(cli, &|name| std::env::var(name).ok())?;
    let display = Display::new(&options.output);
    start_logging(&options.output, display.log_writer());
    let selection = select(&options)?;
    if let Some(path) = &options.output.report {
        check_place(path)?;
    }
    if options.mode == Mode::DryRun {
        let dry_run = DryRun { options: &options, selection: &selection };
        let printed = in_form(options.output.format, &dry_run).and_then(|text| print(&text));
        let status = write_report(&options.output, &dry_run, Exit::Done as u8);
        return printed.map(|()| status);
    }
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let status = match options.mode {
        Mode::Check => compare(&runtime, &options, &selection, display),
        Mode::Mirror | Mode::DryRun => mirror(&runtime, &options, &selection, display),
    };
    end_helpers();
    // A name that is still being looked up is nothing to wait for.
    runtime.shutdown_background();
    status
}

fn compare(runtime: &Runtime, options: &Options, selection: &Selection, display: Display) -> Result<u8> {
    let (interrupted, by) = runtime.block_on(async { watch_signals() })?;
    let found = runtime.block_on(async {
        tokio::select! {
            found = check(options, selection, display.listener()) => Some(found),
            () = interrupted => None,
        }
    });
    display.finish();
    Ok(match found {
        Some(found) => give(&options.output, &found, found.exit() as u8),
        None => by.load(Ordering::Relaxed),
    })
}

fn mirror(runtime: &Runtime, options: &Options, selection: &Selection, display: Display) -> Result<u8> {
    let (interrupted, by) = runtime.block_on(async { watch_signals() })?;
    let report = runtime.block_on(run(options, selection, display.listener(), interrupted));
    display.finish();
    let status = match report.exit() {
        Exit::Interrupted => by.load(Ordering::Relaxed),
        exit => exit as u8,
    };
    Ok(give(&options.output, &report, status))
}

/// Gives the result in the form and to the places that the user asked for; the exit status after that.
fn give<T: std::fmt::Display + serde::Serialize>(output: &OutputOptions, result: &T, status: u8) -> u8 {
    let printed = in_form(output.format, result).and_then(|text| print(&text));
    write_report(output, result, after(printed, status))
}

/// Writes the report of `result`, if there is to be one; the exit status after that.
fn write_report(output: &OutputOptions, result: &impl serde::Serialize, status: u8) -> u8 {
    match &output.report {
        Some(path) => after(report::write(path, result), status),
        None => status,
    }
}

/// The exit status of a run whose result was to be told. The result is what it is; only its reader has to know.
fn after(told: Result<()>, status: u8) -> u8 {
    match told {
        Ok(()) => status,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            status.max(Exit::SomeFailed as u8)
        }
    }
}

fn in_form<T: std::fmt::Display + serde::Serialize>(form: Format, result: &T) -> Result<String> {
    match form {
        Format::Text => Ok(result.to_string()),
        Format::Json => Ok(report::to_json(result)? + "\n"),
    }
}

/// A future that ends at the first SIGINT, SIGTERM or SIGHUP, and the exit status that stands for it. Another SIGINT
/// or SIGTERM ends the program at once; another SIGHUP does not, for a terminal that goes away can send two.
fn watch_signals() -> Result<(impl Future<Output = ()>, Arc<AtomicU8>)> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut hang_up = match ignores_hang_up() {
        true => None,
        false => Some(signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?),
    };
    let by = Arc::new(AtomicU8::new(Exit::Interrupted as u8));
    let status = by.clone();
    let mut next = async move || {
        tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted as u8,
            _ = terminate.recv() => 143,
            _ = async { hang_up.as_mut().expect("only if there is one").recv().await }, if hang_up.is_some() => HUNG_UP,
        }
    };
    let first = async move {
        status.store(next().await, Ordering::Relaxed);
        tracing::warn!("stopping; once more ends at once");
        tokio::spawn(async move {
            loop {
                let status = next().await;
                if status != HUNG_UP {
                    end_helpers();
                    std::process::exit(i32::from(status));
                }
            }
        });
    };
    Ok((first, by))
}

/// Whether the program was started to outlive its terminal, as by nohup: to watch for the signal would undo that.
/// Where it cannot be told (proc(5), `SigIgn`), the signal does what it always did.
fn ignores_hang_up() -> bool {
    let ignored = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    ignored.is_none_or(|mask| mask & 1 != 0)
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    heard(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What came of writing to standard output. A reader that has seen enough, such as head, is no error.
fn heard(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn start_logging(output: &OutputOptions, writer: LogWriter) {
    let level = match (output.quiet, output.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "warn,mirror_images=info",
        (_, 2) => "warn,mirror_images=debug",
        (_, _) => "warn,mirror_images=trace",
    };
    // The verifier logs at error level what the failed request reports anyway.
    let filter =
        std::env::var("RUST_LOG").unwrap_or_else(|_| format!("{level},rustls_platform_verifier=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(writer)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false);
    match output.log_format {
        Format::Json => builder.json().init(),
        Format::Text => builder.without_time().init(),
    }
}
