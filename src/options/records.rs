//! What is recorded of a run's images, and what was recorded before.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{Environment, Mode};
use crate::cli::TransferArgs;
use crate::image::reference::{Algorithm, Digest};
use crate::receipt::{self, PublicKey, SigningKey};
use crate::record::{DOCUMENT_MAX, Inventory, Kind, Made};
use crate::selection::catalog::Selection;
use crate::selection::kubernetes::Named;
use crate::store::name::{LayoutName, StoreName};
use crate::util::input;
use crate::util::text::{self, quoted};

/// Most bytes of a key's file that are read at all.
const FILE_MAX: u64 = 1 << 20;
/// Most images that a text for people names.
const NAMED_MAX: usize = 3;

/// What `--lock` names.
#[derive(Debug, Clone)]
pub struct Lock {
    name: String,
    pub document: Arc<Inventory>,
}

impl Lock {
    /// # Errors
    /// It cannot be read, is no lock of any image, or has no receipt that `verify_key` has signed, if that is given.
    pub(super) fn read(path: &Path, verify_key: Option<&Path>) -> Result<Self> {
        let shown = text::printable(&path.display().to_string());
        let bytes = input::read_bytes(path, DOCUMENT_MAX);
        let bytes = bytes.with_context(|| format!("--lock: {shown}: cannot read it"))?;
        if let Some(key) = verify_key {
            check_receipt(path, key, &Digest::of(Algorithm::Sha256, &bytes))?;
        }
        let json = input::from_reader(bytes.as_slice(), DOCUMENT_MAX);
        let json = json.with_context(|| format!("--lock: {shown}: cannot read it"))?;
        let document = Inventory::from_json(&json, &shown, &[Kind::Lock]).context("--lock")?;
        let name = format!("--lock {shown}");
        ensure!(document.images.values().any(|image| image.refers_to.is_none()), "{name} holds no image");
        Ok(Self { name, document: Arc::new(document) })
    }

    /// What it lists as missing, where `selection` is all that it holds.
    pub(crate) fn missing_beside(&self, selection: &Selection) -> Vec<String> {
        let held = self.document.images.values().filter(|image| image.refers_to.is_none()).count();
        let missing = self.document.missing.keys().filter(|_| selection.images.len() >= held);
        missing.map(ToString::to_string).collect()
    }

    /// All images that it holds; `warnings` hears of those that it lists as missing.
    pub(super) fn all_images(&self, warnings: &mut Vec<String>) -> Result<Vec<Named>> {
        let missing: Vec<String> = self.document.missing.keys().map(ToString::to_string).collect();
        if !missing.is_empty() {
            warnings.push(format!(
                "{} lists as missing, and does not hold in full, {}",
                self.name,
                named(&missing)
            ));
        }
        let images = self.document.images.values().filter(|image| image.refers_to.is_none());
        let by = self.name.clone();
        Ok(images.map(|image| Named { reference: image.source.clone(), by: by.clone() }).collect())
    }

    /// # Errors
    /// Images are selected that it does not hold; the message names them.
    pub fn check(&self, selection: &Selection) -> Result<()> {
        let sources = selection.images.iter().map(|image| &image.reference);
        let lacking: Vec<_> = sources.filter(|source| !self.document.images.contains_key(*source)).collect();
        let Some(first) = lacking.first() else { return Ok(()) };
        let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        let mut hint = String::new();
        if let Some(missing) = self.document.missing.get(*first) {
            hint = format!("; it lists {first} as missing: {}", text::printable(&missing.cause));
        } else if let (Some(was), Some(is)) = (&self.document.made.kubeone, &selection.catalog)
            && *was != is.kubeone
        {
            let was = text::printable(was);
            hint = format!(
                "; it was made with a catalog up to KubeOne {was}, and this one knows {}",
                is.kubeone
            );
        }
        bail!(
            "{} does not hold {}{hint}: select what it holds, or have --lock-out write another one",
            self.name,
            named(&names)
        )
    }
}

