//! Mirrors the container images of a KubeOne cluster into a registry.
//!
//! [`plan`] finds out what has to move, image by image, and [`mirror`] moves it meanwhile. Knowledge flows one way, from
//! the top of this list to its bottom.

pub mod audit;
pub mod check;
pub mod survey;

pub mod output;
pub mod progress;

mod endpoints;
mod inventory;

pub mod options;

pub mod cli;

pub mod selection;

pub mod mirror;
pub mod plan;

pub mod store;

pub mod events;

mod error;
mod redact;

pub mod receipt;
pub mod record;

pub mod image;
pub mod util;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::audit::Audit;
use crate::check::Check;
use crate::endpoints::{Endpoints, check_mirrors};
use crate::events::Listener;
use crate::image::reference::{Algorithm, Digest, check_collisions};
use crate::inventory::Sought;
use crate::mirror::Limits;
use crate::options::{ConfigOptions, Have, InventoryOptions, Options, PinOptions, VerifyOptions};
use crate::output::config;
use crate::output::report::{self, Report, Status};
use crate::plan::Request;
use crate::receipt::Record;
use crate::record::{Blob, Draft, Inventory, Kind, Missing};
use crate::selection::catalog::{Edition, Pins, SelectedImage, Selection};
use crate::selection::why::{Why, explain};
use crate::selection::{Choice, choose};
use crate::store::Target;
use crate::store::layout::Layout;
use crate::store::name::StoreName;
use crate::survey::{Pinning, Verification};

pub use crate::inventory::Taken;
use crate::util::{open_files, text};

/// The images that the options choose: from the catalog, by name, or both.
///
/// # Errors
/// As [`choose`] and [`check_mirrors`] have them; a selection without any image; two images that would overwrite each
/// other at the target.
pub fn select(options: &mut Options) -> Result<Selection> {
    let mut selection = choose(&options.choice)?;
    // In files a name has its host.
    if options.target.registry().is_some() {
        check_names(&selection)?;
    }
    // They are in the selection now, and may be many.
    options.choice.images = Vec::new();
    selection.leave_out_gone(|host| options.source_mirrors.iter().any(|mirror| mirror.host == *host));
    if let Some(cluster) = options.choice.cluster.as_ref().filter(|cluster| cluster.registry.is_some()) {
        let told = selection.not_overwritten(|host| cluster.redirected.contains(host.as_str()));
        selection.warnings.extend(told);
    }
    let selection = told(&options.choice, selection)?;
    if let Some(lock) = &options.lock {
        lock.check(&selection)?;
    }
    // A lock holds what moves as well.
    if options.lock.is_none() {
        options.pins = exempting(options, &selection)?;
    }
    if let Some(edition) = &selection.catalog {
        let Edition { kubeone, digest } = edition.clone();
        (options.made.kubeone, options.made.catalog) = (Some(kubeone), Some(digest));
    }
    let hosts = selection.images.iter().map(|image| &image.reference.host).collect();
    check_mirrors(&options.source_mirrors, &hosts)?;
    Ok(selection)
}

/// The records, of which those of tags that are meant to move are compared with nothing.
fn exempting(options: &Options, selection: &Selection) -> Result<Arc<Pins>> {
    let moving = selection.images.iter().filter(|image| image.is_moving).map(|image| &image.reference);
    let pins = options.pins.exempting(moving);
    // All releases are read for images that nobody but the user named, and only where that matters.
    let mut by_hand = selection.images.iter().filter(|image| image.reasons.is_empty());
    if !by_hand.any(|image| pins.get(&image.reference).is_some_and(|pin| pin.wanted().is_some())) {
        return Ok(pins);
    }
    Ok(pins.exempting(selection::moving(&options.choice)?.iter()))
}

/// Whether each image has a name of its own in a registry, where names are without their hosts.
fn check_names(selection: &Selection) -> Result<()> {
    Ok(check_collisions(selection.images.iter().map(|image| &image.reference))?)
}

