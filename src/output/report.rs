//! What a run came to: for people, for programs, and as an exit status.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::error::{Error, Kind, Side};
use crate::events::{Delivered, Outcome};
use crate::image::manifest::{Extent, Trimmed};
use crate::image::reference::Digest;
use crate::mirror::{Finished, Totals};
use crate::record::Inventory;
use crate::selection::catalog::Pins;
use crate::store::name::StoreName;
use crate::util::text;

/// The outcome of a whole run. As JSON it is what `-o json` and `--report` give.
#[derive(Debug, Serialize)]
pub struct Report {
    pub target: String,
    pub images: Vec<Line>,
    pub copied: usize,
    pub present: usize,
    pub failed: usize,
    /// Not tried, because the run ended before.
    pub left: usize,
    /// Left out of the selection, because they can be had nowhere any more.
    #[serde(skip_serializing_if = "is_none_left_out")]
    pub gone: usize,
    #[serde(flatten)]
    pub totals: Totals,
    pub seconds: f64,
    pub interrupted: bool,
    /// Platforms that `--platform` names and no index of the run has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms_not_found: Vec<String>,
    /// The cause for which the target was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<String>,
    /// The same without what was being done.
    #[serde(skip)]
    gave_up_for: Option<String>,
    /// Nothing of what a run has written is there for the next one.
    #[serde(skip)]
    begins_anew: bool,
    /// The target was given up for what it would not take.
    #[serde(skip)]
    is_refused: bool,
    /// Why what was moved is not yet what the target is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<String>,
    /// The target was made without the images that have failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// What is to be written of the images, if anything is.
    #[serde(skip)]
    pub lock: Option<Inventory>,
}

/// One image under one name at the target.
#[derive(Debug, Serialize)]
pub struct Line {
    pub source: String,
    pub target: String,
    /// The digest of the image that it is about, for signatures and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<String>,
    /// The digest that is recorded of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_digest: Option<Digest>,
    pub result: Status,
    /// The target has the index with all platforms that are wanted, but not with all that it names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// Both digests, where the target has an index without the platforms that are not wanted.
    #[serde(flatten)]
    pub trimmed: Option<Trimmed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The same without what was being done.
    #[serde(skip)]
    reason: String,
    /// Where the cause lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The target would not take it, which is not so where the user wanted to leave it alone.
    #[serde(skip)]
    refused: bool,
    /// The target keeps what it has under this name, and will the next time.
    #[serde(skip)]
    kept: bool,
    /// Whether running again may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_pass: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Copied,
    Present,
    Failed,
    Left,
}

/// The program's exit status, as README and `--help` list it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    SomeFailed = 1,
    TargetRefused = 3,
    Interrupted = 130,
}

impl Report {
    pub fn new(target: &StoreName, finished: Finished, took: Duration) -> Self {
        let images: Vec<Line> = finished.deliveries.into_iter().map(Line::new).collect();
        let number = |status| images.iter().filter(|line| line.result == status).count();
        Self {
            target: target.to_string(),
            copied: number(Status::Copied),
            present: number(Status::Present),
            failed: number(Status::Failed),
            left: number(Status::Left),
            images,
            gone: 0,
            totals: finished.totals,
            seconds: took.as_secs_f64(),
            interrupted: finished.interrupted,
            platforms_not_found: Vec::new(),
            gave_up: finished.gave_up.as_ref().map(ToString::to_string),
            begins_anew: target.is_stream(),
            is_refused: finished.gave_up.as_ref().is_some_and(Error::is_refusal),
            gave_up_for: finished.gave_up.as_ref().map(Error::reason),
            unfinished: finished.unfinished.as_ref().map(Error::reason),
            incomplete: finished.is_incomplete,
            lock: None,
        }
    }

    /// The same for a run that left out so many images, which are `gone`, and in which no index had these platforms, which
    /// the user named.
    pub fn without(self, gone: usize, platforms_not_found: Vec<String>) -> Self {
        Self { gone, platforms_not_found, ..self }
    }

