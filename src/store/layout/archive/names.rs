//! The entries that mean something, by their names.

use crate::image::reference::Digest;

/// A document beside the blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Document {
    /// That this is a layout, and of which version (image-spec, "oci-layout file").
    Layout,
    /// Which images there are (image-spec, "index.json file").
    Index,
    /// The same for docker and podman, with one platform of each.
    Docker,
    /// Which digest each name stood for, and why it was chosen.
    Lock,
    /// The lock under a signature, as a Sigstore bundle.
    Receipt,
}

impl Document {
    pub(crate) const ALL: [Self; 5] = [Self::Layout, Self::Index, Self::Docker, Self::Lock, Self::Receipt];

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Layout => "oci-layout",
            Self::Index => "index.json",
            Self::Docker => "manifest.json",
            Self::Lock => "mirror-images.lock.json",
            Self::Receipt => "mirror-images.receipt.sigstore.json",
        }
    }
}

/// Directories of a layout.
const DIRECTORIES: [&str; 3] = ["blobs", "blobs/sha256", "blobs/sha512"];

/// What an entry is by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::layout) enum Known {
    Document(Document),
    Blob(Digest),
    /// One that documents or blobs are in.
    Directory,
}

impl Known {
    /// `None` for the name of anything else.
    pub(in crate::store::layout) fn parse(path: &str) -> Option<Self> {
        if let Some(document) = Document::ALL.into_iter().find(|document| document.path() == path) {
            return Some(Self::Document(document));
        }
        if path.is_empty() || DIRECTORIES.contains(&path) {
            return Some(Self::Directory);
        }
        let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
        format!("{algorithm}:{hex}").parse().ok().map(Self::Blob)
    }
}

/// Where a blob is (image-spec, "Blobs").
pub(in crate::store::layout) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}", digest.as_str().replacen(':', "/", 1))
}

/// Where the room of a blob is that did not come. As long as [`blob_path`], so that nothing moves for it.
pub(in crate::store::layout) fn lacking_path(digest: &Digest) -> String {
    format!("lacks/{}", digest.as_str().replacen(':', "/", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Algorithm;

    #[test]
    fn a_name_is_known_by_its_very_letters() {
        for document in Document::ALL {
            assert_eq!(Known::parse(document.path()), Some(Known::Document(document)));
        }
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"");
            assert_eq!(Known::parse(&blob_path(&digest)), Some(Known::Blob(digest)));
        }
        assert_eq!(Known::parse("blobs"), Some(Known::Directory));
        assert_eq!(Known::parse(""), Some(Known::Directory));
        let empty = Digest::of(Algorithm::Sha256, b"");
        let hex = &empty.as_str()[7..];
        for other in [
            "Index.json".to_owned(),
            "index.json\n".to_owned(),
            "blobs/sha256/".to_owned(),
            format!("blobs/sha256/{}", hex.to_uppercase()),
            format!("blobs/sha512/{hex}"),
            format!("blobs/sha256:{hex}"),
            format!("blobs/md5/{hex}"),
            format!("blobs/sha256/x/{hex}"),
        ] {
            assert_eq!(Known::parse(&other), None, "{other}");
        }
    }
}
