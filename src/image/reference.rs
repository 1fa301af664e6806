//! Names of images and of the places that hold them.
//!
//! A [`Reference`] is what `docker pull` accepts, a [`Target`] is a registry with an optional path in front of
//! the repositories. Both are validated here, once; nothing else may reach a URL, a path or a log. The grammar is
//! that of the [distribution reference package](https://pkg.go.dev/github.com/distribution/reference) and of the
//! OCI distribution-spec, section "Pulling manifests".

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use url::Url;

mod collision;
mod digest;

pub use collision::{Collision, check_collisions};
pub use digest::{Algorithm, Digest, Hasher};

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

/// A registry's network name: a DNS name, an IPv4 address or a bracketed IPv6 address, with an optional port. As it
/// is, it is that of a URL too ([URL standard](https://url.spec.whatwg.org/#host-parsing)), so that what is asked is
/// what was named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

impl Host {
    /// As written in a reference, lower case, e.g. `registry.example.com:5000`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the port and without the brackets of an IPv6 address.
    pub fn name(&self) -> &str {
        match self.0.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => self.0.split(':').next().unwrap_or_default(),
        }
    }

    /// Loopback by name or address: docker and its relatives speak plain HTTP to these.
    pub fn is_loopback(&self) -> bool {
        let name = self.name();
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    pub fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |why| NameError::new("registry", text, why);
        let (name, port) =
            split_port(text).ok_or_else(|| bad("the IPv6 address lacks its closing bracket"))?;
        if let Some(port) = port
            && !port.parse::<u16>().is_ok_and(|number| number.to_string() == port)
        {
            return Err(bad("the port is not a number from 0 to 65535"));
        }
        if let Some(v6) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            v6.parse::<std::net::Ipv6Addr>()
                .map_err(|_| bad("the text in brackets is not an IPv6 address"))?;
        } else {
            let label = |l: &str| {
                !l.is_empty()
                    && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    && !l.starts_with('-')
                    && !l.ends_with('-')
            };
            if name.len() > 253 || !name.split('.').all(label) {
                return Err(bad("a host is letters, digits, hyphens and dots, with an optional port"));
            }
        }
        let lower = text.to_ascii_lowercase();
        if !is_of_a_url(&name.to_ascii_lowercase()) {
            return Err(bad(
                "no URL can have such a host: an address is four numbers, or an IPv6 one in its shortest form, and \
                 what begins with xn-- is Punycode",
            ));
        }
        Ok(Self(match lower.as_str() {
            // All of docker's names for its own registry are one place.
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB.to_owned(),
            other => other.to_owned(),
        }))
    }
}

/// Whether a URL has the host `name` and leaves it as it is. `127.1` and `0x7f.1` become `127.0.0.1` there; `256.1.1.1`,
/// `foo.123` and broken Punycode cannot be.
fn is_of_a_url(name: &str) -> bool {
    Url::parse(&format!("https://{name}/")).is_ok_and(|url| url.host_str() == Some(name))
}

/// `[::1]:5000` → (`[::1]`, `5000`), `host:1` → (`host`, `1`); `None` for an open bracket.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let (address, rest) = text.split_at(text.find(']')? + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Some((address, Some(port))),
            None => rest.is_empty().then_some((address, None)),
        };
    }
    Some(match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    })
}

/// A repository's path inside a registry, e.g. `library/alpine`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

impl Repository {
    pub fn as_str(&self) -> &str {
        &self.0
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
            _ => (Host(DOCKER_HUB.to_owned()), name.to_owned()),
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
        if self.host.as_str() == "registry.k8s.io" && self.repository.as_str() == "coredns/coredns" {
            locations.push(Location { repository: Repository("coredns".into()), name });
        }
        locations
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

/// A registry to push to, or to pull from instead of the upstream: a host and the path that all repositories are below.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub host: Host,
    pub prefix: Option<Repository>,
}

impl Target {
    /// `location` as it is called here.
    pub fn place(&self, location: &Location) -> Location {
        Location { repository: location.repository.below(self.prefix.as_ref()), name: location.name.clone() }
    }

    /// The full name of `location`, as one would pull it.
    pub fn full_name(&self, location: &Location) -> String {
        format!("{}/{}", self.host, self.place(location))
    }
}

impl FromStr for Target {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |why| NameError::new("target registry", text, why);
        let retold = |e: NameError| NameError::new("target registry", text, e.why);
        if text.contains("://") {
            return Err(bad(
                "write it without a scheme, as in registry.example.com:5000 (--insecure allows plain HTTP)",
            ));
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        let (host, prefix) = match text.split_once('/') {
            Some((host, path)) => (host, Some(path.parse::<Repository>().map_err(retold)?)),
            None => (text, None),
        };
        Ok(Self { host: host.parse().map_err(retold)?, prefix })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.host),
            None => write!(f, "{}", self.host),
        }
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
