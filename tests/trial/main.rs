//! The main job without the internet: `cargo run --release --example trial`.
//!
//! Plays the world's registries with one on loopback, which has generated images under the catalog's real names,
//! mirrors them into an empty one with the program's own pipeline and display, and reads the result back with
//! another implementation of the protocol. Ends with an error if anything is not as it should be.

// A program of its own has no outside, and prints.
#![allow(unreachable_pub, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod carried;
mod judge;
mod records;
mod upstream;

use std::collections::BTreeSet;
use std::future::pending;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mirror_images::cli::Cli;
use mirror_images::options::Options;
use mirror_images::output::report::{Exit, Report};
use mirror_images::progress::Display;
use mirror_images::run;
use mirror_images::selection::catalog::{Catalog, Query, Selection};
use mirror_images::util::text;

use crate::judge::Judge;
use crate::support::{Journal, Net, Op, Registry};
use crate::upstream::Upstream;

const KUBERNETES: &str = "v1.36.3";

fn main() -> Result<()> {
    let selection = selection()?;
    let upstream = Upstream::start(selection);
    // A net of its own: this registry knows nothing of the generated blobs, so what it hands out later is what
    // it was sent.
    let net = Net::new();
    let target = net.registry("target").start();
    introduce(&upstream, &target);

    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let command = command_line(&upstream, &target.host());
    println!("\n$ {}\n", command.join(" \\\n    "));
    let report = runtime.block_on(mirror(&command, &upstream.selection))?;
    check_first_run(&report, &upstream, net.journal())?;

    println!("Reading the target back with oci-client, another implementation of the protocol:");
    // From here on nobody needs to see how slow the world is.
    upstream.registry.clear_faults();
    runtime.block_on(read_back(&upstream, &target, &net))?;

    println!("\nThe same command once more:\n");
    net.journal().clear();
    upstream.net.journal().clear();
    let report = runtime.block_on(mirror(&command, &upstream.selection))?;
    check_second_run(&report, &upstream, net.journal())?;
    println!();
    runtime.block_on(carried::check(&upstream))?;
    runtime.block_on(records::check(&upstream))?;
    println!("\nAll is as it should be.");
    Ok(())
}

fn selection() -> Result<Selection> {
    let query = Query { kubernetes: vec![KUBERNETES.to_owned()], ..Query::default() };
    Ok(Catalog::embedded()?.select(&query)?)
}

fn introduce(upstream: &Upstream, target: &Registry) {
    let images = text::count(upstream.selection.images.len(), "image");
    let size = text::bytes(upstream.content.blob_bytes());
    println!("A trial of mirror-images that needs no network beyond this machine's own loopback.");
    println!();
    println!(
        "upstream  {}: the {images} of Kubernetes {KUBERNETES} under their real names,",
        upstream.registry.host()
    );
    println!("          for two platforms, generated: {size} in {} blobs", upstream.content.blobs.len());
    println!("          (the {} that KubeOne pins by digest have pins of the trial's own;", upstream.pinned);
    println!("          answers are held back a little, as distance does, so that there is progress to see)");
    println!("target    {}: an empty registry", target.host());
}

/// What one would type.
fn command_line(upstream: &Upstream, target: &str) -> Vec<String> {
    let images = upstream.selection.images.iter();
    let hosts: BTreeSet<&str> = images.map(|image| image.reference.host.as_str()).collect();
    let place = upstream.registry.host();
    let mirrors = hosts.into_iter().map(|host| format!("--source-mirror {host}=http://{place}"));
    let begin = format!("mirror-images --kubernetes-versions {KUBERNETES}");
    // What is generated is not what is recorded of the real images.
    let accepts = "--accept-moved".to_owned();
    [begin].into_iter().chain(mirrors).chain([accepts, target.to_owned()]).collect()
}

/// What the program does with that command line, but for the pins in the selection.
async fn mirror(command: &[String], selection: &Selection) -> Result<Report> {
    let words = command.iter().flat_map(|line| line.split(' '));
    let options = Options::new(Cli::try_from_arguments(words)?, &|_| None)?;
    let display = Display::new(&options.output);
    let report = run(&options, selection.clone(), display.listener(), pending()).await?;
    display.finish();
    println!("{report}");
    Ok(report)
}

fn check_first_run(report: &Report, upstream: &Upstream, journal: &Journal) -> Result<()> {
    ensure!(report.exit() == Exit::Done, "the run should have succeeded");
    ensure!(report.copied == report.images.len(), "every image should have been copied");
    let fetched = upstream.net.journal().count("upstream", Op::BlobGet);
    let blobs = upstream.content.blobs.len();
    ensure!(
        fetched == blobs,
        "{blobs} blobs should have been fetched once each; there were {fetched} fetches"
    );
    let mounted = journal.filter(|entry| entry.op == Op::Mount && entry.status == Some(201)).len();
    journal.assert_tag_last("target");
    println!("By the registries' own records:");
    println!("  each of the {blobs} blobs was fetched from upstream exactly once");
    println!("  {mounted} times a blob was mounted into another repository instead of sent again");
    println!("  no manifest was pushed before all that it names was there\n");
    Ok(())
}

async fn read_back(upstream: &Upstream, target: &Registry, net: &Net) -> Result<()> {
    let began = Instant::now();
    let judge = Judge::new(&upstream.registry.host(), &target.host(), &net.ca().pem)?;
    let found = judge.compare(&upstream.names()).await?;
    println!("  {} have the upstream's manifest, byte for byte", text::count(found.tags, "tag"));
    println!("  {} below them, each by its digest and size", text::count(found.children, "manifest"));
    println!(
        "  {}, {} in all their repositories: the size and SHA-256 of each, over all bytes",
        text::count(found.blobs, "blob"),
        text::bytes(found.bytes)
    );
    println!("  ({})", text::duration(began.elapsed()));
    Ok(())
}

fn check_second_run(report: &Report, upstream: &Upstream, journal: &Journal) -> Result<()> {
    ensure!(report.present == report.images.len(), "every image should have been there already");
    let writes = journal.writes().len();
    ensure!(writes == 0, "nothing should have been written; there were {writes} requests that write");
    println!("By the registries' own records:");
    println!(
        "  {} at the target, none of which writes, and {} at upstream",
        text::count(journal.requests("target"), "request"),
        upstream.net.journal().requests("upstream")
    );
    Ok(())
}