/// A selection without images is a mistake of the user's, and must not look like a mirror that is up to date.
fn told(choice: &Choice, selection: Selection) -> Result<Selection> {
    warn(&choice.warnings);
    warn(&selection.warnings);
    if let (true, Some(gone)) = (selection.images.is_empty(), selection.gone.first()) {
        bail!(
            "no image is left: what is selected is gone upstream, {}; a mirror that has kept it is named by \
             --source-mirror {}=PLACE",
            text::count(selection.gone.len(), "image"),
            gone.reference.host
        );
    }
    ensure!(
        !selection.images.is_empty(),
        "no image is selected: the groups of --filter hold none of what the other flags ask for; \
         --dry-run -v without --filter shows what does"
    );
    Ok(selection)
}

/// What makes a cluster pull from the target what the options choose.
///
/// # Errors
/// As [`choose`] and [`config::render`] have them; a selection without any image; two images that would have one name at
/// the target.
pub fn configuration(options: &ConfigOptions) -> Result<String> {
    let selection = choose(&options.choice)?;
    check_names(&selection)?;
    let selection = told(&options.choice, selection)?;
    let config = config::render(options, &selection)?;
    warn(&config.notes);
    Ok(config.text)
}

fn warn(sentences: &[String]) {
    for sentence in sentences {
        tracing::warn!("{sentence}");
    }
}

/// Mirrors `selection`. `listener` hears what happens; `interrupted` ends the run early and in order.
///
/// # Errors
/// The target is a layout that cannot be made.
pub async fn run(
    options: &Options,
    selection: Selection,
    listener: Listener,
    interrupted: impl Future<Output = ()>,
) -> Result<Report> {
    let began = Instant::now();
    let gone = selection.gone.clone();
    let (target, requests) = requests(options, selection, false).await?;
    let limits = limits(options);
    let mut finished = mirror::mirror(requests, target, options.rules, limits, listener, interrupted).await;
    let lock = lock(options, std::mem::take(&mut finished.draft), &gone);
    let report = Report::new(&options.target, finished, began.elapsed());
    let report = report.without(gone.len(), options.platforms.not_found()).with_pins(&options.pins);
    Ok(report.with_lock(lock))
}

/// Compares both sides for `selection`, without writing anything: what a run would then do, to the byte.
///
/// # Errors
/// The target is a layout that cannot be read.
pub async fn check(options: &Options, selection: Selection, listener: Listener) -> Result<Check> {
    let gone = selection.gone.clone();
    let not_locked = options.lock.as_ref().filter(|_| options.by_lock);
    let not_locked = not_locked.map(|lock| lock.missing_beside(&selection)).unwrap_or_default();
    let (target, requests) = requests(options, selection, true).await?;
    let (name, limits) = (options.target.to_string(), limits(options));
    let (found, draft) = check::check(name, requests, target, options.rules, limits, &listener).await;
    let found = found.without(gone.len(), options.platforms.not_found()).with_pins(&options.pins);
    let lock = lock(options, draft, &gone);
    Ok(Check { lock, by_lock: options.by_lock, not_locked, ..found })
}

/// Reads and hashes everything that the target holds, which is a layout, and asks nobody.
///
/// # Errors
/// There is no layout, or what it holds cannot be listed.
pub async fn audit(options: &Options, listener: Listener) -> Result<Audit> {
    let StoreName::Layout(name) = &options.target else {
        bail!("{}: a registry is checked against the place that its images come from", options.target)
    };
    let layout = match Layout::open(std::slice::from_ref(name), options.policy.clone()) {
        Ok(layout) => layout,
        Err(error) => return Ok(Audit::unreadable(name.to_string(), error)?),
    };
    let (include_foreign, largest) = (options.rules.include_foreign, options.policy.manifest_max);
    let audit = audit::audit(&layout, &options.platforms, include_foreign, largest, &listener).await?;
    Ok(audit.without(options.platforms.not_found()))
}

/// Asks sources whether each image of a catalog is what it should be. `interrupted` ends that early, with what is known by
/// then.
///
/// # Errors
/// As [`survey::questions`] has them: a catalog that cannot be read, or a release that it does not know.
pub async fn verify_catalog(
    options: &VerifyOptions,
    listener: Listener,
    interrupted: impl Future<Output = ()>,
) -> Result<Verification> {
    let questions = survey::questions(&options.asked, &options.pins)?;
    Ok(survey::verify(options, questions, &listener, interrupted).await)
}

