//! Where an image goes inside a target.

use super::{Algorithm, Location, Reference, Repository, Tag, TagOrDigest};

impl Reference {
    /// Where the image goes inside the target: the same repository and tag without the host.
    ///
    /// An image that is named by its digest alone gets a tag of its own, for what has no tag is garbage to a registry.
    /// A tag does not make a registry know an image by its SHA-512, so that one is put under this name too.
    ///
    /// CoreDNS has two places. kubeadm asks a custom registry for `coredns:TAG` (1.21 for `coredns/coredns:TAG`),
    /// containerd's mirrors are asked for the upstream path, `coredns/coredns:TAG`; both must be answered.
    pub fn destinations(&self) -> Vec<Location> {
        let at = |name| Location { repository: self.repository.clone(), name };
        let (name, digest) = match (&self.tag, &self.digest) {
            (None, Some(digest)) => (TagOrDigest::Tag(Tag::pinned(digest)), Some(digest)),
            (Some(tag), _) => (TagOrDigest::Tag(tag.clone()), None),
            (None, None) => (self.location().name, None),
        };
        let by_digest = digest.filter(|digest| digest.algorithm() != Algorithm::Sha256);
        let mut locations: Vec<Location> =
            by_digest.map(|digest| at(TagOrDigest::Digest(digest.clone()))).into_iter().collect();
        locations.push(at(name.clone()));
        let is_coredns = self.repository.as_str() == "coredns/coredns";
        if is_coredns && self.by_present_name().host.as_str() == "registry.k8s.io" {
            locations.push(Location { repository: Repository("coredns".into()), name });
        }
        locations
    }

    /// The names that the image has where hosts are kept apart, as in an image layout: its host stands in front. One that
    /// is pinned has a name by its digest too, for a pod that pins it is looked up by that, whatever the tag.
    pub fn whole_names(&self) -> Vec<Location> {
        let repository = self.repository.below(Some(&Repository::of_host(&self.host)));
        let at = |name| Location { repository: repository.clone(), name };
        let tag = self.tag.clone().map(|tag| at(TagOrDigest::Tag(tag)));
        let digest = self.digest.clone().map(|digest| at(TagOrDigest::Digest(digest)));
        tag.into_iter().chain(digest).collect()
    }
}