    /// The same with the digests that are recorded of the images.
    #[must_use]
    pub fn with_pins(mut self, pins: &Pins) -> Self {
        for line in self.images.iter_mut().filter(|line| line.refers_to.is_none()) {
            line.pinned_digest = pins.digest(&line.source).cloned();
        }
        self
    }

    /// The same with what is to be written of the images.
    #[must_use]
    pub fn with_lock(self, lock: Option<Inventory>) -> Self {
        Self { lock, ..self }
    }

    pub fn exit(&self) -> Exit {
        let none_done = self.copied + self.present == 0;
        let mut failures = self.images.iter().filter(|line| line.result == Status::Failed);
        match () {
            () if self.interrupted => Exit::Interrupted,
            () if self.failed + self.left == 0 && self.unfinished.is_some() => Exit::SomeFailed,
            () if self.failed + self.left == 0 && self.platforms_not_found.is_empty() => Exit::Done,
            () if self.failed + self.left == 0 => Exit::SomeFailed,
            () if none_done
                && (self.is_refused || failures.all(|line| line.refused) && self.gave_up.is_none()) =>
            {
                Exit::TargetRefused
            }
            () => Exit::SomeFailed,
        }
    }
}

/// Any result as JSON: of a run, a check or a dry run.
///
/// # Errors
/// It cannot be expressed so, which would be a mistake of this program.
pub fn to_json(result: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(result).context("cannot write the report as JSON")
}

impl Line {
    fn new(delivered: Delivered) -> Self {
        let line = |result, cause| Self {
            source: delivered.source,
            target: delivered.target,
            refers_to: delivered.refers_to.map(|digest| digest.to_string()),
            pinned_digest: None,
            result,
            sparse: false,
            trimmed: None,
            cause,
            reason: String::new(),
            side: None,
            refused: false,
            kept: false,
            may_pass: None,
        };
        match delivered.outcome {
            Outcome::Copied { extent, .. } => line(Status::Copied, None).with(extent),
            Outcome::Present(extent) => line(Status::Present, None).with(extent),
            Outcome::Failed(error) => Self {
                reason: error.reason(),
                side: Some(error.side),
                refused: error.is_refusal(),
                kept: error.kind == Kind::Immutable,
                may_pass: Some(error.kind.may_pass()),
                ..line(Status::Failed, Some(error.to_string()))
            },
            Outcome::Left(why) => Self { may_pass: Some(true), ..line(Status::Left, Some(why)) },
        }
    }

    fn with(self, extent: Extent) -> Self {
        Self { sparse: extent.is_sparse(), trimmed: extent.trimmed(), ..self }
    }
}

/// The summary for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        write!(f, "{} at {}: ", self.what(), self.target)?;
        let mut parts = vec![format!("{} copied", self.copied), format!("{} already there", self.present)];
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        if self.left > 0 {
            parts.push(format!("{} left undone", self.left));
        }
        writeln!(f, "{}", parts.join(", "))?;
        let moved = totals.bytes_copied + totals.manifest_bytes;
        write!(f, "{} moved in {}", text::bytes(moved), text::count(totals.blobs_copied, "blob"))?;
        write!(f, " and {}", text::count(totals.manifests_copied, "manifest"))?;
        if totals.bytes_shared > 0 {
            write!(f, ", {} saved by sharing", text::bytes(totals.bytes_shared))?;
        }
        if totals.bytes_resumed > 0 {
            write!(f, ", {} resumed from an earlier run", text::bytes(totals.bytes_resumed))?;
        }
        if totals.bytes_found > 0 {
            write!(f, ", {} found from an earlier run", text::bytes(totals.bytes_found))?;
        }
        writeln!(f, "; {}", text::duration(Duration::from_secs_f64(self.seconds)))?;
        self.write_sparse(f)?;
        self.write_trimmed(f)?;
        write_gone(f, self.gone)?;
        write_not_found(f, &self.platforms_not_found)?;
        self.write_failures(f)
    }
}

/// Whether there is nothing to count.
pub(crate) fn is_none_left_out(gone: &usize) -> bool {
    *gone == 0
}