/// Asks sources which digest each image of a catalog has. `interrupted` ends that early, with what is known by then.
///
/// # Errors
/// As [`verify_catalog`] has them.
pub async fn pin_catalog(
    options: &PinOptions,
    listener: Listener,
    interrupted: impl Future<Output = ()>,
) -> Result<Pinning> {
    let questions = survey::questions(&options.asked, &options.pins)?;
    Ok(survey::pin(options, questions, &listener, interrupted).await)
}

/// What is to be written of the images of a run, if anything is. Those that are `gone` are missing.
fn lock(options: &Options, mut draft: Draft, gone: &[SelectedImage]) -> Option<Inventory> {
    options.lock_out.as_ref()?;
    for image in gone {
        let since = image.gone.as_ref().map_or("", |gone| gone.since.as_str());
        draft.miss(Missing {
            source: image.reference.clone(),
            names: image.reference.destinations(),
            cause: format!("it is gone upstream, since {since}"),
            reasons: explain(image).iter().map(Why::sentence).collect(),
        });
    }
    Some(draft.into_inventory(Kind::Lock, options.made.clone()))
}

/// The receipt of what a run has brought, if it is to be signed: a Sigstore bundle, to be kept beside the lock.
///
/// # Errors
/// The key does not sign.
pub fn receipt(options: &Options, report: &Report) -> Option<Result<String>> {
    let (key, lock) = (options.sign_key.as_ref()?, report.lock.as_ref()?);
    let record = |line: &report::Line| {
        let result = match line.result {
            Status::Copied => receipt::Outcome::Copied,
            Status::Present => receipt::Outcome::Present,
            Status::Failed | Status::Left => return None,
        };
        let image = lock.images.get(&line.source.parse().ok()?)?;
        let named = image.platforms.iter().filter_map(|platform| platform.platform.clone());
        Some(Record {
            source: line.source.clone(),
            digest: image.trimmed.as_ref().unwrap_or(&image.digest).clone(),
            target: line.target.clone(),
            platforms: named.collect(),
            result,
        })
    };
    let records: Vec<Record> = report.images.iter().filter_map(record).collect();
    let made = receipt::Made {
        tool: options.made.tool.clone(),
        catalog: options.made.catalog.as_ref().map(ToString::to_string),
    };
    let lock = Digest::of(Algorithm::Sha256, lock.to_json().as_bytes());
    Some(receipt::sign(key, &made, &records, &lock).context("--sign-key"))
}

fn limits(options: &Options) -> Limits {
    Limits::for_images(options.parallel).within(open_files::raise())
}

/// What the other side has of layers that are to be saved.
async fn elsewhere(options: &Options) -> Result<BTreeMap<Digest, Blob>> {
    let mut all = BTreeMap::new();
    for have in &options.have {
        let document = match have {
            Have::Document(document) => document.clone(),
            Have::Layout(name) => Arc::new(inventory::of_layout(name, options).await.context("--have")?),
        };
        // What is left out of a delta is there as well.
        for (digest, blob) in document.base.iter().chain(&document.blobs) {
            all.insert(digest.clone(), blob.clone());
        }
    }
    Ok(all)
}

/// What `options.store` holds of the images that are chosen, or of all that a layout names.
///
/// # Errors
/// As [`choose`] has them; a selection without any image; a layout that cannot be read.
pub async fn inventory(options: &InventoryOptions, listener: Listener) -> Result<Taken> {
    let selection = choose(&options.choice)?;
    let gone = Selection { images: selection.gone.clone(), ..Selection::default() };
    let selection = told(&options.choice, selection)?;
    let mut made = options.made.clone();
    if let Some(Edition { kubeone, digest }) = selection.catalog.clone() {
        (made.kubeone, made.catalog) = (Some(kubeone), Some(digest));
    }
    let images = selection.images.into_iter().chain(gone.images).map(|image| image.reference);
    let sought =
        images.map(|reference| Sought { locations: options.store.destinations(&reference), reference });
    let store = endpoints::store(&options.store, &options.access, options.scheme)?;
    Ok(inventory::take(&store, sought.collect(), options.parallel, made, &listener).await)
}

async fn requests(
    options: &Options,
    selection: Selection,
    only_read: bool,
) -> Result<(Target, Vec<Request>)> {
    let mut hosts = Endpoints::new(options, only_read, elsewhere(options).await?)?;
    let requests = selection.images.into_iter().map(|image| hosts.request(&image)).collect();
    Ok((hosts.target, requests))
}
