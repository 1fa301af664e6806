//! Names of images and of the places that hold them.
//!
//! A [`Reference`] is what `docker pull` accepts, a [`Target`] is a registry with an optional path in front of
//! the repositories. Both are validated here, once; nothing else may reach a URL, a path or a log. The grammar is
//! that of the [distribution reference package](https://pkg.go.dev/github.com/distribution/reference) and of the
//! OCI distribution-spec, section "Pulling manifests".

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

mod collision;
mod destinations;
mod digest;
mod host;
mod target;
mod written;

pub use collision::{Collision, check_collisions};
pub use digest::{Algorithm, Digest, Hasher};
pub use host::Host;
pub use target::Target;

/// Where images without a host live, as docker writes it.
pub const DOCKER_HUB: &str = "docker.io";

/// Longest repository with its host, in bytes (distribution's `NameTotalLengthMax`).
const NAME_MAX: usize = 255;
/// Longest tag, in bytes.
const TAG_MAX: usize = 128;

/// Why a text is not a name. The message quotes the text, shortened and escaped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text} is not a valid {what}: {why}")]
pub struct NameError {
    what: &'static str,
    /// In quotation marks.
    text: String,
    why: &'static str,
}

impl NameError {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: crate::util::text::quoted(text), why }
    }
}

/// A repository's path inside a registry, e.g. `library/alpine`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

impl Repository {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What all repositories of a host are below where hosts are kept apart. A port may be part of it, so that it is no
    /// path of a registry.
    pub fn of_host(host: &Host) -> Repository {
        Repository(host.as_str().into())
    }

    /// This repository below `prefix`.
    pub fn below(&self, prefix: Option<&Repository>) -> Repository {
        match prefix {
            Some(prefix) => Repository(format!("{}/{}", prefix.0, self.0).into()),
            None => self.clone(),
        }
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |why| NameError::new("repository", text, why);
        if text.len() > NAME_MAX {
            return Err(bad("it is longer than 255 characters"));
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("a repository is lower case"));
        }
        if !text.split('/').all(is_path_component) {
            return Err(bad(
                "a path component is letters and digits, joined by one '.', one or two '_', or any '-'",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(|&b| alphanumeric(b))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

/// A tag, e.g. `v1.36.3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

/// What stands before the digest in the tag of an image that is named by its digest alone. Without it the tag would be
/// that of the list of the image's referrers (distribution-spec, "Referrers Tag Schema"), and the beginning of those
/// that cosign makes for signatures (`sha256-….sig`), which all begin with the name of the hash.
const PINNED: &str = "pinned";
/// Most hex digits of a digest in a tag, as in the referrers tag schema.
const TAG_HEX_MAX: usize = 64;

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of an image that is named by `digest` alone: `pinned-sha256-HEX`.
    fn pinned(digest: &Digest) -> Self {
        let (algorithm, hex) = digest.as_str().split_once(':').unwrap_or_default();
        Self(format!("{PINNED}-{algorithm}-{}", &hex[..hex.len().min(TAG_HEX_MAX)]))
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let ok = text.len() <= TAG_MAX
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new(
                "tag",
                text,
                "a tag is up to 128 letters, digits, '_', '.' and '-', and starts with none of the last two",
            ))
        }
    }
}

/// An image at its source: host, repository, and a tag, a digest, or both.
///
/// A reference without a host belongs to Docker Hub, one there without a namespace to `library/`, and one with
/// neither tag nor digest means `latest`, as with docker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    pub host: Host,
    pub repository: Repository,
    pub tag: Option<Tag>,
    pub digest: Option<Digest>,
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |why| NameError::new("image reference", text, why);
        let retold = |e: NameError| NameError::new("image reference", text, e.why);
        if text.contains("://") {
            return Err(bad("a reference has no scheme such as https://"));
        }
        // Docker reads it as the ID of a local image.
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad("64 hexadecimal digits are an ID, not a name"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(retold)?)),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; before it, a port.
        let (name, tag) = match rest.rfind(':') {
            Some(colon) if !rest[colon..].contains('/') => {
                (&rest[..colon], Some(rest[colon + 1..].parse::<Tag>().map_err(retold)?))
            }
            _ => (rest, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => {
                (first.parse::<Host>().map_err(retold)?, path.to_owned())
            }
            _ => (Host::docker_hub(), name.to_owned()),
        };
        let path = if host.is_docker_hub() && !path.contains('/') { format!("library/{path}") } else { path };
        let repository: Repository = path.parse().map_err(retold)?;
        if host.as_str().len() + 1 + repository.as_str().len() > NAME_MAX {
            return Err(bad("host and repository are longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(Tag("latest".to_owned())),
            (tag, _) => tag,
        };
        Ok(Self { host, repository, tag, digest })
    }
}

/// Docker's rule: the first component is a host if it has a dot or a colon, or is `localhost`.
///
/// Docker also takes `Acme/app` for a host, against its own intention; a mistyped repository is likelier.
fn is_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':'])
}

/// What a manifest is asked for by, and put under: a tag or a digest (distribution-spec, `<reference>`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TagOrDigest {
    Tag(Tag),
    Digest(Digest),
}

impl TagOrDigest {
    pub fn as_str(&self) -> &str {
        match self {
            TagOrDigest::Tag(tag) => tag.as_str(),
            TagOrDigest::Digest(digest) => digest.as_str(),
        }
    }
}

/// A manifest's place inside a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    pub repository: Repository,
    pub name: TagOrDigest,
}

impl FromStr for Location {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let retold = |e: NameError| NameError::new("name inside a registry", text, e.why);
        let (repository, name) = match text.split_once('@') {
            Some((repository, digest)) => (repository, TagOrDigest::Digest(digest.parse().map_err(retold)?)),
            None => match text.split_once(':') {
                Some((repository, tag)) => (repository, TagOrDigest::Tag(tag.parse().map_err(retold)?)),
                None => {
                    return Err(NameError::new(
                        "name inside a registry",
                        text,
                        "it has neither tag nor digest",
                    ));
                }
            },
        };
        Ok(Self { repository: repository.parse().map_err(retold)?, name })
    }
}

impl Reference {
    /// What the source is asked for: the digest where one is pinned, so that a moved tag cannot matter.
    pub fn location(&self) -> Location {
        let name = match (&self.digest, &self.tag) {
            (Some(digest), _) => TagOrDigest::Digest(digest.clone()),
            (None, Some(tag)) => TagOrDigest::Tag(tag.clone()),
            (None, None) => TagOrDigest::Tag(Tag("latest".to_owned())),
        };
        Location { repository: self.repository.clone(), name }
    }

    /// The image as it is called now, where its registry had another name before: the same for all of its names.
    pub(crate) fn by_present_name(&self) -> Cow<'_, Self> {
        match self.host.present_name() {
            Some(host) => Cow::Owned(Self { host, ..self.clone() }),
            None => Cow::Borrowed(self),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            TagOrDigest::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            TagOrDigest::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

macro_rules! shown_as_str {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}
shown_as_str!(Host, Repository, Tag);

#[cfg(test)]
mod tests;
