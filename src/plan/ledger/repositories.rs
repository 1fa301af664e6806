//! The target's repositories, and which of them blobs are likely to be mounted from.

use std::collections::HashMap;

use crate::image::reference::Repository;
use crate::plan::ids::RepositoryId;

/// Most repositories that are noted as likely holders of what one repository wants.
const LIKELY_HOLDERS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Repositories {
    all: Vec<Repository>,
    ids: HashMap<Repository, RepositoryId>,
    /// By repository, others that blobs are likely to be mounted from into it, a few at most.
    likely_holders: Vec<Vec<RepositoryId>>,
}

impl Repositories {
    pub(super) fn id(&mut self, repository: &Repository) -> RepositoryId {
        if let Some(id) = self.ids.get(repository) {
            return *id;
        }
        let id = RepositoryId::new(self.all.len());
        self.all.push(repository.clone());
        self.likely_holders.push(Vec::new());
        self.ids.insert(repository.clone(), id);
        id
    }

    pub(super) fn name(&self, id: RepositoryId) -> &Repository {
        &self.all[id.index()]
    }

    pub(super) fn likely_holders(&self, id: RepositoryId) -> impl Iterator<Item = &Repository> {
        self.likely_holders[id.index()].iter().map(|holder| self.name(*holder))
    }

    /// Notes that a blob which `repository` wants is likely to be in `holder` by then.
    pub(super) fn note_likely_holder(&mut self, repository: RepositoryId, holder: RepositoryId) {
        let known = &mut self.likely_holders[repository.index()];
        if holder != repository && known.len() < LIKELY_HOLDERS_MAX && !known.contains(&holder) {
            known.push(holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_one_id_and_a_few_others_as_likely_holders_never_itself() {
        let mut repositories = Repositories::default();
        let [a, b] = ["a", "b/c"].map(|name| repositories.id(&name.parse().unwrap()));
        assert_eq!((repositories.id(&"a".parse().unwrap()), repositories.name(b).as_str()), (a, "b/c"));
        for holder in [a, b, b] {
            repositories.note_likely_holder(a, holder);
        }
        let held: Vec<&str> = repositories.likely_holders(a).map(Repository::as_str).collect();
        assert_eq!(held, ["b/c"]);
        for number in 0..2 * LIKELY_HOLDERS_MAX {
            let holder = repositories.id(&format!("more{number}").parse().unwrap());
            repositories.note_likely_holder(a, holder);
        }
        assert_eq!(repositories.likely_holders(a).count(), LIKELY_HOLDERS_MAX);
    }
}
