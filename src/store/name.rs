//! Places as a command line names them: a registry with an optional path, or files that hold an image layout.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::image::reference::{Location, NameError, Reference, Repository, Target};
use crate::util::text::{printable, quoted};

/// Where images are, or are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreName {
    Registry(Target),
    Layout(LayoutName),
}

/// An OCI image layout, by the path that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutName {
    pub form: Form,
    pub path: PathBuf,
}

/// What an image layout is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Directory,
    /// One tar file.
    Archive,
    /// The same, on standard output.
    Stream,
}

impl Form {
    /// What stands before the path, as skopeo and podman write it.
    fn transport(self) -> &'static str {
        match self {
            Form::Directory => "oci",
            Form::Archive | Form::Stream => "oci-archive",
        }
    }
}

/// Why a text names no place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreNameError {
    #[error(transparent)]
    Registry(#[from] NameError),
    #[error("{text} names no path: write {transport}:PATH, as in {transport}:images")]
    NoPath { text: String, transport: &'static str },
    /// Whoever reads it later names an image behind a further colon.
    #[error(
        "the path in {text} has a colon in it, and skopeo and podman take what follows a colon for an image's name: \
         choose another path"
    )]
    Colon { text: String },
}

impl StoreName {
    /// The registry, if it is one.
    pub fn registry(&self) -> Option<&Target> {
        match self {
            StoreName::Registry(target) => Some(target),
            StoreName::Layout(_) => None,
        }
    }

    /// Whether it is standard output.
    pub fn is_stream(&self) -> bool {
        matches!(self, StoreName::Layout(layout) if layout.form == Form::Stream)
    }

    /// The names that an image gets there.
    pub fn destinations(&self, reference: &Reference) -> Vec<Location> {
        match self {
            StoreName::Registry(target) => {
                reference.destinations().iter().map(|location| target.place(location)).collect()
            }
            StoreName::Layout(_) => reference.whole_names(),
        }
    }

    /// The full name of one of its locations.
    pub fn full_name(&self, location: &Location) -> String {
        match self {
            StoreName::Registry(target) => format!("{}/{location}", target.host),
            StoreName::Layout(layout) => format!("{layout}:{location}"),
        }
    }
}

impl LayoutName {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path ends like that of a part of an archive: in a point and three digits.
    pub fn is_named_as_a_part(&self) -> bool {
        part_of(&self.path).is_some()
    }

    /// Whether a file at `path` would be it, or in it.
    pub fn holds(&self, path: &Path) -> bool {
        let real = |path: &Path| {
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let name = path.file_name().unwrap_or_default();
            std::fs::canonicalize(path)
                .or_else(|_| std::fs::canonicalize(parent).map(|parent| parent.join(name)))
        };
        if self.form == Form::Stream {
            return false;
        }
        match (real(&self.path), real(path)) {
            (Ok(own), Ok(path)) => path.starts_with(own),
            _ => path.starts_with(&self.path),
        }
    }

    /// What all repositories of a host are below in a layout.
    pub fn prefix(reference: &Reference) -> Repository {
        Repository::of_host(&reference.host)
    }
}

/// The path of the archive that `path` is a part of by its own name, and the part's number.
pub(crate) fn part_of(path: &Path) -> Option<(PathBuf, u64)> {
    let digits = path.extension()?.to_str().filter(|digits| digits.len() == 3)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((path.with_extension(""), digits.parse().ok().filter(|_| is_number)?))
}

impl FromStr for StoreName {
    type Err = StoreNameError;

    fn from_str(text: &str) -> Result<Self, StoreNameError> {
        for form in [Form::Directory, Form::Archive] {
            let transport = form.transport();
            let Some(path) = text.strip_prefix(transport).and_then(|rest| rest.strip_prefix(':')) else {
                continue;
            };
            if path.is_empty() {
                return Err(StoreNameError::NoPath { text: quoted(text), transport });
            }
            if path.contains(':') {
                return Err(StoreNameError::Colon { text: quoted(text) });
            }
            // A file of that name is ./-.
            let form = if form == Form::Archive && path == "-" { Form::Stream } else { form };
            return Ok(StoreName::Layout(LayoutName { form, path: path.into() }));
        }
        Ok(StoreName::Registry(text.parse()?))
    }
}

impl fmt::Display for LayoutName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.form.transport(), printable(&self.path.display().to_string()))
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreName::Registry(target) => target.fmt(f),
            StoreName::Layout(layout) => layout.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_told_from_a_registry_by_what_stands_before_its_path() {
        let parse = |text: &str| text.parse::<StoreName>();
        let layout = |form, path: &str| StoreName::Layout(LayoutName { form, path: path.into() });
        assert_eq!(parse("oci:images").unwrap(), layout(Form::Directory, "images"));
        assert_eq!(parse("oci:/a/b c").unwrap(), layout(Form::Directory, "/a/b c"));
        assert_eq!(parse("oci-archive:a.tar").unwrap(), layout(Form::Archive, "a.tar"));
        assert_eq!(parse("oci-archive:-").unwrap(), layout(Form::Stream, "-"));
        assert_eq!(parse("oci-archive:./-").unwrap(), layout(Form::Archive, "./-"));
        assert_eq!(parse("oci:-").unwrap(), layout(Form::Directory, "-"));
        assert!(parse("oci-archive:-").unwrap().is_stream() && !parse("oci:-").unwrap().is_stream());
        assert!(matches!(parse("oci").unwrap(), StoreName::Registry(_)));
        assert!(matches!(parse("oci.example.com:5000/a").unwrap(), StoreName::Registry(_)));
        for text in ["oci:images", "oci-archive:/tmp/a.tar", "oci-archive:-", "r.example.com:5000/path"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert!(matches!(parse("oci:"), Err(StoreNameError::NoPath { .. })));
        assert!(matches!(parse("oci-archive:a:b"), Err(StoreNameError::Colon { .. })));
        assert!(matches!(parse("http://a"), Err(StoreNameError::Registry(_))));
    }

    #[test]
    fn an_image_has_its_whole_name_in_a_layout_and_a_pinned_one_two() {
        let layout: StoreName = "oci:d".parse().unwrap();
        let names = |text: &str| {
            let reference: Reference = text.parse().unwrap();
            let names = layout.destinations(&reference);
            names.iter().map(|location| layout.full_name(location)).collect::<Vec<_>>()
        };
        assert_eq!(names("alpine:3"), ["oci:d:docker.io/library/alpine:3"]);
        assert_eq!(names("registry.k8s.io/coredns/coredns:v1"), ["oci:d:registry.k8s.io/coredns/coredns:v1"]);
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            names(&format!("quay.io/c/c:v1@{digest}")),
            ["oci:d:quay.io/c/c:v1".to_owned(), format!("oci:d:quay.io/c/c@{digest}")]
        );
        assert_eq!(
            names(&format!("127.0.0.1:5000/c@{digest}")),
            [format!("oci:d:127.0.0.1:5000/c@{digest}")]
        );
    }
}
