//! Where images are taken from instead of where they are published.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::image::reference::{Digest, Reference, Target};
use crate::selection::kubernetes::Named;
use crate::store::layout::Layout;
use crate::store::name::{LayoutName, StoreName};
use crate::store::patience::Policy;
use crate::util::text;

/// What `--from` names.
#[derive(Debug, Clone)]
pub enum Supply {
    /// Nothing: each image is taken from its own host.
    Upstream,
    /// A registry that has all images under the names that a mirror gives them.
    Registry(Target),
    /// Image layouts, which are one store.
    Layouts(Arc<Layout>),
}

impl Supply {
    /// # Errors
    /// A name is none, there is no layout, or what is named does not go together.
    pub(super) fn new(texts: &[String], policy: &Policy) -> Result<Self> {
        let named = texts.iter().map(|text| text.trim().parse::<StoreName>());
        let named: Vec<StoreName> = named.collect::<Result<_, _>>().context("--from")?;
        if let [StoreName::Registry(target)] = named.as_slice() {
            return Ok(Self::Registry(target.clone()));
        }
        let mut layouts: Vec<LayoutName> = Vec::new();
        for name in named {
            match name {
                StoreName::Layout(layout) => layouts.push(layout),
                StoreName::Registry(target) => bail!(
                    "--from names {target} and other places: several layouts are one store, a registry stands alone"
                ),
            }
        }
        if layouts.is_empty() {
            return Ok(Self::Upstream);
        }
        let layout = Layout::open(&layouts, policy.clone()).context("--from")?;
        Ok(Self::Layouts(Arc::new(layout)))
    }

    /// # Errors
    /// Images would be taken from where they go, or from two places.
    pub(super) fn check_beside(&self, target: &StoreName, mirrors: &[String]) -> Result<()> {
        let is_same = match (self, target) {
            (Self::Layouts(layout), StoreName::Layout(target)) => layout.is(target),
            (Self::Registry(from), StoreName::Registry(target)) => from == target,
            _ => false,
        };
        ensure!(!is_same, "--from names {target}, which is the target too: name another one of the two");
        ensure!(
            matches!(self, Self::Upstream) || mirrors.is_empty(),
            "--from and --source-mirror both say where images are taken from: leave one of them out"
        );
        Ok(())
    }

    /// All images of the layouts, if there are any; `warnings` hears of what has no whole name.
    ///
    /// # Errors
    /// The layouts hold no image, or none that has a whole name.
    pub(super) fn all_images(&self, warnings: &mut Vec<String>) -> Result<Vec<Named>> {
        let Self::Layouts(layout) = self else { return Ok(Vec::new()) };
        let (names, unnamed) = layout.names();
        let there: HashSet<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        let missing: Vec<String> = layout
            .locks()
            .context("--from")?
            .iter()
            .flat_map(|lock| lock.missing.values().map(|missing| missing.source.to_string()))
            .filter(|source| !there.contains(source.as_str()))
            .collect();
        if !missing.is_empty() {
            warnings.push(format!(
                "{} was written without {}, by its lock: {}",
                layout.place(),
                text::count(missing.len(), "image"),
                text::list(&missing[..missing.len().min(3)])
            ));
        }
        if !unnamed.is_empty() {
            let left_out = without_names(layout.place(), &unnamed);
            ensure!(!names.is_empty(), "--from: {left_out}");
            warnings.push(left_out);
        }
        ensure!(!names.is_empty(), "--from: {} holds no image", layout.place());
        let by = format!("--from {}", layout.place());
        let references = names.iter().map(|(name, digest)| Ok((name.parse()?, digest.clone())));
        let references = as_asked_for(references.collect::<Result<_>>()?);
        Ok(references.into_iter().map(|reference| Named { reference, by: by.clone() }).collect())
    }
}

/// What becomes of images that have no whole name, and what to do.
fn without_names(place: &str, unnamed: &[String]) -> String {
    let shown: Vec<String> = unnamed.iter().take(3).map(|name| text::quoted(name)).collect();
    let shown = text::list(&shown);
    let (images, are) = match unnamed.len() {
        1 => ("one image has".to_owned(), "is"),
        number => (format!("{number} images have"), "are"),
    };
    format!(
        "{place}: {images} no name with a host, such as {shown}, and {are} left out: name it by the annotation \
         org.opencontainers.image.ref.name in index.json"
    )
}

/// An image that was asked for by tag and digest has a name by each: the two are one again.
fn as_asked_for(names: Vec<(Reference, Digest)>) -> Vec<Reference> {
    let key = |reference: &Reference, digest: &Digest| {
        (reference.host.clone(), reference.repository.clone(), digest.clone())
    };
    let is_by_digest = |reference: &Reference| reference.tag.is_none();
    let by_digest = names.iter().filter(|(reference, _)| is_by_digest(reference));
    let pinned: HashSet<_> = by_digest.map(|(reference, digest)| key(reference, digest)).collect();
    let tagged = names.iter().filter(|(reference, _)| !is_by_digest(reference));
    let tagged: HashSet<_> = tagged.map(|(reference, digest)| key(reference, digest)).collect();
    let mut references = Vec::new();
    for (mut reference, digest) in names {
        let key = key(&reference, &digest);
        if is_by_digest(&reference) && tagged.contains(&key) {
            continue;
        }
        if pinned.contains(&key) {
            reference.digest = Some(digest);
        }
        references.push(reference);
    }
    references
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Algorithm;

    #[test]
    fn an_image_that_was_pinned_is_asked_for_as_it_was() {
        let digest = |text: &str| Digest::of(Algorithm::Sha256, text.as_bytes());
        let (a, b) = (digest("a"), digest("b"));
        let names = [
            ("q.io/c:v1".to_owned(), a.clone()),
            (format!("q.io/c@{a}"), a.clone()),
            ("q.io/c:v2".to_owned(), b.clone()),
            ("q.io/other:v1".to_owned(), a.clone()),
            (format!("q.io/alone@{b}"), b.clone()),
        ];
        let names = names.map(|(name, digest)| (name.parse().unwrap(), digest)).to_vec();
        let references: Vec<String> = as_asked_for(names).iter().map(ToString::to_string).collect();
        let expected = [
            format!("q.io/c:v1@{a}"),
            "q.io/c:v2".to_owned(),
            "q.io/other:v1".to_owned(),
            format!("q.io/alone@{b}"),
        ];
        assert_eq!(references, expected);
    }
}
