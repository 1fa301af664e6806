//! What there is to do, without doing it.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use crate::manifest::Trimmed;
use crate::plan::{Lack, Plan, State};
use crate::reference::{Digest, Repository};
use crate::registry::{Error, Side};
use crate::report::{self, Exit};
use crate::text;

/// Both sides compared, and what a run would move. As JSON it is what `--check -o json` gives.
#[derive(Debug, Serialize)]
pub struct Check {
    pub target: String,
    pub images: Vec<Line>,
    pub there: usize,
    pub missing: usize,
    /// The manifest is there, but not all of what is wanted with it.
    pub partial: usize,
    pub different: usize,
    /// Could not be found out.
    pub failed: usize,
    /// Platforms that `--platform` names and no index has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms_not_found: Vec<String>,
    #[serde(flatten)]
    pub work: Work,
}

/// One image under one name at the target.
#[derive(Debug, Serialize)]
pub struct Line {
    pub source: String,
    pub target: String,
    /// The digest of the image that it is about, for signatures and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<String>,
    pub state: Found,
    /// What is missing of what is partial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Lack>,
    /// The index is there with all platforms that are wanted, but not with all that it names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    #[serde(flatten)]
    pub trimmed: Option<Trimmed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The target would not take it, which is not so where the user wanted to leave it alone.
    #[serde(skip)]
    refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    There,
    Missing,
    Partial,
    Different,
    Failed,
}

/// What a run would move, in numbers and bytes, in the same terms as the report of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Blobs to pull and to push, each once.
    pub blobs_to_copy: usize,
    pub bytes_to_copy: u64,
    /// Blobs to mount from other repositories of the target, and the bytes that this saves.
    pub blobs_to_mount: usize,
    pub bytes_to_mount: u64,
    /// Manifests to push.
    pub manifests_to_copy: usize,
    pub manifest_bytes: u64,
}

impl Check {
    /// Reads the answer off the plan.
    pub fn new(target: String, plan: &Plan) -> Self {
        let lines = plan.images.iter().flat_map(|image| {
            image.deliveries.iter().map(|delivery| {
                let (state, trimmed, error) = match &delivery.state {
                    State::Present(_) | State::Sparse(_) => (Found::There, None, None),
                    State::Trimmed(trimmed) => (Found::There, Some(trimmed.clone()), None),
                    State::Missing => (Found::Missing, None, None),
                    State::Partial(_) => (Found::Partial, None, None),
                    State::Different => (Found::Different, None, None),
                    State::Failed(error) => (Found::Failed, None, Some(error)),
                };
                Line {
                    source: image.reference.to_string(),
                    target: delivery.name.clone(),
                    refers_to: image.refers_to.as_ref().map(ToString::to_string),
                    state,
                    lacks: match &delivery.state {
                        State::Partial(lack) => Some(*lack),
                        _ => None,
                    },
                    sparse: matches!(delivery.state, State::Sparse(_)),
                    trimmed,
                    cause: error.map(ToString::to_string),
                    side: error.map(|error| error.side),
                    refused: error.is_some_and(Error::is_refusal),
                }
            })
        });
        let images: Vec<Line> = lines.collect();
        let number = |state| images.iter().filter(|line| line.state == state).count();
        Self {
            target,
            there: number(Found::There),
            missing: number(Found::Missing),
            partial: number(Found::Partial),
            different: number(Found::Different),
            failed: number(Found::Failed),
            platforms_not_found: Vec::new(),
            work: Work::of(plan),
            images,
        }
    }

    /// The same where no index has these platforms, which the user named.
    pub fn without_platforms(self, platforms_not_found: Vec<String>) -> Self {
        Self { platforms_not_found, ..self }
    }

    pub fn exit(&self) -> Exit {
        match () {
            () if self.there == self.images.len() && self.platforms_not_found.is_empty() => Exit::Done,
            () if self.there == self.images.len() => Exit::SomeFailed,
            () if self.images.iter().all(|line| line.refused) => Exit::TargetRefused,
            () => Exit::SomeFailed,
        }
    }
}

impl Work {
    fn of(plan: &Plan) -> Self {
        let mut work = Self::default();
        for blob in &plan.blobs {
            let size = blob.descriptor.size;
            let copied = usize::from(blob.held_by.is_none());
            // Of a blob that is there, the repository that has it may be among those that need it.
            let found =
                blob.needs.iter().filter(|need| Some(&need.repository) == blob.held_by.as_ref()).count();
            let mounted = blob.needs.len() - copied - found;
            work.blobs_to_copy += copied;
            work.bytes_to_copy = work.bytes_to_copy.saturating_add(size * copied as u64);
            work.blobs_to_mount += mounted;
            work.bytes_to_mount = work.bytes_to_mount.saturating_add(size.saturating_mul(mounted as u64));
        }
        work.add_manifests(plan);
        work
    }

    fn add_manifests(&mut self, plan: &Plan) {
        let mut put: HashSet<(&Repository, &Digest)> = HashSet::new();
        for image in &plan.images {
            let Some(tree) = &image.tree else { continue };
            for delivery in image.deliveries.iter().filter(|delivery| delivery.state.is_wanted()) {
                for manifest in tree.manifests() {
                    // A root is put under each of its names.
                    let news = put.insert((&delivery.spot.repository, &manifest.digest));
                    if news || manifest.digest == tree.root().digest {
                        self.manifests_to_copy += 1;
                        self.manifest_bytes += manifest.bytes.len() as u64;
                    }
                }
            }
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lack::Platforms => "all of the platforms",
            Lack::Layers => "all of the layers that are not to be distributed",
            Lack::Listing => "an entry in the list of referrers",
        })
    }
}

/// For people: a line for each name, then the sums.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.images {
            let state = match line.state {
                Found::There => "there",
                Found::Missing => "missing",
                Found::Partial => "partial",
                Found::Different => "different",
                Found::Failed => "FAILED",
            };
            write!(f, "{state:<10}{} → {}", line.source, line.target)?;
            match (&line.cause, &line.lacks) {
                (Some(cause), _) => writeln!(f, ": {cause}")?,
                (None, Some(lack)) => writeln!(f, ": without {lack}")?,
                (None, None) => writeln!(f)?,
            }
        }
        writeln!(f)?;
        let (there, missing, different) = (self.there, self.missing, self.different);
        write!(f, "{}: {there} there, {missing} missing, {different} different", self.target)?;
        if self.partial > 0 {
            write!(f, ", {} partial", self.partial)?;
        }
        match self.failed {
            0 => writeln!(f)?,
            failed => writeln!(f, ", {failed} failed")?,
        }
        report::write_not_found(f, &self.platforms_not_found)?;
        let work = &self.work;
        if self.images.iter().any(|line| line.lacks == Some(Lack::Platforms)) {
            writeln!(
                f,
                "Missing platforms are added by --platform all, or by naming those that are wanted."
            )?;
        }
        if self.missing + self.partial + self.different > 0 {
            writeln!(
                f,
                "A run would pull and push {} in {}, mount {} ({}) and push {} ({}).",
                text::bytes(work.bytes_to_copy),
                text::count(work.blobs_to_copy, "blob"),
                text::count(work.blobs_to_mount, "blob"),
                text::bytes(work.bytes_to_mount),
                text::count(work.manifests_to_copy, "manifest"),
                text::bytes(work.manifest_bytes),
            )?;
        }
        Ok(())
    }
}
