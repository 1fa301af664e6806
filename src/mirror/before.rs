//! What the target had before the run: whatever it says of these may be of files that were damaged since.

use std::collections::HashSet;

use crate::plan::{BlobId, RepositoryId, Ticket};

#[derive(Debug, Default)]
pub(super) struct Before {
    repositories: HashSet<RepositoryId>,
    blobs: HashSet<BlobId>,
}

impl Before {
    /// A manifest was there in the repository.
    pub(super) fn note_repository(&mut self, repository: RepositoryId) {
        self.repositories.insert(repository);
    }

    /// The blob was there in the repository.
    pub(super) fn note_blob(&mut self, ticket: Ticket) {
        self.repositories.insert(ticket.repository);
        self.blobs.insert(ticket.blob);
    }

    pub(super) fn had_repository(&self, repository: RepositoryId) -> bool {
        self.repositories.contains(&repository)
    }

    /// Whether the blob was there in any repository.
    pub(super) fn had_blob(&self, blob: BlobId) -> bool {
        self.blobs.contains(&blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_was_there_speaks_for_its_repository_and_a_repository_for_no_blob() {
        let (blob, repository) = (BlobId::new(1), RepositoryId::new(2));
        let mut before = Before::default();
        before.note_repository(RepositoryId::new(3));
        assert!(before.had_repository(RepositoryId::new(3)) && !before.had_blob(blob));
        before.note_blob(Ticket { blob, repository });
        assert!(before.had_blob(blob) && before.had_repository(repository));
        assert!(!before.had_blob(BlobId::new(2)) && !before.had_repository(RepositoryId::new(1)));
    }
}
