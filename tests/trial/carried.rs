//! The carried way: all images into one file, and from the file alone into an empty registry.

use std::future::pending;

use anyhow::{Context as _, Result, ensure};
use mirror_images::cli::Cli;
use mirror_images::options::Options;
use mirror_images::output::report::{Exit, Report};
use mirror_images::progress::Display;
use mirror_images::util::text;
use mirror_images::{run, select};

use crate::support::{Net, Op};
use crate::upstream::Upstream;
use crate::{command_line, mirror, read_back};

/// Carries the upstream's images into a registry that sees nothing of the upstream.
pub async fn check(upstream: &Upstream) -> Result<()> {
    println!("The same images carried across a gap in one file:\n");
    let directory = tempfile::tempdir().context("there is no room for a file")?;
    let file = directory.path().join("images.tar");
    let archive = format!("oci-archive:{}", file.display());
    upstream.net.journal().clear();
    let saved = mirror(&command_line(upstream, &archive), &upstream.selection).await?;
    ensure!(saved.exit() == Exit::Done && saved.copied == saved.images.len(), "all should have been saved");
    let (fetched, blobs) =
        (upstream.net.journal().count("upstream", Op::BlobGet), upstream.content.blobs.len());
    ensure!(
        fetched == blobs,
        "{blobs} blobs should have been fetched once each; there were {fetched} fetches"
    );

    let net = Net::new();
    let inside = net.registry("inside").start();
    upstream.net.journal().clear();
    let loaded = load(&archive, &inside.host()).await?;
    ensure!(
        loaded.exit() == Exit::Done && loaded.copied == loaded.images.len(),
        "all should have been loaded"
    );
    let asked = upstream.net.journal().requests("upstream");
    ensure!(asked == 0, "nothing inside should have seen the upstream; it was asked {asked} times");
    net.journal().assert_tag_last("inside");
    let size = file.metadata()?.len();
    println!("One file of {}; read back from the registry inside:", text::bytes(size));
    read_back(upstream, &inside, &net).await?;
    println!();
    Ok(())
}

async fn load(archive: &str, target: &str) -> Result<Report> {
    let cli = Cli::try_from_arguments(["mirror-images", "--accept-moved", "--from", archive, target])?;
    let mut options = Options::new(cli, &|_| None)?;
    let selection = select(&mut options)?;
    let display = Display::new(&options.output);
    let report = run(&options, selection, display.listener(), pending()).await?;
    display.finish();
    println!("{report}");
    Ok(report)
}
