//! Looks with other eyes whether a target has what it should have.

use futures_util::stream::{self, StreamExt as _};

use crate::arena::{Arena, Place};
use crate::set::Set;
use crate::support::reader::{Depth, Reader};

/// Images that are read at once.
const AT_ONCE: usize = 8;
/// Of so many images, one is read to the last byte.
const SAMPLE: usize = 8;

/// What is missing or wrong; empty if all is well. `round` decides which images are read in full.
pub fn verify(arena: &Arena<'_>, set: &Set, target: &Place, round: usize) -> Vec<String> {
    let reader = Reader::new(arena.net.client(), &target.registry.url());
    let reader = &reader;
    let reading =
        set.wanted().into_iter().enumerate().map(|(number, (repository, tag, digest))| async move {
            let depth = if (number + round).is_multiple_of(SAMPLE) { Depth::Bytes } else { Depth::Sizes };
            match reader.read(repository, tag, depth).await {
                Ok(tree) if tree.root == *digest => None,
                Ok(tree) => Some(format!("{repository}:{tag} is {} and should be {digest}", tree.root)),
                Err(faults) => Some(format!("{repository}:{tag}: {faults}")),
            }
        });
    let found = arena.net.block_on(stream::iter(reading).buffer_unordered(AT_ONCE).collect::<Vec<_>>());
    found.into_iter().flatten().collect()
}
