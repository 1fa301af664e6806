//! Whether a layout holds what it says, down to each byte, without asking anybody.

mod lock;
mod walk;

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::walk::{Verdict, Walk};
use crate::error::Error;
use crate::events::Listener;
use crate::image::platforms::Platforms;
use crate::image::reference::Digest;
use crate::output::report::{self, Exit};
use crate::plan::Blemish;
use crate::store::Flaw;
use crate::store::layout::{Entry, Layout, LayoutError};
use crate::util::text;

/// Most faults of one image, and blobs without a name, that are listed; the others are counted.
const LISTED_MAX: usize = 100;
/// Most faults that a text for people names.
const TOLD_MAX: usize = 3;

/// A layout held against its own names. As JSON it is what `--check -o json` gives of a layout alone.
#[derive(Debug, Default, Serialize)]
pub struct Audit {
    pub layout: String,
    /// Why it cannot be read as a layout at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    pub images: Vec<Line>,
    pub whole: usize,
    pub broken: usize,
    /// All blobs, manifests among them, that were read and hashed, and their bytes.
    pub blobs: usize,
    pub bytes: u64,
    /// Layers that it leaves out by its own lock, for the other side to have them, and their bytes.
    #[serde(skip_serializing_if = "LeftOut::is_none")]
    pub left_out: LeftOut,
    /// Those that no image has.
    pub unnamed: Unnamed,
    /// Files that lie among blobs and are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<String>,
    /// What is wrong with `manifest.json`, which is docker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<String>,
    /// What its lock has and is not so, a sentence each, and how many of them there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lock: Vec<String>,
    #[serde(skip)]
    against_lock: usize,
    /// Platforms that are named and no index has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms_not_found: Vec<String>,
    pub seconds: f64,
}

/// One entry of `index.json`.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Its name, or else its digest.
    pub image: String,
    pub digest: Digest,
    /// The image that it is about, for signatures and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<Digest>,
    pub state: Soundness,
    #[serde(flatten)]
    pub faults: Faults,
    /// Why a manifest of it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Platforms whose layers are not there, as where others were chosen when it was saved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Soundness {
    Whole,
    Broken,
}

/// What is wrong with an image.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Faults {
    /// All of them.
    #[serde(rename = "faults")]
    pub number: usize,
    #[serde(rename = "damaged", skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<Fault>,
}

/// Something that an image should have, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    #[serde(flatten)]
    pub blemish: Blemish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    Manifest,
    Config,
    Layer,
}

/// Layers that a delta does without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub layers: usize,
    pub bytes: u64,
}

impl LeftOut {
    fn is_none(&self) -> bool {
        self.layers == 0
    }
}

/// Blobs that no image has.
#[derive(Debug, Default, Serialize)]
pub struct Unnamed {
    pub blobs: usize,
    pub bytes: u64,
    /// How many of them are not what their names say.
    pub damaged: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<Digest>,
}