/// A line about images that can be had nowhere.
pub(crate) fn write_gone(f: &mut fmt::Formatter<'_>, gone: usize) -> fmt::Result {
    match gone {
        0 => Ok(()),
        number => writeln!(f, "{} left out, gone upstream", text::count(number, "image")),
    }
}

/// A line about platforms that no index has.
pub(crate) fn write_not_found(f: &mut fmt::Formatter<'_>, platforms: &[String]) -> fmt::Result {
    if platforms.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "No image has the platform {}: --platform takes names such as linux/amd64 or linux/arm/v7",
        platforms.join(", ")
    )
}

impl Report {
    /// How much the report is about.
    fn what(&self) -> String {
        let (images, referrers): (Vec<&Line>, Vec<&Line>) =
            self.images.iter().partition(|line| line.refers_to.is_none());
        let mut sources: Vec<&str> = images.iter().map(|line| line.source.as_str()).collect();
        sources.dedup();
        let mut what = text::count(sources.len(), "image");
        if sources.len() != images.len() {
            // CoreDNS has two.
            what = format!("{what} under {}", text::count(images.len(), "name"));
        }
        match referrers.len() {
            0 => what,
            number => format!("{what} with {}", text::count(number, "referrer")),
        }
    }

    /// Failures that have one reason in common are told together, in the order in which reasons first appear.
    fn failures_by_reason(&self) -> Vec<(&str, Vec<&Line>)> {
        let mut reasons: Vec<(&str, Vec<&Line>)> = Vec::new();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for line in self.images.iter().filter(|line| line.result == Status::Failed) {
            let number = *numbers.entry(&line.reason).or_insert_with(|| {
                reasons.push((&line.reason, Vec::new()));
                reasons.len() - 1
            });
            reasons[number].1.push(line);
        }
        reasons
    }

    fn write_sparse(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.images.iter().filter(|line| line.sparse).count() {
            0 => Ok(()),
            sparse => writeln!(
                f,
                "{} with an index that names more platforms than are there: --platform all adds them",
                text::count(sparse, "name")
            ),
        }
    }

    /// Those of this run; the JSON form has them of earlier runs as well.
    fn write_trimmed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copied = self.images.iter().filter(|line| line.result == Status::Copied);
        let trimmed: Vec<_> = copied.filter_map(|line| Some((line, line.trimmed.as_ref()?))).collect();
        if !trimmed.is_empty() {
            let number = text::count(trimmed.len(), "name");
            writeln!(
                f,
                "{number} with a cut index, for the target takes none that names what is not there:"
            )?;
        }
        for (line, Trimmed { source, target }) in trimmed {
            writeln!(f, "  {}: {source} → {target}", line.target)?;
        }
        Ok(())
    }

    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cause) = &self.gave_up {
            let what = if self.is_refused { "Gave up on the target" } else { "Nothing was begun" };
            writeln!(f, "{what}: {cause}")?;
        }
        if let Some(why) = &self.unfinished {
            writeln!(f, "Not finished {why}")?;
        }
        if self.incomplete {
            let lacking = text::count(self.failed + self.left, "name");
            writeln!(f, "{} is not complete: it is without {lacking}", self.target)?;
        }
        for (reason, lines) in self.failures_by_reason() {
            let all = lines.len() == self.images.len();
            if self.gave_up_for.as_deref() == Some(reason) {
                continue;
            }
            let what = if all { "All failed" } else { "Failed" };
            match lines[0]
                .cause
                .as_deref()
                .filter(|cause| lines.iter().all(|l| l.cause.as_deref() == Some(cause)))
            {
                Some(cause) => writeln!(f, "{what}: {cause}")?,
                None => writeln!(f, "{what} {reason}")?,
            }
            for line in lines.iter().filter(|_| !all) {
                writeln!(f, "  {} → {}", line.source, line.target)?;
            }
        }
        let is_open = |line: &Line| matches!(line.result, Status::Failed | Status::Left) && !line.kept;
        if self.images.iter().any(is_open) {
            let again = "Run the same command again";
            if self.begins_anew {
                writeln!(f, "{again}: it begins from the beginning.")?;
            } else {
                writeln!(f, "{again} to do the rest; what is there is not moved again.")?;
            }
        }
        Ok(())
    }
}
