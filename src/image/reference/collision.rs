//! Two images that would overwrite each other at the target.

use std::collections::HashMap;

use thiserror::Error;

use super::{Location, Reference};

/// Two sources for one place at the target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{first} and {second} would both become {location} at the target")]
pub struct Collision {
    pub first: Box<Reference>,
    pub second: Box<Reference>,
    pub location: Box<Location>,
}

/// The first two different references of `images` that share a destination; the same one twice is no collision, by
/// whichever of its registry's names.
pub fn check_collisions<'a>(images: impl IntoIterator<Item = &'a Reference>) -> Result<(), Collision> {
    let mut taken: HashMap<Location, &Reference> = HashMap::new();
    for image in images {
        for location in image.destinations() {
            let is_other = |first: &&&Reference| first.by_present_name() != image.by_present_name();
            if let Some(first) = taken.get(&location).filter(is_other) {
                return Err(Collision {
                    first: Box::new((*first).clone()),
                    second: Box::new(image.clone()),
                    location: Box::new(location),
                });
            }
            taken.insert(location, image);
        }
    }
    Ok(())
}
