//! The catalog's images recorded at upstream, and looked at again once one is missing there and one has moved.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use mirror_images::cli::{CatalogCommand, Cli, Command};
use mirror_images::image::reference::Reference;
use mirror_images::options::{PinOptions, VerifyOptions};
use mirror_images::selection::catalog::Catalog;
use mirror_images::survey::{Standing, Verification};
use mirror_images::util::text;
use mirror_images::{pin_catalog, verify_catalog};

use crate::support::Op;
use crate::upstream::Upstream;

/// The release whose images are asked for; upstream has those of one version of Kubernetes.
const KUBEONE: &str = "1.14";

/// Records what upstream has, loses one image and moves another there, and finds both.
pub async fn check(upstream: &Upstream) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pins.json").display().to_string();
    std::fs::write(&file, "{\"version\": 1, \"kind\": \"pins\", \"images\": []}")?;
    let Some(CatalogCommand::Pin(arguments)) = command(upstream, &["pin", &file, "--platforms"])? else {
        bail!("`catalog pin` is another command")
    };
    let pinned = pin_catalog(&PinOptions::new(arguments, &|_| None)?, Arc::new(|_| {}), pending()).await?;
    let generated = upstream.selection.images.len() - upstream.pinned;
    ensure!(pinned.new == generated, "{generated} images should have been recorded: {pinned}");
    ensure!(pinned.failed + pinned.moved == 0, "nothing should have failed or moved: {pinned}");
    std::fs::write(&file, pinned.pins.to_json())?;

    let before = verify(upstream, &file).await?;
    ensure!(before.moved + before.failed + before.lacking == 0, "{before}");
    ensure!(before.there == generated, "{generated} images should be there: {before}");
    let (lost, moved) = disturb(upstream)?;
    upstream.net.journal().clear();
    let after = verify(upstream, &file).await?;
    let standing = |image: &Reference| {
        let name = image.to_string();
        after.references.iter().find(|line| line.source == name).map(|line| line.state)
    };
    ensure!(after.missing == before.missing + 1 && standing(&lost) == Some(Standing::Missing), "{after}");
    ensure!(after.moved == 1 && standing(&moved) == Some(Standing::Moved), "{after}");
    // What tells the platforms of the one that has moved.
    let count = |op| upstream.net.journal().count("upstream", op);
    let fetched = (count(Op::ManifestGet), count(Op::BlobGet));
    ensure!(fetched == (1, 1), "one manifest and its config should have been fetched, not {fetched:?}");

    println!("The images of KubeOne {KUBEONE} in the catalog, asked for at upstream:");
    println!("  {} recorded with digest, platforms and sizes", text::count(pinned.new, "image"));
    println!("  {lost}, deleted there: missing");
    println!("  {moved}, another one by now: moved");
    Ok(())
}

async fn verify(upstream: &Upstream, file: &str) -> Result<Verification> {
    let Some(CatalogCommand::Verify(arguments)) = command(upstream, &["verify", "--pins", file])? else {
        bail!("`catalog verify` is another command")
    };
    verify_catalog(&VerifyOptions::new(arguments, &|_| None)?, Arc::new(|_| {}), pending()).await
}

/// A subcommand of `catalog` that asks upstream for all hosts.
fn command(upstream: &Upstream, words: &[&str]) -> Result<Option<CatalogCommand>> {
    let all = Catalog::embedded()?.references(Some(KUBEONE))?.references;
    let hosts: BTreeSet<&str> = all.keys().map(|reference| reference.host.as_str()).collect();
    let place = upstream.registry.host();
    let mirrors = hosts.into_iter().map(|host| format!("--source-mirror={host}=http://{place}"));
    let begin = ["mirror-images", "catalog"].into_iter().chain(words.iter().copied());
    let arguments = begin.chain(["--kubeone-version", KUBEONE]).map(str::to_owned).chain(mirrors);
    match Cli::try_from_arguments(arguments)?.command {
        Some(Command::Catalog(arguments)) => Ok(arguments.command),
        _ => bail!("`catalog` is another command"),
    }
}

/// Deletes one image at upstream, and puts another one in the place of a second.
fn disturb(upstream: &Upstream) -> Result<(Reference, Reference)> {
    let images = upstream.selection.images.iter().map(|image| &image.reference);
    let mut images = images.filter(|image| image.digest.is_none() && !image.host.is_docker_hub());
    let lost = images.next().context("the selection has images")?;
    let tag = |image: &Reference| image.tag.as_ref().map(ToString::to_string).unwrap_or_default();
    upstream.registry.delete_tag(lost.repository.as_str(), &tag(lost));
    for moved in images {
        let repository = &upstream.content.repositories[moved.repository.as_str()];
        let tagged: BTreeSet<&String> = repository.tags.values().collect();
        if let Some(other) = repository.manifests.iter().find(|digest| !tagged.contains(digest)) {
            upstream.registry.set_tag(moved.repository.as_str(), &tag(moved), other);
            return Ok((lost.clone(), moved.clone()));
        }
    }
    bail!("no image at upstream has more than one manifest")
}
