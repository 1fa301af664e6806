//! An image's manifests into one repository, once all its blobs are there.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::manifest::Manifest;
use crate::reference::{Digest, Name, Spot};
use crate::registry::{Error, Peer};

/// Manifests that were put, and what kept the others from it.
#[derive(Default)]
pub(super) struct Published {
    pub manifests: Vec<Digest>,
    /// Bytes of those manifests.
    pub bytes: u64,
    pub trouble: Option<Error>,
}

/// Puts manifests level by level; the last one, the root, gets the name of `spot` and with it the tag. Those of one
/// level go together.
pub(super) async fn put_manifests(target: &Peer, spot: &Spot, levels: Vec<Vec<Arc<Manifest>>>) -> Published {
    let mut published = Published::default();
    let last = levels.len().saturating_sub(1);
    for (depth, level) in levels.iter().enumerate() {
        let puts = level.iter().map(|manifest| async move {
            let name = match depth == last {
                true => spot.name.clone(),
                false => Name::Digest(manifest.digest.clone()),
            };
            let at = Spot { repository: spot.repository.clone(), name };
            target.put_manifest(&at, manifest).await.map(|()| manifest)
        });
        for result in join_all(puts).await {
            match result {
                Ok(manifest) => {
                    published.bytes += manifest.bytes.len() as u64;
                    published.manifests.push(manifest.digest.clone());
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
