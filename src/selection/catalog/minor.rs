//! Versions of two numbers: a minor of Kubernetes, a release of KubeOne.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::de::{Deserialize, Deserializer, Error as _};

/// A version of two numbers such as `1.36`, ordered by number: `1.3` comes before `1.10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Minor {
    pub major: u64,
    pub minor: u64,
}

impl Minor {
    /// The minor that `version` belongs to.
    pub fn of(version: &Version) -> Self {
        Self { major: version.major, minor: version.minor }
    }

    /// The release `patch` of this minor.
    pub fn patch(self, patch: u64) -> Version {
        Version::new(self.major, self.minor, patch)
    }
}

impl FromStr for Minor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // semver's rules for numbers (no sign, no leading zero) by letting it read them.
        let whole = match text.split_once('.') {
            Some((_, minor)) if !minor.contains(['.', '-', '+']) => {
                format!("{text}.0").parse::<Version>().ok()
            }
            _ => None,
        };
        whole
            .map(|v| Self::of(&v))
            .ok_or_else(|| format!("{text:?} is not a version of two numbers such as 1.36"))
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<'de> Deserialize<'de> for Minor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Versions as a sentence needs them, ascending: `1.3`, `1.34, 1.35 and 1.36`, or `1.19 to 1.36` for a long gapless run.
pub(super) fn enumerate(minors: &[Minor]) -> String {
    let gapless =
        minors.windows(2).all(|w| w[0].major == w[1].major && w[0].minor.checked_add(1) == Some(w[1].minor));
    match minors {
        [] => "none".to_owned(),
        [only] => only.to_string(),
        [first, .., last] if gapless && minors.len() > 5 => format!("{first} to {last}"),
        [rest @ .., last] => {
            let rest: Vec<_> = rest.iter().map(Minor::to_string).collect();
            format!("{} and {last}", rest.join(", "))
        }
    }
}

/// `1.34.0 to 1.34.9, 1.36.3`
pub fn ranges(versions: &[&Version]) -> String {
    let follows = |a: &Version, b: &Version| {
        (a.major, a.minor) == (b.major, b.minor) && a.patch.checked_add(1) == Some(b.patch)
    };
    let mut runs: Vec<(&Version, &Version)> = Vec::new();
    for version in versions {
        match runs.last_mut() {
            Some((_, last)) if follows(last, version) => *last = version,
            _ => runs.push((version, version)),
        }
    }
    let run = |(first, last): &(&Version, &Version)| {
        if first == last { first.to_string() } else { format!("{first} to {last}") }
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_as_ranges() {
        let versions: Vec<Version> =
            ["1.34.0", "1.34.1", "1.34.2", "1.35.2", "1.36.3"].iter().map(|v| v.parse().unwrap()).collect();
        let versions: Vec<&Version> = versions.iter().collect();
        assert_eq!(ranges(&versions), "1.34.0 to 1.34.2, 1.35.2, 1.36.3");
    }
}
