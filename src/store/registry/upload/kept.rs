//! What a refused mount leaves for the time when the bytes may be sent.

use std::collections::HashMap;

use reqwest::Url;

use crate::image::reference::{Digest, Repository};

/// Most sessions that are kept open for later.
const KEPT_MAX: usize = 512;

/// How the bytes of a blob are to be sent once they may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leftover {
    /// Into this session, which the refused mount has opened.
    Session(Url),
    /// Whatever the target says: it holds the blob in another size.
    Suspect,
}

/// Leftovers by repository and blob.
#[derive(Debug, Default)]
pub(super) struct Kept(HashMap<(Repository, Digest), Leftover>);

impl Kept {
    /// Hands back what there is no room for, or no more use.
    pub(super) fn keep(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        leftover: Leftover,
    ) -> Option<Leftover> {
        let key = (repository.clone(), digest.clone());
        if self.0.len() >= KEPT_MAX && !self.0.contains_key(&key) {
            return Some(leftover);
        }
        self.0.insert(key, leftover)
    }

    pub(super) fn take(&mut self, repository: &Repository, digest: &Digest) -> Option<Leftover> {
        self.0.remove(&(repository.clone(), digest.clone()))
    }

    /// All sessions that nobody has asked for.
    pub(super) fn drain(&mut self) -> Vec<(Repository, Url)> {
        let all = std::mem::take(&mut self.0);
        let sessions = all.into_iter().filter_map(|((repository, _), leftover)| match leftover {
            Leftover::Session(session) => Some((repository, session)),
            Leftover::Suspect => None,
        });
        sessions.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Algorithm;

    #[test]
    fn a_session_is_handed_out_once_and_what_there_is_no_room_for_comes_back() {
        let repository: Repository = "a".parse().unwrap();
        let digest = |n: usize| Digest::of(Algorithm::Sha256, &n.to_le_bytes());
        let session = |n: usize| Leftover::Session(format!("https://r/{n}").parse().unwrap());
        let mut kept = Kept::default();
        for n in 0..KEPT_MAX {
            assert_eq!(kept.keep(&repository, &digest(n), session(n)), None);
        }
        assert_eq!(kept.keep(&repository, &digest(KEPT_MAX), session(1)), Some(session(1)));
        assert_eq!(kept.take(&repository, &digest(7)), Some(session(7)));
        assert_eq!(kept.take(&repository, &digest(7)), None);
        assert_eq!(kept.keep(&repository, &digest(8), Leftover::Suspect), Some(session(8)));
        assert_eq!(kept.drain().len(), KEPT_MAX - 2, "without the one taken and the one replaced");
        assert!(kept.drain().is_empty());
    }
}
