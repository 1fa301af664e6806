//! Registries with a path in front of their repositories.

use std::fmt;
use std::str::FromStr;

use super::{Host, Location, NameError, Repository};

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