/// What `--have` names.
#[derive(Debug, Clone)]
pub enum Have {
    Document(Arc<Inventory>),
    Layout(LayoutName),
}

/// # Errors
/// One of them cannot be read, or nothing is saved.
pub(super) fn have(texts: &[String], target: &StoreName) -> Result<Vec<Have>> {
    ensure!(
        texts.is_empty() || target.registry().is_none(),
        "--have leaves out what the other side has, and {target} is a registry, which is asked itself: save into \
         oci-archive:FILE or oci:DIR, or leave --have out"
    );
    let one = |text: &String| -> Result<Have> {
        let is_layout = text.starts_with("oci:") || text.starts_with("oci-archive:");
        match text.trim().parse().with_context(|| format!("--have {}", quoted(text))) {
            Ok(StoreName::Layout(name)) => {
                ensure!(
                    StoreName::Layout(name.clone()) != *target,
                    "--have names {target}, which is the target too: name another one of the two"
                );
                Ok(Have::Layout(name))
            }
            Err(error) if is_layout => Err(error),
            // Whatever else it may be the name of, it is that of a file.
            _ => {
                let read = Inventory::read(Path::new(text), &[Kind::Inventory, Kind::Lock]);
                let document = read.context(
                    "--have takes a file that mirror-images inventory STORE has printed, a lock, or a layout",
                )?;
                Ok(Have::Document(Arc::new(document)))
            }
        }
    };
    texts.iter().map(one).collect()
}

/// Whether a lock that has this digest is what the receipt beside it speaks of.
///
/// # Errors
/// There is no receipt, it is signed by another key, or it is of another lock.
fn check_receipt(lock: &Path, key: &Path, digest: &Digest) -> Result<()> {
    let shown = |path: &Path| text::printable(&path.display().to_string());
    let of_key = || format!("--verify-key {}", shown(key));
    let pem = input::read_bytes(key, FILE_MAX).with_context(of_key)?;
    let key = PublicKey::read(&pem).with_context(of_key)?;
    let place = receipt::beside(lock);
    let of_receipt = || format!("--verify-key: the receipt {}", shown(&place));
    let bundle = input::read_bytes(&place, receipt::BUNDLE_MAX as u64).with_context(of_receipt)?;
    let statement = receipt::verify(&key, &bundle).with_context(of_receipt)?;
    ensure!(
        statement.lock == *digest,
        "{} is of another lock, {}, and --lock {} has {digest}: do not use it",
        of_receipt(),
        statement.lock,
        shown(lock)
    );
    Ok(())
}

/// # Errors
/// There is no such key, or nothing that it could sign.
pub(super) fn signing_key(path: Option<&Path>, mode: Mode) -> Result<Option<Arc<SigningKey>>> {
    let Some(path) = path else { return Ok(None) };
    ensure!(
        mode == Mode::Mirror,
        "--sign-key signs what a run has brought, and --check and --dry-run bring nothing"
    );
    let name = || format!("--sign-key {}", text::printable(&path.display().to_string()));
    let pem = input::read_bytes(path, FILE_MAX).with_context(name)?;
    Ok(Some(Arc::new(SigningKey::read(&pem).with_context(name)?)))
}

/// A few of them by name.
fn named(names: &[String]) -> String {
    match names.len() {
        0..=NAMED_MAX => text::list(names),
        number => format!("{} and {} more", names[..NAMED_MAX].join(", "), number - NAMED_MAX),
    }
}

/// # Errors
/// A flag is about sources where none is asked.
pub(super) fn check_without_sources(transfer: &TransferArgs) -> Result<()> {
    for (flag, is_named) in [
        ("--lock-out", transfer.lock_out.is_some()),
        ("--accept-moved", transfer.accept_moved),
        ("--referrers", transfer.referrers),
        ("--source-mirror", !transfer.sources.source_mirror.is_empty()),
    ] {
        ensure!(
            !is_named,
            "{flag}: --check --lock asks the target alone, and no source: leave {flag} out, or compare with a layout by \
             --from"
        );
    }
    Ok(())
}

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