/// Reads and hashes everything that `layout` holds, and tells what its images lack. Where `platforms` names any, those
/// have to be whole; else layers may have been left out of an image, as long as one platform of it has all.
///
/// # Errors
/// What it holds cannot be listed.
pub(crate) async fn audit(
    layout: &Layout,
    platforms: &Platforms,
    include_foreign: bool,
    manifest_max: usize,
    listener: &Listener,
) -> Result<Audit, Error> {
    let began = Instant::now();
    let hashed = layout.hash_everything(listener).await?;
    let entries = layout.entries();
    let read = |digest: &Digest| match layout.bytes_of(digest, manifest_max) {
        Ok(Some(bytes)) => Ok(bytes.into()),
        Ok(None) => Err("it is not there any more".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let mut audit = Audit {
        layout: layout.place().to_owned(),
        blobs: hashed.sizes.len(),
        bytes: hashed.sizes.values().fold(0, |sum, size| sum.saturating_add(*size)),
        strays: hashed.strays.clone(),
        docker: layout.docker_flaw(&hashed),
        ..Audit::default()
    };
    let judged = tokio::task::block_in_place(|| {
        let mut walk = Walk::new(&hashed, &entries, platforms, include_foreign, &read)?;
        let verdicts = entries.iter().map(|entry| Ok(Line::new(entry, walk.verdict(entry)?)));
        let lines = verdicts.collect::<Result<Vec<_>, String>>()?;
        let bytes = walk.left_out.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
        let left_out = LeftOut { layers: walk.left_out.len(), bytes };
        Ok((lines, Unnamed::new(walk.unnamed()), left_out))
    });
    match judged {
        Ok((lines, unnamed, left_out)) => {
            (audit.images, audit.unnamed, audit.left_out) = (lines, unnamed, left_out);
        }
        Err(why) => audit.unreadable = Some(why),
    }
    match layout.locks() {
        Ok(locks) => {
            let all = lock::contradictions(&locks, &entries, |digest| hashed.sizes.contains_key(digest));
            audit.against_lock = all.len();
            audit.lock = all.into_iter().take(LISTED_MAX).collect();
        }
        Err(error) => audit.unreadable = Some(error.to_string()),
    }
    audit.whole = audit.images.iter().filter(|line| line.state == Soundness::Whole).count();
    audit.broken = audit.images.len() - audit.whole;
    audit.seconds = began.elapsed().as_secs_f64();
    Ok(audit)
}

impl Audit {
    /// Of a layout that is there and cannot be read.
    ///
    /// # Errors
    /// `error` says that there is nothing to be read.
    pub(crate) fn unreadable(layout: String, error: LayoutError) -> Result<Self, LayoutError> {
        if !error.is_of_content() {
            return Err(error);
        }
        Ok(Self { layout, unreadable: Some(error.to_string()), ..Self::default() })
    }

    /// The same where no index has these platforms, which the user named.
    #[must_use]
    pub fn without(self, platforms_not_found: Vec<String>) -> Self {
        Self { platforms_not_found, ..self }
    }

    pub fn exit(&self) -> Exit {
        let is_right = self.unreadable.is_none()
            && !self.images.is_empty()
            && self.broken == 0
            && self.unnamed.damaged == 0
            && self.docker.is_none()
            && self.against_lock == 0
            && self.platforms_not_found.is_empty();
        if is_right { Exit::Done } else { Exit::SomeFailed }
    }
}

impl Line {
    fn new(entry: &Entry, verdict: Verdict) -> Self {
        let Verdict { faults, cause, without } = verdict;
        let digest = entry.digest.clone();
        let short_name = || entry.short_name.as_deref().map(text::printable);
        Self {
            image: entry.name.clone().or_else(short_name).unwrap_or_else(|| digest.to_string()),
            digest,
            refers_to: entry.subject.clone(),
            state: if faults.number == 0 { Soundness::Whole } else { Soundness::Broken },
            faults,
            cause,
            without,
        }
    }
}

impl Faults {
    /// Lists a fault, if there is room for it. It counts in any case.
    fn add(&mut self, fault: Fault) -> bool {
        self.number += 1;
        let has_room = self.listed.len() < LISTED_MAX;
        if has_room {
            self.listed.push(fault);
        }
        has_room
    }
}

impl Unnamed {
    fn new(all: Vec<(&Digest, u64, Option<Flaw>)>) -> Self {
        Self {
            blobs: all.len(),
            bytes: all.iter().fold(0, |sum, (_, size, _)| sum.saturating_add(*size)),
            damaged: all.iter().filter(|(.., flaw)| flaw.is_some()).count(),
            digests: all.iter().take(LISTED_MAX).map(|(digest, ..)| (*digest).clone()).collect(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.content {
            Content::Manifest => "manifest ",
            Content::Config => "config ",
            Content::Layer => "layer ",
        })?;
        self.blemish.fmt(f)?;
        match &self.platform {
            Some(platform) => write!(f, " ({platform})"),
            None => Ok(()),
        }
    }
}

/// For people: a line for each image, then the sums.
impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.images {
            let state = if line.state == Soundness::Whole { "whole" } else { "BROKEN" };
            write!(f, "{state:<8}{}", line.image)?;
            if let Some(about) = &line.refers_to {
                write!(f, ", about {about}")?;
            }
            if !line.without.is_empty() {
                write!(f, " (layers of {} are not in it)", text::list(&line.without))?;
            }
            let mut told: Vec<String> = line.cause.iter().cloned().collect();
            told.extend(line.faults.listed.iter().take(TOLD_MAX).map(ToString::to_string));
            write!(f, "{}{}", if told.is_empty() { "" } else { ": " }, told.join(", "))?;
            match line.faults.number.saturating_sub(told.len()) {
                0 => writeln!(f)?,
                more => writeln!(f, " and {more} more")?,
            }
        }
        if let Some(why) = &self.unreadable {
            return writeln!(f, "{} cannot be read: {why}", self.layout);
        }
        writeln!(f)?;
        let images = text::count(self.images.len(), "image");
        writeln!(f, "{}: {images}, {} whole, {} broken", self.layout, self.whole, self.broken)?;
        let (blobs, bytes) = (text::count(self.blobs, "blob"), text::bytes(self.bytes));
        let took = text::duration(Duration::from_secs_f64(self.seconds));
        writeln!(f, "{blobs}, {bytes}, read and hashed; {took}")?;
        if !self.left_out.is_none() {
            let (layers, bytes) =
                (text::count(self.left_out.layers, "layer"), text::bytes(self.left_out.bytes));
            writeln!(f, "{layers}, {bytes}, left out by its lock, for the other side to have them")?;
        }
        self.write_unnamed(f)?;
        if let Some(why) = &self.docker {
            writeln!(f, "{why}")?;
        }
        for told in self.lock.iter().take(TOLD_MAX) {
            writeln!(f, "{told}")?;
        }
        if self.against_lock > TOLD_MAX {
            writeln!(f, "and {} more that its lock has", self.against_lock - TOLD_MAX)?;
        }
        for stray in &self.strays {
            writeln!(f, "{} lies among the blobs and is none", text::quoted(stray))?;
        }
        report::write_not_found(f, &self.platforms_not_found)
    }
}

impl Audit {
    fn write_unnamed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unnamed { blobs, bytes, damaged, digests } = &self.unnamed;
        if *blobs == 0 {
            return Ok(());
        }
        let listed: Vec<&str> = digests.iter().take(TOLD_MAX).map(Digest::as_str).collect();
        let more = match blobs - listed.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (number, bytes) = (text::count(*blobs, "blob"), text::bytes(*bytes));
        write!(f, "{number} that no image has, {bytes}: {}{more}", listed.join(", "))?;
        match damaged {
            0 => writeln!(f),
            damaged => writeln!(f, "; {damaged} with other bytes than their names say"),
        }
    }
}

#[cfg(test)]
mod tests;
