//! Renews the catalog from the sources of KubeOne and Kubernetes:
//! `cargo run --example renew -- --kubeone CHECKOUT [--kubernetes CHECKOUT]`.
//!
//! Reads git checkouts at their tags, with git and nothing else. Writes the files of the catalog, and prints what a reviewer
//! has to look at, as Markdown.

// A program of its own has no outside.
#![allow(unreachable_pub)]

mod renewal;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::renewal::{Request, renew};

/// Renew the catalog from the sources of KubeOne and Kubernetes
#[derive(Parser)]
#[command(name = "renew")]
struct Arguments {
    /// A checkout of KubeOne with its tags; a bare one will do
    #[arg(long, value_name = "CHECKOUT")]
    kubeone: PathBuf,
    /// The same of Kubernetes; without it, what kubeadm needs stays as it is
    #[arg(long, value_name = "CHECKOUT")]
    kubernetes: Option<PathBuf>,
    /// Write nothing, only tell
    #[arg(long)]
    dry_run: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kubernetes = arguments.kubernetes.as_deref();
    let renewal = renew(&Request { project, kubeone: &arguments.kubeone, kubernetes })?;
    if !arguments.dry_run {
        renewal.write(project)?;
    }
    std::io::stdout().write_all(renewal.review.to_string().as_bytes()).context("cannot print the review")?;
    for path in renewal.files.keys() {
        eprintln!("{}: {}", if arguments.dry_run { "would change" } else { "written" }, path.display());
    }
    Ok(())
}
