//! An image's manifests into one repository, once all its blobs are there.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::error::Remedy;
use crate::error::{Error, Kind};
use crate::image::manifest::{Extent, Manifest, StandIn, Trimmed};
use crate::image::reference::{Digest, Location, TagOrDigest};
use crate::store::Head;
use crate::store::{Role, Target};

/// Manifests that were put, and what kept the others from it.
#[derive(Default)]
pub(super) struct Published {
    pub manifests: Vec<Digest>,
    /// Bytes of those manifests.
    pub bytes: u64,
    /// What the name got, once it has got it.
    pub extent: Option<Extent>,
    pub trouble: Option<Error>,
}

/// What shows that a manifest is there once it has been put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The answer to its being put.
    Answer,
    /// That the target says so when it is asked.
    Head,
    /// Its bytes, read back.
    Bytes,
}

/// Puts manifests level by level; the last one, the root, gets the name of `location` and with it the tag. Those of one
/// level go together.
///
/// The `root` of what refers to an image is made findable by it. What may be there from before is confirmed by a further `proof` after
/// its being put, and before anything names it: a registry that ran out of room may have kept damaged files, and take
/// them for the manifests that it is sent (distribution before 3.0).
pub(super) async fn put_manifests(
    target: &Target,
    location: &Location,
    levels: Vec<Vec<Arc<Manifest>>>,
    root: Role,
    proof: Proof,
) -> Published {
    let mut published = Published::default();
    let last = levels.len().saturating_sub(1);
    for (depth, level) in levels.iter().enumerate() {
        let puts = level.iter().map(|manifest| async move {
            let is_root = depth == last;
            let name =
                if is_root { location.name.clone() } else { TagOrDigest::Digest(manifest.digest.clone()) };
            let role = if is_root { root } else { Role::Part };
            let at = Location { repository: location.repository.clone(), name };
            if proof != Proof::Answer && (!is_root || manifest.stand_in == StandIn::None) {
                put_and_confirm(target, &at, manifest, role, proof).await
            } else {
                put(target, &at, manifest, role).await
            }
        });
        for (result, wanted) in join_all(puts).await.into_iter().zip(level) {
            match result {
                Ok(manifest) => {
                    published.bytes += manifest.bytes.len() as u64;
                    published.manifests.push(manifest.digest.clone());
                    published.extent = Some(if manifest.digest == wanted.digest {
                        manifest.extent()
                    } else {
                        Extent::Trimmed(Trimmed {
                            source: wanted.digest.clone(),
                            target: manifest.digest.clone(),
                        })
                    });
                }
                Err(error) => published.trouble = Some(error),
            }
        }
        if published.trouble.is_some() {
            break;
        }
    }
    published
}

/// Puts `manifest` by its digest, looks whether it is there, and gives it its tag, if any, only then.
async fn put_and_confirm<'m>(
    target: &Target,
    at: &Location,
    manifest: &'m Arc<Manifest>,
    role: Role,
    proof: Proof,
) -> Result<&'m Arc<Manifest>, Error> {
    let name = TagOrDigest::Digest(manifest.digest.clone());
    let by_digest = Location { repository: at.repository.clone(), name };
    if manifest.stand_in != StandIn::None {
        // What is put may be another index, with another digest.
        return put(target, at, manifest, role).await;
    }
    let is_tagged = *at != by_digest;
    put(target, &by_digest, manifest, if is_tagged { Role::Part } else { role }).await?;
    confirm(target, &by_digest, proof).await?;
    if !is_tagged {
        return Ok(manifest);
    }
    match put(target, at, manifest, role).await {
        // It may be there with this very tag already.
        Err(error) if error.kind == Kind::Immutable => match target.resolve(at).await {
            Ok(Head::Found(there)) if there == manifest.digest => Ok(manifest),
            _ => Err(error),
        },
        result => result,
    }
}

async fn confirm(target: &Target, by_digest: &Location, proof: Proof) -> Result<(), Error> {
    let head = if proof == Proof::Bytes { Ok(Head::Absent) } else { target.resolve(by_digest).await };
    let error = match head {
        Ok(Head::Found(_) | Head::Mute) => return Ok(()),
        // A registry may answer a HEAD wrongly.
        Ok(Head::Absent) => match target.manifest(by_digest, None).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind.may_pass() && error.status != Some(500) => return Err(error),
            Err(error) => Error { kind: Kind::Corrupt, ..error },
        },
        Err(error) if error.status == Some(500) => Error { kind: Kind::Corrupt, ..error },
        Err(error) => return Err(error),
    };
    Err(error.with_remedy(target.remedy_for_damaged(by_digest)))
}

/// Puts `manifest`, or what stands in for it where the target takes no index that names what is not there.
async fn put<'m>(
    target: &Target,
    at: &Location,
    manifest: &'m Arc<Manifest>,
    role: Role,
) -> Result<&'m Arc<Manifest>, Error> {
    let error = match target.put_manifest(at, manifest, role).await {
        Ok(()) => return Ok(manifest),
        Err(error) => error,
    };
    match &manifest.stand_in {
        StandIn::None => Err(error),
        // What the root of these names is there, each with what is wanted of it.
        StandIn::Nested if matches!(at.name, TagOrDigest::Tag(_)) => Err(error),
        _ if !is_for_absent_children(&error, manifest) => Err(error),
        StandIn::Index(trimmed) if matches!(at.name, TagOrDigest::Tag(_)) => {
            target.put_manifest(at, trimmed, Role::Image).await?;
            Ok(trimmed)
        }
        StandIn::Nested => {
            Err(Error { kind: Kind::Invalid, remedy: Some(Box::new(Remedy::NestedIndex)), ..error })
        }
        StandIn::Index(_) | StandIn::Forbidden => {
            Err(Error { kind: Kind::Invalid, remedy: Some(Box::new(Remedy::PinnedIndex)), ..error })
        }
    }
}

/// Whether a refusal can be about what is not wanted; what is wanted is there already.
fn is_for_absent_children(error: &Error, manifest: &Manifest) -> bool {
    match (&error.kind, &manifest.stand_in) {
        (Kind::BlobUnknown(lacking), StandIn::Index(trimmed)) if !lacking.is_empty() => {
            lacking.iter().any(|digest| !trimmed.names(digest))
        }
        (Kind::BlobUnknown(_) | Kind::NotFound | Kind::Invalid, _) => true,
        _ => false,
    }
}
