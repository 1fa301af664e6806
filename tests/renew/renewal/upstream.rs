//! A git checkout of an upstream project, read at its tags. Its work tree is never looked at, so a bare one will do.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use mirror_images::selection::catalog::Minor;
use semver::Version;

use super::go::Unknown;

pub struct Checkout {
    path: PathBuf,
}

/// A released version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    pub name: String,
    pub version: Version,
    /// The day of the commit that it names, in UTC, as YYYY-MM-DD.
    pub day: String,
}

impl Checkout {
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The tags `vX.Y.Z`, by minor, each ascending. Pre-releases and tags that are no versions do not count.
    pub fn releases(&self) -> Result<BTreeMap<Minor, Vec<Tag>>> {
        let format = "--format=%(refname:strip=2) %(*committerdate:short-local)%(committerdate:short-local)";
        // One of the two dates is empty: that of the object that an annotated tag names, or that of the object itself.
        let all = self.git(&["for-each-ref", format, "refs/tags"])?;
        let mut releases: BTreeMap<Minor, Vec<Tag>> = BTreeMap::new();
        for line in all.lines() {
            let Some((name, day)) = line.split_once(' ') else { continue };
            let Some(version) = released(name) else { continue };
            ensure!(is_day(day), "{}: tag {name} has no day but {day:?}", self.path.display());
            let tag = Tag { name: name.to_owned(), version, day: day.to_owned() };
            releases.entry(Minor::of(&tag.version)).or_default().push(tag);
        }
        for tags in releases.values_mut() {
            tags.sort_by(|a, b| a.version.cmp(&b.version));
        }
        Ok(releases)
    }

    /// The file `path` as it is at `tag`.
    pub fn file<'a>(&self, tag: &'a str, path: &'a str) -> Result<File<'a>> {
        let text = self.git(&["show", "--no-textconv", &format!("refs/tags/{tag}:{path}")])?;
        Ok(File { tag, path, text })
    }

    /// The files at or below `path` at `tag`, by their whole paths; none if there is nothing.
    pub fn paths(&self, tag: &str, path: &str) -> Result<Vec<String>> {
        let reference = format!("refs/tags/{tag}");
        let all = self.git(&["ls-tree", "-r", "-z", "--full-tree", "--name-only", &reference, "--", path])?;
        Ok(all.split_terminator('\0').map(str::to_owned).collect())
    }

    /// A name for the content of `path` at `tag`: files that share it are the same.
    pub fn content_id(&self, tag: &str, path: &str) -> Result<String> {
        Ok(self.git(&["rev-parse", &format!("refs/tags/{tag}:{path}")])?.trim().to_owned())
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut git = Command::new("git");
        // Days and messages are the same wherever this runs.
        git.env("TZ", "UTC").env("LC_ALL", "C");
        // Whoever runs this from a hook has these set to another repository.
        for variable in
            ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"]
        {
            git.env_remove(variable);
        }
        let output = git.arg("-C").arg(&self.path).args(arguments).output().context("cannot run git")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(anyhow!("{}: git {}: {}", self.path.display(), arguments.join(" "), why.trim()));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| anyhow!("{}: git {}: not UTF-8", self.path.display(), arguments.join(" ")))
    }
}

/// The version of a tag such as `v1.14.2`; none for a pre-release or another name.
fn released(tag: &str) -> Option<Version> {
    let version: Version = tag.strip_prefix('v')?.parse().ok()?;
    (version.pre.is_empty() && version.build.is_empty()).then_some(version)
}

fn is_day(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    shape == "9999-99-99"
}

/// A file at a tag. What is wrong in it is told with all three: the tag, the path, the line.
#[derive(Debug)]
pub struct File<'a> {
    pub tag: &'a str,
    pub path: &'a str,
    pub text: String,
}

impl File<'_> {
    pub fn wrong(&self, line: usize, why: impl Display) -> anyhow::Error {
        anyhow!("{} at {}, line {line}: {why}", self.path, self.tag)
    }

    pub fn unknown(&self, unknown: &Unknown) -> anyhow::Error {
        self.wrong(unknown.line, &unknown.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_versions_are_releases() {
        assert_eq!(released("v1.14.2"), Some(Version::new(1, 14, 2)));
        for other in
            ["1.14.2", "v1.14", "v1.14.2-rc.0", "v1.14.2+a", "v01.1.1", "addons/v1.2.3", "v1.2.3.4", "vx", ""]
        {
            assert_eq!(released(other), None, "{other}");
        }
    }
}
