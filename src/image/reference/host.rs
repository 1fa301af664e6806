//! The network names of registries.

use std::str::FromStr;

use url::Url;

use super::{DOCKER_HUB, NameError};

/// A registry's network name: a DNS name, an IPv4 address or a bracketed IPv6 address, with an optional port. As it
/// is, it is that of a URL too ([URL standard](https://url.spec.whatwg.org/#host-parsing)), so that what is asked is
/// what was named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

/// Registries that have been given another name: what they were called, and what they are called now. The former names
/// are redirected, path by path ([k8s.gcr.io](https://kubernetes.io/blog/2023/03/10/image-registry-redirect/)).
const RENAMED: [(&str, &str); 1] = [("k8s.gcr.io", "registry.k8s.io")];

impl Host {
    /// Where images without a host live.
    pub(super) fn docker_hub() -> Self {
        Self(DOCKER_HUB.to_owned())
    }

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

    /// What the registry is called now, where this is its former name.
    pub(super) fn present_name(&self) -> Option<Self> {
        let (_, present) = RENAMED.iter().find(|(former, _)| *former == self.0)?;
        Some(Self((*present).to_owned()))
    }

    /// What the registry was called before.
    pub(crate) fn former_name(&self) -> Option<Self> {
        let (former, _) = RENAMED.iter().find(|(_, present)| *present == self.0)?;
        Some(Self((*former).to_owned()))
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
